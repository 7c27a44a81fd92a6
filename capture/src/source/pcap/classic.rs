//! The classic pcap format: a file header, then records of a fixed header and the packet.
//!
//! ```text
//! file    magic 4 | major 2 | minor 2 | zone 4 | accuracy 4 | snapshot length 4 | link type 4
//! record  seconds 4 | fraction 4 | captured 4 | original 4 | packet …
//! ```

use wirecall_schemas::Timestamp;

use super::{
    Record,
    byte_order::ByteOrder,
    error::PcapError,
    window::{MAXIMUM_RECORD, Window},
};
use crate::source::{Interface, LinkType};

/// Bytes of the file header.
pub(super) const FILE_HEADER: usize = 24;

/// Bytes of a record header.
const RECORD_HEADER: usize = 16;

/// Bytes of a record header in the format of the "modified" pcap that old Linux distributions wrote: interface index,
/// protocol and packet type follow.
const MODIFIED_RECORD_HEADER: usize = 24;

/// Captured length that every file may use, whatever its header says: libpcap's `MAXIMUM_SNAPLEN`. More is accepted
/// only where the header's snapshot length asks for it.
const USUAL_SNAPSHOT: u32 = 262_144;

/// State of reading a classic file.
#[derive(Debug)]
pub(super) struct Classic {
    order: ByteOrder,
    nanoseconds: bool,
    record_header: usize,
    maximum: u32,
    lengths: Lengths,
}

/// In which order the two lengths of a record stand. Before version 2.3 they were swapped, and writers of 2.3 disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lengths {
    CapturedFirst,
    OriginalFirst,
    SmallerIsCaptured,
}

impl Classic {
    /// The variant that the first four bytes announce, or none.
    pub(super) fn detect(first: [u8; 4]) -> Option<Variant> {
        let little = u32::from_le_bytes(first);
        let order = match little {
            0xa1b2_c3d4 | 0xa1b2_3c4d | 0xa1b2_cd34 => ByteOrder::Little,
            0xd4c3_b2a1 | 0x4d3c_b2a1 | 0x34cd_b2a1 => ByteOrder::Big,
            _ => return None,
        };
        let magic = order.u32(first);
        Some(Variant { order, nanoseconds: magic == 0xa1b2_3c4d, modified: magic == 0xa1b2_cd34 })
    }

    /// Reads the file header, whose bytes are in the window.
    pub(super) fn start(window: &mut Window, variant: Variant) -> Result<(Self, Interface), PcapError> {
        let order = variant.order;
        let header = window.bytes();
        let (major, minor) = (order.u16_at(header, 4), order.u16_at(header, 6));
        let (snapshot, network) = (order.u32_at(header, 16), order.u32_at(header, 20));
        let lengths = match (major, minor) {
            (543, 0) | (2, 0..=2) => Lengths::OriginalFirst,
            (2, 3) => Lengths::SmallerIsCaptured,
            (2, _) => Lengths::CapturedFirst,
            _ => {
                let at = window.offset();
                return Err(PcapError::Version { at, format: "pcap", major, minor });
            }
        };
        window.consume(FILE_HEADER);
        // The upper half of the field tells the length of a frame check sequence; the core trusts the IP length.
        let interface = Interface { name: None, link_type: LinkType(network & 0xffff) };
        let classic = Self {
            order,
            nanoseconds: variant.nanoseconds,
            record_header: if variant.modified { MODIFIED_RECORD_HEADER } else { RECORD_HEADER },
            maximum: snapshot.clamp(USUAL_SNAPSHOT, MAXIMUM_RECORD),
            lengths,
        };
        Ok((classic, interface))
    }

    /// The next record, whose bytes are then in the window; `None` at the end of the file.
    #[inline]
    pub(super) fn next(&self, window: &mut Window) -> Result<Option<Record>, PcapError> {
        if !window.has(self.record_header)? {
            return if window.available() == 0 {
                Ok(None)
            } else {
                window.require(self.record_header).map(|()| None)
            };
        }
        let header = window.bytes();
        let (seconds, fraction) = (self.order.u32_at(header, 0), self.order.u32_at(header, 4));
        let (captured, original) = self.lengths(self.order.u32_at(header, 8), self.order.u32_at(header, 12));
        if captured > self.maximum {
            let (at, maximum) = (window.offset(), self.maximum);
            return Err(PcapError::RecordLength { at, claimed: captured, minimum: 0, maximum });
        }
        window.require(self.record_header + captured as usize)?;
        Ok(Some(Record {
            time: self.time(seconds, fraction),
            header: self.record_header,
            captured: captured as usize,
            rest: 0,
            // A writer that claims a packet shorter than its captured bytes is wrong about the former.
            original_length: original.max(captured),
            interface: 0,
        }))
    }

    #[inline]
    fn lengths(&self, first: u32, second: u32) -> (u32, u32) {
        let swapped = match self.lengths {
            Lengths::CapturedFirst => false,
            Lengths::OriginalFirst => true,
            Lengths::SmallerIsCaptured => first > second,
        };
        if swapped { (second, first) } else { (first, second) }
    }

    #[inline]
    fn time(&self, seconds: u32, fraction: u32) -> Timestamp {
        let micros = if self.nanoseconds { fraction / 1_000 } else { fraction };
        Timestamp::from_micros(i64::from(seconds) * 1_000_000 + i64::from(micros))
    }
}

/// What the magic number of a classic file says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variant {
    order: ByteOrder,
    nanoseconds: bool,
    modified: bool,
}
