//! Both directions together: in-order delivery, holes, and the order between request and answer.

use wirecall_schemas::{ChunkCause, Direction};

use super::stream::{Piece, Span, Stream};
use super::write::{Settle, declare_gap, deliver, drop_after_finish};
use crate::flow::identity::Identities;
use crate::limits::{Limit, Limits};
use crate::segment::{Channel, Moment, Output, signed};
use crate::stats::{Reason, Stats};

/// What a connection may use while it handles a packet.
pub(crate) struct Context<'c> {
    pub(crate) output: &'c mut Output,
    pub(crate) stats: &'c mut Stats,
    pub(crate) identities: &'c mut Identities,
    pub(crate) limits: &'c Limits,
    pub(crate) moment: Moment,
}

/// What is known of a packet besides its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming {
    /// Offset of the other direction that it acknowledges: bytes that came before it.
    pub(crate) needs: i64,
    /// Frames it came in.
    pub(crate) packets: u64,
    /// It took effect, whatever becomes of its bytes.
    pub(crate) effective: bool,
}

/// The two streams, client to server first, and what they need to write.
#[derive(Debug, Default)]
pub(crate) struct Pair {
    pub(crate) streams: [Stream; 2],
    /// A reset that waits for the bytes before it: its sender, the offset, its arrival.
    pub(crate) reset: Option<(usize, i64, i64)>,
    /// Since when both FINs have all bytes before them; the last acknowledgement may be under way.
    pub(super) finished: Option<i64>,
    /// The deadline that is in the timers, if any.
    pub(super) armed: Option<i64>,
    pub(crate) retransmitted_packets: i64,
    pub(crate) out_of_order_packets: i64,
}

/// The direction of an index into [`Pair::streams`].
pub(crate) const fn direction(side: usize) -> Direction {
    if side == 0 { Direction::ClientToServer } else { Direction::ServerToClient }
}

impl Pair {
    /// Takes stream bytes of a packet and settles the packet.
    pub(crate) fn data(
        &mut self,
        side: usize,
        span: Span<'_>,
        incoming: Incoming,
        channel: &mut Channel,
        context: &mut Context<'_>,
    ) {
        let other_reach = self.streams[1 - side].reach();
        let stream = &mut self.streams[side];
        let is_next = span.offset == stream.next
            && stream.queue.is_empty()
            && stream.finish.is_none_or(|(finish, _)| span.end() <= finish);
        if is_next && incoming.needs <= other_reach {
            context.stats.deliver(incoming.packets, span.data.len() as u64);
            deliver(stream, side, span, context.moment, channel, context);
            if !self.streams[1 - side].queue.is_empty() {
                self.drain(channel, context);
            }
            return;
        }
        self.data_out_of_order(side, span, incoming, channel, context);
    }

    #[cold]
    fn data_out_of_order(
        &mut self,
        side: usize,
        mut span: Span<'_>,
        incoming: Incoming,
        channel: &mut Channel,
        context: &mut Context<'_>,
    ) {
        let mut settle = Settle { packets: incoming.packets, reason: None, effective: incoming.effective };
        self.cut_after_finish(side, &mut span, &mut settle, context);
        self.settle_old(side, &mut span, &mut settle, channel, context);
        if !span.is_empty() && !self.is_believable(side, &span, context) {
            settle.drop_bytes(Reason::OutOfWindow, &span, context.stats);
            span.split_before(i64::MAX);
        }
        if !span.is_empty() {
            let needs = self.bounded_needs(side, incoming.needs, channel, context);
            self.insert(side, span, needs, &mut settle, context);
            self.drain(channel, context);
            self.enforce_window(side, channel, context);
        }
        if settle.finish(context.stats) {
            self.retransmitted_packets += 1;
        }
        self.arm(channel, context);
    }

    /// Bytes behind the FIN are not part of the stream.
    fn cut_after_finish(
        &self,
        side: usize,
        span: &mut Span<'_>,
        settle: &mut Settle,
        context: &mut Context<'_>,
    ) {
        if let Some((finish, _)) = self.streams[side].finish
            && span.end() > finish
        {
            let mut beyond = *span;
            *span = beyond.split_before(finish.max(span.offset));
            settle.drop_bytes(Reason::AfterFin, &beyond, context.stats);
        }
    }

    /// Bytes before the next expected one were delivered, or lie in a gap.
    fn settle_old(
        &mut self,
        side: usize,
        span: &mut Span<'_>,
        settle: &mut Settle,
        channel: &mut Channel,
        context: &mut Context<'_>,
    ) {
        let stream = &mut self.streams[side];
        if span.offset >= stream.next {
            return;
        }
        let mut old = span.split_before(stream.next);
        if stream.is_mid_stream && old.offset < 0 {
            let before = old.split_before(0);
            if self.prepend(side, &before, channel, context) {
                settle.effective = true;
                old.offset -= before.offset;
                span.offset -= before.offset;
            } else {
                settle.drop_bytes(Reason::BeforeStart, &before, context.stats);
            }
        }
        let stream = &mut self.streams[side];
        while !old.is_empty() {
            let (part, missing) = stream.split_by_gap(&mut old);
            if !missing {
                settle.drop_bytes(Reason::Duplicate, &part, context.stats);
            } else if !part.data.is_empty()
                && context.output.fill_gap(
                    channel,
                    direction(side),
                    part.offset,
                    context.moment.time,
                    part.data,
                )
            {
                stream.forget_gap(part.offset, part.offset + signed(part.data.len()));
                context.stats.gaps_filled += 1;
                context.stats.deliver(0, part.data.len() as u64);
                settle.effective = true;
                self.out_of_order_packets += 1;
            } else {
                settle.drop_bytes(Reason::Late, &part, context.stats);
            }
        }
    }

    /// Puts bytes before the first ones of a stream joined mid-stream, as long as nothing of it was published: packets
    /// were captured out of order just as the capture began. A single byte is left out: it is a keep-alive probe.
    fn prepend(
        &mut self,
        side: usize,
        before: &Span<'_>,
        channel: &mut Channel,
        context: &mut Context<'_>,
    ) -> bool {
        let bytes = before.data;
        let (shift, gap) = (-before.offset, -before.end());
        let joins = shift <= signed(context.limits.reorder_bytes) && before.missing == 0 && bytes.len() > 1;
        let time = context.moment.time;
        if !joins || !context.output.prepend(channel, direction(side), time, bytes, gap) {
            return false;
        }
        context.stats.deliver(0, bytes.len() as u64);
        if gap > 0 {
            context.stats.gaps.packets += 1;
            context.stats.gaps.bytes += gap.unsigned_abs();
        }
        self.out_of_order_packets += 1;
        self.streams[side].shift(shift, gap);
        for piece in &mut self.streams[1 - side].queue {
            piece.needs += shift;
        }
        true
    }

    /// A jump over more than the window is believed when the other side acknowledges bytes near it, or when a second
    /// packet continues the first one. A single wild sequence number must not cut the stream.
    fn is_believable(&mut self, side: usize, span: &Span<'_>, context: &Context<'_>) -> bool {
        let window = signed(context.limits.reorder_bytes);
        let stream = &mut self.streams[side];
        let distance = span.offset - stream.next;
        if distance <= window || stream.acknowledged >= span.offset - window {
            return true;
        }
        let believable = stream.suspect == Some(span.offset);
        stream.suspect = if believable { None } else { Some(span.end()) };
        believable
    }

    /// What the bytes must wait for. An absent side is not waited for; a far acknowledgement is not believed.
    fn bounded_needs(
        &mut self,
        side: usize,
        needs: i64,
        channel: &mut Channel,
        context: &mut Context<'_>,
    ) -> i64 {
        let other = &self.streams[1 - side];
        let reach = other.reach();
        if needs <= reach {
            return needs;
        }
        if !other.started || needs - reach > signed(context.limits.reorder_bytes) {
            return reach;
        }
        if other.absent {
            self.advance_to(1 - side, needs, ChunkCause::Loss, channel, context);
            return self.streams[1 - side].reach();
        }
        needs
    }

    /// Buffers what no buffered piece covers yet.
    fn insert(
        &mut self,
        side: usize,
        mut span: Span<'_>,
        needs: i64,
        settle: &mut Settle,
        context: &mut Context<'_>,
    ) {
        let queue = &mut self.streams[side].queue;
        let mut position = queue.partition_point(|piece| piece.end() <= span.offset);
        let mut stored = false;
        while !span.is_empty() {
            let border = match queue.get(position) {
                Some(piece) if piece.offset <= span.offset => {
                    let covered = span.split_before(piece.end());
                    settle.drop_bytes(Reason::Duplicate, &covered, context.stats);
                    position += 1;
                    continue;
                }
                Some(piece) => piece.offset.min(span.end()),
                None => span.end(),
            };
            let part = span.split_before(border);
            let packets = std::mem::take(&mut settle.packets);
            context.stats.hold(packets, part.data.len() as u64);
            context.output.hold(part.data.len());
            let piece = Piece {
                offset: part.offset,
                data: part.data.into(),
                missing: part.missing,
                needs,
                time: context.moment.time,
                arrival: context.moment.now,
                packets,
            };
            stored = true;
            queue.insert(position, piece);
            position += 1;
        }
        if stored && position < queue.len() {
            self.out_of_order_packets += 1;
        }
    }

    /// Delivers whatever needs nothing more, the earliest arrival first.
    pub(crate) fn drain(&mut self, channel: &mut Channel, context: &mut Context<'_>) {
        loop {
            let ready = |side: usize| {
                let stream = &self.streams[side];
                let front = stream.queue.front()?;
                let is_ready = front.offset == stream.next && front.needs <= self.streams[1 - side].reach();
                is_ready.then_some((front.arrival, side))
            };
            match ready(0).into_iter().chain(ready(1)).min() {
                Some((_, side)) => self.deliver_front(side, channel, context),
                None => return,
            }
        }
    }

    fn deliver_front(&mut self, side: usize, channel: &mut Channel, context: &mut Context<'_>) {
        let stream = &mut self.streams[side];
        let Some(piece) = stream.queue.pop_front() else { return };
        let bytes = piece.data.len();
        context.output.release(bytes);
        context.stats.release(piece.packets, bytes as u64);
        context.stats.deliver(piece.packets, bytes as u64);
        let span = Span { offset: piece.offset, data: &piece.data, missing: piece.missing };
        let moment = Moment { time: piece.time, ..context.moment };
        deliver(stream, side, span, moment, channel, context);
    }

    /// Gives up holes until the buffer is inside its window.
    fn enforce_window(&mut self, side: usize, channel: &mut Channel, context: &mut Context<'_>) {
        loop {
            let stream = &self.streams[side];
            if stream.queue.is_empty() {
                return;
            }
            let too_many = stream.queue.len() > context.limits.reorder_pieces;
            let too_far = stream.buffered_end() - stream.next > signed(context.limits.reorder_bytes);
            if !too_many && !too_far {
                return;
            }
            let (limit, cause) = if too_many {
                (Limit::ReorderPieces, ChunkCause::Limit)
            } else {
                (Limit::ReorderBytes, ChunkCause::Loss)
            };
            context.stats.reach(limit);
            self.force(side, cause, channel, context);
        }
    }

    /// Makes the front of a direction's buffer deliverable by declaring gaps, and delivers it.
    pub(crate) fn force(
        &mut self,
        side: usize,
        cause: ChunkCause,
        channel: &mut Channel,
        context: &mut Context<'_>,
    ) {
        let stream = &self.streams[side];
        if let Some(front) = stream.queue.front() {
            let (offset, needs) = (front.offset, front.needs);
            if needs > self.streams[1 - side].reach() {
                self.note_absence(1 - side, context);
                self.advance_to(1 - side, needs, cause, channel, context);
            }
            self.advance_to(side, offset, cause, channel, context);
            self.deliver_front(side, channel, context);
        } else if let Some((finish, _)) = stream.finish {
            self.advance_to(side, finish, cause, channel, context);
        }
        self.drain(channel, context);
    }

    fn note_absence(&mut self, side: usize, context: &Context<'_>) {
        let stream = &mut self.streams[side];
        let silence = context.moment.now.saturating_sub(stream.last_seen);
        stream.absent = !stream.seen || silence >= context.limits.reorder_time;
    }

    /// Delivers what is buffered before `target`, with gaps between. Waits for nothing: this breaks the tie when both
    /// directions wait for each other.
    fn advance_to(
        &mut self,
        side: usize,
        target: i64,
        cause: ChunkCause,
        channel: &mut Channel,
        context: &mut Context<'_>,
    ) {
        loop {
            let stream = &mut self.streams[side];
            let target = stream.finish.map_or(target, |(finish, _)| target.min(finish));
            if stream.next >= target {
                return;
            }
            match stream.queue.front() {
                Some(front) if front.offset <= stream.next => self.deliver_front(side, channel, context),
                Some(front) => {
                    let end = front.offset.min(target);
                    declare_gap(stream, side, end, cause, channel, context);
                }
                None => declare_gap(stream, side, target, cause, channel, context),
            }
        }
    }

    /// The end of the connection: everything buffered goes out, in the order of arrival, and what was acknowledged or
    /// finished but never seen becomes a gap.
    pub(crate) fn settle_all(&mut self, channel: &mut Channel, context: &mut Context<'_>) {
        loop {
            let arrival = |side: usize| self.streams[side].queue.front().map(|front| (front.arrival, side));
            match arrival(0).into_iter().chain(arrival(1)).min() {
                Some((_, side)) => self.force(side, ChunkCause::Loss, channel, context),
                None => break,
            }
        }
        for side in [0, 1] {
            let stream = &self.streams[side];
            let missing = stream.acknowledged - stream.next;
            // An acknowledgement of one more byte is most likely that of a FIN which was not captured.
            let acknowledged =
                stream.started && missing > 1 && missing <= signed(context.limits.reorder_bytes);
            let target = match stream.finish {
                Some((finish, _)) => finish,
                None if acknowledged => stream.acknowledged,
                None => continue,
            };
            self.advance_to(side, target, ChunkCause::Loss, channel, context);
        }
    }

    /// Notes a FIN behind `offset`; true if it is news.
    pub(crate) fn finish(&mut self, side: usize, offset: i64, context: &mut Context<'_>) -> bool {
        let stream = &mut self.streams[side];
        let in_gap = offset < stream.next && stream.is_missing(offset);
        let offset = if in_gap { stream.next } else { offset };
        let window = signed(context.limits.reorder_bytes);
        if stream.finish.is_some() || offset < stream.next || offset - stream.next > window {
            return false;
        }
        stream.finish = Some((offset, context.moment.now));
        // What was buffered behind the end is not part of the stream.
        while let Some(piece) = stream.queue.pop_back_if(|piece| piece.offset >= offset) {
            drop_after_finish(piece.packets, piece.data.len(), context);
        }
        if let Some(last) = stream.queue.back_mut() {
            let cut = last.cut_at(offset);
            drop_after_finish(0, cut, context);
        }
        true
    }
}
