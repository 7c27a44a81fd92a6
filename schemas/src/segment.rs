//! Segments: what leaves a capture agent.

use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Serialize};

use crate::positional::positional;
use crate::{
    CaptureMethod, ConnectionId, ConnectionKey, Endpoint, Orientation, Process, Timestamp, Transport,
    VantageKind,
};

/// Ordered bytes of one connection with their capture times, or the statement that bytes are missing.
///
/// Data chunks take their bytes from `payload` one after another; [`Segment::chunks_with_bytes`] walks both.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Segment {
    /// The connection.
    pub connection_id: ConnectionId,
    /// Its partition key.
    pub connection_key: ConnectionKey,
    /// Transport protocol.
    pub transport: Transport,
    /// The end that opened the connection.
    pub client: Endpoint,
    /// The end that accepted it.
    pub server: Endpoint,
    /// How client and server were told apart.
    pub orientation: Orientation,
    /// Where the connection was observed from.
    pub vantage: VantageKind,
    /// How the bytes were captured.
    pub capture_method: CaptureMethod,
    /// The agent, by default the node's name.
    pub agent_id: ByteString,
    /// Start time of the agent in microseconds since 1970; 0 for files.
    pub agent_epoch: i64,
    /// Partition of the segments topic that the agent chose.
    pub partition: i32,
    /// Number of the record per agent, epoch and partition, from 0, without holes.
    pub sequence: i64,
    /// Interface the connection was first seen on.
    pub interface: Option<ByteString>,
    /// Local process, where known.
    pub process: Option<Process>,
    /// The chunks in the order of the stream.
    pub chunks: Vec<Chunk>,
    /// Totals of the connection; only on the record with its close chunk.
    pub totals: Option<Totals>,
    /// The bytes of all data chunks.
    #[serde(deserialize_with = "payload_bytes::deserialize")]
    pub payload: Bytes,
}

positional!(Segment {
    connection_id,
    connection_key,
    transport,
    client,
    server,
    orientation,
    vantage,
    capture_method,
    agent_id,
    agent_epoch,
    partition,
    sequence,
    interface,
    process,
    chunks,
    totals,
    payload via PayloadBytes,
});

impl Segment {
    /// The chunks, each with its bytes (empty for all but data).
    ///
    /// A record whose chunk lengths and payload disagree gives the bytes that are there: the decoder refuses such a
    /// record before this is reached ([`Segment::check`]).
    pub fn chunks_with_bytes(&self) -> impl Iterator<Item = (&Chunk, Bytes)> {
        let mut position = 0_usize;
        self.chunks.iter().map(move |chunk| {
            if chunk.kind != ChunkKind::Data {
                return (chunk, Bytes::new());
            }
            let length = usize::try_from(chunk.length).unwrap_or(0);
            let start = position.min(self.payload.len());
            let end = start.saturating_add(length).min(self.payload.len());
            position = end;
            (chunk, self.payload.slice(start..end))
        })
    }

    /// Checks that the chunks describe the payload: no negative offset or length, and data lengths that add up.
    ///
    /// # Errors
    /// Names the rule that the record breaks; such a record belongs to the dead letters.
    pub fn check(&self) -> Result<(), SegmentError> {
        let mut data = 0_i64;
        for (index, chunk) in self.chunks.iter().enumerate() {
            if chunk.offset < 0 || chunk.length < 0 || chunk.offset.checked_add(chunk.length).is_none() {
                return Err(SegmentError::ChunkRange { index, offset: chunk.offset, length: chunk.length });
            }
            if chunk.kind == ChunkKind::Data {
                data = data.saturating_add(chunk.length);
            }
        }
        if usize::try_from(data) != Ok(self.payload.len()) {
            return Err(SegmentError::PayloadLength { chunks: data, payload: self.payload.len() });
        }
        Ok(())
    }
}

/// A segment record that contradicts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// An offset or a length is negative, or their sum overflows.
    #[error("chunk {index} has the impossible range offset {offset}, length {length}")]
    ChunkRange {
        /// Position of the chunk in the record.
        index: usize,
        /// Its offset.
        offset: i64,
        /// Its length.
        length: i64,
    },
    /// The lengths of the data chunks do not add up to the payload.
    #[error("data chunks claim {chunks} bytes but the payload has {payload}")]
    PayloadLength {
        /// Sum of the data chunks' lengths.
        chunks: i64,
        /// Length of the payload.
        payload: usize,
    },
}

/// A run of bytes of one direction with one capture time, or a statement about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Chunk {
    /// Who sent the bytes.
    pub direction: Direction,
    /// What the chunk states.
    pub kind: ChunkKind,
    /// Cause of a gap or reason of a close.
    pub cause: ChunkCause,
    /// Offset of the first byte in the direction's stream.
    pub offset: i64,
    /// Bytes of data in the payload, or bytes missing; 0 for the rest.
    pub length: i64,
    /// Capture time of the packet, or the time the gap was declared.
    pub time: Timestamp,
}

positional!(Chunk { direction, kind, cause, offset, length, time });

/// Who sent the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Not known; no agent writes it.
    #[default]
    Unknown,
    /// The client did.
    ClientToServer,
    /// The server did.
    ServerToClient,
}

impl Direction {
    /// The other direction; unknown stays unknown.
    #[must_use]
    pub const fn reverse(self) -> Self {
        match self {
            Self::Unknown => Self::Unknown,
            Self::ClientToServer => Self::ServerToClient,
            Self::ServerToClient => Self::ClientToServer,
        }
    }
}

/// What a chunk states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChunkKind {
    /// Nothing; no agent writes it.
    #[default]
    Unknown,
    /// Bytes.
    Data,
    /// Missing bytes.
    Gap,
    /// The connection's start was seen.
    Open,
    /// The connection ended.
    Close,
    /// The connection was joined while under way.
    MidStream,
}

/// Why bytes are missing, or why a connection ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChunkCause {
    /// Neither is the case.
    #[default]
    None,
    /// Gap: the bytes never came, or came too late.
    Loss,
    /// Gap: the packet was cut short by the capture.
    Snaplen,
    /// Gap: a named limit of the agent was reached.
    Limit,
    /// Gap: the agent's buffer was full because Kafka was slow or gone.
    BackPressure,
    /// Gap: the agent was not running.
    AgentRestart,
    /// Close: both sides sent a FIN.
    Fin,
    /// Close: one side sent a RST.
    Reset,
    /// Close: no packet came for the idle time.
    Idle,
    /// Close: evicted because too many connections were open.
    Evicted,
    /// Close: a new connection took over the addresses and ports.
    PortReuse,
    /// Close: the capture file ended.
    EndOfCapture,
    /// Close: the agent shut down.
    AgentShutdown,
}

/// Packets and bytes of a connection from its first to its last packet, retransmissions included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Totals {
    /// Packets the client sent.
    pub client_packets: i64,
    /// Transport payload bytes the client sent.
    pub client_bytes: i64,
    /// Packets the server sent.
    pub server_packets: i64,
    /// Transport payload bytes the server sent.
    pub server_bytes: i64,
    /// Packets of either side that carried only bytes seen before.
    pub retransmitted_packets: i64,
    /// Packets of either side that arrived after later bytes.
    pub out_of_order_packets: i64,
}

positional!(Totals {
    client_packets,
    client_bytes,
    server_packets,
    server_bytes,
    retransmitted_packets,
    out_of_order_packets,
});

/// `Bytes` as Avro `bytes`.
struct PayloadBytes<'b>(&'b Bytes);

impl Serialize for PayloadBytes<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// Decoding copies once out of the record.
mod payload_bytes {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        serde_bytes::ByteBuf::deserialize(deserializer).map(|bytes| Bytes::from(bytes.into_vec()))
    }
}
