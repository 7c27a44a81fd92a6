//! Where packets come from. Every source hands out packets that borrow from its own buffer, so that bytes are copied
//! for the first time when the core keeps them.

pub mod af_packet;
pub mod pace;
pub mod pcap;
pub mod repeat;

use bytestring::ByteString;
pub use wirecall_capture_core::{LinkType, Packet};

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
