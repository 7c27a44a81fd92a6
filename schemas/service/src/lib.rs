//! What every Wirecall service needs around its own work, in the order a `main` uses it: configuration, telemetry,
//! metrics, health, drain, exit code.
//!
//! The services' programs are to be boring: this crate holds what they would otherwise each write a little
//! differently. It knows nothing of packets or of Kafka.

pub mod config;
pub mod drain;
pub mod exit;
pub mod health;
pub mod metrics;
mod process;
pub mod telemetry;
