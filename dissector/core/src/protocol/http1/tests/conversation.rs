//! The text form of conversations, and how they are played.
//!
//! ```text
//! == name                     a conversation
//! # why                       comment
//! > GET / HTTP/1.1            a line of the client, CRLF added
//! >+ abc\x00\n                bytes of the client as they are, with escapes
//! < HTTP/1.1 200 OK           a line of the server
//! .                           ends a run: what follows is another packet, a millisecond later
//! !gap > 100                  bytes missing
//! !joined                     the start of the connection was not seen
//! !close reset                how it ended; `fin` when nothing is said
//! !loose                      not for the conformance suite: its calls depend on when what comes
//! = GET / 200 matched         the calls that come out
//! ```

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use bytestring::ByteString;
use wirecall_schemas::{
    Body, Call, CaptureMethod, Chunk, ChunkCause, ChunkKind, ConnectionId, ConnectionKey, Decoding,
    Direction, Endpoint, Message, Orientation, Segment, Timestamp, Totals, Transport, VantageKind,
};

use crate::protocol::conformance::Sample;
use crate::{Dissector, Limits, Registry};

/// Longest conversation for the conformance suite, whose work grows with the square of the length.
const SUITE_BYTES: usize = 230;

/// Capture time of the first packet.
const START: i64 = 1_700_000_000_000_000;

/// A conversation and what must come of it.
#[derive(Clone, Debug)]
pub(super) struct Conversation {
    pub(super) name: String,
    pub(super) steps: Vec<Step>,
    pub(super) expected: String,
    pub(super) joined: bool,
    pub(super) close: ChunkCause,
    loose: bool,
}

/// Bytes of one direction, or their absence, with a capture time.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) direction: Direction,
    pub(super) bytes: Vec<u8>,
    pub(super) missing: usize,
    pub(super) time: i64,
}

pub(super) fn parse_file(topic: &str, text: &str) -> Vec<Conversation> {
    let parts = text.split("\n== ").filter(|part| !part.trim().is_empty());
    parts.map(|part| parse(topic, part.trim_start_matches("== "))).collect()
}

fn parse(topic: &str, text: &str) -> Conversation {
    let mut lines = text.lines();
    let mut conversation = Conversation {
        name: format!("{topic}: {}", lines.next().unwrap_or_default()),
        steps: Vec::new(),
        expected: String::new(),
        joined: false,
        close: ChunkCause::Fin,
        loose: false,
    };
    let mut new_run = true;
    for line in lines {
        match line.split_at_checked(1) {
            Some((">", rest)) => conversation.add(Direction::ClientToServer, rest, &mut new_run),
            Some(("<", rest)) => conversation.add(Direction::ServerToClient, rest, &mut new_run),
            Some(("!", rest)) => {
                conversation.directive(rest);
                new_run = true;
            }
            Some(("=", rest)) => writeln!(conversation.expected, "={rest}").unwrap(),
            Some((".", _)) => new_run = true,
            Some(("#", _)) | None => {}
            _ => panic!("{}: no such line: {line}", conversation.name),
        }
    }
    conversation
}

impl Conversation {
    fn add(&mut self, direction: Direction, rest: &str, new_run: &mut bool) {
        let time = START + 1_000 * self.steps.len() as i64;
        if *new_run || self.steps.last().is_none_or(|step| step.direction != direction) {
            self.steps.push(Step { direction, bytes: Vec::new(), missing: 0, time });
        }
        *new_run = false;
        let bytes = &mut self.steps.last_mut().unwrap().bytes;
        match rest.strip_prefix("+ ") {
            Some(raw) => unescape(raw, bytes),
            None => {
                unescape(rest.strip_prefix(' ').unwrap_or(rest), bytes);
                bytes.extend_from_slice(b"\r\n");
            }
        }
    }

    fn directive(&mut self, text: &str) {
        let words: Vec<_> = text.split(' ').collect();
        match *words {
            ["joined"] => self.joined = true,
            ["loose"] => self.loose = true,
            ["close", "fin"] => self.close = ChunkCause::Fin,
            ["close", "reset"] => self.close = ChunkCause::Reset,
            ["close", "idle"] => self.close = ChunkCause::Idle,
            ["close", "end_of_capture"] => self.close = ChunkCause::EndOfCapture,
            ["gap", side, length] => {
                let direction =
                    if side == ">" { Direction::ClientToServer } else { Direction::ServerToClient };
                let time = START + 1_000 * self.steps.len() as i64;
                let missing = length.parse().unwrap();
                self.steps.push(Step { direction, bytes: Vec::new(), missing, time });
            }
            _ => panic!("{}: no such directive: {text}", self.name),
        }
    }

    /// As a sample for the conformance suite; none when it is damaged already, or long.
    pub(super) fn sample(&self) -> Option<Sample> {
        let long = self.steps.iter().map(|step| step.bytes.len()).sum::<usize>() > SUITE_BYTES;
        let damaged = long || self.joined || self.loose || self.steps.iter().any(|step| step.missing > 0);
        (!damaged).then(|| Sample {
            name: self.name.clone().leak(),
            transport: Transport::Tcp,
            server_port: 80,
            steps: self.steps.iter().map(|step| (step.direction, Bytes::from(step.bytes.clone()))).collect(),
            close: self.close,
        })
    }

    /// The same with runs of at most `size` bytes.
    pub(super) fn split(&self, size: usize) -> Self {
        let pieces = |step: &Step| -> Vec<Step> {
            if step.missing > 0 {
                return vec![step.clone()];
            }
            step.bytes.chunks(size).map(|bytes| Step { bytes: bytes.to_vec(), ..step.clone() }).collect()
        };
        Self { steps: self.steps.iter().flat_map(pieces).collect(), ..self.clone() }
    }

    /// The calls that come out.
    pub(super) fn play(&self, registry: &Registry) -> Vec<Call> {
        let mut dissector = Dissector::new(registry.clone(), Limits::default());
        self.play_to(&mut dissector, |_| {})
    }

    /// Plays it to a dissector, one record a step, and looks at it after each.
    pub(super) fn play_to(&self, dissector: &mut Dissector, mut each: impl FnMut(&Dissector)) -> Vec<Call> {
        let mut offsets = [0_i64; 2];
        let mut calls = Vec::new();
        let last = self.steps.len();
        for (index, step) in self.steps.iter().enumerate() {
            let offset = &mut offsets[usize::from(step.direction == Direction::ServerToClient)];
            let mut chunks = Vec::new();
            if index == 0 {
                let kind = if self.joined { ChunkKind::MidStream } else { ChunkKind::Open };
                chunks.push(chunk(step.direction, kind, ChunkCause::None, step.time));
            }
            let length = (step.bytes.len() + step.missing) as i64;
            let (kind, cause) = match step.missing {
                0 => (ChunkKind::Data, ChunkCause::None),
                _ => (ChunkKind::Gap, ChunkCause::Loss),
            };
            chunks.push(Chunk { offset: *offset, length, ..chunk(step.direction, kind, cause, step.time) });
            *offset += length;
            if index + 1 == last {
                chunks.push(chunk(Direction::ClientToServer, ChunkKind::Close, self.close, step.time));
            }
            dissector.handle_segment(&self.record(index as i64, chunks, &step.bytes), None).unwrap();
            each(dissector);
            calls.extend(std::iter::from_fn(|| dissector.poll_call()));
        }
        dissector.finish();
        calls.extend(std::iter::from_fn(|| dissector.poll_call()));
        assert_eq!((dissector.held_bytes(), dissector.open_connections()), (0, 0), "{}", self.name);
        calls.retain(|call| call.connection.is_none());
        calls
    }

    fn record(&self, sequence: i64, chunks: Vec<Chunk>, payload: &[u8]) -> Segment {
        let end = |last, port| Endpoint { address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), port };
        Segment {
            connection_id: ConnectionId::new([7; 16]),
            connection_key: ConnectionKey::new([7; 8]),
            transport: Transport::Tcp,
            client: end(1, 40_000),
            server: end(2, 80),
            orientation: if self.joined { Orientation::Port } else { Orientation::Syn },
            vantage: VantageKind::Server,
            capture_method: CaptureMethod::Pcap,
            agent_id: ByteString::from_static("test"),
            agent_epoch: 0,
            partition: 0,
            sequence,
            interface: None,
            process: None,
            totals: chunks.iter().any(|chunk| chunk.kind == ChunkKind::Close).then(Totals::default),
            chunks,
            payload: Bytes::copy_from_slice(payload),
        }
    }
}

fn chunk(direction: Direction, kind: ChunkKind, cause: ChunkCause, time: i64) -> Chunk {
    Chunk { direction, kind, cause, offset: 0, length: 0, time: Timestamp::from_micros(time) }
}

/// `\r`, `\n`, `\t`, `\\` and `\xHH`.
fn unescape(text: &str, bytes: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let (byte, used) = match escape.as_bytes()[0] {
            b'r' => (b'\r', 1),
            b'n' => (b'\n', 1),
            b't' => (b'\t', 1),
            b'\\' => (b'\\', 1),
            b'x' => (u8::from_str_radix(&escape[1..3], 16).unwrap(), 3),
            other => panic!("no such escape: {other}"),
        };
        bytes.push(byte);
        rest = &escape[used..];
    }
    bytes.extend_from_slice(rest.as_bytes());
}

/// The calls as the text under a conversation: what is as expected of any call is left out.
pub(super) fn render(calls: &[Call]) -> String {
    let mut text = String::new();
    for call in calls {
        let word = |part: &Option<ByteString>| part.as_deref().unwrap_or("-").to_owned();
        let (operation, target, status) = (word(&call.operation), word(&call.target), word(&call.status));
        write!(text, "= {operation} {target} {status} {}", call.completeness.as_str()).unwrap();
        if let Some(cause) = call.completeness_cause {
            write!(text, " {cause:?}").unwrap();
        }
        text.push('\n');
        let http = call.http.as_ref().unwrap();
        for (name, half, framing) in
            [(">", &call.request, &http.request_framing), ("<", &call.response, &http.response_framing)]
        {
            if let Some(message) = half {
                writeln!(text, "=  {name} {}", message_text(message, framing)).unwrap();
            }
        }
        extras(call, &mut text);
    }
    text
}

fn message_text(message: &Message, framing: &Option<ByteString>) -> String {
    let time = |time: Option<Timestamp>| {
        time.map_or("?".to_owned(), |time| ((time.as_micros() - START) / 1_000).to_string())
    };
    let mut text = format!(
        "{}..{} {}B {}",
        time(message.first_byte_time),
        time(message.last_byte_time),
        message.wire_bytes,
        framing.as_deref().unwrap_or("?")
    );
    if let Some(body) = &message.body {
        text += &body_text(body);
    }
    for header in &message.trailers {
        write!(text, " trailer({}: {})", header.name, header.value).unwrap();
    }
    text
}

fn body_text(body: &Body) -> String {
    let mut text = format!(" body({}", body.size.map_or("?".to_owned(), |size| size.to_string()));
    if let Some(content) = &body.content {
        write!(text, " {:?}", String::from_utf8_lossy(content.as_bytes())).unwrap();
    }
    if body.truncated {
        text += " truncated";
    }
    for hole in &body.holes {
        write!(text, " hole {}+{}", hole.offset, hole.length).unwrap();
    }
    if body.decoding != Decoding::Identity {
        let size = body.decoded_size.map_or("?".to_owned(), |size| size.to_string());
        write!(text, " {:?} {size}", body.decoding).unwrap();
    }
    for part in &body.parts {
        let word = |part: &Option<ByteString>| part.as_deref().unwrap_or("-").to_owned();
        let (name, file, media) = (word(&part.name), word(&part.filename), word(&part.media_type));
        write!(text, " part({name} {file} {media} {})", part.size).unwrap();
    }
    text + ")"
}

fn extras(call: &Call, text: &mut String) {
    let http = call.http.as_ref().unwrap();
    let ledger = call.ledger;
    let mut words = Vec::new();
    words.extend(http.interim_status_codes.iter().map(|code| format!("interim {code}")));
    words.extend(call.trace.iter().map(|trace| format!("trace {} {}", trace.format, trace.trace_id)));
    words.extend(http.upgrade.iter().map(|upgrade| format!("upgrade {upgrade}")));
    words.extend((ledger.request_gap_bytes > 0).then(|| format!("request_gap {}", ledger.request_gap_bytes)));
    words.extend(
        (ledger.response_gap_bytes > 0).then(|| format!("response_gap {}", ledger.response_gap_bytes)),
    );
    let flags = [
        (ledger.mid_stream, "mid_stream"),
        (ledger.one_sided, "one_sided"),
        (ledger.headers_affected, "headers_affected"),
        (ledger.body_affected, "body_affected"),
        (ledger.resynchronised, "resynchronised"),
    ];
    words.extend(flags.iter().filter(|(set, _)| *set).map(|(_, name)| (*name).to_owned()));
    words.extend(call.findings.iter().map(|finding| match &finding.detail {
        Some(detail) => format!("{}({detail:?})", finding.code),
        None => finding.code.to_string(),
    }));
    if !words.is_empty() {
        writeln!(text, "=  ! {}", words.join(" ")).unwrap();
    }
}
