//! Linux cooked captures: what the `any` device gives instead of a link-layer header
//! (<https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL.html>, `…_SLL2.html`).

use super::walk::Walk;
use super::{Next, ethernet};
use crate::stats::Reason;

/// Protocol values below this are Linux's own names for frames without an EtherType.
const FIRST_ETHER_TYPE: u16 = 0x0600;
/// `LINUX_SLL_P_802_2`: an LLC header follows.
const LLC: u16 = 4;

/// Version 1: 16 bytes, the protocol last.
pub(super) fn read(walk: &mut Walk<'_>) -> Result<Next, Reason> {
    let header = walk.array::<16>()?;
    protocol(walk, u16::from_be_bytes([header[14], header[15]]))
}

/// Version 2: 20 bytes, the protocol first.
pub(super) fn read_version_2(walk: &mut Walk<'_>) -> Result<Next, Reason> {
    let header = walk.array::<20>()?;
    protocol(walk, u16::from_be_bytes([header[0], header[1]]))
}

fn protocol(walk: &mut Walk<'_>, protocol: u16) -> Result<Next, Reason> {
    match protocol {
        LLC => ethernet::read_llc(walk),
        // Some tunnel devices without a link layer leave the protocol empty; the IP version then decides.
        0 => Ok(Next::Ip),
        _ if protocol < FIRST_ETHER_TYPE => Err(Reason::OtherNetwork),
        _ => Ok(Next::EtherType(protocol)),
    }
}
