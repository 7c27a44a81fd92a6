//! The capture agent: packets of one node in, segments out.

pub mod source;

pub mod worker;

pub mod sink;

pub mod app;
pub mod board;
pub mod config;
mod exclusion;
mod heartbeat;
pub mod metrics;
