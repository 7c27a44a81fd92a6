//! The enricher: calls in, API events out, and the identity watcher.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

pub mod source;
