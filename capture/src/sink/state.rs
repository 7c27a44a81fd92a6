//! What the workers, the sender and librdkafka's reports share: the backlog, the window, and the account.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use wirecall_bus::{Delivery, Undelivered};
use wirecall_schemas::Segment;

use super::{
    SinkError,
    backlog::{Admission, Backlog},
};

/// How long a wait lasts at most before it looks around: librdkafka tells some failures to nobody who does not ask.
const LOOK_AROUND: Duration = Duration::from_millis(200);

/// Bytes that a record takes in librdkafka beside its payload; keeps small records from being free.
const RECORD_BYTES: usize = 512;

/// What a delivery of a heartbeat is told apart by; no payload has this length.
pub(super) const HEARTBEAT: usize = usize::MAX;

/// Records and captured bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records.
    pub records: u64,
    /// Captured bytes in them.
    pub bytes: u64,
}

impl Tally {
    pub(super) const fn add(&mut self, records: u64, bytes: u64) {
        self.records += records;
        self.bytes += bytes;
    }
}

/// Where segments went. Bytes accepted = delivered + dropped by back-pressure + undelivered + still waiting; records the
/// same, less those that were joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkCounts {
    /// Given to the sink.
    pub accepted: Tally,
    /// Confirmed by the brokers.
    pub delivered: Tally,
    /// Bytes dropped because the backlog was full, and the records dropped whole.
    pub back_pressure: Tally,
    /// Records joined to others of their connection while the backlog was full.
    pub joined_records: u64,
    /// Accepted but not delivered: refused by the brokers, or given up at the end.
    pub undelivered: Tally,
    /// Bytes of memory in the backlog.
    pub waiting_bytes: u64,
    /// Captured bytes handed to librdkafka and not yet confirmed.
    pub under_way_bytes: u64,
}

/// See the module.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// Something was pushed, delivered, or failed, or the end was asked for.
    pub(super) changed: Condvar,
    pub(super) window_bytes: usize,
    pub(super) topic: String,
}

/// What the lock guards.
pub(super) struct State {
    pub(super) backlog: Backlog,
    pub(super) counts: SinkCounts,
    /// Bytes under way, as the window counts them.
    pub(super) window: usize,
    /// Number of the next record of each partition.
    pub(super) next_sequences: Vec<i64>,
    pub(super) failure: Option<SinkError>,
    /// No more segments come.
    pub(super) finishing: bool,
    /// The sender is to stop, whatever waits.
    pub(super) abandoned: bool,
    pub(super) ended: bool,
    /// The account is closed: what is still under way was counted as undelivered.
    pub(super) given_up: bool,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wait<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        self.wait_at_most(state, LOOK_AROUND)
    }

    pub(super) fn wait_at_most<'s>(
        &self,
        state: MutexGuard<'s, State>,
        limit: Duration,
    ) -> MutexGuard<'s, State> {
        let limit = limit.min(LOOK_AROUND);
        self.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Called by librdkafka with the fate of each record; the token is the length of its payload.
    pub(super) fn settle(&self, delivery: Delivery) {
        if delivery.token == HEARTBEAT {
            return;
        }
        let mut state = self.lock();
        if state.given_up {
            return;
        }
        state.return_from_way(delivery.token);
        match delivery.outcome {
            Ok(()) => state.counts.delivered.add(1, delivery.token as u64),
            Err(reason) => self.not_delivered(&mut state, delivery.token, reason),
        }
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn not_delivered(&self, state: &mut State, bytes: usize, reason: Undelivered) {
        tracing::debug!(?reason, bytes, "a record was not delivered");
        state.counts.undelivered.add(1, bytes as u64);
        if state.failure.is_none() {
            state.failure = SinkError::of(reason, &self.topic);
        }
    }
}

impl State {
    pub(super) const fn is_working(&self) -> bool {
        self.failure.is_none() && !self.abandoned && !self.ended
    }

    pub(super) fn accept(&mut self, segment: Segment) {
        self.counts.accepted.add(1, segment.payload.len() as u64);
        let before = self.backlog.len();
        match self.backlog.push(segment) {
            Admission::Whole => {}
            Admission::WithoutBytes(bytes) => {
                self.counts.joined_records += u64::from(self.backlog.len() == before);
                self.counts.back_pressure.add(0, bytes);
            }
            Admission::Dropped(bytes) => self.counts.back_pressure.add(1, bytes),
        }
    }

    pub(super) fn take_under_way(&mut self, bytes: usize) {
        self.window += bytes + RECORD_BYTES;
        self.counts.under_way_bytes += bytes as u64;
    }

    pub(super) fn return_from_way(&mut self, bytes: usize) {
        self.window = self.window.saturating_sub(bytes + RECORD_BYTES);
        self.counts.under_way_bytes = self.counts.under_way_bytes.saturating_sub(bytes as u64);
    }

    pub(super) fn count_sequence(&mut self, partition: usize) {
        if let Some(next) = self.next_sequences.get_mut(partition) {
            *next += 1;
        }
    }

    /// Counts what waits, and what is under way, as undelivered.
    pub(super) fn give_up(&mut self) {
        if std::mem::replace(&mut self.given_up, true) {
            return;
        }
        while let Some(segment) = self.backlog.pop() {
            self.counts.undelivered.add(1, segment.payload.len() as u64);
        }
        let counts = &mut self.counts;
        let settled = counts.delivered.records + counts.undelivered.records + counts.back_pressure.records;
        let left = counts.accepted.records - counts.joined_records - settled;
        counts.undelivered.add(left, counts.under_way_bytes);
        counts.under_way_bytes = 0;
    }
}
