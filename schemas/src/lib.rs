//! The contracts of Wirecall: what crosses a service boundary, as Avro schemas and Rust types.
//!
//! The modules stand in the order the data flows: a [`Segment`] leaves the capture agent, a [`Call`] leaves the
//! dissector, an [`ApiEvent`] leaves the enricher. [`Identity`] and [`Agent`] records travel beside them, and a record
//! that nobody could process becomes a [`DeadLetter`]. The Avro files under `avro/` are the contract; the types here
//! follow them field by field, in the same order, because the encoder walks both side by side.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod blob;
mod endpoint;
mod id;
mod positional;
mod time;

mod segment;

mod call;
mod http;
mod message;

mod event;

mod agent;
mod dead_letter;
mod identity;

pub mod codec;
pub mod error;
pub mod reference;
pub mod topic;

pub use agent::{Agent, Count, PartitionProgress};
pub use blob::Blob;
pub use bytestring::ByteString;
pub use call::{
    Call, Cause, Completeness, ConnectionSummary, Finding, Ledger, Provenance, StatusClass, TraceContext,
    Vantage,
};
pub use codec::Record;
pub use dead_letter::DeadLetter;
pub use endpoint::{CaptureMethod, Endpoint, Orientation, Process, Transport, VantageKind};
pub use error::{CodecError, SchemaError};
pub use event::{ApiEvent, Certainty, Peer, Redaction, ResolvedBy};
pub use http::Http;
pub use id::{CallId, ConnectionId, ConnectionKey};
pub use identity::Identity;
pub use message::{Body, BodyPart, Decoding, Header, Hole, Message};
pub use segment::{Chunk, ChunkCause, ChunkKind, Direction, Segment, Totals};
pub use time::Timestamp;
