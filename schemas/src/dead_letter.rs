//! Dead letters: what nobody could process, kept with the reason.

use bytestring::ByteString;
use serde::Deserialize;

use crate::positional::positional;
use crate::{Blob, Timestamp};

/// A record that could not be processed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct DeadLetter {
    /// Service that gave up: `dissector` or `enricher`.
    pub stage: ByteString,
    /// Topic of the record.
    pub topic: ByteString,
    /// Partition of the record.
    pub partition: i32,
    /// Offset of the record.
    pub offset: i64,
    /// Timestamp of the record.
    pub time: Option<Timestamp>,
    /// Stable reason, for example `undecodable`.
    pub reason: ByteString,
    /// What went wrong, in words.
    pub error: ByteString,
    /// Key of the record.
    pub key: Option<Blob>,
    /// The record itself.
    pub value: Option<Blob>,
}

positional!(DeadLetter { stage, topic, partition, offset, time, reason, error, key, value });
