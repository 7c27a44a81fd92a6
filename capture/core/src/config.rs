//! What a capture is told at its start. Nothing here changes while it runs, except the filter's endpoints.

use bytestring::ByteString;
use wirecall_schemas::topic::DEFAULT_PARTITIONS;
use wirecall_schemas::{CaptureMethod, VantageKind};

use crate::filter::Filter;
use crate::limits::Limits;

/// Configuration of a [`crate::Capture`].
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    /// Name of the agent, stamped on every segment; by default the node's name.
    pub agent_id: ByteString,
    /// Start time of the agent in microseconds since 1970; 0 for files.
    pub agent_epoch: i64,
    /// Partitions of the segments topic. Must be positive; anything else is taken as 1.
    pub partitions: i32,
    /// How the packets were captured.
    pub capture_method: CaptureMethod,
    /// Where connections are observed from, where that is known for the whole capture.
    pub vantage: VantageKind,
    /// The bounds.
    pub limits: Limits,
    /// What to leave out.
    pub filter: Filter,
    /// When runs are published.
    pub flush: FlushConfig,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Self {
            agent_id: ByteString::from_static("file"),
            agent_epoch: 0,
            partitions: DEFAULT_PARTITIONS,
            capture_method: CaptureMethod::Pcap,
            vantage: VantageKind::Unknown,
            limits: Limits::default(),
            filter: Filter::default(),
            flush: FlushConfig::default(),
        }
    }
}

/// A run is published when the first of these is reached, or when its connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushConfig {
    /// Payload bytes of a run; at most [`FlushConfig::LARGEST_BYTES`] take effect.
    pub bytes: usize,
    /// Age of a run in microseconds of capture time.
    pub time: i64,
}

impl FlushConfig {
    /// Largest payload that keeps a record with all its chunks under the broker's default of 1 MiB.
    pub const LARGEST_BYTES: usize = 768 << 10;

    pub(crate) fn effective_bytes(&self) -> usize {
        self.bytes.clamp(1, Self::LARGEST_BYTES)
    }
}

impl Default for FlushConfig {
    fn default() -> Self {
        Self { bytes: 64 << 10, time: 20_000 }
    }
}
