//! Where packets come from. Every source hands out packets that borrow from its own buffer, so that bytes are copied
//! for the first time when the core keeps them.

pub mod af_packet;
pub mod pace;
pub mod pcap;
pub mod playback;
pub mod repeat;

use std::time::Duration;

use bytestring::ByteString;
pub use wirecall_capture_core::{LinkType, Packet};

use self::af_packet::FilterRules;

/// Where packets come from.
pub trait Source {
    /// What can keep it from going on.
    type Error;

    /// Hands the packets that are there to `handle`, at most a batch, and waits at most `wait` for the first.
    ///
    /// # Errors
    /// When the source cannot go on. Everything before has been handed out.
    fn read_batch(
        &mut self,
        wait: Duration,
        handle: &mut dyn FnMut(Packet<'_>),
    ) -> Result<Batch, Self::Error>;

    /// Packets lost before the source could read them, since it was opened.
    ///
    /// # Errors
    /// When the kernel does not tell.
    fn lost_packets(&mut self) -> Result<u64, Self::Error> {
        Ok(0)
    }

    /// Replaces what is left out before the packets are read, where the source can do that.
    ///
    /// # Errors
    /// When the kernel refuses the rules.
    fn set_filter(&mut self, _rules: FilterRules) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Where a source that has an end stands in it, in words; none at its ends.
    fn position(&self) -> Option<String> {
        None
    }
}

/// How a source stands after it was asked for packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// This many packets were handed out.
    Packets(usize),
    /// None came in time; more may come.
    Idle,
    /// A pass over the files has ended, and another begins: connections do not go on from one to the other.
    EndOfPass,
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
