//! A TCP connection from its first packet to its end: handshake, identity, FIN and RST. The bytes are the
//! reassembly's matter.

use wirecall_schemas::{Chunk, ChunkCause, ChunkKind, Orientation, Totals};

use super::ended::Ended;
use super::identity::{Claim, handshake_id};
use super::key::FlowKey;
use super::table::Waiting;
use crate::packet::{ACK, Body, FIN, RST, SYN, TcpHeader};
use crate::reassembly::{Context, Incoming, Pair, Span, Stream, direction};
use crate::segment::{Channel, signed};
use crate::stats::Reason;

const CLIENT: usize = 0;
const SERVER: usize = 1;

/// Bytes that may wait for the end of a handshake, which fixes the id they are published under. A SYN carries at most a
/// segment (TCP Fast Open, RFC 7413); whoever sends more of them shall not fill the memory.
const WAITING_BYTES: usize = 4 << 10;

/// A connection; index 0 is the client, 1 the server.
#[derive(Debug)]
pub(crate) struct TcpConnection {
    pub(crate) channel: Channel,
    pub(crate) claim: Option<Claim>,
    tuple: FlowKey,
    pair: Pair,
    initial: [Option<u32>; 2],
    /// TSval of the client's SYN.
    timestamp: Option<u32>,
    /// Something other than a handshake or a reset was seen.
    confirmed: bool,
    closed: bool,
    /// The side that sent the first FIN.
    first_finish: Option<usize>,
    packets: [i64; 2],
    bytes: [i64; 2],
}

/// Side and cause of an end.
type Ending = (usize, ChunkCause);

impl TcpConnection {
    /// A connection whose first packet is about to be handled; `claim` is known already when it is joined mid-stream.
    pub(crate) fn new(channel: Channel, tuple: FlowKey, claim: Option<Claim>) -> Self {
        Self {
            channel,
            claim,
            tuple,
            pair: Pair::default(),
            initial: [None; 2],
            timestamp: None,
            confirmed: claim.is_some(),
            closed: false,
            first_finish: None,
            packets: [0; 2],
            bytes: [0; 2],
        }
    }

    /// What the connection waits for.
    pub(crate) const fn waiting(&self) -> Waiting {
        if self.confirmed { Waiting::Tcp } else { Waiting::Handshake }
    }

    /// True once its close was published.
    pub(crate) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Writes the first chunk: the start was seen, or not.
    pub(crate) fn open(&mut self, side: usize, kind: ChunkKind, context: &mut Context<'_>) {
        self.mark(side, kind, ChunkCause::None, 0, context);
    }

    fn mark(
        &mut self,
        side: usize,
        kind: ChunkKind,
        cause: ChunkCause,
        offset: i64,
        context: &mut Context<'_>,
    ) {
        let time = context.moment.time;
        let chunk = Chunk { direction: direction(side), kind, cause, offset, length: 0, time };
        context.output.push(&mut self.channel, context.stats, chunk, context.moment.now);
    }

    /// Whether a packet belongs to a new connection with the same addresses and ports.
    pub(crate) fn is_replaced_by(&self, side: usize, header: &TcpHeader) -> bool {
        if !header.has(SYN) || header.has(RST) {
            return false;
        }
        if header.has(ACK) {
            return self.syn_ack_is_foreign(side, header);
        }
        match self.initial[side] {
            Some(initial) => initial != header.sequence,
            None if side == CLIENT || self.confirmed => !self.is_late_syn(side, header),
            // Both sides open at once (RFC 9293 section 3.5), as long as the server has not been heard.
            None => self.pair.streams[SERVER].seen,
        }
    }

    /// Whether a SYN from another address space is the one that began this connection, seen a second time.
    pub(crate) fn began_with(&self, side: usize, header: &TcpHeader) -> bool {
        header.has(SYN)
            && !header.has(ACK | RST)
            && side == CLIENT
            && self.initial[CLIENT] == Some(header.sequence)
            && self.timestamp.is_some()
            && self.timestamp == header.timestamp
    }

    /// What to remember once the connection is closed.
    pub(crate) fn ended(&self) -> Ended {
        Ended {
            client_initial: self.initial[CLIENT],
            client_timestamp: self.timestamp,
            expected: self.pair.streams.each_ref().map(Stream::expected),
        }
    }

    /// A SYN captured after the first data of its connection.
    fn is_late_syn(&self, side: usize, header: &TcpHeader) -> bool {
        let stream = &self.pair.streams[side];
        stream.started && stream.is_mid_stream && stream.offset_of(header.sequence.wrapping_add(1)) == 0
    }

    fn syn_ack_is_foreign(&self, side: usize, header: &TcpHeader) -> bool {
        let peer = 1 - side;
        match self.initial[peer] {
            // It acknowledges the SYN, and maybe data in it (RFC 7413).
            Some(initial) => {
                let ahead = header.acknowledgement.wrapping_sub(initial);
                ahead == 0 || i64::from(ahead) > self.pair.streams[peer].next + 1
            }
            None => !self.is_late_syn(side, header),
        }
    }

    /// Takes a packet of one side and settles it; the headers are counted by the caller.
    pub(crate) fn handle(
        &mut self,
        side: usize,
        header: &TcpHeader,
        body: &Body<'_>,
        packets: u64,
        context: &mut Context<'_>,
    ) {
        self.packets[side] += 1;
        self.bytes[side] += signed(body.data.len() + body.missing);
        if header.has(SYN) {
            self.handle_syn(side, header);
        }
        if header.has(RST) {
            self.handle_reset(side, header, body, packets, context);
            return;
        }
        let effective = self.anchor(side, header, body.data, context);
        self.note_sender(side, context);
        let needs = self.note_acknowledgement(side, header, context);
        self.identify(header, context);
        let incoming = Incoming { needs, packets, effective };
        self.handle_payload(side, header, body, incoming, context);
        self.end_if_complete(context);
    }

    fn handle_syn(&mut self, side: usize, header: &TcpHeader) {
        let peer = 1 - side;
        let stream = &mut self.pair.streams[side];
        if self.claim.is_none() && stream.next == 0 && stream.queue.is_empty() {
            self.initial[side] = Some(header.sequence);
            stream.start(header.sequence.wrapping_add(1));
        }
        if header.has(ACK) && !self.pair.streams[peer].started {
            self.pair.streams[peer].start(header.acknowledgement);
            self.initial[peer] = Some(header.acknowledgement.wrapping_sub(1));
        }
        if side == CLIENT && !header.has(ACK) {
            self.timestamp = self.timestamp.or(header.timestamp);
            if self.channel.head.id.is_none() {
                self.channel.head.orientation = Orientation::Syn;
            }
        }
    }

    /// Anchors a direction that no handshake has anchored; true if this is its first packet.
    fn anchor(&mut self, side: usize, header: &TcpHeader, payload: &[u8], context: &Context<'_>) -> bool {
        let from_handshake = self.initial[CLIENT].is_some() && self.claim.is_none();
        let stream = &mut self.pair.streams[side];
        if header.has(SYN) {
            return true;
        }
        let is_first = !stream.seen;
        if !stream.started {
            // A keep-alive probe repeats the last byte of the stream, as a zero (RFC 9293 section 3.8.4): what is new
            // begins behind it.
            let probe = !from_handshake && payload == [0];
            stream.start(header.sequence.wrapping_add(u32::from(probe)));
            stream.is_mid_stream = !from_handshake;
            if from_handshake && self.initial[side].is_none() {
                self.initial[side] = Some(header.sequence.wrapping_sub(1));
            }
        } else if is_first && stream.queue.is_empty() && stream.next == 0 {
            // Anchored by the other side's acknowledgement only; its own number is the better witness.
            let distance = stream.offset_of(header.sequence);
            if distance < -1 || distance > signed(context.limits.reorder_bytes) {
                stream.start(header.sequence);
            }
        }
        is_first
    }

    fn note_sender(&mut self, side: usize, context: &Context<'_>) {
        let stream = &mut self.pair.streams[side];
        stream.seen = true;
        stream.absent = false;
        stream.last_seen = context.moment.now;
    }

    /// The offset of the other direction that this packet needs to come first.
    fn note_acknowledgement(&mut self, side: usize, header: &TcpHeader, context: &mut Context<'_>) -> i64 {
        if !header.has(ACK) {
            return 0;
        }
        let peer = 1 - side;
        let stream = &mut self.pair.streams[peer];
        let is_untouched = !stream.started || (stream.next == 0 && stream.queue.is_empty());
        if side == CLIENT && is_untouched && self.claim.is_none() && !header.has(SYN) {
            // The third packet of a handshake: says which SYN-ACK the client took, captured or not. Unless bytes of the
            // server went missing between, which is as good as excluded when the numbers are close.
            let distance = stream.offset_of(header.acknowledgement);
            let window = signed(context.limits.reorder_bytes);
            if !stream.started || !(0..=window).contains(&distance) {
                stream.start(header.acknowledgement);
                self.initial[peer] = Some(header.acknowledgement.wrapping_sub(1));
            }
        }
        if !stream.started {
            return 0;
        }
        let offset = stream.offset_of(header.acknowledgement);
        self.pair.acknowledge(peer, offset, &self.channel, context);
        offset
    }

    /// Fixes the id with the first packet behind the handshake. Not with the SYN-ACK: there can be several with
    /// different numbers (a proxy, a balancer that tries twice), and the client's answer tells which one it took.
    fn identify(&mut self, header: &TcpHeader, context: &mut Context<'_>) {
        self.confirmed |= !header.has(SYN | RST);
        let is_long = self.channel.run.held() >= WAITING_BYTES;
        if self.claim.is_some() || !(self.confirmed || is_long) {
            return;
        }
        if is_long || matches!(self.initial, [Some(_), Some(_)]) {
            self.claim_id(context);
        }
    }

    /// Fixes the id with what is known, so that what waits for it can be published.
    pub(crate) fn identify_as_it_is(&mut self, context: &mut Context<'_>) {
        if self.claim.is_none() {
            self.claim_id(context);
        }
    }

    fn claim_id(&mut self, context: &mut Context<'_>) {
        let Some(client) = self.initial[CLIENT] else { return };
        let unsalted = handshake_id(client, self.initial[SERVER]);
        let bound = context.limits.recent_ids;
        let claim = context.identities.claim(unsalted, self.tuple, self.timestamp, bound, context.stats);
        self.channel.head.id = Some(claim.id);
        self.claim = Some(claim);
        context.output.identified(&mut self.channel, context.moment.now);
    }

    fn handle_payload(
        &mut self,
        side: usize,
        header: &TcpHeader,
        body: &Body<'_>,
        mut incoming: Incoming,
        context: &mut Context<'_>,
    ) {
        let sequence = header.sequence.wrapping_add(u32::from(header.has(SYN)));
        let span = Span {
            offset: self.pair.streams[side].offset_of(sequence),
            data: body.data,
            missing: signed(body.missing),
        };
        if header.has(FIN) && self.pair.finish(side, span.end(), context) {
            incoming.effective = true;
            self.first_finish = self.first_finish.or(Some(side));
            self.pair.arm(&self.channel, context);
        }
        if span.is_empty() {
            context.stats.deliver(incoming.packets, 0);
        } else {
            self.pair.data(side, span, incoming, &mut self.channel, context);
        }
    }

    /// A reset counts when its number lies in the window, or answers our SYN. Others are blind (RFC 5961 section 3).
    fn handle_reset(
        &mut self,
        side: usize,
        header: &TcpHeader,
        body: &Body<'_>,
        packets: u64,
        context: &mut Context<'_>,
    ) {
        let stream = &self.pair.streams[side];
        let offset = if stream.started { stream.offset_of(header.sequence) } else { 0 };
        let refuses = !stream.seen && self.claim.is_none();
        let window = signed(context.limits.reorder_bytes);
        if !refuses && (offset - stream.next).abs() > window {
            context.stats.count(Reason::OutOfWindow, packets, body.data.len() as u64);
            return;
        }
        context.stats.deliver(packets, 0);
        context.stats.count(Reason::AfterClose, 0, body.data.len() as u64);
        let offset = if refuses { 0 } else { offset };
        self.pair.reset = self.pair.reset.or(Some((side, offset, context.moment.now)));
        self.pair.arm(&self.channel, context);
        self.end_if_complete(context);
    }

    /// Closes when both FINs, or a reset, have all bytes before them.
    fn end_if_complete(&mut self, context: &mut Context<'_>) {
        if self.pair.finish_is_due(&self.channel, context) {
            self.close((self.first_finish.unwrap_or(CLIENT), ChunkCause::Fin), context);
        } else if let Some(side) = self.pair.reset_is_due(context.moment.now, context.limits) {
            self.close((side, ChunkCause::Reset), context);
        }
    }

    /// A reorder deadline has passed.
    pub(crate) fn expire(&mut self, deadline: i64, context: &mut Context<'_>) {
        if !self.closed {
            self.pair.expire(deadline, &mut self.channel, context);
            self.end_if_complete(context);
        }
    }

    /// Memory is short.
    pub(crate) fn evict(&mut self, context: &mut Context<'_>) {
        if !self.closed {
            self.pair.evict(&mut self.channel, context);
            self.end_if_complete(context);
        }
    }

    /// Publishes everything that is left, and the close. Later packets are stragglers.
    pub(crate) fn close(&mut self, (side, cause): Ending, context: &mut Context<'_>) {
        if self.closed {
            return;
        }
        self.closed = true;
        if self.claim.is_none() {
            self.claim_id(context);
        }
        self.pair.settle_all(&mut self.channel, context);
        let offset = self.pair.streams[side].next;
        self.mark(side, ChunkKind::Close, cause, offset, context);
        let totals = self.totals();
        context.output.publish(&mut self.channel, context.stats, Some(totals));
        if let Some(claim) = &self.claim {
            context.identities.release(claim);
        }
    }

    const fn totals(&self) -> Totals {
        Totals {
            client_packets: self.packets[CLIENT],
            client_bytes: self.bytes[CLIENT],
            server_packets: self.packets[SERVER],
            server_bytes: self.bytes[SERVER],
            retransmitted_packets: self.pair.retransmitted_packets,
            out_of_order_packets: self.pair.out_of_order_packets,
        }
    }
}
