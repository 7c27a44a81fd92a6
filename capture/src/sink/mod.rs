//! Segments to Kafka: a bounded buffer, record numbers without holes, and an account of what was dropped.
//!
//! ```text
//! workers → backlog (bounded, drops) → sender thread: number, encode → librdkafka (bounded window) → brokers
//! ```
//! A live capture never waits: when the brokers are slower than the traffic, the backlog fills and new bytes are
//! dropped, each as a gap in its connection. A file waits.

pub mod backlog;
mod error;
mod sender;
mod state;

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use wirecall_bus::{BusConfig, Metrics, Outgoing, Producer, registry::Registry};
use wirecall_schemas::{Agent, PartitionProgress, Segment, codec::Encoder, topic::Topic};

use self::{
    backlog::Backlog,
    sender::Sender,
    state::{HEARTBEAT, Shared, State},
};
pub use self::{
    error::SinkError,
    state::{SinkCounts, Tally},
};

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

/// The way of segments to Kafka. Shared by all workers.
pub struct Sink {
    shared: Arc<Shared>,
    producer: Arc<Producer>,
    heartbeats: Encoder<Agent>,
    agents_topic: String,
    brokers: String,
    thread: Mutex<Option<JoinHandle<()>>>,
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
            let end =
                deadline().map_or(progressed + patience, |deadline| deadline.min(progressed + patience));
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.shared.wait_at_most(state, left);
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
