//! A conversation as a list of events, and the ways to disturb it.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use bytestring::ByteString;
use wirecall_schemas::{
    Call, CaptureMethod, Chunk, ChunkCause, ChunkKind, ConnectionId, ConnectionKey, Direction, Endpoint,
    Orientation, Segment, Timestamp, Totals, Transport, VantageKind,
};

use crate::{Dissector, Limits, Registry};

/// A conversation to test with: who sends what, in order. For a datagram transport each step is one datagram.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Name that failures show.
    pub name: &'static str,
    /// Transport protocol.
    pub transport: Transport,
    /// Port of the server.
    pub server_port: u16,
    /// The steps.
    pub steps: Vec<(Direction, Bytes)>,
    /// How the connection ends.
    pub close: ChunkCause,
}

impl Sample {
    /// A TCP conversation that ends in order; `>` before a step means from the client, `<` from the server.
    ///
    /// # Panics
    /// When a step begins with neither.
    #[must_use]
    pub fn tcp(name: &'static str, server_port: u16, steps: &[&[u8]]) -> Self {
        let steps = steps.iter().map(|bytes| step(name, bytes)).collect();
        Self { name, transport: Transport::Tcp, server_port, steps, close: ChunkCause::Fin }
    }

    /// As [`Sample::tcp`], each step a datagram, ended by silence.
    ///
    /// # Panics
    /// When a step begins with neither `>` nor `<`.
    #[must_use]
    pub fn udp(name: &'static str, server_port: u16, steps: &[&[u8]]) -> Self {
        let tcp = Self::tcp(name, server_port, steps);
        Self { transport: Transport::Udp, close: ChunkCause::Idle, ..tcp }
    }

    /// Where steps begin, and the end.
    pub(super) fn boundaries(&self) -> Vec<usize> {
        let mut position = 0;
        let ends = self.steps.iter().map(|(_, bytes)| {
            position += bytes.len();
            position
        });
        std::iter::once(0).chain(ends).collect()
    }

    /// Bytes of all steps.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// True when no step has a byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn step(name: &str, bytes: &[u8]) -> (Direction, Bytes) {
    match bytes.split_first() {
        Some((b'>', data)) => (Direction::ClientToServer, Bytes::copy_from_slice(data)),
        Some((b'<', data)) => (Direction::ServerToClient, Bytes::copy_from_slice(data)),
        _ => panic!("a step of {name} begins with neither > nor <"),
    }
}

/// Something that a capture agent states.
#[derive(Clone, Debug)]
pub(super) struct Event {
    direction: Direction,
    what: What,
    /// False for all pieces of a step but the first.
    is_first: bool,
    /// The same for all pieces of a step, so that cutting it changes no time.
    time: Timestamp,
}

#[derive(Clone, Debug)]
enum What {
    Data(Bytes),
    Gap(usize),
}

impl Event {
    fn len(&self) -> usize {
        match &self.what {
            What::Data(bytes) => bytes.len(),
            What::Gap(length) => *length,
        }
    }

    /// The event cut in two; an empty part is left out.
    fn split(&self, at: usize) -> impl Iterator<Item = Self> {
        let part = |range: std::ops::Range<usize>| {
            let what = match &self.what {
                What::Data(bytes) => What::Data(bytes.slice(range.clone())),
                What::Gap(_) => What::Gap(range.len()),
            };
            let is_first = self.is_first && range.start == 0;
            (!range.is_empty()).then_some(Self { what, is_first, ..self.clone() })
        };
        [part(0..at), part(at..self.len())].into_iter().flatten()
    }
}

/// A conversation ready to be disturbed and played.
#[derive(Clone, Debug)]
pub(super) struct Script {
    transport: Transport,
    server_port: u16,
    events: Vec<Event>,
    close: ChunkCause,
    /// The start of the connection is stated.
    pub(super) opened: bool,
    /// The agent takes the server for the client.
    pub(super) reversed: bool,
    /// Most events in one record.
    pub(super) per_record: usize,
    /// Deliver each record this many times.
    pub(super) times: usize,
    /// Gaps are stated by chunks.
    states_gaps: bool,
    /// First bytes of each direction that were before the capture began.
    offsets: [u64; 2],
}

impl Script {
    pub(super) fn of(sample: &Sample) -> Self {
        let event = |(index, (direction, bytes)): (usize, &(Direction, Bytes))| Event {
            direction: *direction,
            what: What::Data(bytes.clone()),
            is_first: true,
            time: Timestamp::from_micros(1_700_000_000_000_000 + 1_000 * index as i64),
        };
        Self {
            transport: sample.transport,
            server_port: sample.server_port,
            events: sample.steps.iter().enumerate().map(event).collect(),
            close: sample.close,
            opened: true,
            reversed: false,
            per_record: usize::MAX,
            times: 1,
            states_gaps: true,
            offsets: [0; 2],
        }
    }

    /// Cuts the events so that one begins at byte `position` of the whole conversation.
    fn cut(&mut self, position: usize) {
        let mut start = 0;
        let mut events = Vec::with_capacity(self.events.len() + 1);
        for event in &self.events {
            let inside = position.saturating_sub(start).min(event.len());
            start += event.len();
            if event.len() == 0 { events.push(event.clone()) } else { events.extend(event.split(inside)) }
        }
        self.events = events;
    }

    /// Cut at `position` into two records at least.
    pub(super) fn cut_at(mut self, position: usize) -> Self {
        self.cut(position);
        self.per_record = 1;
        self
    }

    /// Cut into pieces of at most `size` bytes.
    pub(super) fn in_pieces(mut self, size: usize) -> Self {
        let pieces = |event: &Event| {
            let mut pieces = Vec::new();
            let mut rest = event.clone();
            while rest.len() > size {
                let mut parts = rest.split(size);
                pieces.extend(parts.next());
                let Some(next) = parts.next() else { break };
                drop(parts);
                rest = next;
            }
            pieces.push(rest);
            pieces
        };
        self.events = self.events.iter().flat_map(pieces).collect();
        self
    }

    /// With `length` bytes from `position` on missing.
    pub(super) fn with_gap(mut self, position: usize, length: usize) -> Self {
        self.cut(position);
        self.cut(position.saturating_add(length));
        let mut start = 0;
        for event in &mut self.events {
            if start >= position && start < position.saturating_add(length) {
                event.what = What::Gap(event.len());
            }
            start += event.len();
        }
        self.per_record = 1;
        self
    }

    /// With gaps that no chunk states: records got lost.
    pub(super) const fn unstated(mut self) -> Self {
        self.states_gaps = false;
        self
    }

    /// With everything before `position` not captured.
    pub(super) fn joined_at(mut self, position: usize) -> Self {
        self.cut(position);
        let mut start = 0;
        let mut offsets = [0; 2];
        self.events.retain(|event| {
            let keep = start >= position;
            start += event.len();
            if !keep {
                offsets[usize::from(event.direction == Direction::ServerToClient)] += event.len() as u64;
            }
            keep
        });
        self.offsets = offsets;
        self.opened = false;
        self
    }

    /// Ended for `close` before `position`.
    pub(super) fn until(mut self, position: usize, close: ChunkCause) -> Self {
        self.cut(position);
        let mut start = 0;
        self.events.retain(|event| {
            let keep = start < position;
            start += event.len();
            keep
        });
        self.close = close;
        self
    }

    /// With one direction alone.
    pub(super) fn only(mut self, direction: Direction) -> Self {
        self.events.retain(|event| event.direction == direction);
        self
    }

    /// The records that an agent would write.
    pub(super) fn segments(&self) -> Vec<Segment> {
        let mut offsets = self.offsets;
        let mut records: Vec<Segment> = Vec::new();
        let first_time =
            self.events.first().map_or(Timestamp::from_micros(1_700_000_000_000_000), |event| event.time);
        let last_time = self.events.last().map_or(first_time, |event| event.time);
        let start = if self.opened {
            vec![chunk(Direction::ClientToServer, ChunkKind::Open, first_time)]
        } else {
            Vec::new()
        };
        let mut record = self.record(start, Vec::new(), 0);
        let mut payload = Vec::new();
        let mut count = 0;
        for event in &self.events {
            // What was cut off a datagram stands in its record.
            if count >= self.per_record && !self.is_cut_off(event) {
                let next = self.record(Vec::new(), Vec::new(), record.sequence + 1);
                record.payload = Bytes::from(std::mem::take(&mut payload));
                records.push(std::mem::replace(&mut record, next));
                count = 0;
            }
            let offset = &mut offsets[usize::from(event.direction == Direction::ServerToClient)];
            if self.states_gaps || matches!(event.what, What::Data(_)) {
                record.chunks.push(self.event_chunk(event, *offset));
            }
            *offset += event.len() as u64;
            if let What::Data(bytes) = &event.what {
                payload.extend_from_slice(bytes);
            }
            count += 1;
        }
        let mut close = chunk(Direction::ClientToServer, ChunkKind::Close, last_time);
        close.cause = self.close;
        record.chunks.push(close);
        record.totals = Some(Totals { client_packets: 1, ..Totals::default() });
        record.payload = Bytes::from(payload);
        records.push(record);
        records.into_iter().flat_map(|record| std::iter::repeat_n(record, self.times)).collect()
    }

    fn is_cut_off(&self, event: &Event) -> bool {
        self.transport == Transport::Udp && !event.is_first && matches!(event.what, What::Gap(_))
    }

    fn event_chunk(&self, event: &Event, offset: u64) -> Chunk {
        let kind = if matches!(event.what, What::Data(_)) { ChunkKind::Data } else { ChunkKind::Gap };
        let direction = if self.reversed { event.direction.reverse() } else { event.direction };
        let cause = match kind {
            ChunkKind::Gap if self.is_cut_off(event) => ChunkCause::Snaplen,
            ChunkKind::Gap => ChunkCause::Loss,
            _ => ChunkCause::None,
        };
        Chunk {
            offset: offset as i64,
            length: event.len() as i64,
            cause,
            ..chunk(direction, kind, event.time)
        }
    }

    fn record(&self, chunks: Vec<Chunk>, payload: Vec<u8>, sequence: i64) -> Segment {
        let end = |last, port| Endpoint { address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), port };
        let (client, server) = (end(1, 40_000), end(2, self.server_port));
        let (client, server) = if self.reversed { (server, client) } else { (client, server) };
        Segment {
            connection_id: ConnectionId::new([7; 16]),
            connection_key: ConnectionKey::new([7; 8]),
            transport: self.transport,
            client,
            server,
            orientation: if self.opened && !self.reversed {
                Orientation::Syn
            } else {
                Orientation::FirstPacket
            },
            vantage: VantageKind::Server,
            capture_method: CaptureMethod::Pcap,
            agent_id: ByteString::from_static("conformance"),
            agent_epoch: 0,
            partition: 0,
            sequence,
            interface: None,
            process: None,
            chunks,
            totals: None,
            payload: Bytes::from(payload),
        }
    }

    /// Plays the records to a dissector and gives its calls, connection records left out.
    pub(super) fn play(&self, registry: &Registry, each: impl Fn(&mut Dissector)) -> Vec<Call> {
        let mut dissector = Dissector::new(registry.clone(), Limits::default());
        let mut calls = Vec::new();
        for segment in self.segments() {
            if let Err(error) = dissector.handle_segment(&segment, None) {
                panic!("the suite wrote a bad record: {error}");
            }
            each(&mut dissector);
            calls.extend(std::iter::from_fn(|| dissector.poll_call()));
        }
        dissector.finish();
        calls.extend(std::iter::from_fn(|| dissector.poll_call()));
        assert_eq!((dissector.held_bytes(), dissector.open_connections()), (0, 0), "nothing stays behind");
        calls.retain(|call| call.connection.is_none());
        calls
    }
}

fn chunk(direction: Direction, kind: ChunkKind, time: Timestamp) -> Chunk {
    Chunk { direction, kind, cause: ChunkCause::None, offset: 0, length: 0, time }
}
