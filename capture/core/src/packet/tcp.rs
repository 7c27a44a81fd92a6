//! TCP header (RFC 9293 section 3.1).

use super::walk::Walk;
use super::{Addresses, Body, Decoded};
use crate::stats::Reason;

/// Flag bits.
pub(crate) const FIN: u8 = 0x01;
/// Synchronise: the sequence number is the initial one.
pub(crate) const SYN: u8 = 0x02;
/// Reset.
pub(crate) const RST: u8 = 0x04;
/// The acknowledgement number is valid.
pub(crate) const ACK: u8 = 0x10;

const MINIMUM: usize = 20;
const OPTION_END: u8 = 0;
const OPTION_NOTHING: u8 = 1;
const OPTION_TIMESTAMPS: u8 = 8;

/// The fields that tracking needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpHeader {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: u8,
    /// TSval (RFC 7323 section 3.2); read on SYN only, where it tells two connections of one ISN apart.
    pub(crate) timestamp: Option<u32>,
}

impl TcpHeader {
    /// True when any of the flags is set.
    pub(crate) const fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }
}

/// Reads the header; the rest of the frame is its payload.
pub(super) fn read<'p>(walk: &mut Walk<'p>, addresses: Addresses) -> Result<Decoded<'p>, Reason> {
    let header = walk.array::<MINIMUM>()?;
    let length = usize::from(header[12] >> 4) * 4;
    let options = walk.take(length.checked_sub(MINIMUM).ok_or(Reason::Malformed)?)?;
    let flags = header[13];
    let timestamp = if flags & SYN != 0 { timestamp_option(options) } else { None };
    let header = TcpHeader {
        source_port: u16::from_be_bytes([header[0], header[1]]),
        destination_port: u16::from_be_bytes([header[2], header[3]]),
        sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        acknowledgement: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
        flags,
        timestamp,
    };
    Ok(Decoded::Tcp { addresses, header, body: Body::of(walk) })
}

/// Finds TSval; options that do not add up are ignored, as receivers do.
fn timestamp_option(mut options: &[u8]) -> Option<u32> {
    loop {
        match options {
            [] | [OPTION_END, ..] => return None,
            [OPTION_NOTHING, rest @ ..] => options = rest,
            [OPTION_TIMESTAMPS, 10, a, b, c, d, ..] => return Some(u32::from_be_bytes([*a, *b, *c, *d])),
            [_, length, ..] if *length >= 2 => options = options.get(usize::from(*length)..)?,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_timestamp_behind_other_options() {
        assert_eq!(timestamp_option(&[2, 4, 5, 180, 1, 8, 10, 0, 0, 1, 0, 0, 0, 0, 0]), Some(256));
        assert_eq!(timestamp_option(&[0, 8, 10, 0, 0, 1, 0]), None);
    }

    #[test]
    fn broken_options_end_the_search() {
        for options in [&[8][..], &[2, 0, 0], &[2, 1], &[2, 200, 1], &[8, 10, 1]] {
            assert_eq!(timestamp_option(options), None, "{options:?}");
        }
    }
}
