//! One partition of the segments' log: its connections, its clock, and the calls that come out.
//!
//! The output is a function of the log alone: no clock but the capture times in it, no order but its own. Connections
//! are told apart by id, agent, agent epoch and address pair: two agents that see one connection give two calls here.

pub mod fuzz;
mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytestring::ByteString;
use hashbrown::HashMap;
use wirecall_schemas::{
    Call, ChunkCause, ChunkKind, ConnectionId, Direction, Endpoint, Segment, Timestamp, Totals,
};

use record::Record;

use crate::connection::{Connection, Surroundings};
use crate::limits::{Counter, Limits, Stats};
use crate::output::{Facts, Identity};
use crate::protocol::StateError;
use crate::registry::Registry;
use crate::stream::Mark;

/// Where a segment record lies in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPosition {
    /// Topic.
    pub topic: ByteString,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// Which connections yield a record of their own (protocol `tcp` or `udp`) at their close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionRecords {
    /// Every connection.
    All,
    /// Connections of which no call was emitted.
    #[default]
    Undissected,
    /// None.
    None,
}

/// A segment record that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the segment record {sequence} of agent {agent_id} is refused: {rule}; put it with the dead letters")]
pub struct SegmentRefused {
    /// The agent that wrote it.
    pub agent_id: String,
    /// Its sequence number.
    pub sequence: i64,
    /// The broken rule.
    pub rule: String,
}

/// Segments to calls, for one partition.
pub struct Dissector {
    registry: Registry,
    limits: Arc<Limits>,
    records: ConnectionRecords,
    connections: HashMap<Key, Entry, foldhash::fast::RandomState>,
    /// When to look whether a connection fell silent, in order; each connection once.
    checks: BTreeMap<(i64, u64), Key>,
    /// Connections that ended, with the ends of their streams, the oldest first.
    closed: HashMap<Key, (u64, u64), foldhash::fast::RandomState>,
    closed_order: VecDeque<Key>,
    agents: HashMap<u64, ByteString, foldhash::fast::RandomState>,
    topic: Option<ByteString>,
    /// The clock of the log: its newest capture time, approached in bounded steps.
    clock: Option<Timestamp>,
    opened: u64,
    held: usize,
    peak_held: usize,
    queue: VecDeque<Call>,
    stats: Stats,
    /// Scratch space for the marks of one run.
    marks: Vec<(usize, Mark)>,
}

struct Entry {
    connection: Box<Connection>,
    /// Number of the connection in order of opening.
    order: u64,
    /// Log clock when its last record was read.
    active: i64,
    /// When it will be looked at.
    check: i64,
    held: usize,
}

/// Tells connections apart. The ends stand in a fixed order, so that an agent may change its mind who the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    id: ConnectionId,
    /// Hash of the agent and its epoch.
    source: u64,
    low: Endpoint,
    high: Endpoint,
}

impl Key {
    fn of(segment: &Segment) -> Self {
        let (client, server) = (segment.client, segment.server);
        Self {
            id: segment.connection_id,
            source: agent_hash(&segment.agent_id)
                ^ segment.agent_epoch.cast_unsigned().wrapping_mul(EPOCH_SPREAD),
            low: client.min(server),
            high: client.max(server),
        }
    }
}

/// Spreads epochs, which differ in their low bits, over the word: 2^64 divided by the golden ratio, made odd.
const EPOCH_SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// 64-bit FNV-1a: stable, so that what depends on it does not change between runs.
fn agent_hash(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Dissector {
    /// A dissector without connections.
    #[must_use]
    pub fn new(registry: Registry, limits: Limits) -> Self {
        Self {
            registry,
            limits: Arc::new(limits),
            records: ConnectionRecords::default(),
            connections: HashMap::default(),
            checks: BTreeMap::new(),
            closed: HashMap::default(),
            closed_order: VecDeque::new(),
            agents: HashMap::default(),
            topic: None,
            clock: None,
            opened: 0,
            held: 0,
            peak_held: 0,
            queue: VecDeque::new(),
            stats: Stats::default(),
            marks: Vec::new(),
        }
    }

    /// Which connections yield a record of their own.
    #[must_use]
    pub const fn with_connection_records(mut self, records: ConnectionRecords) -> Self {
        self.records = records;
        self
    }

    /// Reads one record of the log.
    ///
    /// # Errors
    /// When the record contradicts itself: nothing of it was used, and it belongs to the dead letters.
    pub fn handle_segment(
        &mut self,
        segment: &Segment,
        position: Option<&LogPosition>,
    ) -> Result<(), SegmentRefused> {
        if let Err(error) = segment.check() {
            self.stats.add(Counter::SegmentsRefused, 1);
            return Err(SegmentRefused {
                agent_id: segment.agent_id.to_string(),
                sequence: segment.sequence,
                rule: error.to_string(),
            });
        }
        self.stats.add(Counter::Segments, 1);
        if let Some(newest) = segment.chunks.iter().map(|chunk| chunk.time).max() {
            self.handle_time(newest);
        }
        let key = Key::of(segment);
        if self.is_of_closed(&key, segment) {
            self.stats.add(Counter::SegmentsAfterClose, 1);
            return Ok(());
        }
        if !self.connections.contains_key(&key) {
            self.open(key, segment, position);
        }
        self.work(key, segment, position);
        Ok(())
    }

    /// Moves the log's clock forward, by at most [`Limits::clock_step_micros`], and closes the connections that fell
    /// silent. Records do so by themselves; agents' heartbeats do it where no record comes.
    pub fn handle_time(&mut self, now: Timestamp) {
        let now = match self.clock {
            None => now,
            Some(clock) if now <= clock => return,
            Some(clock) => now.min(clock.plus_micros(self.limits.clock_step_micros.max(1))),
        };
        self.clock = Some(now);
        let now = now.as_micros();
        if self.checks.first_key_value().is_some_and(|((check, _), _)| *check <= now) {
            self.expire(now);
        }
    }

    /// The next call, in the order they came out.
    pub fn poll_call(&mut self) -> Option<Call> {
        self.queue.pop_front()
    }

    /// Ends all connections, in the order they were opened: the log is at its end for good.
    pub fn finish(&mut self) {
        let mut keys: Vec<_> = self.connections.iter().map(|(key, entry)| (entry.order, *key)).collect();
        keys.sort_unstable();
        for (_, key) in keys {
            self.close(&key, ChunkCause::EndOfCapture, None);
        }
    }

    /// Saves every session that can be saved and goes on with the restored ones.
    ///
    /// # Errors
    /// When a session does not read what it saved.
    pub(crate) fn restore_sessions(&mut self) -> Result<(), StateError> {
        for entry in self.connections.values_mut() {
            entry.connection.restore_session(&self.registry, &self.limits)?;
        }
        Ok(())
    }

    /// Bytes held of all connections: streams, open messages, tables.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.held
    }

    /// Most bytes held at the end of any record.
    #[must_use]
    pub const fn peak_held_bytes(&self) -> usize {
        self.peak_held
    }

    /// Connections open.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.connections.len()
    }

    /// The counters.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The protocols.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }
}

/// Opening and closing.
impl Dissector {
    fn open(&mut self, key: Key, segment: &Segment, position: Option<&LogPosition>) {
        if self.connections.len() >= self.limits.connections.max(1) {
            self.evict();
        }
        let facts = self.facts(segment, position);
        self.stats.add(Counter::Connections, 1);
        self.stats.add(Counter::ConnectionsMidStream, u64::from(facts.mid_stream));
        let connection = Box::new(Connection::new(facts, &self.limits));
        let active = self.clock.unwrap_or_default().as_micros();
        let (order, check) = (self.opened, active.saturating_add(self.limits.idle_micros));
        self.opened += 1;
        self.checks.insert((check, order), key);
        self.connections.insert(key, Entry { connection, order, active, check, held: 0 });
    }

    fn facts(&mut self, segment: &Segment, position: Option<&LogPosition>) -> Facts {
        let start = segment.chunks.first().map_or(0, |chunk| chunk.time.as_micros());
        let (low, high) = (segment.client.min(segment.server), segment.client.max(segment.server));
        let identity = Identity::default()
            .with(segment.connection_id.as_bytes())
            .with(segment.agent_id.as_bytes())
            .with_endpoint(&low)
            .with_endpoint(&high)
            // A connection that was closed here and goes on in the log must not give its old ids again.
            .with(&start.to_be_bytes());
        let stated = segment.chunks.iter().any(|chunk| chunk.kind == ChunkKind::Open);
        Facts {
            orientation_guessed: segment.orientation.is_guess(),
            mid_stream: !stated,
            vantage: segment.vantage,
            agent_id: self.agent(&segment.agent_id),
            agent_epoch: segment.agent_epoch,
            capture_method: segment.capture_method,
            topic: position.map(|position| self.topic(&position.topic)),
            partition: Some(position.map_or(segment.partition, |position| position.partition)),
            identity,
            ..Facts::new(segment.connection_id, segment.transport, segment.client, segment.server)
        }
    }

    /// An agent's name, shared: as a slice of its record it would keep the whole record.
    fn agent(&mut self, name: &ByteString) -> ByteString {
        let hash = agent_hash(name);
        match self.agents.get(&hash) {
            Some(known) if known == name => known.clone(),
            _ => {
                let copy = ByteString::from(name.to_string());
                if self.agents.len() < self.limits.agents {
                    self.agents.insert(hash, copy.clone());
                }
                copy
            }
        }
    }

    fn topic(&mut self, name: &ByteString) -> ByteString {
        match &self.topic {
            Some(known) if known == name => known.clone(),
            _ => self.topic.insert(ByteString::from(name.to_string())).clone(),
        }
    }

    fn close(&mut self, key: &Key, reason: ChunkCause, totals: Option<Totals>) {
        let Some(mut entry) = self.connections.remove(key) else { return };
        self.checks.remove(&(entry.check, entry.order));
        self.held -= entry.held;
        let records = self.records;
        let wants_record = |dissected: bool| match records {
            ConnectionRecords::All => true,
            ConnectionRecords::Undissected => !dissected,
            ConnectionRecords::None => false,
        };
        let mut around = Surroundings {
            registry: &self.registry,
            limits: &self.limits,
            queue: &mut self.queue,
            stats: &mut self.stats,
        };
        entry.connection.close(reason, totals, wants_record, &mut around);
        self.remember(*key, entry.connection.end_positions());
    }

    fn remember(&mut self, key: Key, ends: (u64, u64)) {
        if self.closed.insert(key, ends).is_none() {
            self.closed_order.push_back(key);
        }
        while self.closed_order.len() > self.limits.closed_remembered {
            if let Some(oldest) = self.closed_order.pop_front() {
                self.closed.remove(&oldest);
            }
        }
    }

    /// True when all that a record says of a connection that ended was said before: it was delivered twice.
    fn is_of_closed(&self, key: &Key, segment: &Segment) -> bool {
        if self.closed.is_empty() || self.connections.contains_key(key) {
            return false;
        }
        let Some(&(client, server)) = self.closed.get(key) else { return false };
        segment.chunks.iter().all(|chunk| {
            let end = if chunk.direction == Direction::ServerToClient { server } else { client };
            unsigned(chunk.offset).saturating_add(unsigned(chunk.length)) <= end
        })
    }

    /// Closes the connections that were silent for [`Limits::idle_micros`], in the order they fell silent. Whether one
    /// is due depends on its own records and the clock alone, never on when it was looked at.
    fn expire(&mut self, now: i64) {
        let mut due = Vec::new();
        while let Some((&(check, order), &key)) = self.checks.first_key_value() {
            if check > now {
                break;
            }
            self.checks.pop_first();
            let Some(entry) = self.connections.get_mut(&key) else { continue };
            let deadline = entry.active.saturating_add(self.limits.idle_micros);
            if deadline <= now {
                due.push((entry.active, order, key));
            } else {
                entry.check = deadline;
                self.checks.insert((deadline, order), key);
            }
        }
        due.sort_unstable();
        for (_, _, key) in due {
            self.stats.add(Counter::ConnectionsExpired, 1);
            self.close(&key, ChunkCause::Idle, None);
        }
    }

    /// Closes a sixteenth of the connections, the longest silent: finding them costs a walk over all, so it must make
    /// room for many.
    fn evict(&mut self) {
        let mut all: Vec<_> =
            self.connections.iter().map(|(key, entry)| (entry.active, entry.order, *key)).collect();
        all.sort_unstable();
        for (_, _, key) in all.iter().take(all.len() / 16 + 1) {
            self.stats.add(Counter::ConnectionsEvicted, 1);
            self.close(key, ChunkCause::Evicted, None);
        }
    }
}

/// Working through a record.
impl Dissector {
    fn work(&mut self, key: Key, segment: &Segment, position: Option<&LogPosition>) {
        let Some(entry) = self.connections.get_mut(&key) else { return };
        entry.active = self.clock.unwrap_or_default().as_micros();
        let mut around = Surroundings {
            registry: &self.registry,
            limits: &self.limits,
            queue: &mut self.queue,
            stats: &mut self.stats,
        };
        let mut record = Record {
            segment,
            log_offset: position.map(|position| position.offset),
            reversed: entry.connection.agent_client() != segment.client,
            payload: 0,
            next: 0,
        };
        let closed = record.deliver(&mut entry.connection, &mut self.marks, &mut around);
        if let Some(reason) = closed {
            self.stats.add(Counter::ConnectionsClosed, 1);
            return self.close(&key, reason, segment.totals);
        }
        entry.connection.settle();
        let held = entry.connection.held_bytes();
        self.held = self.held + held - entry.held;
        entry.held = held;
        self.peak_held = self.peak_held.max(self.held);
    }
}

/// Offsets and lengths of a checked segment are never negative.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
