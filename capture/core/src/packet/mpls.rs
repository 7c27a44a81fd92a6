//! MPLS label stacks (RFC 3032). Labels are the path of a packet, not its address space: both directions of a
//! connection have different ones, so they are skipped.

use super::Next;
use super::walk::Walk;
use crate::stats::Reason;

/// "Bottom of stack" in the third byte of a label.
const BOTTOM: u8 = 1;

/// Skips one label; behind the last one the first nibble tells what follows (RFC 4928 section 2).
pub(super) fn read(walk: &mut Walk<'_>) -> Result<Next, Reason> {
    let label = walk.array::<4>()?;
    if label[2] & BOTTOM == 0 {
        return Ok(Next::Mpls);
    }
    match walk.peek::<1>().map(|first| first[0] >> 4) {
        Some(4) => Ok(Next::Ipv4),
        Some(6) => Ok(Next::Ipv6),
        // An Ethernet pseudowire with its control word (RFC 4448 section 4.6).
        Some(0) => {
            walk.array::<4>()?;
            Ok(Next::Ethernet)
        }
        // A pseudowire without one, or an associated channel: not told apart with certainty.
        Some(_) => Err(Reason::OtherNetwork),
        None => Err(if walk.beyond() > 0 { Reason::Truncated } else { Reason::Malformed }),
    }
}
