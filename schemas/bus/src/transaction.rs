//! The transactional producer and its life: made, used, aborted, thrown away.
//!
//! librdkafka's calls fail in four ways, and each wants another answer:
//!
//! - retriable: the same call again; they are made to be resumed;
//! - abort required: abort, read the records again;
//! - fenced: somebody else works under our transactional id; stop. But the broker fences a transaction that outlived
//!   its timeout, too, and in the same words; so one that old is a reason for a new producer;
//! - anything else, and *every timeout*: throw the producer away and make another. librdkafka speaks the first version
//!   of the transaction protocol, in which a commit that timed out may still be under way and would hit the next
//!   transaction (KIP-890, librdkafka#5423). A new producer's first call bumps the epoch, after which the late commit
//!   is refused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::client::{create, denied, fatal, refused, unreachable};
use crate::config::BusConfig;
use crate::context::{DeliveryFailure, TransactionNotes};
use crate::error::is_fenced;
use crate::outbox::Outgoing;
use crate::pipeline::Stop;
use crate::{BusError, Metrics};

/// How long one attempt at a coordinator may take before the request to stop is looked at.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Pause between attempts that fail at once.
const PAUSE: Duration = Duration::from_millis(200);

/// Why the work cannot simply go on.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The transaction must be aborted.
    Abort(String),
    /// The producer must be thrown away.
    Recreate(String),
    /// A stop was asked for while waiting for a broker.
    Stopping,
    /// The pipeline must stop.
    Stop(BusError),
}

impl From<BusError> for Trouble {
    fn from(error: BusError) -> Self {
        Self::Stop(error)
    }
}

type Client = ThreadedProducer<TransactionNotes>;

/// The one transactional producer of a process.
pub(crate) struct Transactions {
    config: BusConfig,
    id: String,
    producer: Option<Client>,
    /// Since when a transaction is open.
    open: Option<Instant>,
    /// Topics sent to, for the errors that do not say which one they mean.
    topics: Vec<String>,
    /// What a send met; the transform only hands an error on, so the cause is kept here.
    trouble: Option<Trouble>,
    metrics: Arc<Metrics>,
}

impl Transactions {
    pub(crate) fn new(config: &BusConfig, metrics: Arc<Metrics>) -> Self {
        Self {
            config: config.clone(),
            id: config.transactional_id(),
            producer: None,
            open: None,
            topics: Vec::new(),
            trouble: None,
            metrics,
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(crate) fn ask_abort(&mut self, cause: String) -> BusError {
        self.trouble = Some(Trouble::Abort(cause.clone()));
        BusError::Interrupted { cause }
    }

    pub(crate) fn take_trouble(&mut self) -> Option<Trouble> {
        self.trouble.take()
    }

    /// Makes the producer and asks for its epoch, which ends whatever a predecessor of the same id left open. Tries
    /// until `limit`, or without one until `stop`.
    pub(crate) fn connect(&mut self, limit: Option<Duration>, stop: Stop<'_>) -> Result<(), Trouble> {
        let start = Instant::now();
        self.open = None;
        while !stop() {
            let producer = match self.producer.take() {
                Some(producer) => producer,
                None => self.create()?,
            };
            let error = match producer.init_transactions(ATTEMPT) {
                Ok(()) => {
                    self.producer = Some(producer);
                    return Ok(());
                }
                Err(error) => error,
            };
            let heard = producer.client().context().notes.heard();
            if let Some(error) = refused(&self.config, &error, &heard) {
                return Err(error.into());
            }
            match self.classify(&error) {
                Trouble::Stop(error) => return Err(error.into()),
                // The same call again, on the same producer.
                Trouble::Recreate(_) if is_timeout(&error) => self.producer = Some(producer),
                _ => pause(PAUSE),
            }
            if limit.is_some_and(|limit| start.elapsed() >= limit) {
                return Err(unreachable(&self.config, start.elapsed(), &error, &heard).into());
            }
            tracing::info!(%error, "waiting for the transaction coordinator");
        }
        Err(Trouble::Stopping)
    }

    fn create(&self) -> Result<Client, BusError> {
        let notes = TransactionNotes::new(Arc::clone(&self.metrics));
        create(&self.config.transactional_producer(), notes, "making the transactional producer")
    }

    /// Throws the producer away with everything it has under way, and makes another.
    pub(crate) fn recreate(&mut self, stop: Stop<'_>) -> Result<(), Trouble> {
        self.metrics.producers_recreated.increment();
        self.metrics.aborts.add(u64::from(self.open.is_some()));
        self.producer = None;
        self.connect(None, stop)
    }

    fn producer(&self) -> Result<&Client, Trouble> {
        self.producer.as_ref().ok_or_else(|| Trouble::Recreate("there is no producer".to_owned()))
    }

    /// Opens a transaction, if none is open.
    pub(crate) fn begin(&mut self) -> Result<(), Trouble> {
        if self.open.is_some() {
            return Ok(());
        }
        let producer = self.producer()?;
        producer.client().context().take_failure();
        producer.begin_transaction().map_err(|error| self.classify(&error))?;
        self.open = Some(Instant::now());
        Ok(())
    }

    /// Sends a record into the transaction.
    pub(crate) fn send(&mut self, record: &Outgoing<'_>) -> Result<(), BusError> {
        if !self.topics.iter().any(|topic| topic == record.topic) {
            self.topics.push(record.topic.to_owned());
        }
        match self.begin().and_then(|()| self.enqueue(record)) {
            Ok(()) => {
                self.metrics.records_out.increment();
                self.metrics.bytes_out.add(record.size() as u64);
                Ok(())
            }
            Err(Trouble::Stop(error)) => Err(error),
            Err(trouble) => {
                let cause = format!("{trouble:?}");
                self.trouble = Some(trouble);
                Err(BusError::Interrupted { cause })
            }
        }
    }

    fn enqueue(&self, record: &Outgoing<'_>) -> Result<(), Trouble> {
        let producer = self.producer()?;
        let notes = producer.client().context();
        let deadline = Instant::now() + self.config.transaction_timeout();
        loop {
            notes.sending();
            let Err((error, _)) = producer.send(base_record(record)) else { return Ok(()) };
            notes.not_sent();
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => {
                    self.metrics.queue_full.increment();
                    if !notes.wait_room(deadline) {
                        return Err(Trouble::Recreate("the producer's queue does not empty".to_owned()));
                    }
                }
                Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                    return Err(
                        too_large(record.topic, record.size(), "message.max.bytes of the producer").into()
                    );
                }
                _ => return Err(self.classify(&error)),
            }
        }
    }

    /// Commits the outputs and these offsets, or nothing.
    pub(crate) fn commit(
        &mut self,
        offsets: &TopicPartitionList,
        group: &ConsumerGroupMetadata,
    ) -> Result<(), Trouble> {
        let start = Instant::now();
        self.begin()?;
        let limit = self.config.transaction_timeout();
        let producer = self.producer()?;
        if offsets.count() > 0 {
            self.call(|left| producer.send_offsets_to_transaction(offsets, group, left), limit)?;
        }
        // Waiting here, woken by the delivery reports, is exact; the client library's own flush would look every
        // 100 ms, and a commit is to take less than that.
        producer.client().context().wait_delivered(limit);
        wait_destroyed(producer);
        self.check_deliveries()?;
        self.call(|left| producer.commit_transaction(left), limit)?;
        self.open = None;
        self.metrics.commits.increment();
        self.metrics.commit_micros.add(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Aborts the open transaction, if there is one.
    pub(crate) fn abort(&mut self) -> Result<(), Trouble> {
        if self.open.is_none() {
            return Ok(());
        }
        let producer = self.producer()?;
        let limit = self.config.transaction_timeout();
        self.call(|left| producer.abort_transaction(left), limit)?;
        producer.client().context().wait_delivered(limit);
        self.open = None;
        self.metrics.aborts.increment();
        Ok(())
    }

    /// Makes a call again as long as it says that it may be, and says so by another way than a timeout.
    fn call(
        &self,
        call: impl Fn(Duration) -> Result<(), KafkaError>,
        limit: Duration,
    ) -> Result<(), Trouble> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Err(error) = call(left) else { return Ok(()) };
            let again = matches!(&error, KafkaError::Transaction(error) if error.is_retriable());
            if !again || is_timeout(&error) || left.is_zero() {
                self.check_deliveries()?;
                return Err(self.classify(&error));
            }
            tracing::debug!(%error, "a transactional call is made again");
            pause(PAUSE.min(left));
        }
    }

    /// Turns a record that cannot be delivered, ever, into the error that names it.
    fn check_deliveries(&self) -> Result<(), Trouble> {
        let Some(producer) = &self.producer else { return Ok(()) };
        let Some(failure) = producer.client().context().take_failure() else { return Ok(()) };
        Err(self.undelivered(failure))
    }

    fn undelivered(&self, failure: DeliveryFailure) -> Trouble {
        let DeliveryFailure { code, topic, size } = failure;
        if let Some(error) = denied(code, (&topic, "write"), &self.config.group_id, &self.id) {
            return error.into();
        }
        match code {
            RDKafkaErrorCode::MessageSizeTooLarge => {
                too_large(&topic, size, "max.message.bytes of the topic").into()
            }
            RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::InvalidRecord
            | RDKafkaErrorCode::PolicyViolation => {
                BusError::Undeliverable { topic, cause: format!("{code}") }.into()
            }
            code if is_fenced(code) => self.fenced(code.to_string()),
            code => Trouble::Abort(format!("a record for topic {topic} was not delivered: {code}")),
        }
    }

    fn fenced(&self, cause: String) -> Trouble {
        if self.open.is_some_and(|since| since.elapsed() >= self.config.transaction_timeout()) {
            return Trouble::Recreate(format!(
                "the transaction was open for longer than its timeout: {cause}"
            ));
        }
        BusError::Fenced { id: format!("transactional id {}", self.id), cause }.into()
    }

    /// What an error of a transactional call means.
    fn classify(&self, error: &KafkaError) -> Trouble {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        if let Some(error) = denied(code, (&self.topics.join(","), "write"), &self.config.group_id, &self.id)
        {
            return error.into();
        }
        let last_words = self.producer.as_ref().and_then(|producer| fatal(producer.client()));
        if is_fenced(code) {
            return self.fenced(last_words.unwrap_or_else(|| error.to_string()));
        }
        match error {
            KafkaError::Transaction(details) if details.txn_requires_abort() => {
                Trouble::Abort(error.to_string())
            }
            _ => Trouble::Recreate(last_words.unwrap_or_else(|| error.to_string())),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a pause before the same is tried again")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// librdkafka counts a record as under way until its report is destroyed, a moment after we have heard it.
fn wait_destroyed(producer: &Client) {
    let deadline = Instant::now() + Duration::from_millis(10);
    while producer.in_flight_count() > 0 && Instant::now() < deadline {
        std::thread::yield_now();
    }
}

fn base_record<'r>(record: &'r Outgoing<'r>) -> BaseRecord<'r, [u8], [u8]> {
    let mut base = BaseRecord::to(record.topic).key(record.key);
    base.partition = record.partition;
    base.payload = record.value;
    base.timestamp = record.timestamp_ms;
    base
}

fn too_large(topic: &str, size: usize, cause: &str) -> BusError {
    BusError::MessageTooLarge { topic: topic.to_owned(), size, cause: cause.to_owned() }
}

fn is_timeout(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::MessageTimedOut
                | RDKafkaErrorCode::TimedOutQueue
                | RDKafkaErrorCode::RequestTimedOut
        )
    )
}
