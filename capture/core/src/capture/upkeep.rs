//! What a capture does besides handling a packet: deadlines, idle connections, and the bound on memory.

use wirecall_schemas::ChunkCause;

use super::{Capture, Flow};
use crate::flow::table::{SlotId, Waiting};
use crate::flow::tcp::TcpConnection;
use crate::limits::Limit;
use crate::reassembly::Context;
use crate::segment::Moment;
use crate::stats::Reason;

impl Capture {
    pub(super) fn run_timers(&mut self, now: i64) {
        if self.shared.output.timers.is_due(now) {
            self.run_deadlines(now);
        }
        if now >= self.next_sweep {
            self.sweep(now);
        }
    }

    /// Runs first: they were due before the holes of the same silence, so a gap that is declared now goes into a new
    /// run, where the packet that brought the time can still fill it.
    fn run_deadlines(&mut self, now: i64) {
        let moment = self.moment();
        while let Some((deadline, slot)) = self.shared.output.timers.due_run(now) {
            if let Some(channel) = self.table.named_mut(slot).and_then(|tracked| tracked.flow.channel_mut()) {
                self.shared.output.run_is_due(channel, &mut self.shared.stats, deadline);
            }
        }
        while let Some((deadline, slot)) = self.shared.output.timers.due_reorder(now) {
            self.with_tcp(slot, moment, |tcp, context| tcp.expire(deadline, context));
        }
    }

    fn with_tcp(
        &mut self,
        slot: SlotId,
        moment: Moment,
        act: impl FnOnce(&mut TcpConnection, &mut Context<'_>),
    ) {
        let mut context = self.shared.context(moment);
        let Some(tracked) = self.table.named_mut(slot) else { return };
        let Flow::Tcp(tcp) = &mut tracked.flow else { return };
        act(tcp, &mut context);
        if tracked.flow.forget_if_closed() {
            self.open -= 1;
            self.touch(slot.index, Waiting::Linger, moment.now);
        }
    }

    /// Closes idle connections, forgets ended ones and gives up fragments.
    fn sweep(&mut self, now: i64) {
        let moment = self.moment();
        self.fragments.expire(now, &mut self.shared.stats);
        let mut next = self.fragments.next_deadline().unwrap_or(i64::MAX);
        for waiting in Waiting::ALL {
            let idle = self.idle_time(waiting);
            while let Some(index) = self.table.idle(waiting, idle, now) {
                self.close(index, ChunkCause::Idle, moment);
                self.table.remove(index);
            }
            if let Some(listed) = self.table.oldest(waiting) {
                next = next.min(listed.saturating_add(idle));
            }
        }
        // Lists are accurate to a second, so there is no use in looking more often than every tenth of one.
        self.next_sweep = next.max(now.saturating_add(100_000));
    }

    /// Keeps the bytes held under their limit; [`crate::Limits::held_bytes`] says in which order they go.
    pub(super) fn bound_memory(&mut self, moment: Moment) {
        let held = self.held_bytes();
        self.shared.stats.peak_held_bytes = self.shared.stats.peak_held_bytes.max(held);
        if held > self.shared.limits.held_bytes {
            self.shed_memory(moment);
        }
    }

    #[cold]
    fn shed_memory(&mut self, moment: Moment) {
        self.shared.stats.reach(Limit::HeldBytes);
        let limit = self.shared.limits.held_bytes;
        while self.held_bytes() > limit && self.fragments.held() > 0 {
            self.fragments.evict_oldest(Reason::FragmentLimit, &mut self.shared.stats);
        }
        while self.held_bytes() > limit
            && let Some((_, slot)) = self.shared.output.timers.oldest_reorder()
        {
            self.with_tcp(slot, moment, TcpConnection::evict);
        }
        while self.held_bytes() > limit
            && let Some((deadline, slot)) = self.shared.output.timers.oldest_run()
        {
            // A run of a handshake under way waits for its id, and would wait for ever if nothing else came.
            self.with_tcp(slot, moment, TcpConnection::identify_as_it_is);
            if let Some(channel) = self.table.named_mut(slot).and_then(|tracked| tracked.flow.channel_mut()) {
                self.shared.output.run_is_due(channel, &mut self.shared.stats, deadline);
            }
        }
    }
}
