//! Where packets come from. Every source hands out [`RawPacket`]s that borrow from its own buffer, so that bytes are
//! copied for the first time when the core keeps them.

pub mod af_packet;
pub mod pcap;

use bytestring::ByteString;
use wirecall_schemas::Timestamp;

/// A packet as its source saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawPacket<'p> {
    /// Capture time. A source that has none (simple packet blocks of pcapng) repeats the time of the packet before.
    pub time: Timestamp,
    /// What the first header is.
    pub link_type: LinkType,
    /// VLAN id that the network card took off the frame, 12 bits; files keep the tag in the bytes.
    pub vlan: Option<u16>,
    /// The captured bytes, from the link-layer header on.
    pub data: &'p [u8],
    /// Bytes the packet had on the wire; more than `data` holds when the capture cut it short.
    pub original_length: u32,
    /// Name of the interface it was seen on, where known.
    pub interface: Option<&'p ByteString>,
}

/// Link-layer header type, by its number in capture files (<https://www.tcpdump.org/linktypes.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkType(pub u32);

impl LinkType {
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// An IP packet without a link-layer header.
    pub const RAW: Self = Self(101);
}

/// How a source stands after it was asked for packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// This many packets were handed out.
    Packets(usize),
    /// None came in time; more may come.
    Idle,
    /// The source has ended.
    End,
}

/// An interface that packets were captured on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, where the source knows it.
    pub name: Option<ByteString>,
    /// The first header of its packets.
    pub link_type: LinkType,
}
