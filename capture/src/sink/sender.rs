//! The sender's thread: takes segments from the backlog, numbers and encodes them, and keeps a window of them under way.

use std::sync::Arc;

use wirecall_bus::{Outgoing, Producer, Refusal};
use wirecall_schemas::{ChunkCause, Segment, codec::Encoder};

use super::{
    SinkError,
    backlog::remove_bytes,
    state::{Shared, State},
};

/// What runs on the sender's thread.
pub(super) struct Sender {
    pub(super) shared: Arc<Shared>,
    pub(super) producer: Arc<Producer>,
    pub(super) encoder: Encoder<Segment>,
    pub(super) buffer: Vec<u8>,
}

impl Sender {
    pub(super) fn run(mut self) {
        while let Some(segment) = self.next() {
            self.send(segment);
        }
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
    }

    /// The next segment, once the window has room for it. `None` when all is sent, or nothing can be any more.
    fn next(&self) -> Option<Segment> {
        let mut state = self.shared.lock();
        loop {
            if !state.is_working() {
                return None;
            }
            if state.window < self.shared.window_bytes
                && let Some(segment) = state.backlog.pop()
            {
                // A worker may wait for the room that this makes.
                self.shared.changed.notify_all();
                return Some(segment);
            }
            if state.finishing && state.backlog.is_empty() && state.window == 0 {
                return None;
            }
            state = self.shared.wait(state);
            self.look_around(&mut state);
        }
    }

    fn look_around(&self, state: &mut State) {
        if state.failure.is_none() {
            state.failure = self.producer.failure().map(SinkError::Bus);
        }
    }

    fn send(&mut self, mut segment: Segment) {
        let partition = usize::try_from(segment.partition).unwrap_or(0);
        let bytes = segment.payload.len();
        {
            let mut state = self.shared.lock();
            segment.sequence = state.next_sequences.get(partition).copied().unwrap_or(0);
            // Before it is sent: its delivery may be reported before this function goes on.
            state.take_under_way(bytes);
        }
        match self.encode_and_hand_over(&segment) {
            Handover::Done => self.shared.lock().count_sequence(partition),
            Handover::TooLarge if bytes > 0 => self.send_without_bytes(segment),
            Handover::TooLarge => self.take_back(bytes, None),
            Handover::Failed(failure) => self.take_back(bytes, failure),
        }
    }

    /// A record above librdkafka's limit goes out as what it says of the connection, with gaps for its bytes.
    fn send_without_bytes(&mut self, mut segment: Segment) {
        let bytes = segment.payload.len();
        tracing::warn!(bytes, "a record is above message.max.bytes; raise it, or lower flush.bytes");
        remove_bytes(&mut segment, ChunkCause::Limit);
        {
            let mut state = self.shared.lock();
            state.return_from_way(bytes);
            state.counts.undelivered.add(0, bytes as u64);
        }
        self.send(segment);
    }

    fn encode_and_hand_over(&mut self, segment: &Segment) -> Handover {
        self.buffer.clear();
        if let Err(error) = self.encoder.encode(segment, &mut self.buffer) {
            return Handover::Failed(Some(error.into()));
        }
        let record = Outgoing {
            topic: &self.shared.topic,
            partition: Some(segment.partition),
            key: segment.connection_key.as_bytes(),
            value: Some(&self.buffer),
            timestamp_ms: segment.chunks.first().map(|chunk| chunk.time.as_micros() / 1_000),
        };
        loop {
            match self.producer.try_send(&record, segment.payload.len()) {
                Ok(()) => return Handover::Done,
                Err(Refusal::TooLarge) => return Handover::TooLarge,
                Err(Refusal::Full) if self.wait_for_librdkafka() => {}
                Err(Refusal::Full) => return Handover::Failed(None),
                Err(Refusal::Failed) => {
                    let failure = self.producer.failure().map_or(SinkError::Ended, SinkError::Bus);
                    return Handover::Failed(Some(failure));
                }
            }
        }
    }

    /// Waits for a delivery; false when there is no use in waiting.
    fn wait_for_librdkafka(&self) -> bool {
        let mut state = self.shared.wait(self.shared.lock());
        self.look_around(&mut state);
        state.is_working()
    }

    /// A record that was not sent after all; its number goes to the next.
    fn take_back(&self, bytes: usize, failure: Option<SinkError>) {
        let mut state = self.shared.lock();
        state.return_from_way(bytes);
        state.counts.undelivered.add(1, bytes as u64);
        if state.failure.is_none() {
            state.failure = failure;
        }
    }
}

/// What librdkafka said to a record.
enum Handover {
    Done,
    TooLarge,
    /// Not now and not later; the failure may be known already.
    Failed(Option<SinkError>),
}
