//! The dissector: segments in, calls out, one transaction a commit.
//!
//! A consumer group reads the segments. Each partition has a dissector of its own, so that the output is the same
//! however many processes share the partitions. Calls, dead letters and offsets are committed together.
//!
//! What is held of open connections does not survive a restart, a rebalance or an aborted transaction: they are joined
//! again mid-stream, and the calls say so in their ledger. How many it were is logged and counted.

pub mod config;

pub mod app;

mod dissection;
mod metrics;
mod partition;
mod sink;
mod source;

pub use dissection::Dissection;
pub use metrics::Board;
