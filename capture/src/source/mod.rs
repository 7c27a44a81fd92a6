//! Where packets come from. Every source hands out [`RawPacket`]s that borrow from its own buffer, so that bytes are
//! copied for the first time when the core keeps them.

pub mod pcap;

use bytestring::ByteString;
use wirecall_schemas::Timestamp;

/// A packet as its source saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawPacket<'p> {
    /// Capture time. A source that has none (simple packet blocks of pcapng) repeats the time of the packet before.
    pub time: Timestamp,
    /// Number of the link-layer header type, as <https://www.tcpdump.org/linktypes.html> lists it.
    pub link_type: u16,
    /// VLAN id that the network card took off the frame, 12 bits; files keep the tag in the bytes.
    pub vlan: Option<u16>,
    /// The captured bytes, from the link-layer header on.
    pub data: &'p [u8],
    /// Bytes the packet had on the wire; more than `data` holds when the capture cut it short.
    pub original_length: u32,
    /// The interface it was seen on: an index into the source's table of interfaces.
    pub interface: InterfaceId,
}

/// An interface in its source's table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceId(pub u32);

impl InterfaceId {
    /// Position in the table.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// An interface that packets were captured on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, where the source knows it.
    pub name: Option<ByteString>,
    /// Number of the link-layer header type of its packets.
    pub link_type: u16,
}
