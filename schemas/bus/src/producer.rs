//! The capture agent's way out: an idempotent producer that never blocks.
//!
//! The node's workloads must not feel us, so a full queue is an answer and not a wait: [`Producer::try_send`] returns
//! and the agent keeps the record or drops it by its own rules, with a count. Each record carries a token that comes
//! back with its fate, so that a loss can be written into the stream it belongs to.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};

use crate::client::{asker, create, denied, metadata, refused};
use crate::config::BusConfig;
use crate::context::ProducerNotes;
use crate::error::is_fenced;
use crate::outbox::Outgoing;
use crate::{BusError, Metrics};

/// Why a record was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The queue is full: the broker is slower than the source. Try again when something was delivered.
    Full,
    /// The record is larger than `message.max.bytes`; trying again is no use.
    TooLarge,
    /// The producer accepts nothing any more; see [`Producer::failure`].
    Failed,
}

/// Why a record that was accepted did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// No broker took it within `message.timeout.ms`.
    Expired,
    /// The broker finds it too large.
    TooLarge,
    /// We may not write there.
    Denied,
    /// The topic or partition is not there.
    NoTopic,
    /// It was given up at shutdown.
    Purged,
    /// Anything else.
    Other,
}

/// The fate of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What [`Producer::try_send`] was given.
    pub token: usize,
    /// Whether the brokers have it.
    pub outcome: Result<(), Undelivered>,
}

/// An idempotent producer.
pub struct Producer {
    client: ThreadedProducer<ProducerNotes>,
    config: BusConfig,
    metrics: Arc<Metrics>,
}

impl Producer {
    /// Starts a producer. `report` is called with the fate of each record, from librdkafka's thread: it must be quick.
    ///
    /// # Errors
    /// If the configuration or a librdkafka property is not usable.
    pub fn start(
        config: &BusConfig,
        metrics: Arc<Metrics>,
        report: impl Fn(Delivery) + Send + Sync + 'static,
    ) -> Result<Self, BusError> {
        config.validate()?;
        let report = Box::new(move |token, outcome: Result<(), RDKafkaErrorCode>| {
            report(Delivery { token, outcome: outcome.map_err(undelivered) });
        });
        let notes = ProducerNotes::new(Arc::clone(&metrics), report);
        let client = create(&config.producer(), notes, "making the producer")?;
        Ok(Self { client, config: config.clone(), metrics })
    }

    /// Waits until a broker answers, at most the configured start timeout.
    ///
    /// # Errors
    /// [`BusError::Unreachable`] or [`BusError::Authentication`].
    pub fn wait_reachable(&self) -> Result<(), BusError> {
        metadata(&self.config, &asker(&self.config)?, None, self.config.start_timeout()).map(drop)
    }

    /// The addresses of all brokers, as `(host, port)`, for the agent to leave its own traffic out.
    ///
    /// # Errors
    /// As [`Producer::wait_reachable`].
    pub fn brokers(&self) -> Result<Vec<(String, u16)>, BusError> {
        let metadata = metadata(&self.config, &asker(&self.config)?, None, self.config.start_timeout())?;
        let port = |port| u16::try_from(port).unwrap_or_default();
        Ok(metadata.brokers().iter().map(|broker| (broker.host().to_owned(), port(broker.port()))).collect())
    }

    /// Hands a record over, without waiting. The record's bytes are copied.
    ///
    /// # Errors
    /// The [`Refusal`]; the record was then not taken, and its token will not be reported.
    pub fn try_send(&self, record: &Outgoing<'_>, token: usize) -> Result<(), Refusal> {
        let mut base = BaseRecord::with_opaque_to(record.topic, token).key(record.key);
        base.partition = record.partition;
        base.payload = record.value;
        base.timestamp = record.timestamp_ms;
        let in_flight = &self.client.client().context().in_flight;
        // Before the call: the fate may be known before it returns.
        in_flight.fetch_add(1, Ordering::Relaxed);
        match self.client.send::<[u8], [u8]>(base) {
            Ok(()) => {
                self.metrics.records_out.increment();
                self.metrics.bytes_out.add(record.size() as u64);
                Ok(())
            }
            Err((error, _)) => {
                in_flight.fetch_sub(1, Ordering::Relaxed);
                Err(self.refusal(&error))
            }
        }
    }

    fn refusal(&self, error: &KafkaError) -> Refusal {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => {
                self.metrics.queue_full.increment();
                Refusal::Full
            }
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => Refusal::TooLarge,
            _ => {
                tracing::warn!(%error, "the producer refuses a record");
                Refusal::Failed
            }
        }
    }

    /// Records accepted whose fate is not known yet.
    pub fn in_flight(&self) -> usize {
        self.client.client().context().in_flight.load(Ordering::Relaxed)
    }

    /// Waits until every accepted record's fate is known, at most `limit`. Gives the number of records still open.
    pub fn flush(&self, limit: Duration) -> usize {
        match self.client.flush(limit) {
            Ok(()) => 0,
            Err(error) => {
                tracing::warn!(%error, left = self.in_flight(), "not everything was delivered in time");
                self.in_flight()
            }
        }
    }

    /// Why the producer accepts nothing any more, or why it gets nothing through for reasons that only a person can
    /// mend.
    pub fn failure(&self) -> Option<BusError> {
        let heard = self.client.client().context().notes.heard();
        if heard.authentication.is_some() {
            return refused(&self.config, &KafkaError::Canceled, &heard);
        }
        let (code, reason) = self.client.client().fatal_error()?;
        if is_fenced(code) {
            return Some(BusError::Fenced { id: "the idempotent producer".to_owned(), cause: reason });
        }
        Some(
            denied(code, ("of the output", "write"), &self.config.group_id, "")
                .unwrap_or(BusError::client("producing", KafkaError::Global(code))),
        )
    }
}

fn undelivered(code: RDKafkaErrorCode) -> Undelivered {
    match code {
        RDKafkaErrorCode::MessageTimedOut | RDKafkaErrorCode::OperationTimedOut => Undelivered::Expired,
        RDKafkaErrorCode::MessageSizeTooLarge => Undelivered::TooLarge,
        RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed => {
            Undelivered::Denied
        }
        RDKafkaErrorCode::UnknownTopic
        | RDKafkaErrorCode::UnknownTopicOrPartition
        | RDKafkaErrorCode::UnknownPartition => Undelivered::NoTopic,
        RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight => Undelivered::Purged,
        _ => Undelivered::Other,
    }
}
