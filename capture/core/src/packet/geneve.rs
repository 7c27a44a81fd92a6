//! GENEVE (RFC 8926): a protocol type, a virtual network id and options, then the frame.

use super::walk::Walk;
use super::{DOMAIN_GENEVE, Next};

/// IANA's port.
pub(super) const PORT: u16 = 6081;

/// Reads the header if the bytes are one: version 0 and nothing reserved. Other traffic on the port stays UDP.
pub(super) fn read(walk: &mut Walk<'_>) -> Option<Next> {
    let header = walk.peek::<8>()?;
    let options = usize::from(header[0] & 0x3f) * 4;
    let control_packet = header[1] & 0x80 != 0;
    let plausible = header[0] >> 6 == 0 && header[1] & 0x3f == 0 && header[7] == 0;
    if !plausible || control_packet || walk.rest().len() < 8 + options {
        return None;
    }
    walk.take(8 + options).ok()?;
    walk.enter_domain(DOMAIN_GENEVE, u32::from_be_bytes([0, header[4], header[5], header[6]]));
    Some(Next::EtherType(u16::from_be_bytes([header[2], header[3]])))
}
