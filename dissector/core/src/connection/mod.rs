//! The life of one connection: opening, probing, dissecting or opaque, closed.
//!
//! ```text
//!            probes                      withdraw
//! opening ──────────▶ dissecting ───────────────────▶ probing again
//!    │                    │ hand over ─▶ the next protocol, else probing again (tunnel), else opaque
//!    └─▶ opaque ─▶ probing again where the talk turns
//! ```
//!
//! Every change of state either uses up a budget ([`Limits::hand_overs`], [`Limits::reprobes`]) or strikes a protocol
//! from the list, so that no peer can keep a connection changing.

mod dissecting;
mod probing;
mod record;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use wirecall_schemas::{Call, ChunkCause, Direction, Timestamp, Totals, Transport};

use crate::limits::{Counter, Limits, Stats};
use crate::output::{Facts, MarkRange, Output};
use crate::protocol::{HandOver, Progress, Session, StateError};
use crate::registry::{ProtocolIndex, Refused, Registry};
use crate::stream::{Gap, Mark, Pushed, Stream, Streams};

/// What a connection needs of its dissector while it works.
pub(crate) struct Surroundings<'d> {
    pub(crate) registry: &'d Registry,
    pub(crate) limits: &'d Arc<Limits>,
    pub(crate) queue: &'d mut VecDeque<Call>,
    pub(crate) stats: &'d mut Stats,
}

/// Bytes of one direction that follow each other without a hole.
pub(crate) struct Run {
    /// Who sent them, as the agent says.
    pub(crate) direction: Direction,
    pub(crate) offset: u64,
    pub(crate) bytes: Bytes,
    /// Size of the buffer that the bytes are a slice of.
    pub(crate) pinned: usize,
    /// Bytes that the capture cut off the end of the datagram.
    pub(crate) cut: u64,
}

/// One connection as one agent sees it.
pub(crate) struct Connection {
    facts: Facts,
    streams: Streams,
    state: State,
    /// Protocols that are out of the question for the present opening.
    refused: Refused,
    /// Client and server are exchanged against what the agent says.
    swapped: bool,
    /// The start was seen.
    opened: bool,
    /// Bytes are missing somewhere.
    has_gap: bool,
    last_direction: Direction,
    reprobes_left: u32,
    hand_overs_left: u32,
    seen: Seen,
}

/// What was delivered of a connection, client and server as the agent says.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    client: Side,
    server: Side,
    first_time: Option<Timestamp>,
    last_time: Option<Timestamp>,
    marks: MarkRange,
}

#[derive(Clone, Copy, Debug, Default)]
struct Side {
    packets: u64,
    bytes: u64,
    missing: u64,
}

impl Seen {
    const fn side(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Unknown | Direction::ClientToServer => &mut self.client,
            Direction::ServerToClient => &mut self.server,
        }
    }
}

enum State {
    Probing(Box<Probing>),
    Dissecting { session: Box<dyn Session>, index: ProtocolIndex, trial: Option<Box<Trial>> },
    Opaque,
}

/// An opening that is not decided.
#[derive(Default)]
struct Probing {
    /// The bytes may begin anywhere in a message.
    mid_stream: bool,
    hand_over: Option<HandOver>,
    /// Gaps before the first bytes; they go back to the streams when a protocol is chosen.
    client_gap: Option<Gap>,
    server_gap: Option<Gap>,
}

impl Probing {
    const fn has_gap(&self) -> bool {
        self.client_gap.is_some() || self.server_gap.is_some()
    }
}

/// What is kept while a likely protocol may still withdraw.
struct Trial {
    streams: Streams,
    mid_stream: bool,
    /// Calls of the connection before the trial; one more proves the protocol.
    emitted: i64,
}

impl Connection {
    pub(crate) fn new(facts: Facts, limits: &Limits) -> Self {
        let stream = || if is_datagrams(&facts) { Stream::of_datagrams() } else { Stream::new() };
        Self {
            streams: Streams { client: stream(), server: stream() },
            state: State::Probing(Box::new(Probing {
                mid_stream: facts.mid_stream && !is_datagrams(&facts),
                ..Probing::default()
            })),
            refused: Refused::default(),
            swapped: false,
            opened: false,
            has_gap: false,
            last_direction: Direction::Unknown,
            reprobes_left: limits.reprobes,
            hand_overs_left: limits.hand_overs,
            seen: Seen::default(),
            facts,
        }
    }

    /// The agent stated the connection's start: both streams begin at offset 0.
    pub(crate) fn start(&mut self, mid_stream: bool, mark: Mark) {
        if self.streams.client.is_started() || self.streams.server.is_started() {
            // A record delivered twice, or a log whose beginning is gone: the streams have begun already.
            return;
        }
        self.opened = !mid_stream;
        self.facts.mid_stream = mid_stream;
        if let State::Probing(probing) = &mut self.state {
            probing.mid_stream = mid_stream && !is_datagrams(&self.facts);
        }
        self.streams.client.start_at(0);
        self.streams.server.start_at(0);
        self.saw(mark);
    }

    /// The client as the agent says.
    pub(crate) const fn agent_client(&self) -> wirecall_schemas::Endpoint {
        if self.swapped { self.facts.server } else { self.facts.client }
    }

    /// A time at which something of the connection was seen.
    pub(crate) fn saw(&mut self, mark: Mark) {
        self.seen.marks.cover(mark);
        self.seen.first_time = Some(self.seen.first_time.map_or(mark.time, |time| time.min(mark.time)));
        self.seen.last_time = Some(self.seen.last_time.map_or(mark.time, |time| time.max(mark.time)));
    }

    /// Delivers bytes and works on them. `marks` are those of their packets, with the end of each in the bytes.
    pub(crate) fn push(&mut self, run: Run, marks: &[(usize, Mark)], around: &mut Surroundings<'_>) {
        let Some(&(_, last)) = marks.last() else { return };
        let Run { direction, offset, bytes, pinned, cut } = run;
        self.turn(direction);
        let full = bytes.len();
        let end = offset.saturating_add(full as u64);
        let facing = self.facing(direction);
        let mut pushed;
        if matches!(self.state, State::Opaque) {
            pushed = self.streams.of(facing).pass(offset, full, last);
            around.stats.add(Counter::OpaqueBytes, (full - pushed.duplicate) as u64);
        } else {
            if let Some(stream) = self.trial_stream(facing) {
                stream.push_marked(offset, bytes.clone(), pinned, marks);
                stream.push_gap(end, cut, ChunkCause::Snaplen, last);
            }
            pushed = self.streams.of(facing).push_marked(offset, bytes, pinned, marks);
        }
        pushed.gap = self.streams.of(facing).push_gap(end, cut, ChunkCause::Snaplen, last).gap;
        let fresh = full - pushed.duplicate;
        let side = self.seen.side(direction);
        side.packets += marks.len() as u64;
        side.bytes += fresh as u64;
        self.facts.one_sided = self.seen.client.bytes == 0 || self.seen.server.bytes == 0;
        around.stats.add(Counter::BytesDelivered, fresh as u64);
        around.stats.add(Counter::BytesDuplicate, pushed.duplicate as u64);
        self.note_missing(direction, pushed, around);
        for (_, mark) in marks {
            self.saw(*mark);
        }
        self.drive(facing, around);
    }

    /// Delivers a gap of one direction (the agent's) and works on it.
    pub(crate) fn push_gap(
        &mut self,
        direction: Direction,
        offset: u64,
        length: u64,
        cause: ChunkCause,
        mark: Mark,
        around: &mut Surroundings<'_>,
    ) {
        let facing = self.facing(direction);
        if let Some(stream) = self.trial_stream(facing) {
            stream.push_gap(offset, length, cause, mark);
        }
        let pushed = self.streams.of(facing).push_gap(offset, length, cause, mark);
        self.note_missing(direction, pushed, around);
        self.saw(mark);
        self.drive(facing, around);
    }

    /// Ends the connection: what is open is emitted, and the record of the connection if it is wanted.
    pub(crate) fn close(
        &mut self,
        reason: ChunkCause,
        totals: Option<Totals>,
        wants_record: impl FnOnce(bool) -> bool,
        around: &mut Surroundings<'_>,
    ) {
        self.streams.client.finish();
        self.streams.server.finish();
        self.drive(Direction::Unknown, around);
        if let State::Dissecting { session, .. } = &mut self.state {
            let mut output = Output::new(&mut self.facts, around.queue, around.stats);
            session.close(record::cause(reason), &mut self.streams, &mut output);
        }
        let dissected = self.facts.next_index > 0;
        if wants_record(dissected) {
            self.emit_record(reason, totals, around);
        }
    }

    /// Saves the session and goes on with the restored one, if it can be saved: what a checkpoint does.
    pub(crate) fn restore_session(
        &mut self,
        registry: &Registry,
        limits: &Arc<Limits>,
    ) -> Result<(), StateError> {
        if let State::Dissecting { session, index, .. } = &mut self.state
            && let (Some(state), Some(protocol)) = (session.save(), registry.protocol(*index))
        {
            *session = protocol.restore(&state, limits)?;
        }
        Ok(())
    }

    /// Lets go of buffers after a record.
    pub(crate) fn settle(&mut self) {
        self.streams.client.settle();
        self.streams.server.settle();
        if let State::Dissecting { trial: Some(trial), .. } = &mut self.state {
            trial.streams.client.settle();
            trial.streams.server.settle();
        }
    }

    /// Bytes held, as far as peers can make them grow.
    pub(crate) fn held_bytes(&self) -> usize {
        let state = match &self.state {
            State::Dissecting { session, trial, .. } => {
                // The trial shares its buffers with the streams, except for what they have consumed.
                let kept = trial.as_ref().map_or(0, |trial| trial.streams.held_bytes());
                session.held_bytes() + kept.saturating_sub(self.streams.held_bytes())
            }
            State::Probing(_) | State::Opaque => 0,
        };
        self.streams.held_bytes() + state
    }

    /// Offsets after the last byte of the client's and the server's stream, as the agent says.
    pub(crate) const fn end_positions(&self) -> (u64, u64) {
        let (client, server) = (self.streams.client.end_position(), self.streams.server.end_position());
        if self.swapped { (server, client) } else { (client, server) }
    }

    /// The direction as the session sees it.
    const fn facing(&self, direction: Direction) -> Direction {
        if self.swapped { direction.reverse() } else { direction }
    }

    fn note_missing(&mut self, direction: Direction, pushed: Pushed, around: &mut Surroundings<'_>) {
        let missing = pushed.hole.saturating_add(pushed.gap);
        if missing > 0 {
            self.has_gap = true;
            let side = self.seen.side(direction);
            side.missing = side.missing.saturating_add(missing);
            around.stats.add(Counter::HoleBytes, pushed.hole);
            around.stats.add(Counter::GapBytes, pushed.gap);
        }
    }

    /// Where the talk turns around, a message probably begins: the moment to look again at an opaque connection. It may
    /// have been joined late or have lost bytes; or another talk came before the one that a protocol knows (SOCKS, a
    /// greeting); or the first request was so broken that only the answer to it tells the protocol. Each datagram is
    /// such a moment.
    fn turn(&mut self, direction: Direction) {
        let turned = direction != self.last_direction;
        self.last_direction = direction;
        let datagrams = is_datagrams(&self.facts);
        if matches!(self.state, State::Opaque) && (turned || datagrams) && self.reprobes_left > 0 {
            self.reprobes_left -= 1;
            self.refused = Refused::default();
            // Where every byte was seen, a message begins here or not at all.
            let mid_stream = (self.facts.mid_stream || self.has_gap) && !datagrams;
            self.state = State::Probing(Box::new(Probing { mid_stream, ..Probing::default() }));
        }
    }

    fn trial_stream(&mut self, facing: Direction) -> Option<&mut Stream> {
        match &mut self.state {
            State::Dissecting { trial: Some(trial), .. } => Some(trial.streams.of(facing)),
            _ => None,
        }
    }

    /// Works until more bytes are needed. An unknown direction means both.
    fn drive(&mut self, mut facing: Direction, around: &mut Surroundings<'_>) {
        loop {
            match &self.state {
                State::Opaque => return self.pass_over(around),
                State::Probing(_) => {
                    if !self.probe(around) {
                        return;
                    }
                    facing = Direction::Unknown;
                }
                State::Dissecting { .. } => match self.dissect(facing, around) {
                    Progress::Continue => return,
                    Progress::Withdraw => self.withdraw(around),
                    Progress::HandOver(hand_over) => self.hand_over(*hand_over, around),
                },
            }
        }
    }

    /// Reads past bytes that no protocol wants.
    fn pass_over(&mut self, around: &mut Surroundings<'_>) {
        let dropped = self.streams.client.clear() + self.streams.server.clear();
        around.stats.add(Counter::OpaqueBytes, dropped as u64);
    }
}

/// Datagrams never begin in the middle of a message.
const fn is_datagrams(facts: &Facts) -> bool {
    matches!(facts.transport, Transport::Udp)
}
