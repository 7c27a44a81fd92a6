//! The enricher: calls in, API events out, and the identity watcher.
//!
//! The modules stand in the order the data flows: [`source`] reads identities from a file, a topic or the API server,
//! [`transform`] turns calls into events, [`sink`] writes the identity history. [`app`] puts them together in one of
//! two roles. The work itself is in `wirecall-enricher-core`, which knows nothing of all this.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

pub mod config;

pub mod source;

pub mod transform;

pub mod sink;

pub mod app;
pub mod metrics;
