//! The bus: the one crate that talks to Kafka through librdkafka.
//!
//! Everything else sends and receives through the types here, so that the rules of delivery stand in one place:
//!
//! - [`Producer`]: the capture agent's way out. Idempotent, never blocks, says when its queue is full.
//! - [`Pipeline`] and [`Transform`]: consume, transform, produce, as one transaction a commit (KIP-447). The dissector
//!   and the enricher are transforms.
//! - [`Reader`]: a plain `read_committed` reader for `wirecall tail`, audits and tests.
//! - [`topics`]: the topics as they must be, created or checked at start.
//! - [`registry`]: schema ids from a Confluent-compatible registry, or none.
//! - [`EmbeddedBroker`]: librdkafka's in-process cluster for the demonstration. It proves nothing about transactions.

pub mod config;
pub mod error;

mod client;
mod context;
pub mod metrics;

pub mod topics;

mod producer;

mod assignment;
mod outbox;
mod pipeline;
mod transaction;
mod transform;

mod reader;

pub mod registry;

pub mod dead_letter;

mod embedded;

pub use config::BusConfig;
pub use embedded::EmbeddedBroker;
pub use error::{BusError, Category};
pub use metrics::Metrics;
pub use outbox::{Outbox, Outgoing};
pub use pipeline::{Pipeline, StopSignal};
pub use producer::{Delivery, Producer, Refusal, Undelivered};
pub use reader::{Reader, StartAt};
pub use transform::{Assigned, Incoming, Position, Release, Start, TopicPartition, Transform};
