//! What can keep segments from arriving.

use wirecall_bus::{BusError, Category, Undelivered};
use wirecall_schemas::CodecError;

/// A sink that cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Kafka or the registry refuses us.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A record that its schema cannot express: a defect.
    #[error("a segment cannot be encoded")]
    Codec(#[from] CodecError),
    /// The sender's thread cannot be started.
    #[error("the thread that sends segments cannot be started; raise the limit of threads")]
    Thread(#[source] std::io::Error),
    /// The sender's thread ended by a defect.
    #[error("the thread that sends segments ended; this is a defect, please report it with the log")]
    Ended,
    /// The brokers do not let us write.
    #[error("topic {topic} may not be written; grant the agent WRITE and DESCRIBE on it")]
    Denied {
        /// Name of the topic.
        topic: String,
    },
    /// The topic, or the partition of a record, went away.
    #[error(
        "topic {topic} or one of its partitions does not exist any more; create it again with its old number of partitions"
    )]
    NoTopic {
        /// Name of the topic.
        topic: String,
    },
    /// Not everything arrived before the end.
    #[error(
        "{records} records with {bytes} captured bytes were not delivered; the brokers at {brokers} did not take them \
         in time"
    )]
    Undelivered {
        /// Records.
        records: u64,
        /// Captured bytes in them.
        bytes: u64,
        /// As configured.
        brokers: String,
    },
}

impl SinkError {
    /// The error that a failed delivery stands for, if it will not get better by itself.
    pub(super) fn of(outcome: Undelivered, topic: &str) -> Option<Self> {
        match outcome {
            Undelivered::Denied => Some(Self::Denied { topic: topic.to_owned() }),
            Undelivered::NoTopic => Some(Self::NoTopic { topic: topic.to_owned() }),
            _ => None,
        }
    }

    /// What kind of error it is, for the exit code.
    #[must_use]
    pub const fn category(&self) -> Category {
        match self {
            Self::Bus(error) => error.category(),
            Self::Codec(_) | Self::Thread(_) | Self::Ended => Category::Software,
            Self::Denied { .. } => Category::Permission,
            Self::NoTopic { .. } => Category::Configuration,
            Self::Undelivered { .. } => Category::Unavailable,
        }
    }
}
