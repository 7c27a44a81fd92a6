//! GTP-U (3GPP TS 29.281): an IP packet of a mobile subscriber behind eight bytes or more.

use super::walk::Walk;
use super::{DOMAIN_GTP, Next};

/// IANA's port. Both directions are sent to it.
pub(super) const PORT: u16 = 2152;

/// The mandatory header (section 5.1): flags, message type, length, tunnel endpoint.
const HEADER: usize = 8;
/// Version 1, protocol type GTP.
const VERSION_MASK: u8 = 0xf0;
const VERSION: u8 = 0x30;
/// Any of these flags adds four bytes: sequence number, N-PDU number, type of the first extension header.
const OPTIONAL: u8 = 0x07;
const EXTENSION: u8 = 0x04;
/// Message type of a carried packet; the others are about the tunnel itself.
const G_PDU: u8 = 255;

/// Reads the header and its extensions if they lead to an IP packet. Other traffic on the port stays UDP.
///
/// The tunnel endpoint is not part of the address space: each direction has its own.
pub(super) fn read(walk: &mut Walk<'_>) -> Option<Next> {
    let length = header_length(walk.rest())?;
    let next = match walk.rest().get(length)? >> 4 {
        4 => Next::Ipv4,
        6 => Next::Ipv6,
        _ => return None,
    };
    walk.take(length).ok()?;
    walk.enter_domain(DOMAIN_GTP, 0);
    Some(next)
}

/// Length of the header with all its extensions; none for anything but a carried packet.
fn header_length(bytes: &[u8]) -> Option<usize> {
    let flags = *bytes.first()?;
    if flags & VERSION_MASK != VERSION || *bytes.get(1)? != G_PDU {
        return None;
    }
    if flags & OPTIONAL == 0 {
        return Some(HEADER);
    }
    let mut length = HEADER + 4;
    // An extension header (section 5.2.1): its length in units of four bytes, content, type of the next one.
    while flags & EXTENSION != 0 && *bytes.get(length - 1)? != 0 {
        match *bytes.get(length)? {
            0 => return None,
            units => length += usize::from(units) * 4,
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length_of(bytes: &[u8]) -> Option<usize> {
        header_length(bytes)
    }

    #[test]
    fn the_plain_header_has_eight_bytes() {
        assert_eq!(length_of(&[0x30, 255, 0, 40, 0, 0, 0, 1, 0x45]), Some(8));
    }

    #[test]
    fn optional_fields_and_extensions_are_stepped_over() {
        assert_eq!(length_of(&[0x32, 255, 0, 44, 0, 0, 0, 1, 0, 7, 0, 0, 0x45]), Some(12));
        // The PDU session container of 5G.
        let container = [0x34, 255, 0, 48, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0x10, 9, 0, 0x45];
        assert_eq!(length_of(&container), Some(16));
    }

    #[test]
    fn what_is_no_carried_packet_is_refused() {
        for bytes in [
            &[0x30, 1, 0, 4, 0, 0, 0, 0][..],
            &[0x50, 255, 0, 40, 0, 0, 0, 1],
            &[0x34, 255, 0, 48, 0, 0, 0, 1, 0, 0, 0, 0x85, 0],
            &[0x34, 255, 0, 48],
            &[],
        ] {
            assert_eq!(length_of(bytes), None, "{bytes:?}");
        }
    }
}
