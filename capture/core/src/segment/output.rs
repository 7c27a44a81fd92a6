//! The run of a connection, and the records that come of it.

use std::collections::VecDeque;

use bytes::Bytes;
use bytestring::ByteString;
use wirecall_schemas::{
    CaptureMethod, Chunk, ChunkCause, ChunkKind, ConnectionId, ConnectionKey, Direction, Endpoint,
    Orientation, Segment, Timestamp, Totals, Transport, VantageKind,
};

use super::sequence::Sequences;
use crate::config::CaptureConfig;
use crate::flow::table::SlotId;
use crate::flow::timers::Timers;
use crate::limits::Limit;
use crate::stats::Stats;

/// First allocation of a run's buffer: a small request and its answer.
const FIRST_BYTES: usize = 2 << 10;
/// A bound on [`crate::Limits::run_chunks`], whatever is configured: a chunk takes up to 32 bytes in Avro.
const LARGEST_CHUNKS: usize = 8_192;

/// When something happens: the capture's own clock for deadlines, the capture time for the record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: i64,
    pub(crate) time: Timestamp,
}

/// What every record of a connection repeats.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) slot: SlotId,
    /// Not known before the handshake has shown both initial sequence numbers; nothing is published before.
    pub(crate) id: Option<ConnectionId>,
    pub(crate) key: ConnectionKey,
    pub(crate) transport: Transport,
    pub(crate) client: Endpoint,
    pub(crate) server: Endpoint,
    pub(crate) orientation: Orientation,
    pub(crate) interface: Option<ByteString>,
}

/// Chunks that are not published yet.
#[derive(Debug)]
pub(crate) struct Run {
    chunks: Vec<Chunk>,
    payload: Vec<u8>,
    deadline: i64,
    /// Size of the last run of the connection: the next one will be alike.
    expected_bytes: usize,
    /// An earlier run of the connection is out.
    has_predecessor: bool,
}

impl Run {
    /// Bytes that wait to be published.
    pub(crate) const fn held(&self) -> usize {
        self.payload.len()
    }

    /// Where the bytes of a chunk begin, or would begin, in the payload.
    fn position(&self, index: usize) -> usize {
        let data = self.chunks.iter().take(index).filter(|chunk| chunk.kind == ChunkKind::Data);
        let before: i64 = data.map(|chunk| chunk.length).sum();
        usize::try_from(before).unwrap_or(usize::MAX).min(self.payload.len())
    }
}

impl Default for Run {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            payload: Vec::new(),
            deadline: i64::MAX,
            expected_bytes: FIRST_BYTES,
            has_predecessor: false,
        }
    }
}

/// Where a connection writes its chunks.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) head: Head,
    pub(crate) run: Run,
}

/// See the parent module.
#[derive(Debug)]
pub(crate) struct Output {
    agent_id: ByteString,
    agent_epoch: i64,
    capture_method: CaptureMethod,
    vantage: VantageKind,
    sequences: Sequences,
    flush_bytes: usize,
    flush_time: i64,
    flush_chunks: usize,
    ready: VecDeque<Segment>,
    held: usize,
    pub(crate) timers: Timers,
}

impl Output {
    pub(crate) fn new(config: &CaptureConfig) -> Self {
        Self {
            agent_id: config.agent_id.clone(),
            agent_epoch: config.agent_epoch,
            capture_method: config.capture_method,
            vantage: config.vantage,
            sequences: Sequences::new(config.partitions),
            flush_bytes: config.flush.effective_bytes(),
            flush_time: config.flush.time.max(0),
            flush_chunks: config.limits.run_chunks.clamp(4, LARGEST_CHUNKS),
            ready: VecDeque::new(),
            held: 0,
            timers: Timers::default(),
        }
    }

    /// Bytes in run buffers and reorder buffers.
    pub(crate) const fn held(&self) -> usize {
        self.held
    }

    /// Bytes went into a reorder buffer.
    pub(crate) const fn hold(&mut self, bytes: usize) {
        self.held += bytes;
    }

    /// Bytes left a reorder buffer.
    pub(crate) const fn release(&mut self, bytes: usize) {
        self.held -= bytes;
    }

    /// The oldest record that is ready.
    pub(crate) fn poll(&mut self) -> Option<Segment> {
        self.ready.pop_front()
    }

    /// Appends bytes of a direction's stream, split where a record is full.
    pub(crate) fn data(
        &mut self,
        channel: &mut Channel,
        stats: &mut Stats,
        direction: Direction,
        mut offset: i64,
        moment: Moment,
        mut bytes: &[u8],
    ) {
        while !bytes.is_empty() {
            let used = channel.run.payload.len();
            if used > 0 && used + bytes.len() > self.flush_bytes {
                self.publish(channel, stats, None);
            }
            let (part, rest) = bytes.split_at(bytes.len().min(self.flush_bytes));
            let length = signed(part.len());
            let chunk = Chunk {
                direction,
                kind: ChunkKind::Data,
                cause: ChunkCause::None,
                offset,
                length,
                time: moment.time,
            };
            self.push(channel, stats, chunk, moment.now);
            let run = &mut channel.run;
            if run.payload.capacity() == 0 {
                run.payload.reserve_exact(run.expected_bytes.max(part.len()));
            }
            run.payload.extend_from_slice(part);
            self.held += part.len();
            offset += length;
            bytes = rest;
        }
        if channel.run.payload.len() >= self.flush_bytes {
            self.publish(channel, stats, None);
        }
    }

    /// Appends a chunk that has no bytes.
    pub(crate) fn push(&mut self, channel: &mut Channel, stats: &mut Stats, chunk: Chunk, now: i64) {
        if channel.run.chunks.len() >= self.flush_chunks {
            stats.reach(Limit::RunChunks);
            self.publish(channel, stats, None);
        }
        if channel.run.chunks.is_empty() {
            self.set_deadline(channel, now);
        }
        channel.run.chunks.push(chunk);
    }

    fn set_deadline(&mut self, channel: &mut Channel, now: i64) {
        channel.run.deadline = now.saturating_add(self.flush_time);
        self.timers.set_run(channel.run.deadline, channel.head.slot);
    }

    /// The id is known from now on: what waited for it gets its deadline.
    pub(crate) fn identified(&mut self, channel: &mut Channel, now: i64) {
        if !channel.run.chunks.is_empty() {
            self.set_deadline(channel, now);
        }
    }

    /// Publishes the run if this deadline is still its own.
    pub(crate) fn run_is_due(&mut self, channel: &mut Channel, stats: &mut Stats, deadline: i64) {
        if channel.run.deadline == deadline {
            self.publish(channel, stats, None);
        }
    }

    /// Puts late bytes into gaps of the run that is not published yet; true if all of them found their gap.
    pub(crate) fn fill_gap(
        &mut self,
        channel: &mut Channel,
        direction: Direction,
        offset: i64,
        time: Timestamp,
        bytes: &[u8],
    ) -> bool {
        let run = &mut channel.run;
        let end = offset + signed(bytes.len());
        let covers = |chunk: &Chunk| {
            chunk.kind == ChunkKind::Gap
                && matches!(chunk.cause, ChunkCause::Loss | ChunkCause::Snaplen)
                && chunk.direction == direction
                && chunk.offset <= offset
                && end <= chunk.offset + chunk.length
        };
        let Some(index) = run.chunks.iter().position(covers) else { return false };
        if !self.has_room(run, bytes) {
            return false;
        }
        let position = run.position(index);
        run.payload.splice(position..position, bytes.iter().copied());
        self.held += bytes.len();
        let gap = run.chunks[index];
        let rest = gap.offset + gap.length - end;
        let parts = [
            Chunk { length: offset - gap.offset, ..gap },
            Chunk {
                kind: ChunkKind::Data,
                cause: ChunkCause::None,
                offset,
                length: end - offset,
                time,
                ..gap
            },
            Chunk { offset: end, length: rest, ..gap },
        ];
        run.chunks.splice(index..=index, parts.into_iter().filter(|part| part.length > 0));
        true
    }

    /// Puts bytes, and a gap behind them, before the first ones of a direction and moves its offsets; false if a record
    /// is out already.
    pub(crate) fn prepend(
        &mut self,
        channel: &mut Channel,
        direction: Direction,
        time: Timestamp,
        bytes: &[u8],
        gap: i64,
    ) -> bool {
        let run = &mut channel.run;
        if run.has_predecessor || !self.has_room(run, bytes) {
            return false;
        }
        let is_stream = |chunk: &Chunk| {
            chunk.direction == direction && matches!(chunk.kind, ChunkKind::Data | ChunkKind::Gap)
        };
        let length = signed(bytes.len());
        let index = run.chunks.iter().position(is_stream).unwrap_or(run.chunks.len());
        let position = run.position(index);
        run.payload.splice(position..position, bytes.iter().copied());
        self.held += bytes.len();
        for chunk in run.chunks.iter_mut().filter(|chunk| is_stream(chunk)) {
            chunk.offset += length + gap;
        }
        let (kind, cause) = (ChunkKind::Data, ChunkCause::None);
        run.chunks.insert(index, Chunk { direction, kind, cause, offset: 0, length, time });
        if gap > 0 {
            let (kind, cause) = (ChunkKind::Gap, ChunkCause::Loss);
            run.chunks.insert(index + 1, Chunk { direction, kind, cause, offset: length, length: gap, time });
        }
        true
    }

    /// A run can still take late bytes, and the chunks that they split.
    fn has_room(&self, run: &Run, bytes: &[u8]) -> bool {
        bytes.len() <= self.flush_bytes.saturating_sub(run.payload.len())
            && run.chunks.len() + 2 <= self.flush_chunks
    }

    /// Publishes what the run holds; without an id there is nothing to publish under, and it waits.
    pub(crate) fn publish(&mut self, channel: &mut Channel, stats: &mut Stats, totals: Option<Totals>) {
        let (head, run) = (&channel.head, &mut channel.run);
        let Some(connection_id) = head.id else { return };
        if run.chunks.is_empty() {
            return;
        }
        let chunks = std::mem::take(&mut run.chunks);
        let payload = std::mem::take(&mut run.payload);
        run.deadline = i64::MAX;
        run.has_predecessor = true;
        run.expected_bytes = payload.len().clamp(FIRST_BYTES, self.flush_bytes.max(FIRST_BYTES));
        self.held -= payload.len();
        let partition = self.sequences.partition(&head.key);
        stats.segments += 1;
        self.ready.push_back(Segment {
            connection_id,
            connection_key: head.key,
            transport: head.transport,
            client: head.client,
            server: head.server,
            orientation: head.orientation,
            vantage: self.vantage,
            capture_method: self.capture_method,
            agent_id: self.agent_id.clone(),
            agent_epoch: self.agent_epoch,
            partition,
            sequence: self.sequences.take(partition),
            interface: head.interface.clone(),
            process: None,
            chunks,
            totals,
            payload: Bytes::from(payload),
        });
    }
}

/// Lengths of slices fit: no slice is longer than `isize::MAX`.
pub(crate) fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
