//! The sender: takes segments from the backlog, numbers and encodes them, and keeps a window of them under way.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use wirecall_bus::{
    BusConfig, Delivery, Metrics, Outgoing, Producer, Refusal, Undelivered, registry::Registry,
};
use wirecall_schemas::{Agent, PartitionProgress, Segment, codec::Encoder, topic::Topic};

use super::{
    SinkError,
    backlog::{Admission, Backlog},
};

/// How long a wait lasts at most before it looks around: librdkafka tells some failures to nobody who does not ask.
const LOOK_AROUND: Duration = Duration::from_millis(200);

/// Bytes that a record takes in librdkafka beside its payload; keeps small records from being free.
const RECORD_BYTES: usize = 512;

/// What a delivery of a heartbeat is told apart by; no payload has this length.
const HEARTBEAT: usize = usize::MAX;

/// How segments are buffered on their way.
#[derive(Clone, Copy, Debug)]
pub struct SinkConfig {
    /// Bytes that may wait while the brokers are slow or gone.
    pub buffer_bytes: usize,
    /// Bytes handed to librdkafka and not yet confirmed.
    pub window_bytes: usize,
}

impl Default for SinkConfig {
    fn default() -> Self {
        Self { buffer_bytes: 128 << 20, window_bytes: 16 << 20 }
    }
}

/// Records and captured bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records.
    pub records: u64,
    /// Captured bytes in them.
    pub bytes: u64,
}

impl Tally {
    const fn add(&mut self, records: u64, bytes: u64) {
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

/// The way of segments to Kafka. Shared by all workers.
pub struct Sink {
    shared: Arc<Shared>,
    producer: Arc<Producer>,
    heartbeats: Encoder<Agent>,
    agents_topic: String,
    brokers: String,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    /// Something was pushed, delivered, or failed, or the end was asked for.
    changed: Condvar,
    window_bytes: usize,
    topic: String,
}

struct State {
    backlog: Backlog,
    counts: SinkCounts,
    /// Bytes under way, as the window counts them.
    window: usize,
    /// Number of the next record of each partition.
    next_sequences: Vec<i64>,
    failure: Option<SinkError>,
    /// No more segments come.
    finishing: bool,
    /// The sender is to stop, whatever waits.
    abandoned: bool,
    ended: bool,
    /// The account is closed: what is still under way was counted as undelivered.
    given_up: bool,
}

impl Sink {
    /// Starts the producer and the sender's thread.
    ///
    /// # Errors
    /// When a setting, the registry or the system refuses.
    pub fn start(config: SinkConfig, bus: &BusConfig, metrics: Arc<Metrics>) -> Result<Self, SinkError> {
        let registry = Registry::new(bus)?;
        let topic = bus.topic(Topic::Segments);
        let agents_topic = bus.topic(Topic::Agents);
        let encoder = registry.encoder::<Segment>(&topic)?;
        let heartbeats = registry.encoder::<Agent>(&agents_topic)?;
        let partitions = usize::try_from(bus.partitions).unwrap_or(1);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                backlog: Backlog::new(config.buffer_bytes),
                counts: SinkCounts::default(),
                window: 0,
                next_sequences: vec![0; partitions],
                failure: None,
                finishing: false,
                abandoned: false,
                ended: false,
                given_up: false,
            }),
            changed: Condvar::new(),
            window_bytes: config.window_bytes.max(1),
            topic,
        });
        let reports = Arc::clone(&shared);
        let producer = Producer::start(&patient(bus), metrics, move |delivery| reports.settle(delivery))?;
        let producer = Arc::new(producer);
        let sender = Sender {
            shared: Arc::clone(&shared),
            producer: Arc::clone(&producer),
            encoder,
            buffer: Vec::new(),
        };
        let thread = thread::Builder::new().name("sender".to_owned()).spawn(move || sender.run());
        let thread = Mutex::new(Some(thread.map_err(SinkError::Thread)?));
        let brokers = bus.bootstrap_servers.clone();
        Ok(Self { shared, producer, heartbeats, agents_topic, brokers, thread })
    }

    /// Takes a segment; never waits. When the backlog is full, bytes are dropped as [`super::backlog`] says.
    pub fn push(&self, segment: Segment) {
        let mut state = self.shared.lock();
        state.accept(segment);
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Takes a segment, waiting until there is room. False when the sink has failed or was abandoned: the source should
    /// stop.
    pub fn push_when_there_is_room(&self, segment: Segment) -> bool {
        let mut state = self.shared.lock();
        while !state.backlog.has_room(&segment) && state.is_working() {
            state = self.shared.wait(state);
        }
        let working = state.is_working();
        state.accept(segment);
        drop(state);
        self.shared.changed.notify_all();
        working
    }

    /// Sends a heartbeat; it is not worth waiting for.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn send_heartbeat(&self, agent: &Agent) -> Result<(), SinkError> {
        let mut buffer = Vec::with_capacity(1_024);
        self.heartbeats.encode(agent, &mut buffer)?;
        let key = agent.node.as_ref().unwrap_or(&agent.agent_id);
        let record = Outgoing {
            topic: &self.agents_topic,
            partition: None,
            key: key.as_bytes(),
            value: Some(&buffer),
            timestamp_ms: Some(agent.time.as_micros() / 1_000),
        };
        if let Err(refusal) = self.producer.try_send(&record, HEARTBEAT) {
            tracing::warn!(?refusal, "a heartbeat could not be sent");
        }
        Ok(())
    }

    /// The producer, to ask for the brokers' addresses.
    #[must_use]
    pub fn producer(&self) -> Arc<Producer> {
        Arc::clone(&self.producer)
    }

    /// Where segments went so far.
    #[must_use]
    pub fn counts(&self) -> SinkCounts {
        let state = self.shared.lock();
        SinkCounts { waiting_bytes: state.backlog.bytes() as u64, ..state.counts }
    }

    /// How far each partition is numbered.
    #[must_use]
    pub fn progress(&self) -> Vec<PartitionProgress> {
        let state = self.shared.lock();
        let numbered = state.next_sequences.iter().zip(0_i32..);
        numbered.map(|(next, partition)| PartitionProgress { partition, next_sequence: *next }).collect()
    }

    /// Why the sink cannot go on, if so; told once.
    #[must_use]
    pub fn take_failure(&self) -> Option<SinkError> {
        self.shared.lock().failure.take()
    }

    /// Whether the sink works on: no failure, not ended.
    #[must_use]
    pub fn is_working(&self) -> bool {
        self.shared.lock().is_working()
    }

    /// Delivers what waits. It is given up, and counted, when nothing was delivered for `patience`, or when the time
    /// that `deadline` tells has come; `deadline` is asked again and again.
    ///
    /// # Errors
    /// The failure that stopped the sink, or [`SinkError::Undelivered`] when something did not arrive.
    pub fn finish(
        &self,
        patience: Duration,
        deadline: impl Fn() -> Option<Instant>,
    ) -> Result<SinkCounts, SinkError> {
        self.shared.lock().finishing = true;
        self.shared.changed.notify_all();
        self.wait_for_sender(patience, deadline);
        self.stop_sender();
        let mut state = self.shared.lock();
        state.give_up();
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        match state.counts.undelivered {
            Tally { records: 0, .. } => Ok(state.counts),
            Tally { records, bytes } => {
                Err(SinkError::Undelivered { records, bytes, brokers: self.brokers.clone() })
            }
        }
    }

    /// Waits for the heartbeats under way, at most so long.
    pub fn flush(&self, limit: Duration) {
        let _left = self.producer.flush(limit);
    }

    fn wait_for_sender(&self, patience: Duration, deadline: impl Fn() -> Option<Instant>) {
        let mut state = self.shared.lock();
        let (mut delivered, mut progressed) = (state.counts.delivered, Instant::now());
        while !state.ended {
            let now = Instant::now();
            if now >= progressed + patience || deadline().is_some_and(|deadline| now >= deadline) {
                return;
            }
            state = self.shared.wait(state);
            if state.counts.delivered != delivered {
                (delivered, progressed) = (state.counts.delivered, Instant::now());
            }
        }
    }

    fn stop_sender(&self) {
        self.shared.lock().abandoned = true;
        self.shared.changed.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _panicked = thread.join();
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop_sender();
    }
}

/// Without a time after which librdkafka gives a record up: it was numbered, so giving it up would leave a hole, and the
/// backlog bounds the memory. A time that the operator sets stays.
fn patient(bus: &BusConfig) -> BusConfig {
    let mut bus = bus.clone();
    let is_set = |name: &str| name == "message.timeout.ms" || name == "delivery.timeout.ms";
    if !bus.properties.iter().chain(bus.producer_properties.iter()).any(|(name, _)| is_set(name)) {
        bus.producer_properties.set("message.timeout.ms", "0");
    }
    bus
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        self.changed.wait_timeout(state, LOOK_AROUND).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Called by librdkafka with the fate of each record; the token is the length of its payload.
    fn settle(&self, delivery: Delivery) {
        if delivery.token == HEARTBEAT {
            return;
        }
        let mut state = self.lock();
        if state.given_up {
            return;
        }
        state.window = state.window.saturating_sub(delivery.token + RECORD_BYTES);
        state.counts.under_way_bytes -= delivery.token as u64;
        match delivery.outcome {
            Ok(()) => state.counts.delivered.add(1, delivery.token as u64),
            Err(reason) => self.not_delivered(&mut state, delivery.token, reason),
        }
        drop(state);
        self.changed.notify_all();
    }

    fn not_delivered(&self, state: &mut State, bytes: usize, reason: Undelivered) {
        tracing::debug!(?reason, bytes, "a record was not delivered");
        state.counts.undelivered.add(1, bytes as u64);
        if state.failure.is_none() {
            state.failure = SinkError::of(reason, &self.topic);
        }
    }
}

impl State {
    const fn is_working(&self) -> bool {
        self.failure.is_none() && !self.abandoned && !self.ended
    }

    fn accept(&mut self, segment: Segment) {
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

    /// Counts what waits, and what is under way, as undelivered.
    fn give_up(&mut self) {
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

/// What runs on the sender's thread.
struct Sender {
    shared: Arc<Shared>,
    producer: Arc<Producer>,
    encoder: Encoder<Segment>,
    buffer: Vec<u8>,
}

impl Sender {
    fn run(mut self) {
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
            state.window += bytes + RECORD_BYTES;
            state.counts.under_way_bytes += bytes as u64;
        }
        self.buffer.clear();
        match self.encoder.encode(&segment, &mut self.buffer) {
            Ok(()) => self.hand_over(&segment, partition),
            Err(error) => self.take_back(bytes, Some(error.into())),
        }
    }

    fn hand_over(&self, segment: &Segment, partition: usize) {
        let record = Outgoing {
            topic: &self.shared.topic,
            partition: Some(segment.partition),
            key: segment.connection_key.as_bytes(),
            value: Some(&self.buffer),
            timestamp_ms: segment.chunks.first().map(|chunk| chunk.time.as_micros() / 1_000),
        };
        let bytes = segment.payload.len();
        loop {
            match self.producer.try_send(&record, bytes) {
                Ok(()) => {
                    if let Some(next) = self.shared.lock().next_sequences.get_mut(partition) {
                        *next += 1;
                    }
                    return;
                }
                Err(Refusal::Full) if self.wait_for_librdkafka() => {}
                Err(Refusal::TooLarge) => {
                    let bytes_encoded = self.buffer.len();
                    tracing::warn!(bytes_encoded, "librdkafka refuses a record; raise message.max.bytes");
                    return self.take_back(bytes, None);
                }
                Err(Refusal::Full) => return self.take_back(bytes, None),
                Err(Refusal::Failed) => {
                    let failure = self.producer.failure().map_or(SinkError::Ended, SinkError::Bus);
                    return self.take_back(bytes, Some(failure));
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
        state.window = state.window.saturating_sub(bytes + RECORD_BYTES);
        state.counts.under_way_bytes -= bytes as u64;
        state.counts.undelivered.add(1, bytes as u64);
        if state.failure.is_none() {
            state.failure = failure;
        }
    }
}
