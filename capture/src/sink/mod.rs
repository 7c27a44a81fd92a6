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

pub use self::{
    error::SinkError,
    sender::{Sink, SinkConfig, SinkCounts, Tally},
};
