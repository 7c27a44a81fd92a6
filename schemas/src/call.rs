//! Calls: what leaves the dissector.

use bytestring::ByteString;
use serde::{Deserialize, Serialize};

use crate::positional::positional;
use crate::{
    CallId, CaptureMethod, ChunkCause, ConnectionId, Endpoint, Http, Message, Timestamp, Totals, Transport,
    VantageKind,
};

/// A request with its matched response, or an honest half of one, without identity.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Call {
    /// Derived from the connection and the call's position in it.
    pub call_id: CallId,
    /// The connection.
    pub connection_id: ConnectionId,
    /// Number of the call on its connection, from 0.
    pub index: i64,
    /// `http`, …; `tcp` and `udp` for records of whole connections.
    pub protocol: ByteString,
    /// Version of the protocol, for example `1.1`.
    pub protocol_version: Option<ByteString>,
    /// Transport protocol.
    pub transport: Transport,
    /// The end that asks.
    pub client: Endpoint,
    /// The end that answers.
    pub server: Endpoint,
    /// What is asked: for HTTP the method as sent.
    pub operation: Option<ByteString>,
    /// What it is asked of: for HTTP the request target as sent.
    pub target: Option<ByteString>,
    /// The answer's status as sent.
    pub status: Option<ByteString>,
    /// The status reduced to who is at fault.
    pub status_class: StatusClass,
    /// Which halves were seen.
    pub completeness: Completeness,
    /// Why a half is missing.
    pub completeness_cause: Option<Cause>,
    /// First byte of the request, or first packet of the connection.
    pub start_time: Option<Timestamp>,
    /// Last byte of the response, or last packet of the connection.
    pub end_time: Option<Timestamp>,
    /// The request.
    pub request: Option<Message>,
    /// The response.
    pub response: Option<Message>,
    /// HTTP fields.
    pub http: Option<Http>,
    /// Totals of the connection; only in records of whole connections.
    pub connection: Option<ConnectionSummary>,
    /// Trace context that the request carried.
    pub trace: Option<TraceContext>,
    /// What a security engineer wants to know.
    pub findings: Vec<Finding>,
    /// What is known to be missing.
    pub ledger: Ledger,
    /// What each place of observation saw.
    pub vantages: Vec<Vantage>,
    /// Where the raw bytes lie and what read them.
    pub provenance: Provenance,
}

positional!(Call {
    call_id,
    connection_id,
    index,
    protocol,
    protocol_version,
    transport,
    client,
    server,
    operation,
    target,
    status,
    status_class,
    completeness,
    completeness_cause,
    start_time,
    end_time,
    request,
    response,
    http,
    connection,
    trace,
    findings,
    ledger,
    vantages,
    provenance,
});

/// The status reduced to who is at fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusClass {
    /// No status, or one that says neither.
    #[default]
    Unknown,
    /// It worked.
    Ok,
    /// The client is at fault.
    ClientError,
    /// The server is at fault.
    ServerError,
}

/// Which halves of a call were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Completeness {
    /// Not known.
    #[default]
    Unknown,
    /// Request and response.
    Matched,
    /// The request alone.
    RequestOnly,
    /// The response alone.
    ResponseOnly,
    /// A connection record: start and end were seen.
    Complete,
    /// A connection record: start or end was not seen.
    Partial,
}

impl Completeness {
    /// The name that records carry.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Matched => "matched",
            Self::RequestOnly => "request_only",
            Self::ResponseOnly => "response_only",
            Self::Complete => "complete",
            Self::Partial => "partial",
        }
    }
}

/// Why a half of a call, or an end of a connection, is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Not known.
    #[default]
    Unknown,
    /// The connection was closed in order.
    Closed,
    /// The connection was reset.
    Reset,
    /// The connection fell silent.
    Idle,
    /// The bytes are missing.
    Gap,
    /// The connection was joined while under way.
    MidStream,
    /// Only one direction was seen.
    OneSided,
    /// The capture ended.
    EndOfCapture,
    /// The agent shut down.
    AgentShutdown,
    /// The agent evicted the connection.
    Evicted,
    /// The connection changed its protocol.
    Upgraded,
    /// A named limit was reached.
    Limit,
    /// The bytes broke the protocol's rules.
    Malformed,
    /// The dissector restarted and its state of the connection was lost.
    Restart,
}

/// A connection as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ConnectionSummary {
    /// Time of the first packet; none when the start was not seen.
    pub open_time: Option<Timestamp>,
    /// Time of the last packet; none when the end was not seen.
    pub close_time: Option<Timestamp>,
    /// Why the connection ended.
    pub close_reason: ChunkCause,
    /// Packets and bytes.
    pub totals: Totals,
    /// Bytes of the client's stream that were delivered.
    pub client_stream_bytes: i64,
    /// Bytes of the server's stream that were delivered.
    pub server_stream_bytes: i64,
    /// Protocol found in the bytes; none when none claimed them.
    pub dissected_as: Option<ByteString>,
}

positional!(ConnectionSummary {
    open_time,
    close_time,
    close_reason,
    totals,
    client_stream_bytes,
    server_stream_bytes,
    dissected_as,
});

/// Trace context that a request carried.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TraceContext {
    /// `w3c` or `b3`.
    pub format: ByteString,
    /// Trace id, lower-case hex.
    pub trace_id: ByteString,
    /// Parent span id, lower-case hex.
    pub span_id: Option<ByteString>,
    /// Trace flags; 1 is sampled.
    pub flags: Option<i32>,
    /// `tracestate` as sent.
    pub state: Option<ByteString>,
}

positional!(TraceContext { format, trace_id, span_id, flags, state });

/// Something a security engineer wants to know of a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct Finding {
    /// Stable code, for example `http.conflicting_lengths`.
    pub code: ByteString,
    /// What was seen.
    pub detail: Option<ByteString>,
}

positional!(Finding { code, detail });

/// What is known to be missing beneath a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Ledger {
    /// The connection was joined while under way.
    pub mid_stream: bool,
    /// Only one direction of the connection was seen.
    pub one_sided: bool,
    /// Client and server were not told apart by a handshake.
    pub orientation_guessed: bool,
    /// Bytes missing in the request.
    pub request_gap_bytes: i64,
    /// Bytes missing in the response.
    pub response_gap_bytes: i64,
    /// Bytes may be missing from a header section.
    pub headers_affected: bool,
    /// Bytes are missing from a body.
    pub body_affected: bool,
    /// The message was found by searching after a gap or a mid-stream start.
    pub resynchronised: bool,
}

positional!(Ledger {
    mid_stream,
    one_sided,
    orientation_guessed,
    request_gap_bytes,
    response_gap_bytes,
    headers_affected,
    body_affected,
    resynchronised,
});

/// What one place of observation saw of a call.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Vantage {
    /// Whose node it was.
    pub kind: VantageKind,
    /// The agent there.
    pub agent_id: ByteString,
    /// First byte of the request.
    pub request_first_byte_time: Option<Timestamp>,
    /// Last byte of the request.
    pub request_last_byte_time: Option<Timestamp>,
    /// First byte of the response.
    pub response_first_byte_time: Option<Timestamp>,
    /// Last byte of the response.
    pub response_last_byte_time: Option<Timestamp>,
    /// Bytes missing there.
    pub gap_bytes: i64,
}

positional!(Vantage {
    kind,
    agent_id,
    request_first_byte_time,
    request_last_byte_time,
    response_first_byte_time,
    response_last_byte_time,
    gap_bytes,
});

/// Where the raw bytes of a call lie and what read them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Provenance {
    /// The agent that captured the bytes.
    pub agent_id: ByteString,
    /// Its epoch.
    pub agent_epoch: i64,
    /// How the bytes were captured.
    pub capture_method: CaptureMethod,
    /// Sequence number of the first segment record with bytes of the call.
    pub first_sequence: Option<i64>,
    /// Sequence number of the last such record.
    pub last_sequence: Option<i64>,
    /// Topic of the segment records; none offline.
    pub topic: Option<ByteString>,
    /// Partition of the segment records.
    pub partition: Option<i32>,
    /// Offset of the first such record; none offline.
    pub first_offset: Option<i64>,
    /// Offset of the last such record; none offline.
    pub last_offset: Option<i64>,
    /// Parser that made the call.
    pub parser: ByteString,
    /// Its version; raised whenever its output changes.
    pub parser_version: i32,
}

positional!(Provenance {
    agent_id,
    agent_epoch,
    capture_method,
    first_sequence,
    last_sequence,
    topic,
    partition,
    first_offset,
    last_offset,
    parser,
    parser_version,
});
