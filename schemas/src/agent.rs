//! Heartbeats of capture agents: coverage on the record.

use bytestring::ByteString;
use serde::Deserialize;

use crate::positional::positional;
use crate::{CaptureMethod, Timestamp};

/// What a capture agent sees, drops and cannot see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Agent {
    /// The agent.
    pub agent_id: ByteString,
    /// Its epoch.
    pub agent_epoch: i64,
    /// Node it runs on.
    pub node: Option<ByteString>,
    /// Program version.
    pub version: ByteString,
    /// Capture time the heartbeat speaks for.
    pub time: Timestamp,
    /// How it captures.
    pub capture_method: CaptureMethod,
    /// Interfaces it listens on.
    pub interfaces: Vec<ByteString>,
    /// Packets read since the epoch began.
    pub packets_read: i64,
    /// Bytes read since the epoch began.
    pub bytes_read: i64,
    /// Where they went.
    pub counts: Vec<Count>,
    /// Packets that the kernel dropped before the agent.
    pub kernel_dropped_packets: i64,
    /// Connections under observation.
    pub open_connections: i64,
    /// Bytes held in memory.
    pub held_bytes: i64,
    /// How far each partition is written.
    pub partitions: Vec<PartitionProgress>,
    /// What this agent cannot capture, and why.
    pub cannot_see: Vec<ByteString>,
    /// True in the last heartbeat of the epoch.
    pub stopping: bool,
}

positional!(Agent {
    agent_id,
    agent_epoch,
    node,
    version,
    time,
    capture_method,
    interfaces,
    packets_read,
    bytes_read,
    counts,
    kernel_dropped_packets,
    open_connections,
    held_bytes,
    partitions,
    cannot_see,
    stopping,
});

/// Packets and bytes under one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Count {
    /// The reason.
    pub reason: ByteString,
    /// Packets.
    pub packets: i64,
    /// Bytes.
    pub bytes: i64,
}

positional!(Count { reason, packets, bytes });

/// How far an agent has written one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct PartitionProgress {
    /// Partition of the segments topic.
    pub partition: i32,
    /// Sequence number of the agent's next record there.
    pub next_sequence: i64,
}

positional!(PartitionProgress { partition, next_sequence });
