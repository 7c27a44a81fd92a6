//! IPv4 (RFC 791). The header checksum is not checked: offload leaves it empty on the sending host.

use super::walk::Walk;
use super::{Addresses, Next, fragment};
use crate::stats::Reason;

/// Shortest header.
const MINIMUM: usize = 20;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// What an IP header leads to.
pub(super) enum Step<'p> {
    /// The next header.
    Next(Next),
    /// A part of a datagram.
    Fragment(fragment::Part<'p>),
}

/// Reads the header and bounds the frame to the total length.
pub(super) fn read<'p>(walk: &mut Walk<'p>) -> Result<Step<'p>, Reason> {
    let header = walk.array::<MINIMUM>()?;
    let length = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || length < MINIMUM {
        return Err(Reason::Malformed);
    }
    walk.take(length - MINIMUM)?;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    // Length 0: the card was to cut a larger packet and write the lengths (segmentation offload).
    if total != 0 {
        walk.limit(total.checked_sub(length).ok_or(Reason::Malformed)?);
    }
    let address = |at: usize| {
        u128::from(u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]))
    };
    let addresses = Addresses { source: address(12), destination: address(16), is_v6: false };
    let protocol = header[9];
    let flags = u16::from_be_bytes([header[6], header[7]]);
    if flags & (MORE_FRAGMENTS | OFFSET_MASK) == 0 {
        return Ok(Step::Next(Next::Transport { protocol, addresses }));
    }
    let identification = u32::from(u16::from_be_bytes([header[4], header[5]]));
    let offset = usize::from(flags & OFFSET_MASK) * 8;
    let more = flags & MORE_FRAGMENTS != 0;
    fragment::Part::read(walk, addresses, protocol, identification, offset, more).map(Step::Fragment)
}
