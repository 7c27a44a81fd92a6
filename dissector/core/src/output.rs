//! What a session hands out: drafts of calls, completed with what the framework knows of the connection.

use std::collections::VecDeque;

use bytestring::ByteString;
use wirecall_schemas::{
    Call, CallId, CaptureMethod, Cause, Completeness, ConnectionId, ConnectionSummary, Endpoint, Finding,
    Http, Ledger, Message, Provenance, StatusClass, Timestamp, TraceContext, Transport, Vantage, VantageKind,
};

use crate::limits::{Counter, Stats};
use crate::stream::Mark;

/// The part of a call that only its protocol knows. `..Default::default()` fills what a protocol does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallDraft {
    /// Protocol of the call; a session may emit several (`http2` carries `grpc`).
    pub protocol: ByteString,
    /// Version of the protocol.
    pub protocol_version: Option<ByteString>,
    /// What is asked.
    pub operation: Option<ByteString>,
    /// What it is asked of.
    pub target: Option<ByteString>,
    /// The answer's status as sent.
    pub status: Option<ByteString>,
    /// The status reduced to who is at fault.
    pub status_class: StatusClass,
    /// Which halves were seen.
    pub completeness: Completeness,
    /// Why a half is missing.
    pub cause: Option<Cause>,
    /// The request, with its times. Its first byte time becomes the call's start.
    pub request: Option<Message>,
    /// The response, with its times. Its last byte time becomes the call's end.
    pub response: Option<Message>,
    /// HTTP fields.
    pub http: Option<Http>,
    /// Trace context that the request carried.
    pub trace: Option<TraceContext>,
    /// What a security engineer wants to know.
    pub findings: Vec<Finding>,
    /// What the session knows to be missing: gap bytes, what they touch, resynchronisation. The framework adds
    /// `mid_stream`, `one_sided` and `orientation_guessed`.
    pub ledger: Ledger,
    /// First and last mark of the bytes of the call.
    pub marks: MarkRange,
}

/// The marks between which the bytes of a message or call lie, in the order of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MarkRange {
    bounds: Option<(Mark, Mark)>,
}

impl MarkRange {
    /// Widens the range to cover a mark.
    pub fn cover(&mut self, mark: Mark) {
        let place = |mark: &Mark| (mark.log_offset, mark.sequence);
        match &mut self.bounds {
            None => self.bounds = Some((mark, mark)),
            Some((first, last)) => {
                if place(&mark) < place(first) {
                    *first = mark;
                }
                if place(&mark) >= place(last) {
                    *last = mark;
                }
            }
        }
    }

    /// Widens the range to cover a mark that may be absent.
    pub fn cover_some(&mut self, mark: Option<Mark>) {
        if let Some(mark) = mark {
            self.cover(mark);
        }
    }

    /// Widens the range to cover another.
    pub fn cover_range(&mut self, other: Self) {
        if let Some((first, last)) = other.bounds {
            self.cover(first);
            self.cover(last);
        }
    }

    /// The first mark; none when nothing was covered.
    #[must_use]
    pub fn first(&self) -> Option<Mark> {
        self.bounds.map(|(first, _)| first)
    }

    /// The last mark; none when nothing was covered.
    #[must_use]
    pub fn last(&self) -> Option<Mark> {
        self.bounds.map(|(_, last)| last)
    }
}

/// What the framework knows of a connection and every call of it repeats.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The connection.
    pub connection_id: ConnectionId,
    /// Transport protocol.
    pub transport: Transport,
    /// The end that asks, as the protocol sees it.
    pub client: Endpoint,
    /// The end that answers.
    pub server: Endpoint,
    /// No packet of a handshake told client and server apart.
    pub orientation_guessed: bool,
    /// The connection was joined while under way.
    pub mid_stream: bool,
    /// Nothing was seen of one direction so far.
    pub one_sided: bool,
    /// Where the connection was observed from.
    pub vantage: VantageKind,
    /// The agent.
    pub agent_id: ByteString,
    /// Its epoch.
    pub agent_epoch: i64,
    /// How the bytes were captured.
    pub capture_method: CaptureMethod,
    /// Topic of the segment records; none offline.
    pub topic: Option<ByteString>,
    /// Partition of the segment records.
    pub partition: Option<i32>,
    /// Parser that makes the calls.
    pub parser: &'static str,
    /// Its version.
    pub parser_version: i32,
    /// Hash of all that makes the connection's calls distinct from those of any other connection.
    pub identity: Identity,
    /// Number of the next call.
    pub next_index: i64,
}

impl Facts {
    /// The facts of a connection of which nothing but its ends is known.
    #[must_use]
    pub fn new(
        connection_id: ConnectionId,
        transport: Transport,
        client: Endpoint,
        server: Endpoint,
    ) -> Self {
        Self {
            connection_id,
            transport,
            client,
            server,
            orientation_guessed: true,
            mid_stream: false,
            one_sided: true,
            vantage: VantageKind::Unknown,
            agent_id: ByteString::new(),
            agent_epoch: 0,
            capture_method: CaptureMethod::Unknown,
            topic: None,
            partition: None,
            parser: "",
            parser_version: 0,
            identity: Identity::default().with(connection_id.as_bytes()),
            next_index: 0,
        }
    }
}

/// Takes drafts from a session, completes them and queues the calls.
#[derive(Debug)]
pub struct Output<'c> {
    facts: &'c mut Facts,
    queue: &'c mut VecDeque<Call>,
    stats: &'c mut Stats,
}

impl<'c> Output<'c> {
    /// An output of one connection that appends to `queue`.
    pub const fn new(facts: &'c mut Facts, queue: &'c mut VecDeque<Call>, stats: &'c mut Stats) -> Self {
        Self { facts, queue, stats }
    }

    /// Emits a call.
    pub fn call(&mut self, draft: CallDraft) {
        let start = draft.request.as_ref().and_then(|message| message.first_byte_time);
        let end = draft.response.as_ref().and_then(|message| message.last_byte_time);
        self.emit(draft, start, end, None);
    }

    /// Emits the record of the whole connection.
    pub fn connection(
        &mut self,
        draft: CallDraft,
        start: Option<Timestamp>,
        end: Option<Timestamp>,
        summary: ConnectionSummary,
    ) {
        self.emit(draft, start, end, Some(summary));
    }

    /// Adds to a counter.
    pub const fn count(&mut self, counter: Counter, count: u64) {
        self.stats.add(counter, count);
    }

    /// What is known of the connection.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        self.facts
    }

    /// Calls of this connection emitted so far.
    #[must_use]
    pub const fn emitted(&self) -> i64 {
        self.facts.next_index
    }

    fn emit(
        &mut self,
        draft: CallDraft,
        start_time: Option<Timestamp>,
        end_time: Option<Timestamp>,
        connection: Option<ConnectionSummary>,
    ) {
        let facts = &mut *self.facts;
        let index = facts.next_index;
        facts.next_index += 1;
        self.stats.add(Counter::Calls, 1);
        let ledger = Ledger {
            mid_stream: facts.mid_stream,
            one_sided: facts.one_sided,
            orientation_guessed: facts.orientation_guessed,
            ..draft.ledger
        };
        self.queue.push_back(Call {
            call_id: facts.identity.call_id(index),
            connection_id: facts.connection_id,
            index,
            protocol: draft.protocol,
            protocol_version: draft.protocol_version,
            transport: facts.transport,
            client: facts.client,
            server: facts.server,
            operation: draft.operation,
            target: draft.target,
            status: draft.status,
            status_class: draft.status_class,
            completeness: draft.completeness,
            completeness_cause: draft.cause,
            start_time,
            end_time,
            vantages: vec![vantage(facts, &ledger, draft.request.as_ref(), draft.response.as_ref())],
            provenance: provenance(facts, draft.marks),
            request: draft.request,
            response: draft.response,
            http: draft.http,
            connection,
            trace: draft.trace,
            findings: draft.findings,
            ledger,
        });
    }
}

fn vantage(facts: &Facts, ledger: &Ledger, request: Option<&Message>, response: Option<&Message>) -> Vantage {
    Vantage {
        kind: facts.vantage,
        agent_id: facts.agent_id.clone(),
        request_first_byte_time: request.and_then(|message| message.first_byte_time),
        request_last_byte_time: request.and_then(|message| message.last_byte_time),
        response_first_byte_time: response.and_then(|message| message.first_byte_time),
        response_last_byte_time: response.and_then(|message| message.last_byte_time),
        gap_bytes: ledger.request_gap_bytes.saturating_add(ledger.response_gap_bytes),
    }
}

fn provenance(facts: &Facts, marks: MarkRange) -> Provenance {
    let (first, last) = (marks.first(), marks.last());
    Provenance {
        agent_id: facts.agent_id.clone(),
        agent_epoch: facts.agent_epoch,
        capture_method: facts.capture_method,
        first_sequence: first.map(|mark| mark.sequence),
        last_sequence: last.map(|mark| mark.sequence),
        topic: facts.topic.clone(),
        partition: facts.partition,
        first_offset: first.and_then(|mark| mark.log_offset),
        last_offset: last.and_then(|mark| mark.log_offset),
        parser: ByteString::from_static(facts.parser),
        parser_version: facts.parser_version,
    }
}

/// The state of a 128-bit FNV-1a hash (draft-eastlake-fnv): stable for all time, unlike the standard library's hashers,
/// because call ids are compared between versions of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity(u128);

impl Default for Identity {
    fn default() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Identity {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

    /// Adds bytes.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(Self::PRIME)))
    }

    /// Adds an end of the connection.
    #[must_use]
    pub fn with_endpoint(self, endpoint: &Endpoint) -> Self {
        let port = endpoint.port.to_be_bytes();
        match endpoint.address {
            std::net::IpAddr::V4(address) => self.with(&[4]).with(&address.octets()).with(&port),
            std::net::IpAddr::V6(address) => self.with(&[6]).with(&address.octets()).with(&port),
        }
    }

    /// The id of the connection's call with this index.
    #[must_use]
    pub fn call_id(self, index: i64) -> CallId {
        CallId::new(self.with(&index.to_be_bytes()).0.to_be_bytes())
    }

    /// The hash as it stands.
    #[must_use]
    pub const fn value(self) -> u128 {
        self.0
    }
}
