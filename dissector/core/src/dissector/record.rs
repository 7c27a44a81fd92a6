//! One record while it is worked through: its chunks in order, its payload beside them.

use wirecall_schemas::{Chunk, ChunkCause, ChunkKind, Direction, Segment, Transport};

use super::unsigned;
use crate::connection::{Connection, Run, Surroundings};
use crate::stream::Mark;

/// A record while its chunks are delivered.
pub(super) struct Record<'s> {
    pub(super) segment: &'s Segment,
    pub(super) log_offset: Option<i64>,
    /// The agent changed its mind who the client is.
    pub(super) reversed: bool,
    /// Bytes of the payload delivered so far.
    pub(super) payload: usize,
    /// Chunk to deliver next.
    pub(super) next: usize,
}

impl Record<'_> {
    /// Delivers all chunks, or those up to a close; gives its reason.
    pub(super) fn deliver(
        &mut self,
        connection: &mut Connection,
        marks: &mut Vec<(usize, Mark)>,
        around: &mut Surroundings<'_>,
    ) -> Option<ChunkCause> {
        while let Some(chunk) = self.segment.chunks.get(self.next) {
            let direction = self.direction(chunk);
            let (offset, length) = (unsigned(chunk.offset), unsigned(chunk.length));
            match chunk.kind {
                ChunkKind::Data => {
                    self.deliver_run(direction, offset, connection, marks, around);
                    continue;
                }
                ChunkKind::Gap => {
                    connection.push_gap(direction, offset, length, chunk.cause, self.mark(chunk), around);
                }
                ChunkKind::Open => connection.start(false, self.mark(chunk)),
                ChunkKind::MidStream => connection.start(true, self.mark(chunk)),
                ChunkKind::Close => {
                    connection.saw(self.mark(chunk));
                    return Some(chunk.cause);
                }
                ChunkKind::Unknown => {}
            }
            self.next += 1;
        }
        None
    }

    /// Delivers data chunks of one direction that follow each other without a hole as one slice of the payload: one
    /// call of the session for all of them. Datagrams go one by one.
    fn deliver_run(
        &mut self,
        direction: Direction,
        offset: u64,
        connection: &mut Connection,
        marks: &mut Vec<(usize, Mark)>,
        around: &mut Surroundings<'_>,
    ) {
        marks.clear();
        let mut length = 0_usize;
        while let Some(chunk) = self.segment.chunks.get(self.next) {
            let follows = chunk.kind == ChunkKind::Data
                && self.direction(chunk) == direction
                && unsigned(chunk.offset) == offset.saturating_add(length as u64);
            if !follows || (!marks.is_empty() && self.segment.transport == Transport::Udp) {
                break;
            }
            length += usize::try_from(chunk.length).unwrap_or(0);
            marks.push((length, self.mark(chunk)));
            self.next += 1;
        }
        let end = (self.payload + length).min(self.segment.payload.len());
        let bytes = self.segment.payload.slice(self.payload.min(end)..end);
        self.payload = end;
        let cut = self.take_cut(direction, offset.saturating_add(length as u64));
        let run = Run { direction, offset, bytes, pinned: self.segment.payload.len(), cut };
        connection.push(run, marks, around);
    }

    /// What the snapshot length cut off a datagram: it must be known before the session reads the datagram.
    fn take_cut(&mut self, direction: Direction, end: u64) -> u64 {
        match self.segment.chunks.get(self.next) {
            Some(chunk)
                if self.segment.transport == Transport::Udp
                    && (chunk.kind, chunk.cause) == (ChunkKind::Gap, ChunkCause::Snaplen)
                    && (self.direction(chunk), unsigned(chunk.offset)) == (direction, end) =>
            {
                self.next += 1;
                unsigned(chunk.length)
            }
            _ => 0,
        }
    }

    const fn direction(&self, chunk: &Chunk) -> Direction {
        if self.reversed { chunk.direction.reverse() } else { chunk.direction }
    }

    const fn mark(&self, chunk: &Chunk) -> Mark {
        Mark { time: chunk.time, sequence: self.segment.sequence, log_offset: self.log_offset }
    }
}
