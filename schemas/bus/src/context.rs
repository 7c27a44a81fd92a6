//! What librdkafka calls back: log lines, statistics, errors, rebalances and deliveries.
//!
//! Callbacks only take notes. Rebalances above all: they are put on a list and carried out by the pipeline between two
//! polls, where it owns everything it needs to finish a batch before it lets a partition go.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::ProducerContext;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use crate::error::is_authentication;
use crate::metrics::{Metrics, Role};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What every client's context does.
#[derive(Debug)]
pub(crate) struct Notes {
    role: Role,
    metrics: Arc<Metrics>,
    trouble: Mutex<Heard>,
}

/// The last errors heard from librdkafka itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    /// Our credentials were refused.
    pub(crate) authentication: Option<String>,
    /// Anything else.
    pub(crate) last: Option<String>,
}

impl Notes {
    pub(crate) fn new(role: Role, metrics: Arc<Metrics>) -> Self {
        Self { role, metrics, trouble: Mutex::default() }
    }

    pub(crate) fn heard(&self) -> Heard {
        lock(&self.trouble).clone()
    }

    fn error(&self, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        if code == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        let mut heard = lock(&self.trouble);
        if code.is_some_and(is_authentication) {
            heard.authentication = Some(reason.to_owned());
        }
        heard.last = Some(reason.to_owned());
        drop(heard);
        // librdkafka goes on by itself; only a fatal error is for a person, and is returned by the call that meets it.
        tracing::warn!(%error, reason, "the kafka client reports an error");
    }
}

/// librdkafka's log lines as events; `log` goes by their severity.
fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

macro_rules! client_context {
    ($name:ty) => {
        impl ClientContext for $name {
            fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
                log(level, facility, message);
            }

            fn stats(&self, statistics: Statistics) {
                self.notes.metrics.update(self.notes.role, &statistics);
            }

            fn error(&self, error: KafkaError, reason: &str) {
                self.notes.error(&error, reason);
            }
        }
    };
}

/// A change of what this consumer holds.
#[derive(Debug)]
pub(crate) enum Rebalance {
    Assign(TopicPartitionList),
    Revoke(TopicPartitionList),
}

/// Context of consumers.
#[derive(Debug)]
pub(crate) struct ConsumerNotes {
    pub(crate) notes: Notes,
    rebalances: Mutex<VecDeque<Rebalance>>,
    /// Set while the consumer is closed: nobody will poll the list any more.
    closing: AtomicBool,
}

client_context!(ConsumerNotes);

impl ConsumerNotes {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            notes: Notes::new(Role::Consumer, metrics),
            rebalances: Mutex::default(),
            closing: AtomicBool::new(false),
        }
    }

    pub(crate) fn next_rebalance(&self) -> Option<Rebalance> {
        lock(&self.rebalances).pop_front()
    }

    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

impl ConsumerContext for ConsumerNotes {
    /// Takes a note instead of acting: the group waits until the pipeline has called assign or unassign.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let assign = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Relaxed) {
            let partitions = if assign { TopicPartitionList::new() } else { partitions.clone() };
            if let Err(error) = release(consumer, &partitions) {
                tracing::debug!(%error, "giving partitions back while closing");
            }
            return;
        }
        let rebalance = if assign {
            Rebalance::Assign(partitions.clone())
        } else {
            Rebalance::Revoke(partitions.clone())
        };
        lock(&self.rebalances).push_back(rebalance);
    }
}

/// Takes partitions, in the way of the group's protocol.
pub(crate) fn take(
    consumer: &BaseConsumer<ConsumerNotes>,
    partitions: &TopicPartitionList,
) -> Result<(), KafkaError> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Eager => consumer.assign(partitions),
        RebalanceProtocol::Cooperative | RebalanceProtocol::None => consumer.incremental_assign(partitions),
    }
}

/// Gives partitions back, in the way of the group's protocol.
pub(crate) fn release(
    consumer: &BaseConsumer<ConsumerNotes>,
    partitions: &TopicPartitionList,
) -> Result<(), KafkaError> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Eager => consumer.unassign(),
        RebalanceProtocol::Cooperative | RebalanceProtocol::None => consumer.incremental_unassign(partitions),
    }
}

/// A record that could not be delivered.
#[derive(Clone, Debug)]
pub(crate) struct DeliveryFailure {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) topic: String,
    pub(crate) size: usize,
}

/// Context of the transactional producer: counts what is under way.
#[derive(Debug)]
pub(crate) struct TransactionNotes {
    pub(crate) notes: Notes,
    state: Mutex<InFlight>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct InFlight {
    records: u64,
    failure: Option<DeliveryFailure>,
}

client_context!(TransactionNotes);

impl TransactionNotes {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { notes: Notes::new(Role::Producer, metrics), state: Mutex::default(), changed: Condvar::new() }
    }

    /// To be called before a record is handed over: its delivery may be reported before the call returns.
    pub(crate) fn sending(&self) {
        lock(&self.state).records += 1;
    }

    /// To be called when a record was not accepted after all.
    pub(crate) fn not_sent(&self) {
        self.finished(None);
    }

    fn finished(&self, failure: Option<DeliveryFailure>) {
        let mut state = lock(&self.state);
        state.records = state.records.saturating_sub(1);
        if state.failure.is_none() {
            state.failure = failure;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until nothing is under way; false when the time is over.
    pub(crate) fn wait_delivered(&self, limit: Duration) -> bool {
        let state = lock(&self.state);
        let (state, _) = self
            .changed
            .wait_timeout_while(state, limit, |state| state.records > 0)
            .unwrap_or_else(PoisonError::into_inner);
        state.records == 0
    }

    /// Waits until something was delivered, so that there is room in the queue.
    pub(crate) fn wait_room(&self, deadline: Instant) -> bool {
        let state = lock(&self.state);
        let before = state.records;
        let limit = deadline.saturating_duration_since(Instant::now());
        let (state, _) = self
            .changed
            .wait_timeout_while(state, limit, |state| state.records >= before && before > 0)
            .unwrap_or_else(PoisonError::into_inner);
        state.records < before || before == 0
    }

    /// The first failure since this was asked last.
    pub(crate) fn take_failure(&self) -> Option<DeliveryFailure> {
        lock(&self.state).failure.take()
    }
}

impl ProducerContext for TransactionNotes {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.notes.metrics.delivered.increment();
                self.finished(None);
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                // Purged: the transaction was aborted, and this record with it.
                let purged = matches!(code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight);
                if !purged {
                    self.notes.metrics.failed.increment();
                }
                let failure = DeliveryFailure {
                    code,
                    topic: message.topic().to_owned(),
                    size: message.payload_len() + message.key_len(),
                };
                self.finished((!purged).then_some(failure));
            }
        }
    }
}

/// How a record of the plain producer ended.
pub(crate) type Report = dyn Fn(usize, Result<(), RDKafkaErrorCode>) + Send + Sync;

/// Context of the plain producer.
pub(crate) struct ProducerNotes {
    pub(crate) notes: Notes,
    /// Accepted records whose fate is not known; librdkafka's own number counts events too.
    pub(crate) in_flight: AtomicUsize,
    report: Box<Report>,
}

client_context!(ProducerNotes);

impl ProducerNotes {
    pub(crate) fn new(metrics: Arc<Metrics>, report: Box<Report>) -> Self {
        Self { notes: Notes::new(Role::Producer, metrics), in_flight: AtomicUsize::new(0), report }
    }
}

impl ProducerContext for ProducerNotes {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, token: usize) {
        let outcome = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        };
        match outcome {
            Ok(()) => self.notes.metrics.delivered.increment(),
            Err(_) => self.notes.metrics.failed.increment(),
        }
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        (self.report)(token, outcome);
    }
}
