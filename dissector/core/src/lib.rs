//! Segments to calls: streams, protocols and matching, without input or output.
//!
//! The modules stand in the order the data flows: a [`dissector`] reads the records of one partition and deals them out
//! to connections; the bytes of each direction wait in a [`stream`]; the [`registry`] chooses the [`protocol`] whose session
//! reads them through a [`cursor`], pairs requests with responses ([`matching`]) and hands drafts of calls to the
//! [`output`]. Everything that a peer can make grow is bounded by [`limits`].

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod connection;
pub mod dissector;

pub mod stream;

pub mod registry;

pub mod protocol;

pub mod cursor;

pub mod matching;

pub mod output;

pub mod limits;

pub use dissector::{ConnectionRecords, Dissector, LogPosition, SegmentRefused};
pub use limits::{Counter, Limits, Stats};
pub use registry::Registry;
