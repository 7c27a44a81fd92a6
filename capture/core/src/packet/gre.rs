//! GRE (RFC 2784, keys and sequence numbers of RFC 2890, version 1 of RFC 2637) and ERSPAN inside it.

use super::walk::Walk;
use super::{DOMAIN_GRE, Next, ethernet};
use crate::stats::Reason;

const CHECKSUM: u8 = 0x80;
const ROUTING: u8 = 0x40;
const KEY: u8 = 0x20;
const SEQUENCE: u8 = 0x10;
const VERSION_MASK: u8 = 0x07;
/// Acknowledgement present, in version 1 only.
const ACKNOWLEDGEMENT: u8 = 0x80;
/// ERSPAN types II and III: mirrored Ethernet frames (draft-foschiano-erspan).
const TYPE_ERSPAN_2: u16 = 0x88be;
const TYPE_ERSPAN_3: u16 = 0x22eb;

/// Reads a GRE header.
pub(super) fn read(walk: &mut Walk<'_>) -> Result<Next, Reason> {
    let header = walk.array::<4>()?;
    let [flags, more, high, low] = *header;
    let kind = u16::from_be_bytes([high, low]);
    // Source routing was taken out of the standard (RFC 2784 section 2.3); nobody sends it.
    if flags & ROUTING != 0 || more & VERSION_MASK > 1 {
        return Err(Reason::OtherTransport);
    }
    if flags & CHECKSUM != 0 {
        walk.array::<4>()?;
    }
    if more & VERSION_MASK == 1 {
        return read_version_1(walk, flags, more, kind);
    }
    if flags & KEY != 0 {
        let key = u32::from_be_bytes(*walk.array::<4>()?);
        walk.enter_domain(DOMAIN_GRE, key);
    }
    if flags & SEQUENCE != 0 {
        walk.array::<4>()?;
    }
    match kind {
        TYPE_ERSPAN_2 => read_erspan_2(walk, flags & SEQUENCE != 0),
        TYPE_ERSPAN_3 => read_erspan_3(walk),
        _ => Ok(Next::EtherType(kind)),
    }
}

/// PPTP's GRE: the key holds the payload's length and a call id, which differs between the directions.
fn read_version_1(walk: &mut Walk<'_>, flags: u8, more: u8, kind: u16) -> Result<Next, Reason> {
    let key = walk.array::<4>()?;
    if flags & SEQUENCE == 0 {
        return Err(Reason::OtherTransport);
    }
    walk.array::<4>()?;
    if more & ACKNOWLEDGEMENT != 0 {
        walk.array::<4>()?;
    }
    walk.limit(usize::from(u16::from_be_bytes([key[0], key[1]])));
    if kind == ethernet::TYPE_PPP { Ok(Next::Ppp) } else { Err(Reason::OtherTransport) }
}

/// Type II has an 8-byte header and always a sequence number; without one it is type I, which has no header.
fn read_erspan_2(walk: &mut Walk<'_>, has_sequence: bool) -> Result<Next, Reason> {
    if has_sequence {
        walk.array::<8>()?;
    }
    Ok(Next::Ethernet)
}

/// Type III has 12 bytes, and 8 more when the last bit says so.
fn read_erspan_3(walk: &mut Walk<'_>) -> Result<Next, Reason> {
    let header = walk.array::<12>()?;
    if header[11] & 1 == 1 {
        walk.array::<8>()?;
    }
    Ok(Next::Ethernet)
}
