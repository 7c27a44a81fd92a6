//! How long things wait: holes, bytes ahead of their cause, resets and the last acknowledgement.

use wirecall_schemas::ChunkCause;

use super::pair::{Context, Pair};
use crate::limits::{Limit, Limits};
use crate::segment::Channel;

impl Pair {
    /// When the oldest wait of the connection ends, if anything waits.
    fn deadline(&self, limits: &Limits) -> Option<i64> {
        let ending = self.reset.map(|(_, _, arrival)| arrival).into_iter().chain(self.finished).min();
        let ending = ending.map(|arrival| arrival.saturating_add(limits.reorder_time));
        let holes = [0, 1].map(|side| self.stream_deadline(side, limits));
        holes.into_iter().flatten().chain(ending).min()
    }

    /// When the wait of a direction ends. A hole that the other side has acknowledged, or that nobody can acknowledge,
    /// is a loss of the capture or will be filled very soon. One that it has not acknowledged is a loss of the network:
    /// the sender will send it again.
    fn stream_deadline(&self, side: usize, limits: &Limits) -> Option<i64> {
        let stream = &self.streams[side];
        let (end, since) = match (stream.queue.front(), stream.finish) {
            (Some(front), _) => (front.offset, front.arrival),
            (None, Some((finish, arrival))) if finish > stream.next => (finish, arrival),
            _ => return None,
        };
        let is_hole = end > stream.next;
        Some(match stream.hole_acknowledged {
            Some(acknowledged) if is_hole => acknowledged.saturating_add(limits.reorder_time),
            None if is_hole && self.streams[1 - side].seen => {
                since.saturating_add(limits.retransmission_time)
            }
            _ => since.saturating_add(limits.reorder_time),
        })
    }

    /// Notes that the other side has acknowledged up to an offset of this one.
    pub(crate) fn acknowledge(
        &mut self,
        side: usize,
        offset: i64,
        channel: &Channel,
        context: &mut Context<'_>,
    ) {
        let stream = &mut self.streams[side];
        if offset <= stream.acknowledged {
            return;
        }
        stream.acknowledged = offset;
        if stream.note_hole(context.moment.now) {
            self.arm(channel, context);
        }
    }

    /// Puts the oldest wait into the timers.
    pub(crate) fn arm(&mut self, channel: &Channel, context: &mut Context<'_>) {
        for stream in &mut self.streams {
            stream.note_hole(context.moment.now);
        }
        let Some(deadline) = self.deadline(context.limits) else { return };
        if self.armed.is_none_or(|armed| armed > deadline) {
            self.armed = Some(deadline);
            context.output.timers.set_reorder(deadline, channel.head.slot);
        }
    }

    /// Gives up what has waited for too long. `deadline` is the timer's; one that was replaced is ignored.
    pub(crate) fn expire(&mut self, deadline: i64, channel: &mut Channel, context: &mut Context<'_>) {
        if self.armed != Some(deadline) {
            return;
        }
        self.armed = None;
        self.give_up(context.moment.now, ChunkCause::Loss, Limit::ReorderTime, channel, context);
        self.arm(channel, context);
    }

    /// Memory is short: everything buffered goes out now.
    pub(crate) fn evict(&mut self, channel: &mut Channel, context: &mut Context<'_>) {
        self.armed = None;
        self.give_up(i64::MAX, ChunkCause::Limit, Limit::HeldBytes, channel, context);
    }

    fn give_up(
        &mut self,
        until: i64,
        cause: ChunkCause,
        limit: Limit,
        channel: &mut Channel,
        context: &mut Context<'_>,
    ) {
        for side in [0, 1] {
            while self.stream_deadline(side, context.limits).is_some_and(|deadline| deadline <= until) {
                context.stats.reach(limit);
                self.force(side, cause, channel, context);
                self.streams[side].note_hole(context.moment.now);
            }
        }
    }

    /// Whether the reset that waits has all it waits for, or has waited long enough.
    pub(crate) fn reset_is_due(&self, now: i64, limits: &Limits) -> Option<usize> {
        let (side, offset, arrival) = self.reset?;
        let complete = self.streams[side].next >= offset && self.streams.iter().all(|s| s.queue.is_empty());
        (complete || arrival.saturating_add(limits.reorder_time) <= now).then_some(side)
    }

    /// Whether both sides have finished, and both have acknowledged it, reset, or had the time to.
    pub(crate) fn finish_is_due(&mut self, channel: &Channel, context: &mut Context<'_>) -> bool {
        if !self.streams.iter().all(|stream| stream.is_finished() && stream.queue.is_empty()) {
            return false;
        }
        let now = context.moment.now;
        let since = *self.finished.get_or_insert(now);
        let is_acknowledged = self.streams.iter().all(|stream| stream.acknowledged >= stream.reach());
        if is_acknowledged || self.reset.is_some() || since.saturating_add(context.limits.reorder_time) <= now
        {
            return true;
        }
        self.arm(channel, context);
        false
    }
}
