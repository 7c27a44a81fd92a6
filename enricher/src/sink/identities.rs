//! The identity history to its topic.
//!
//! An idempotent producer and no transaction: a record is keyed by object and start, so writing one again changes
//! nothing, and a watcher that ends in the middle compares and goes on after a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use wirecall_bus::registry::Registry;
use wirecall_bus::{BusConfig, BusError, Delivery, Metrics, Outgoing, Producer, Refusal};
use wirecall_schemas::Identity;
use wirecall_schemas::codec::Encoder;
use wirecall_schemas::topic::Topic;

/// Pause before a full queue is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// Why the history cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The bus.
    #[error("the identity history cannot be written")]
    Bus(#[from] BusError),
    /// A record that does not fit its schema.
    #[error("an identity record cannot be encoded")]
    Codec(#[from] wirecall_schemas::CodecError),
    /// Records that no broker took.
    #[error(
        "{count} identity records were not taken by the brokers; the watcher has to compare and write them again"
    )]
    Undelivered {
        /// How many.
        count: usize,
    },
    /// A record larger than the broker takes.
    #[error("the identity record {key} of {size} bytes is larger than message.max.bytes; raise it")]
    TooLarge {
        /// Key of the record.
        key: String,
        /// Its bytes.
        size: usize,
    },
}

/// Writes the history.
pub struct IdentityWriter {
    producer: Producer,
    encoder: Encoder<Identity>,
    topic: String,
    undelivered: Arc<AtomicUsize>,
    buffer: Vec<u8>,
}

impl IdentityWriter {
    /// A writer to the identities topic.
    ///
    /// # Errors
    /// When the configuration is not usable or the registry refuses.
    pub fn new(config: &BusConfig, metrics: Arc<Metrics>) -> Result<Self, WriteError> {
        let topic = config.topic(Topic::Identities);
        let undelivered = Arc::new(AtomicUsize::new(0));
        let lost = Arc::clone(&undelivered);
        let report = move |delivery: Delivery| {
            if delivery.outcome.is_err() {
                lost.fetch_add(1, Ordering::Relaxed);
            }
        };
        Ok(Self {
            encoder: Registry::new(config)?.encoder(&topic)?,
            producer: Producer::start(config, metrics, report)?,
            topic,
            undelivered,
            buffer: Vec::new(),
        })
    }

    /// Hands a record over; waits while the queue is full.
    ///
    /// # Errors
    /// When this or an earlier record cannot be delivered.
    pub async fn write(&mut self, identity: &Identity) -> Result<(), WriteError> {
        self.check()?;
        self.buffer.clear();
        self.encoder.encode(identity, &mut self.buffer)?;
        let key = identity.key();
        loop {
            let record = Outgoing {
                topic: &self.topic,
                partition: None,
                key: key.as_bytes(),
                value: Some(&self.buffer),
                timestamp_ms: None,
            };
            match self.producer.try_send(&record, 0) {
                Ok(()) => return Ok(()),
                Err(Refusal::Full) => tokio::time::sleep(PAUSE).await,
                Err(Refusal::TooLarge) => return Err(WriteError::TooLarge { key, size: self.buffer.len() }),
                Err(Refusal::Failed) => {
                    self.check()?;
                    return Err(WriteError::Undelivered { count: 1 });
                }
            }
        }
    }

    /// Says whether everything so far went well.
    ///
    /// # Errors
    /// When a record was not delivered or the producer has failed.
    pub fn check(&self) -> Result<(), WriteError> {
        if let Some(error) = self.producer.failure() {
            return Err(error.into());
        }
        match self.undelivered.load(Ordering::Relaxed) {
            0 => Ok(()),
            count => Err(WriteError::Undelivered { count }),
        }
    }

    /// Waits until everything is delivered, at most `limit`.
    ///
    /// # Errors
    /// When something was not delivered by then.
    pub fn flush(&self, limit: Duration) -> Result<(), WriteError> {
        let open = self.producer.flush(limit);
        self.check()?;
        if open == 0 { Ok(()) } else { Err(WriteError::Undelivered { count: open }) }
    }
}
