//! Packets that the Linux firewall logged: a small header, then attributes, one of which is the packet
//! (<https://www.tcpdump.org/linktypes/LINKTYPE_NFLOG.html>).

use super::Next;
use super::walk::Walk;
use crate::stats::Reason;

/// The attribute that holds the packet, always the last one.
const PAYLOAD: u16 = 9;
/// Attributes before the payload; the kernel knows fewer than 32 kinds.
const LARGEST_COUNT: usize = 32;

/// Skips attributes up to the packet. Their lengths are in the byte order of the capturing host, which the frame does
/// not tell; every host that Linux runs on in a cluster is little-endian.
pub(super) fn read(walk: &mut Walk<'_>) -> Result<Next, Reason> {
    walk.array::<4>()?;
    for _ in 0..LARGEST_COUNT {
        let head = walk.array::<4>()?;
        let length = usize::from(u16::from_le_bytes([head[0], head[1]]));
        let value = length.checked_sub(4).ok_or(Reason::Malformed)?;
        if u16::from_le_bytes([head[2], head[3]]) == PAYLOAD {
            walk.limit(value);
            return Ok(Next::Ip);
        }
        walk.take(value.next_multiple_of(4))?;
    }
    Err(Reason::Malformed)
}
