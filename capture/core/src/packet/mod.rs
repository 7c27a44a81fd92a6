//! From a frame to its transport header: one file a header, a loop that follows them, no copy.
//!
//! Own slicing instead of a packet library, because each header needs two things that libraries do not give together:
//! what the capture cut off (a gap, not an error), and what is padding (not payload).

mod cooked;
mod ethernet;
pub(crate) mod fragment;
mod geneve;
mod gre;
mod gtp;
mod ipv4;
mod ipv6;
mod loopback;
mod mpls;
mod nflog;
mod ppp;
mod tcp;
mod udp;
mod vxlan;
pub(crate) mod walk;
mod wireless;

use bytestring::ByteString;
use wirecall_schemas::Timestamp;

pub(crate) use tcp::{ACK, FIN, RST, SYN, TcpHeader};
use walk::Walk;

use crate::stats::Reason;

/// One captured frame.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'p> {
    /// Capture time.
    pub time: Timestamp,
    /// What the first header is.
    pub link_type: LinkType,
    /// The captured bytes.
    pub data: &'p [u8],
    /// Length of the frame on the wire in bytes; more than `data` when the capture cut it.
    pub original_length: u32,
    /// Name of the interface, where known.
    pub interface: Option<&'p ByteString>,
    /// VLAN id that the network card took off the frame (`tp_vlan_tci` of AF_PACKET, 12 bits), if any.
    pub vlan: Option<u16>,
}

/// Link-layer header type, by its number in capture files (<https://www.tcpdump.org/linktypes.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkType(pub u32);

impl LinkType {
    /// BSD loopback, address family in the byte order of the capturing host.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// PPP (RFC 1662), with or without its HDLC framing.
    pub const PPP: Self = Self(9);
    /// Raw IP as BSD numbers it.
    pub const RAW_BSD: Self = Self(12);
    /// Raw IP as OpenBSD numbers it.
    pub const RAW_OPENBSD: Self = Self(14);
    /// PPP in HDLC framing.
    pub const PPP_HDLC: Self = Self(50);
    /// PPPoE session without its Ethernet header.
    pub const PPPOE: Self = Self(51);
    /// Raw IPv4 or IPv6.
    pub const RAW: Self = Self(101);
    /// Cisco HDLC.
    pub const CISCO_HDLC: Self = Self(104);
    /// IEEE 802.11.
    pub const IEEE_802_11: Self = Self(105);
    /// OpenBSD loopback, address family in network byte order.
    pub const LOOP: Self = Self(108);
    /// Linux cooked capture.
    pub const LINUX_SLL: Self = Self(113);
    /// IEEE 802.11 behind a radiotap header.
    pub const RADIOTAP: Self = Self(127);
    /// Raw IPv4.
    pub const IPV4: Self = Self(228);
    /// Raw IPv6.
    pub const IPV6: Self = Self(229);
    /// Packets that the Linux firewall logged.
    pub const NFLOG: Self = Self(239);
    /// Linux cooked capture, version 2.
    pub const LINUX_SLL2: Self = Self(276);

    /// True when [`crate::Capture`] can read frames of this type; others are counted as `unknown_link`.
    #[must_use]
    pub const fn is_known(self) -> bool {
        self.first_header().is_some()
    }

    const fn first_header(self) -> Option<Next> {
        Some(match self {
            Self::ETHERNET => Next::Ethernet,
            Self::LINUX_SLL => Next::Cooked,
            Self::LINUX_SLL2 => Next::Cooked2,
            Self::RAW | Self::RAW_BSD | Self::RAW_OPENBSD | Self::IPV4 | Self::IPV6 => Next::Ip,
            Self::NULL | Self::LOOP => Next::Loopback,
            Self::PPP | Self::PPP_HDLC => Next::Ppp,
            Self::PPPOE => Next::Pppoe,
            Self::CISCO_HDLC => Next::CiscoHdlc,
            Self::NFLOG => Next::Nflog,
            Self::IEEE_802_11 => Next::Wireless,
            Self::RADIOTAP => Next::Radiotap,
            _ => return None,
        })
    }
}

/// Source and destination of an IP packet; IPv4 addresses are in the low 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Addresses {
    pub(crate) source: u128,
    pub(crate) destination: u128,
    pub(crate) is_v6: bool,
}

/// The header that comes next.
#[derive(Clone, Copy, Debug)]
enum Next {
    Ethernet,
    Cooked,
    Cooked2,
    Loopback,
    Ppp,
    Pppoe,
    CiscoHdlc,
    Nflog,
    Wireless,
    Radiotap,
    EtherType(u16),
    Mpls,
    Ip,
    Ipv4,
    Ipv6,
    Transport { protocol: u8, addresses: Addresses },
}

/// What a frame turned out to hold.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Decoded<'p> {
    /// A TCP segment.
    Tcp { addresses: Addresses, header: TcpHeader, body: Body<'p> },
    /// A UDP datagram.
    Udp { addresses: Addresses, source_port: u16, destination_port: u16, body: Body<'p> },
    /// A part of an IP datagram.
    Fragment(fragment::Part<'p>),
}

/// The payload of a transport header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Body<'p> {
    /// Captured payload.
    pub(crate) data: &'p [u8],
    /// Payload bytes that the capture cut off behind it.
    pub(crate) missing: usize,
    /// Bytes of the frame that are padding.
    pub(crate) padding: usize,
    /// The address space.
    pub(crate) domain: u32,
}

impl<'p> Body<'p> {
    const fn of(walk: &Walk<'p>) -> Self {
        Self { data: walk.rest(), missing: walk.beyond(), padding: walk.padding(), domain: walk.domain() }
    }
}

/// IP protocol numbers (IANA) that are followed.
const PROTOCOL_IPIP: u8 = 4;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_IPV6: u8 = 41;
const PROTOCOL_GRE: u8 = 47;
const PROTOCOL_MPLS: u8 = 137;
/// IP protocol numbers that are counted by name.
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_ICMPV6: u8 = 58;
const PROTOCOL_SCTP: u8 = 132;

/// Kinds of address spaces, for [`Walk::enter_domain`].
const DOMAIN_VLAN: u32 = 1;
const DOMAIN_VXLAN: u32 = 2;
const DOMAIN_GENEVE: u32 = 3;
const DOMAIN_GRE: u32 = 4;
const DOMAIN_SERVICE: u32 = 5;
const DOMAIN_GTP: u32 = 6;

/// Reads a frame down to its transport header.
pub(crate) fn decode<'p>(packet: &Packet<'p>, headers: u8) -> Result<Decoded<'p>, Reason> {
    let Some(first) = packet.link_type.first_header() else { return Err(Reason::UnknownLink) };
    let original_length = usize::try_from(packet.original_length).unwrap_or(usize::MAX);
    let mut walk = Walk::new(packet.data, original_length, 0, headers);
    if let Some(vlan) = packet.vlan {
        ethernet::enter_vlan(&mut walk, vlan);
    }
    follow(walk, first)
}

/// Reads a datagram that was put together from fragments.
pub(crate) fn decode_datagram(datagram: &fragment::Datagram) -> Result<Decoded<'_>, Reason> {
    let walk = Walk::new(&datagram.data, datagram.data.len(), datagram.domain, datagram.headers_left);
    follow(walk, Next::Transport { protocol: datagram.protocol, addresses: datagram.addresses })
}

fn follow(mut walk: Walk<'_>, first: Next) -> Result<Decoded<'_>, Reason> {
    let mut next = first;
    loop {
        walk.descend()?;
        next = match next {
            Next::Ethernet => ethernet::read(&mut walk)?,
            Next::EtherType(kind) => ethernet::follow_type(&mut walk, kind)?,
            Next::Ipv4 => match ipv4::read(&mut walk)? {
                ipv4::Step::Next(next) => next,
                ipv4::Step::Fragment(part) => return Ok(Decoded::Fragment(part)),
            },
            Next::Ipv6 => match ipv6::read(&mut walk)? {
                ipv6::Step::Next(next) => next,
                ipv6::Step::Fragment(part) => return Ok(Decoded::Fragment(part)),
            },
            Next::Transport { protocol: PROTOCOL_TCP, addresses } => return tcp::read(&mut walk, addresses),
            Next::Transport { protocol: PROTOCOL_UDP, addresses } => match udp::read(&mut walk, addresses)? {
                udp::Step::Datagram(decoded) => return Ok(decoded),
                udp::Step::Tunnel(next) => next,
            },
            Next::Transport { protocol, .. } => follow_protocol(&mut walk, protocol)?,
            Next::Ip => ip_by_version(&walk)?,
            Next::Cooked => cooked::read(&mut walk)?,
            Next::Cooked2 => cooked::read_version_2(&mut walk)?,
            Next::Loopback => loopback::read(&mut walk)?,
            Next::Ppp => ppp::read(&mut walk)?,
            Next::Pppoe => ppp::read_pppoe(&mut walk)?,
            Next::CiscoHdlc => ppp::read_cisco(&mut walk)?,
            Next::Nflog => nflog::read(&mut walk)?,
            Next::Wireless => wireless::read(&mut walk)?,
            Next::Radiotap => wireless::read_radiotap(&mut walk)?,
            Next::Mpls => mpls::read(&mut walk)?,
        };
    }
}

/// Follows an IP protocol that is neither TCP nor UDP.
fn follow_protocol(walk: &mut Walk<'_>, protocol: u8) -> Result<Next, Reason> {
    match protocol {
        PROTOCOL_IPIP => Ok(Next::Ipv4),
        PROTOCOL_IPV6 => Ok(Next::Ipv6),
        PROTOCOL_GRE => gre::read(walk),
        PROTOCOL_MPLS => Ok(Next::Mpls),
        PROTOCOL_ICMP | PROTOCOL_ICMPV6 => Err(Reason::Icmp),
        PROTOCOL_SCTP => Err(Reason::Sctp),
        _ => Err(Reason::OtherTransport),
    }
}

/// Raw IP says its version in its first four bits.
fn ip_by_version(walk: &Walk<'_>) -> Result<Next, Reason> {
    match walk.peek::<1>().map(|first| first[0] >> 4) {
        Some(4) => Ok(Next::Ipv4),
        Some(6) => Ok(Next::Ipv6),
        Some(_) => Err(Reason::Malformed),
        None if walk.beyond() > 0 => Err(Reason::Truncated),
        None => Err(Reason::Malformed),
    }
}

#[cfg(test)]
mod tests;
