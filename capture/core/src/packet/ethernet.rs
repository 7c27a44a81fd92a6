//! Ethernet II, IEEE 802.3 with LLC/SNAP, and VLAN tags (IEEE 802.1Q, 802.1ad and the older QinQ numbers).

use super::walk::Walk;
use super::{DOMAIN_SERVICE, DOMAIN_VLAN, Next};
use crate::stats::Reason;

pub(super) const TYPE_IPV4: u16 = 0x0800;
pub(super) const TYPE_IPV6: u16 = 0x86dd;
const TYPE_ARP: u16 = 0x0806;
const TYPE_RARP: u16 = 0x8035;
const TYPE_VLAN: u16 = 0x8100;
const TYPE_QINQ: u16 = 0x88a8;
/// Numbers that vendors used for the outer tag before 802.1ad.
const TYPE_QINQ_OLD: [u16; 3] = [0x9100, 0x9200, 0x9300];
const TYPE_MPLS: u16 = 0x8847;
const TYPE_MPLS_MULTICAST: u16 = 0x8848;
/// Provider backbone bridge: a service tag, then the customer's whole frame (IEEE 802.1ah).
const TYPE_BACKBONE: u16 = 0x88e7;
const TYPE_PPPOE_SESSION: u16 = 0x8864;
/// Transparent Ethernet bridging: an Ethernet frame follows (GRE, GENEVE).
pub(super) const TYPE_BRIDGING: u16 = 0x6558;
/// PPP inside GRE (RFC 2637).
pub(super) const TYPE_PPP: u16 = 0x880b;
/// Values up to this are a length, not a type (IEEE 802.3 clause 3.2.6).
const LARGEST_LENGTH: u16 = 1500;

/// Reads the 14 bytes of an Ethernet header.
pub(super) fn read(walk: &mut Walk<'_>) -> Result<Next, Reason> {
    let header = walk.array::<14>()?;
    let kind = u16::from_be_bytes([header[12], header[13]]);
    if kind == TYPE_IPV4 {
        return Ok(Next::Ipv4);
    }
    if kind <= LARGEST_LENGTH {
        return read_llc(walk);
    }
    Ok(Next::EtherType(kind))
}

/// LLC with SNAP (RFC 1042) carries an EtherType; all other LLC is spanning tree, IPX and the like.
pub(super) fn read_llc(walk: &mut Walk<'_>) -> Result<Next, Reason> {
    match walk.array::<8>()? {
        [0xaa, 0xaa, 3, 0, 0, 0, high, low] => Ok(Next::EtherType(u16::from_be_bytes([*high, *low]))),
        _ => Err(Reason::OtherNetwork),
    }
}

/// Follows an EtherType, wherever it was read.
pub(super) fn follow_type(walk: &mut Walk<'_>, kind: u16) -> Result<Next, Reason> {
    match kind {
        TYPE_IPV4 => Ok(Next::Ipv4),
        TYPE_IPV6 => Ok(Next::Ipv6),
        TYPE_VLAN | TYPE_QINQ => read_vlan(walk),
        TYPE_MPLS | TYPE_MPLS_MULTICAST => Ok(Next::Mpls),
        TYPE_BACKBONE => read_service_tag(walk),
        TYPE_PPPOE_SESSION => Ok(Next::Pppoe),
        TYPE_BRIDGING => Ok(Next::Ethernet),
        TYPE_PPP => Ok(Next::Ppp),
        TYPE_ARP | TYPE_RARP => Err(Reason::Arp),
        _ if TYPE_QINQ_OLD.contains(&kind) => read_vlan(walk),
        _ => Err(Reason::OtherNetwork),
    }
}

fn read_vlan(walk: &mut Walk<'_>) -> Result<Next, Reason> {
    let tag = walk.u16()?;
    enter_vlan(walk, tag);
    match walk.u16()? {
        length if length <= LARGEST_LENGTH => read_llc(walk),
        kind => Ok(Next::EtherType(kind)),
    }
}

/// Four bytes: flags and the 24-bit service id.
fn read_service_tag(walk: &mut Walk<'_>) -> Result<Next, Reason> {
    let tag = walk.array::<4>()?;
    walk.enter_domain(DOMAIN_SERVICE, u32::from_be_bytes([0, tag[1], tag[2], tag[3]]));
    Ok(Next::Ethernet)
}

/// Notes the VLAN. Id 0 only carries a priority (IEEE 802.1Q clause 6.9): the frame is untagged.
pub(super) fn enter_vlan(walk: &mut Walk<'_>, tag: u16) {
    let id = tag & 0x0fff;
    if id != 0 {
        walk.enter_domain(DOMAIN_VLAN, u32::from(id));
    }
}
