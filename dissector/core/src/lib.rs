//! Segments to calls: streams, protocols and matching, without input or output.
//!
//! The modules stand in the order the data flows: bytes of one direction wait in a [`stream`], a [`protocol`]'s session
//! reads them through a [`cursor`], pairs requests with responses (matching) and hands drafts of calls to the
//! [`output`]. Everything that a peer can make grow is bounded by [`limits`].

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

pub mod cursor;
pub mod limits;
pub mod output;
pub mod protocol;
pub mod stream;

pub use limits::{Counter, Limits, Stats};
