//! BSD loopback: four bytes of address family, in the byte order of the host that captured (`NULL`) or of the network
//! (`LOOP`). The values fit one byte, so both orders are told apart by looking.

use super::Next;
use super::walk::Walk;
use crate::stats::Reason;

const FAMILY_IPV4: u32 = 2;
/// AF_INET6 on NetBSD/OpenBSD, FreeBSD, macOS and Linux.
const FAMILIES_IPV6: [u32; 4] = [24, 28, 30, 10];

/// Reads the address family.
pub(super) fn read(walk: &mut Walk<'_>) -> Result<Next, Reason> {
    let bytes = *walk.array::<4>()?;
    let little = u32::from_le_bytes(bytes);
    let family = if little <= 0xffff { little } else { u32::from_be_bytes(bytes) };
    match family {
        FAMILY_IPV4 => Ok(Next::Ipv4),
        _ if FAMILIES_IPV6.contains(&family) => Ok(Next::Ipv6),
        _ => Err(Reason::OtherNetwork),
    }
}
