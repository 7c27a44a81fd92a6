//! Packets to segments: headers, flows and reassembly, without input or output.
//!
//! [`Capture`] is the machine. A packet is decoded (`packet`), finds its connection (`flow`), its bytes are put in
//! order (`reassembly`) and written to the connection's run, which becomes a record (`segment`). Time is an argument:
//! it comes from the capture timestamps, and from [`Capture::handle_time`] while no packet comes.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod capture;
mod config;
mod filter;
mod flow;
mod limits;
mod packet;
mod reassembly;
mod segment;
mod stats;

pub mod fuzz;

#[cfg(test)]
mod testing;

pub use capture::Capture;
pub use config::{CaptureConfig, FlushConfig};
pub use filter::{Filter, Network, NetworkError};
pub use limits::{Limit, Limits};
pub use packet::{LinkType, Packet};
pub use stats::{Count, Reason, Stats};
