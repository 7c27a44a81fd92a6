//! Segments that wait for Kafka, in bounded memory, and the order in which they are dropped when it is full.
//!
//! 1. What was accepted stays: a full backlog drops from what comes new.
//! 2. The bytes of a new run go first, all of them; its record stays, with a gap (cause `back_pressure`) for each data
//!    chunk, so that the stream says what is missing. Opens, closes and gaps are never dropped here: they are small.
//! 3. Records without bytes of one connection, one after another, become one; their gaps grow together.
//! 4. Records without bytes may take a quarter more than the limit. Beyond it they are dropped whole; the offset of the
//!    connection's next bytes then shows the hole.
//!
//! Record numbers are given behind the backlog, so what is dropped here leaves no hole in them.

use std::{
    collections::{HashMap, VecDeque},
    mem,
};

use bytes::Bytes;
use wirecall_schemas::{Chunk, ChunkCause, ChunkKind, ConnectionId, Segment};

/// Memory of a record beside its payload and chunks: the struct, its allocations, its place in the queue. A guess on
/// the high side.
const RECORD_BYTES: usize = 512;

/// Chunks of records that were joined: keeps the record far below the broker's limit of 1 MiB.
const MAXIMUM_JOINED_CHUNKS: usize = 4_096;

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It waits as it is.
    Whole,
    /// It waits, or was joined to one that waits, without these bytes.
    WithoutBytes(u64),
    /// It is gone, with these bytes.
    Dropped(u64),
}

/// See the module.
#[derive(Debug)]
pub struct Backlog {
    waiting: VecDeque<Waiting>,
    /// Position of the front since the beginning.
    front: u64,
    bytes: usize,
    limit: usize,
    /// The last record of a connection that waits without bytes, if none with bytes came after it.
    hollow: HashMap<ConnectionId, u64>,
}

#[derive(Debug)]
struct Waiting {
    segment: Segment,
    size: usize,
    hollow: bool,
}

impl Backlog {
    /// At most `limit` bytes, and a quarter more for records without bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { waiting: VecDeque::new(), front: 0, bytes: 0, limit, hollow: HashMap::new() }
    }

    /// Whether the segment would be taken whole.
    #[must_use]
    pub fn has_room(&self, segment: &Segment) -> bool {
        // An empty backlog takes anything, or a limit below one record would stop everything.
        self.waiting.is_empty() || self.bytes + size_of(segment) <= self.limit
    }

    /// Takes the segment, or drops from it.
    pub fn push(&mut self, mut segment: Segment) -> Admission {
        if self.has_room(&segment) {
            self.hollow.remove(&segment.connection_id);
            self.append(segment, false);
            return Admission::Whole;
        }
        let bytes = segment.payload.len() as u64;
        remove_bytes(&mut segment, ChunkCause::BackPressure);
        if self.bytes + size_of(&segment) > self.limit + self.limit / 4 {
            return Admission::Dropped(bytes);
        }
        let Some(segment) = self.join(segment) else { return Admission::WithoutBytes(bytes) };
        self.hollow.insert(segment.connection_id, self.front + self.waiting.len() as u64);
        self.append(segment, true);
        Admission::WithoutBytes(bytes)
    }

    /// The oldest segment.
    pub fn pop(&mut self) -> Option<Segment> {
        let Waiting { segment, size, hollow } = self.waiting.pop_front()?;
        if hollow && self.hollow.get(&segment.connection_id) == Some(&self.front) {
            self.hollow.remove(&segment.connection_id);
        }
        self.front += 1;
        self.bytes -= size;
        Some(segment)
    }

    /// Bytes of memory that the segments take.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Segments that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn append(&mut self, segment: Segment, hollow: bool) {
        let size = size_of(&segment);
        self.bytes += size;
        self.waiting.push_back(Waiting { segment, size, hollow });
    }

    /// Joins a record without bytes to the one that waits; gives it back if there is none.
    fn join(&mut self, segment: Segment) -> Option<Segment> {
        let position = self.hollow.get(&segment.connection_id).and_then(|at| at.checked_sub(self.front));
        let waiting = position.and_then(|at| self.waiting.get_mut(usize::try_from(at).ok()?));
        let joinable = |waiting: &&mut Waiting| {
            waiting.segment.chunks.len() + segment.chunks.len() <= MAXIMUM_JOINED_CHUNKS
        };
        let Some(waiting) = waiting.filter(joinable) else { return Some(segment) };
        for chunk in segment.chunks {
            append_chunk(&mut waiting.segment.chunks, chunk);
        }
        waiting.segment.totals = segment.totals.or(waiting.segment.totals);
        waiting.segment.process = waiting.segment.process.take().or(segment.process);
        let size = size_of(&waiting.segment);
        self.bytes = self.bytes - waiting.size + size;
        waiting.size = size;
        None
    }
}

fn size_of(segment: &Segment) -> usize {
    RECORD_BYTES + segment.payload.len() + segment.chunks.len() * mem::size_of::<Chunk>()
}

/// Turns data into gaps of this cause.
pub(super) fn remove_bytes(segment: &mut Segment, cause: ChunkCause) {
    segment.payload = Bytes::new();
    let mut chunks = Vec::with_capacity(4);
    for chunk in segment.chunks.drain(..) {
        append_chunk(&mut chunks, without_bytes(chunk, cause));
    }
    segment.chunks = chunks;
}

const fn without_bytes(chunk: Chunk, cause: ChunkCause) -> Chunk {
    match chunk.kind {
        ChunkKind::Data => Chunk { kind: ChunkKind::Gap, cause, ..chunk },
        _ => chunk,
    }
}

/// Appends a chunk; a gap that continues the last gap of its direction makes that one longer.
fn append_chunk(chunks: &mut Vec<Chunk>, chunk: Chunk) {
    let is_dropped = |other: &Chunk| other.kind == ChunkKind::Gap && other.cause == chunk.cause;
    // Two directions take turns, so the one to continue is the last or the one before it.
    let reachable = chunks.iter_mut().rev().take(2).take_while(|before| is_dropped(before));
    if is_dropped(&chunk) {
        for before in reachable {
            if before.direction == chunk.direction && before.offset + before.length == chunk.offset {
                before.length += chunk.length;
                return;
            }
        }
    }
    chunks.push(chunk);
}

#[cfg(test)]
mod tests;
