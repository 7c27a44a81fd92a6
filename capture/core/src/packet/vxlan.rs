//! VXLAN (RFC 7348): an Ethernet frame behind eight bytes.

use super::walk::Walk;
use super::{DOMAIN_VXLAN, Next};

/// IANA's port, and the one that Linux used before it was assigned (still the default of flannel).
pub(super) const PORTS: [u16; 2] = [4789, 8472];

/// Reads the header if the bytes are one: the flag I and nothing reserved. Other traffic on the port stays UDP.
pub(super) fn read(walk: &mut Walk<'_>) -> Option<Next> {
    let header = walk.peek::<8>()?;
    let plausible = header[0] == 0x08 && header[1..4] == [0, 0, 0] && header[7] == 0;
    if !plausible || walk.wire_length() < 8 + 14 {
        return None;
    }
    walk.array::<8>().ok()?;
    walk.enter_domain(DOMAIN_VXLAN, u32::from_be_bytes([0, header[4], header[5], header[6]]));
    Some(Next::Ethernet)
}
