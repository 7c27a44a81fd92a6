//! PPP (RFC 1661), PPPoE sessions (RFC 2516) and Cisco HDLC: the protocol number, with or without framing.

use super::Next;
use super::walk::Walk;
use crate::stats::Reason;

const PPP_IPV4: u16 = 0x0021;
const PPP_IPV6: u16 = 0x0057;
const PPP_MPLS: u16 = 0x0281;
/// Address "all stations" of HDLC framing (RFC 1662 section 3.1), which begins no protocol number.
const HDLC_ADDRESS: u8 = 0xff;
/// Code of a PPPoE packet that carries session data (RFC 2516 section 6).
const PPPOE_SESSION_DATA: u8 = 0;

/// A PPP frame, after its HDLC address and control if they are there.
pub(super) fn read(walk: &mut Walk<'_>) -> Result<Next, Reason> {
    if walk.peek::<1>() == Some(&[HDLC_ADDRESS]) {
        walk.array::<2>()?;
    }
    protocol(walk)
}

/// A PPPoE session header; its length bounds the frame (padding follows it as in Ethernet).
pub(super) fn read_pppoe(walk: &mut Walk<'_>) -> Result<Next, Reason> {
    let header = walk.array::<6>()?;
    if header[0] != 0x11 || header[1] != PPPOE_SESSION_DATA {
        return Err(Reason::OtherNetwork);
    }
    walk.limit(usize::from(u16::from_be_bytes([header[4], header[5]])));
    protocol(walk)
}

/// Cisco HDLC: address, control, then an EtherType.
pub(super) fn read_cisco(walk: &mut Walk<'_>) -> Result<Next, Reason> {
    let header = walk.array::<4>()?;
    Ok(Next::EtherType(u16::from_be_bytes([header[2], header[3]])))
}

/// The protocol number: one byte when compressed (odd first byte, RFC 1661 section 6.5), else two.
fn protocol(walk: &mut Walk<'_>) -> Result<Next, Reason> {
    let first = walk.array::<1>()?[0];
    let number = if first & 1 == 1 {
        u16::from(first)
    } else {
        u16::from(first) << 8 | u16::from(walk.array::<1>()?[0])
    };
    match number {
        PPP_IPV4 => Ok(Next::Ipv4),
        PPP_IPV6 => Ok(Next::Ipv6),
        PPP_MPLS => Ok(Next::Mpls),
        _ => Err(Reason::OtherNetwork),
    }
}
