//! IPv6 (RFC 8200) with its chain of extension headers.

use super::walk::Walk;
use super::{Addresses, Next, fragment};
use crate::stats::Reason;

pub(super) use super::ipv4::Step;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
/// Host identity protocol and Shim6 have the same shape as the options.
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;
/// Extension headers of one packet. RFC 8200 section 4.1 lists seven in all; a chain as long as the packet would be
/// work for nothing.
const LARGEST_CHAIN: usize = 16;

/// Reads the fixed header, bounds the frame to the payload length and walks the extension headers.
pub(super) fn read<'p>(walk: &mut Walk<'p>) -> Result<Step<'p>, Reason> {
    let header = walk.array::<40>()?;
    if header[0] >> 4 != 6 {
        return Err(Reason::Malformed);
    }
    let payload = usize::from(u16::from_be_bytes([header[4], header[5]]));
    // Length 0: a jumbogram (RFC 2675) or segmentation offload; the frame's end is the end.
    if payload != 0 {
        walk.limit(payload);
    }
    let address = |at: usize| {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&header[at..at + 16]);
        u128::from_be_bytes(bytes)
    };
    let addresses = Addresses { source: address(8), destination: address(24), is_v6: true };
    follow_extensions(walk, header[6], addresses)
}

fn follow_extensions<'p>(walk: &mut Walk<'p>, first: u8, addresses: Addresses) -> Result<Step<'p>, Reason> {
    let mut protocol = first;
    for _ in 0..LARGEST_CHAIN {
        match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HOST_IDENTITY | SHIM6 => {
                let head = walk.array::<8>()?;
                walk.take(usize::from(head[1]) * 8)?;
                protocol = head[0];
            }
            AUTHENTICATION => {
                // Its length is in units of four bytes, less two (RFC 4302 section 2.2).
                let head = walk.array::<8>()?;
                walk.take(usize::from(head[1]) * 4)?;
                protocol = head[0];
            }
            FRAGMENT => {
                let head = walk.array::<8>()?;
                protocol = head[0];
                let flags = u16::from_be_bytes([head[2], head[3]]);
                let (offset, more) = (usize::from(flags & 0xfff8), flags & 1 == 1);
                // An "atomic" fragment is a whole datagram (RFC 6946).
                if offset != 0 || more {
                    let identification = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
                    return fragment::Part::read(walk, addresses, protocol, identification, offset, more)
                        .map(Step::Fragment);
                }
            }
            _ => return Ok(Step::Next(Next::Transport { protocol, addresses })),
        }
    }
    Err(Reason::NestingLimit)
}
