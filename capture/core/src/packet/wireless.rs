//! IEEE 802.11 data frames that are not encrypted, with or without a radiotap header.

use super::walk::Walk;
use super::{Next, ethernet};
use crate::stats::Reason;

/// Bits of the frame control field (IEEE 802.11 clause 9.2.4.1).
const TYPE_MASK: u8 = 0x0c;
const TYPE_DATA: u8 = 0x08;
const SUBTYPE_NO_DATA: u8 = 0x40;
const SUBTYPE_QOS: u8 = 0x80;
const BOTH_DISTRIBUTION: u8 = 0x03;
const PROTECTED: u8 = 0x40;
const ORDER: u8 = 0x80;
/// Radiotap: the field "flags" and its bit "frame check sequence at the end".
const PRESENT_TSFT: u32 = 1;
const PRESENT_FLAGS: u32 = 2;
const PRESENT_MORE: u32 = 1 << 31;
const FLAG_CHECKSUM: u8 = 0x10;

/// Skips the radiotap header, whose length stands in it in little-endian order.
pub(super) fn read_radiotap(walk: &mut Walk<'_>) -> Result<Next, Reason> {
    let header = walk.array::<8>()?;
    let length = usize::from(u16::from_le_bytes([header[2], header[3]]));
    let present = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    let fields = walk.take(length.checked_sub(8).ok_or(Reason::Malformed)?)?;
    if has_checksum(present, fields) {
        walk.drop_trailer(4);
    }
    Ok(Next::Wireless)
}

/// The flags are the first field, or the second behind an aligned 64-bit clock.
fn has_checksum(present: u32, fields: &[u8]) -> bool {
    if present & PRESENT_FLAGS == 0 || present & PRESENT_MORE != 0 {
        return false;
    }
    let position = if present & PRESENT_TSFT == 0 { 0 } else { 8 };
    fields.get(position).is_some_and(|flags| flags & FLAG_CHECKSUM != 0)
}

/// Reads the 802.11 header of a data frame.
pub(super) fn read(walk: &mut Walk<'_>) -> Result<Next, Reason> {
    let header = walk.array::<24>()?;
    let [control, flags] = [header[0], header[1]];
    if control & TYPE_MASK != TYPE_DATA || control & SUBTYPE_NO_DATA != 0 || flags & PROTECTED != 0 {
        return Err(Reason::OtherNetwork);
    }
    if flags & BOTH_DISTRIBUTION == BOTH_DISTRIBUTION {
        walk.array::<6>()?;
    }
    if control & SUBTYPE_QOS != 0 {
        let quality = walk.array::<2>()?;
        // An aggregate of several frames (bit "A-MSDU present") is not taken apart.
        if quality[0] & 0x80 != 0 {
            return Err(Reason::OtherNetwork);
        }
        if flags & ORDER != 0 {
            walk.array::<4>()?;
        }
    }
    ethernet::read_llc(walk)
}
