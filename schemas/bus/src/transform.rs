//! The contract between the pipeline and what a service does with records.
//!
//! A transform owns state per partition. The pipeline tells it when a partition comes and goes, and the transform says
//! from where it wants to read: at the committed offset, or further back, to rebuild its state from the log. Records
//! read again that way come with [`Incoming::replayed`], and their output is suppressed. An abort is nothing special:
//! every partition goes with [`Release::Aborted`] and comes again, so that state newer than the committed offset cannot
//! survive.

use std::fmt;

use rdkafka::message::{BorrowedMessage, Message};

use crate::{BusError, Outbox};

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} [{}]", self.topic, self.partition)
    }
}

/// A partition that this process has got.
#[derive(Clone, Debug)]
pub struct Assigned {
    /// Which one.
    pub partition: TopicPartition,
    /// Next offset that no committed transaction has processed; `None` if the group has never committed here.
    pub committed: Option<i64>,
    /// What [`Transform::position`] gave with that commit; empty if nothing, or if the broker keeps none.
    pub metadata: String,
}

/// From where a partition is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// From the committed offset; from the beginning if there is none.
    Committed,
    /// From an earlier offset. Up to the committed offset, output is suppressed.
    Rewind {
        /// The offset. One behind the committed offset counts as the committed offset.
        offset: i64,
    },
}

/// Why a partition goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// All that was processed is committed, and another member takes over.
    Committed,
    /// What was processed since the last commit is void, and will be read again, here or elsewhere.
    Aborted,
}

/// A record to process.
#[derive(Clone, Copy)]
pub struct Incoming<'r> {
    message: &'r BorrowedMessage<'r>,
    replayed: bool,
}

impl<'r> Incoming<'r> {
    pub(crate) fn new(message: &'r BorrowedMessage<'r>, replayed: bool) -> Self {
        Self { message, replayed }
    }

    /// Topic.
    pub fn topic(&self) -> &'r str {
        self.message.topic()
    }

    /// Partition.
    pub fn partition(&self) -> i32 {
        self.message.partition()
    }

    /// Offset.
    pub fn offset(&self) -> i64 {
        self.message.offset()
    }

    /// Key, if it has one.
    pub fn key(&self) -> Option<&'r [u8]> {
        self.message.key()
    }

    /// Value; `None` in a compacted topic says that the key is gone.
    pub fn value(&self) -> Option<&'r [u8]> {
        self.message.payload()
    }

    /// Timestamp in milliseconds since the epoch, if the record has one.
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.message.timestamp().to_millis()
    }

    /// Whether it lies before the committed offset and is read only to rebuild state.
    pub fn replayed(&self) -> bool {
        self.replayed
    }

    pub(crate) fn size(&self) -> usize {
        self.message.key_len() + self.message.payload_len()
    }
}

impl fmt::Debug for Incoming<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} [{}] @{}", self.topic(), self.partition(), self.offset())
    }
}

/// What is committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Next offset to process after a restart.
    pub offset: i64,
    /// A short text kept with it (the broker allows 4,096 bytes by default), given back in [`Assigned::metadata`].
    pub metadata: String,
}

/// What a service does with records. All calls come from the thread that runs the pipeline.
pub trait Transform {
    /// A partition has come. Whatever the transform holds of it must be rebuilt from the answer's offset on.
    ///
    /// # Errors
    /// Any error stops the pipeline.
    fn assigned(&mut self, assigned: &Assigned) -> Result<Start, BusError> {
        let _ = assigned;
        Ok(Start::Committed)
    }

    /// A partition goes, and with it everything held of it.
    fn revoked(&mut self, partition: &TopicPartition, release: Release) {
        let _ = (partition, release);
    }

    /// Processes one record.
    ///
    /// # Errors
    /// Errors of `out` are to be handed on; of these only [`BusError::MessageTooLarge`] may be dealt with instead. Any
    /// error of the transform's own stops the pipeline, with the open transaction aborted.
    fn record(&mut self, record: &Incoming<'_>, out: &mut Outbox<'_>) -> Result<(), BusError>;

    /// Nothing came for a while (at most a commit interval). What waits for something else than records may go out.
    ///
    /// # Errors
    /// As [`Transform::record`].
    fn idle(&mut self, out: &mut Outbox<'_>) -> Result<(), BusError> {
        let _ = out;
        Ok(())
    }

    /// The last chance to send into the transaction that is about to be committed: checkpoints, say.
    ///
    /// # Errors
    /// As [`Transform::record`].
    fn before_commit(&mut self, out: &mut Outbox<'_>) -> Result<(), BusError> {
        let _ = out;
        Ok(())
    }

    /// What to commit for a partition of which everything before offset `next` has been given to
    /// [`Transform::record`]. An offset below `next` makes the records from there on come again after a restart.
    fn position(&mut self, partition: &TopicPartition, next: i64) -> Position {
        let _ = partition;
        Position { offset: next, metadata: String::new() }
    }

    /// The transaction is committed: what was sent is out for good.
    fn committed(&mut self) {}
}
