//! UDP flows: one data chunk a datagram, since datagram boundaries are message boundaries.

use wirecall_schemas::{Chunk, ChunkCause, ChunkKind, Totals};

use super::identity::Claim;
use crate::packet::Body;
use crate::reassembly::{Context, direction};
use crate::segment::{Channel, signed};

/// A flow; offsets count payload bytes per direction.
#[derive(Debug)]
pub(crate) struct UdpFlow {
    pub(crate) channel: Channel,
    pub(crate) claim: Claim,
    offsets: [i64; 2],
    packets: [i64; 2],
}

impl UdpFlow {
    pub(crate) const fn new(channel: Channel, claim: Claim) -> Self {
        Self { channel, claim, offsets: [0; 2], packets: [0; 2] }
    }

    /// Writes the first chunk: a flow begins with its first datagram.
    pub(crate) fn open(&mut self, side: usize, context: &mut Context<'_>) {
        let time = context.moment.time;
        let (kind, cause) = (ChunkKind::Open, ChunkCause::None);
        let chunk = Chunk { direction: direction(side), kind, cause, offset: 0, length: 0, time };
        context.output.push(&mut self.channel, context.stats, chunk, context.moment.now);
    }

    /// Takes a datagram of one side.
    pub(crate) fn handle(&mut self, side: usize, body: &Body<'_>, packets: u64, context: &mut Context<'_>) {
        let moment = context.moment;
        let offset = self.offsets[side];
        context.stats.deliver(packets, body.data.len() as u64);
        context.output.data(&mut self.channel, context.stats, direction(side), offset, moment, body.data);
        if body.missing > 0 {
            let chunk = Chunk {
                direction: direction(side),
                kind: ChunkKind::Gap,
                cause: ChunkCause::Snaplen,
                offset: offset + signed(body.data.len()),
                length: signed(body.missing),
                time: moment.time,
            };
            context.stats.gaps.packets += 1;
            context.stats.gaps.bytes += body.missing as u64;
            context.output.push(&mut self.channel, context.stats, chunk, moment.now);
        }
        self.offsets[side] += signed(body.data.len() + body.missing);
        self.packets[side] += 1;
    }

    /// Publishes the rest with the close.
    pub(crate) fn close(&mut self, cause: ChunkCause, context: &mut Context<'_>) {
        let chunk = Chunk {
            direction: direction(0),
            kind: ChunkKind::Close,
            cause,
            offset: self.offsets[0],
            length: 0,
            time: context.moment.time,
        };
        context.output.push(&mut self.channel, context.stats, chunk, context.moment.now);
        let totals = Totals {
            client_packets: self.packets[0],
            client_bytes: self.offsets[0],
            server_packets: self.packets[1],
            server_bytes: self.offsets[1],
            retransmitted_packets: 0,
            out_of_order_packets: 0,
        };
        context.output.publish(&mut self.channel, context.stats, Some(totals));
        context.identities.release(&self.claim);
    }
}
