//! UDP header (RFC 768), and the tunnels that travel in it.

use super::walk::Walk;
use super::{Addresses, Body, Decoded, Next, geneve, gtp, vxlan};
use crate::stats::Reason;

const HEADER: usize = 8;

/// What a UDP header leads to.
pub(super) enum Step<'p> {
    /// A datagram.
    Datagram(Decoded<'p>),
    /// A tunnelled frame.
    Tunnel(Next),
}

/// Reads the header and bounds the frame to its length.
pub(super) fn read<'p>(walk: &mut Walk<'p>, addresses: Addresses) -> Result<Step<'p>, Reason> {
    let header = walk.array::<HEADER>()?;
    let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (source_port, destination_port, length) = (field(0), field(2), usize::from(field(4)));
    // Length 0: a jumbogram (RFC 2675 section 4) or segmentation offload.
    if length != 0 {
        walk.limit(length.checked_sub(HEADER).ok_or(Reason::Malformed)?);
    }
    let tunnel = match destination_port {
        geneve::PORT => geneve::read(walk),
        gtp::PORT => gtp::read(walk),
        port if vxlan::PORTS.contains(&port) => vxlan::read(walk),
        _ => None,
    };
    Ok(match tunnel {
        Some(next) => Step::Tunnel(next),
        None => {
            Step::Datagram(Decoded::Udp { addresses, source_port, destination_port, body: Body::of(walk) })
        }
    })
}
