//! Calls to API events: identity through time, redaction and routing, without input or output.
//!
//! The modules stand in the order the data flows: [`identity`] knows who had an address at a time, [`enrich`] joins a
//! call with both peers, [`redact`] takes out what must not leave, [`route`] says where the event goes. [`filter`] is
//! the condition language of routes and of whoever reads events.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

pub mod identity;

pub mod enrich;

pub mod redact;

pub mod filter;
pub mod route;

pub mod glob;

#[cfg(test)]
mod testing;

pub use enrich::{ConfigError, EnrichConfig, Enricher};
pub use filter::Filter;
pub use identity::index::{Index, IndexLimits, Role};
pub use route::event_key;
