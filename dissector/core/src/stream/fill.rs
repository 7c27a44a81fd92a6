//! The framework's side of a stream: bytes and gaps come in, buffers are let go.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};
use wirecall_schemas::ChunkCause;

use super::{Gap, Item, Mark, PINNED_RATIO, Span, Stream};

/// What became of pushed bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Bytes that had been delivered before and were cut off.
    pub duplicate: usize,
    /// Bytes missing before the pushed ones or the stated gap.
    pub hole: u64,
    /// Bytes of the stated gap that had not been delivered or stated before.
    pub gap: u64,
}

impl Stream {
    /// Sets the offset of the first byte: bytes missing before the first push then become a gap.
    pub const fn start_at(&mut self, offset: u64) {
        if !self.started {
            self.started = true;
            (self.position, self.end) = (offset, offset);
        }
    }

    /// Adds bytes at a stream offset. Bytes already delivered are cut off; a hole before them becomes a gap.
    ///
    /// `pinned` is the size of the buffer that `bytes` is a slice of.
    pub fn push(&mut self, offset: u64, bytes: Bytes, pinned: usize, mark: Mark) -> Pushed {
        self.push_marked(offset, bytes, pinned, &[(usize::MAX, mark)])
    }

    /// As [`Stream::push`] for bytes of several packets: each mark with the end, in `bytes`, of what it covers.
    pub fn push_marked(
        &mut self,
        offset: u64,
        mut bytes: Bytes,
        pinned: usize,
        marks: &[(usize, Mark)],
    ) -> Pushed {
        let Some(&(_, first)) = marks.first() else { return Pushed::default() };
        let mut pushed = Pushed { hole: self.reach(offset, first), ..Pushed::default() };
        let full = bytes.len();
        let known = usize::try_from(self.end - offset).unwrap_or(usize::MAX).min(full);
        if known > 0 {
            pushed.duplicate = known;
            bytes.advance(known);
        }
        if bytes.is_empty() && !(self.datagrams && full == 0) {
            return pushed;
        }
        for &(end, mark) in marks {
            let end = offset + end.min(full) as u64;
            if end > self.end || full == 0 {
                self.push_span(end, mark);
            }
        }
        self.end = offset + full as u64;
        self.held += bytes.len();
        if self.datagrams {
            self.items.push_back(Item::Datagram { bytes, pinned, missing: 0 });
            self.measure_run();
        } else {
            if self.gaps == 0 {
                self.run += bytes.len();
            }
            self.items.push_back(Item::Slice { bytes, pinned });
        }
        pushed
    }

    /// As [`Stream::push`] for bytes that nobody wants: they are counted and not kept. The stream must be empty.
    pub fn pass(&mut self, offset: u64, length: usize, mark: Mark) -> Pushed {
        self.start_at(offset);
        let hole = offset.saturating_sub(self.end);
        let duplicate = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX).min(length);
        self.end = self.end.max(offset.saturating_add(length as u64));
        self.position = self.end;
        self.last = Some(mark);
        Pushed { duplicate, hole, gap: 0 }
    }

    /// Adds missing bytes at a stream offset. What was already delivered of the range is cut off. What the snapshot
    /// length cut off a datagram that is still here becomes part of it.
    pub fn push_gap(&mut self, offset: u64, length: u64, cause: ChunkCause, mark: Mark) -> Pushed {
        let hole = self.reach(offset, mark);
        let end = offset.saturating_add(length);
        if end <= self.end {
            return Pushed { hole, ..Pushed::default() };
        }
        let missing = end - self.end;
        if let (ChunkCause::Snaplen, Some(Item::Datagram { missing: cut, .. })) =
            (cause, self.items.back_mut())
        {
            *cut += missing;
            self.end = end;
            if let Some(span) = self.marks.back_mut() {
                span.end = end;
            }
        } else {
            self.add_gap(end, Gap { length: missing, cause, mark });
        }
        Pushed { hole, gap: missing, ..Pushed::default() }
    }

    /// States that nothing will come any more.
    pub const fn finish(&mut self) {
        self.ended = true;
    }

    /// True when the session asked to be called for what is here now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.items.is_empty() && (self.run >= self.wanted.max(1) || self.datagrams || self.is_cut())
    }

    /// Lets go of buffers that are large beside what is needed of them; called when a record has been worked through.
    pub fn settle(&mut self) {
        if self.items.is_empty() {
            // A quiet connection keeps no queue: ten thousand of them must cost little.
            self.items = VecDeque::new();
            self.marks = VecDeque::new();
            return;
        }
        for item in &mut self.items {
            match item {
                Item::Slice { bytes, pinned } if bytes.len().saturating_mul(PINNED_RATIO) < *pinned => {
                    *item = Item::Merged { pinned: bytes.len(), bytes: BytesMut::from(&bytes[..]) };
                }
                Item::Merged { bytes, pinned } if bytes.len().saturating_mul(PINNED_RATIO) < *pinned => {
                    *pinned = bytes.len();
                    *bytes = BytesMut::from(&bytes[..]);
                }
                Item::Datagram { bytes, pinned, .. }
                    if bytes.len().saturating_mul(PINNED_RATIO) < *pinned =>
                {
                    *pinned = bytes.len();
                    *bytes = Bytes::copy_from_slice(bytes);
                }
                _ => {}
            }
        }
    }

    /// Puts the gap back that [`Stream::skip_gap`] stepped over, in front of the bytes behind it.
    pub fn restore_gap(&mut self, gap: Gap) {
        self.position = self.position.saturating_sub(gap.length);
        if self.datagrams || self.marks.front().is_none_or(|span| span.mark != gap.mark) {
            self.marks.push_front(Span { end: self.position.saturating_add(gap.length), mark: gap.mark });
        }
        self.items.push_front(Item::Gap(gap));
        self.gaps += 1;
        self.run = 0;
    }

    /// Turns the oldest bytes into a gap until at most `most` are held; returns how many bytes were given up.
    pub fn shed(&mut self, most: usize) -> usize {
        let excess = self.held.saturating_sub(most);
        let Some(mark) = self.mark() else { return 0 };
        let mut shed = 0_usize;
        let mut missing = 0_u64;
        while shed < excess {
            match self.items.pop_front() {
                Some(Item::Gap(gap)) => {
                    self.gaps -= 1;
                    missing = missing.saturating_add(gap.length);
                }
                Some(item) => {
                    let length = item.data().map_or(0, <[u8]>::len);
                    let cut = if let Item::Datagram { missing, .. } = item { missing } else { 0 };
                    missing = missing.saturating_add(length as u64).saturating_add(cut);
                    shed += length;
                }
                None => break,
            }
        }
        if shed > 0 {
            self.held -= shed;
            self.items.push_front(Item::Gap(Gap { length: missing, cause: ChunkCause::Limit, mark }));
            self.gaps += 1;
            self.join_datagram_marks();
            self.measure_run();
        }
        shed
    }

    /// Makes the stream reach `offset`: the first push sets the start, a later jump leaves a gap. Returns its length.
    fn reach(&mut self, offset: u64, mark: Mark) -> u64 {
        self.start_at(offset);
        let hole = offset.saturating_sub(self.end);
        if hole > 0 {
            self.add_gap(offset, Gap { length: hole, cause: ChunkCause::Loss, mark });
        }
        hole
    }

    fn add_gap(&mut self, end: u64, gap: Gap) {
        self.end = end;
        self.push_span(end, gap.mark);
        match self.items.back_mut() {
            Some(Item::Gap(last)) if last.cause == gap.cause && !self.datagrams => last.length += gap.length,
            _ => {
                self.items.push_back(Item::Gap(gap));
                self.gaps += 1;
            }
        }
    }

    /// After several items became one gap: one span an item again.
    fn join_datagram_marks(&mut self) {
        while self.datagrams && self.marks.len() > self.items.len() {
            self.marks.pop_front();
        }
    }

    fn push_span(&mut self, end: u64, mark: Mark) {
        match self.marks.back_mut() {
            Some(span) if span.mark == mark && !self.datagrams => span.end = end,
            _ => self.marks.push_back(Span { end, mark }),
        }
    }
}
