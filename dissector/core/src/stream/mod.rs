//! One direction of a connection: the bytes that no session has consumed yet, and the holes between them.
//!
//! Bytes arrive as slices of a segment record and leave as slices of it; they are copied only where a parser needs a
//! run in one piece that arrived in several, and then once: merged bytes gather in a growing buffer, so that a head that
//! trickles in byte by byte costs linear work. Capture times and log positions lie beside the bytes, by stream offset, so
//! that merging loses none.
//!
//! **Who copies what.** [`Stream::take`] and [`Stream::take_front`] share the record's buffer: for bytes that are looked
//! at and dropped. [`Stream::take_kept`] copies when the slice is small beside the buffer it would pin: for what stays in
//! an open call. [`Stream::settle`], which the framework calls after every record, does the same for the bytes left here.
//! So whatever is held pins at most [`PINNED_RATIO`] times its length.

mod fill;
pub mod fuzz;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memmem;
use wirecall_schemas::{ChunkCause, Direction, Timestamp};

pub use fill::Pushed;

/// A kept slice may pin a buffer of this many times its size; smaller slices are copied. A guess: copying a quarter of
/// a 64 KiB record costs about 1 µs, and less than a quarter pinned is what a peer could use to multiply memory.
pub const PINNED_RATIO: usize = 4;

/// When and where a byte was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Capture time of the packet.
    pub time: Timestamp,
    /// Sequence number of the segment record.
    pub sequence: i64,
    /// Offset of the segment record in its partition; none offline.
    pub log_offset: Option<i64>,
}

/// Missing bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// How many are missing, as far as known.
    pub length: u64,
    /// Why.
    pub cause: ChunkCause,
    /// When and where the gap was stated.
    pub mark: Mark,
}

/// What stands at the front of a [`Stream`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front<'s> {
    /// Bytes: the first piece, at least one byte (a datagram may be empty). More pieces may follow it without a gap.
    Data(&'s [u8]),
    /// Missing bytes.
    Gap(Gap),
    /// Nothing, and nothing will come.
    End,
    /// Nothing yet.
    Empty,
}

/// Where a searched pattern stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It starts this many bytes after the front.
    At(usize),
    /// Not in the bytes that are there up to the next gap or the end; the next search goes on where this one stopped.
    NotYet,
    /// Not in the first `limit` bytes.
    Limit,
}

/// One datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Its bytes.
    pub data: Bytes,
    /// Bytes cut off its end by the capture.
    pub missing: u64,
    /// When and where it was seen.
    pub mark: Mark,
}

/// Both directions of a connection, client and server as the session's protocol sees them.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    /// What the client sent.
    pub client: Stream,
    /// What the server sent.
    pub server: Stream,
}

impl Streams {
    /// The stream of a direction. An unknown direction, which no agent writes, is the client's.
    pub const fn of(&mut self, direction: Direction) -> &mut Stream {
        match direction {
            Direction::Unknown | Direction::ClientToServer => &mut self.client,
            Direction::ServerToClient => &mut self.server,
        }
    }

    /// Bytes held in both directions.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.client.held_bytes() + self.server.held_bytes()
    }
}

/// The unconsumed bytes and gaps of one direction.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    items: VecDeque<Item>,
    /// Spans of equal marks by the stream offset they end at; together they cover all items.
    marks: VecDeque<Span>,
    /// Stream offset of the front; none before the first push.
    position: u64,
    /// Stream offset after the last item.
    end: u64,
    /// Bytes from the front to the first gap; in a datagram stream the length of the first datagram.
    run: usize,
    /// Bytes of all data items.
    held: usize,
    /// Gap items among `items`.
    gaps: usize,
    /// Bytes that the session wants to see before it is asked again.
    wanted: usize,
    searched: Searched,
    last: Option<Mark>,
    started: bool,
    ended: bool,
    datagrams: bool,
}

#[derive(Clone, Debug)]
enum Item {
    /// A slice of a segment record of `pinned` bytes.
    Slice {
        bytes: Bytes,
        pinned: usize,
    },
    /// Bytes merged out of several slices, or copied so that they pin nothing.
    Merged {
        bytes: BytesMut,
        pinned: usize,
    },
    /// A datagram and what the capture cut off it.
    Datagram {
        bytes: Bytes,
        pinned: usize,
        missing: u64,
    },
    Gap(Gap),
}

#[derive(Clone, Copy, Debug)]
struct Span {
    end: u64,
    mark: Mark,
}

/// How far which pattern was searched, as a stream offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Searched {
    pattern: u64,
    to: u64,
}

impl Item {
    fn data(&self) -> Option<&[u8]> {
        match self {
            Self::Slice { bytes, .. } | Self::Datagram { bytes, .. } => Some(bytes),
            Self::Merged { bytes, .. } => Some(bytes),
            Self::Gap(_) => None,
        }
    }

    /// Bytes of the buffer that the item keeps alive beyond need.
    fn pinned(&self) -> usize {
        match self {
            Self::Slice { pinned, .. } | Self::Datagram { pinned, .. } | Self::Merged { pinned, .. } => {
                *pinned
            }
            Self::Gap(_) => 0,
        }
    }
}

impl Stream {
    /// An empty stream of bytes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty stream that keeps datagrams apart.
    #[must_use]
    pub fn of_datagrams() -> Self {
        Self { datagrams: true, ..Self::default() }
    }

    /// What stands at the front.
    #[must_use]
    pub fn front(&self) -> Front<'_> {
        match self.items.front() {
            Some(Item::Gap(gap)) => Front::Gap(*gap),
            Some(item) => Front::Data(item.data().unwrap_or_default()),
            None if self.ended => Front::End,
            None => Front::Empty,
        }
    }

    /// Bytes from the front up to the next gap or the end; in a datagram stream the length of the first datagram.
    #[must_use]
    pub const fn available(&self) -> usize {
        self.run
    }

    /// True when no byte will follow the available ones without a gap: a gap or the end of the stream comes next.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.ended || self.datagrams || self.gaps > 0
    }

    /// True when a gap stands at the front or behind the available bytes.
    #[must_use]
    pub const fn has_gap(&self) -> bool {
        self.gaps > 0
    }

    /// True when the connection has ended; bytes may still be here.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        self.ended
    }

    /// True when neither bytes nor gaps are here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// True once anything was delivered in this direction.
    #[must_use]
    pub const fn is_started(&self) -> bool {
        self.started
    }

    /// Offset of the front in the direction's stream, as the capture agent counts; gaps count.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Offset after the last byte or gap delivered.
    #[must_use]
    pub const fn end_position(&self) -> u64 {
        self.end
    }

    /// Unconsumed bytes here.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.held
    }

    /// Mark of the front byte or gap; none when nothing is here.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        self.marks.front().map(|span| span.mark)
    }

    /// Mark of the byte `ahead` bytes after the front; none when it is not here.
    #[must_use]
    pub fn mark_at(&self, ahead: usize) -> Option<Mark> {
        let position = self.position.saturating_add(ahead as u64);
        self.marks.iter().find(|span| span.end > position).map(|span| span.mark)
    }

    /// Mark of the last byte consumed; none before the first.
    #[must_use]
    pub const fn last_mark(&self) -> Option<Mark> {
        self.last
    }

    /// Says how many bytes must be available before [`super::protocol::Session::advance`] is worth calling for this
    /// direction. A gap or the end of the stream is always reported. Lasts until the next call of `advance`.
    pub const fn set_wanted(&mut self, bytes: usize) {
        self.wanted = bytes;
    }

    /// The first bytes in one piece: `want` of them, or all that are available when there are fewer, or more when they
    /// happen to lie in one piece. Copies only bytes that lie in several pieces, and each once.
    pub fn contiguous(&mut self, want: usize) -> &[u8] {
        let want = want.min(self.run);
        if self.front_length() < want {
            self.merge(want);
        }
        self.items.front().and_then(Item::data).unwrap_or_default()
    }

    /// Searches `pattern` (1 to 8 bytes) in the first `limit` available bytes.
    ///
    /// Remembers where it stopped, so that asking again after each packet costs linear work in all. On
    /// [`Found::At`] the pattern lies in the piece that [`Stream::contiguous`] gives.
    pub fn find(&mut self, pattern: &[u8], limit: usize) -> Found {
        let key = pattern_key(pattern);
        if self.searched.pattern != key || self.searched.to < self.position {
            self.searched = Searched { pattern: key, to: self.position };
        }
        loop {
            let from = usize::try_from(self.searched.to - self.position).unwrap_or(usize::MAX);
            let front = self.items.front().and_then(Item::data).unwrap_or_default();
            let within = front.len().min(limit);
            let start = from.saturating_sub(pattern.len().saturating_sub(1)).min(within);
            if let Some(index) = memmem::find(&front[start..within], pattern) {
                return Found::At(start + index);
            }
            self.searched.to = self.position + within as u64;
            if within == limit {
                return Found::Limit;
            }
            let length = front.len();
            if length >= self.run {
                return Found::NotYet;
            }
            let next = self.items.get(1).and_then(Item::data).map_or(1, <[u8]>::len);
            self.merge((length + next).min(limit));
        }
    }

    /// Takes `count` bytes; shares the record's buffer where they lie in one piece. Fewer when fewer are available.
    pub fn take(&mut self, count: usize) -> Bytes {
        let count = count.min(self.run);
        if self.front_length() < count {
            self.merge(count);
        }
        self.take_front(count)
    }

    /// Takes at most `most` bytes out of the first piece, never copying; empty when no bytes stand at the front.
    pub fn take_front(&mut self, most: usize) -> Bytes {
        let count = most.min(self.front_length());
        let taken = match self.items.front_mut() {
            Some(Item::Slice { bytes, .. } | Item::Datagram { bytes, .. }) => bytes.split_to(count),
            Some(Item::Merged { bytes, .. }) => bytes.split_to(count).freeze(),
            Some(Item::Gap(_)) | None => return Bytes::new(),
        };
        self.consumed(count);
        taken
    }

    /// Takes `count` bytes that will be kept: copied when they are few beside the buffer they would pin.
    pub fn take_kept(&mut self, count: usize) -> Bytes {
        let pinned = self.items.front().map_or(0, Item::pinned);
        let taken = self.take(count);
        if taken.len().saturating_mul(PINNED_RATIO) < pinned { Bytes::copy_from_slice(&taken) } else { taken }
    }

    /// Takes the datagram at the front of a datagram stream; none when there is none.
    pub fn take_datagram(&mut self) -> Option<Datagram> {
        let mark = self.mark()?;
        if !matches!(self.items.front(), Some(Item::Datagram { .. })) {
            return None;
        }
        let Some(Item::Datagram { bytes: data, missing, .. }) = self.items.pop_front() else { return None };
        self.position = self.position.saturating_add(data.len() as u64).saturating_add(missing);
        self.held -= data.len();
        self.last = Some(mark);
        self.drop_marks();
        self.measure_run();
        Some(Datagram { data, missing, mark })
    }

    /// Drops `count` bytes, at most those available; returns how many.
    pub fn consume(&mut self, count: usize) -> usize {
        let mut left = count.min(self.run);
        let all = left;
        while left > 0 {
            let step = left.min(self.front_length());
            if step == 0 {
                break;
            }
            match self.items.front_mut() {
                Some(Item::Slice { bytes, .. } | Item::Datagram { bytes, .. }) => bytes.advance(step),
                Some(Item::Merged { bytes, .. }) => bytes.advance(step),
                Some(Item::Gap(_)) | None => break,
            }
            self.consumed(step);
            left -= step;
        }
        all - left
    }

    /// Steps over the gap at the front; none when no gap stands there.
    pub fn skip_gap(&mut self) -> Option<Gap> {
        let Some(Item::Gap(gap)) = self.items.front() else { return None };
        let gap = *gap;
        self.items.pop_front();
        self.gaps -= 1;
        self.position = self.position.saturating_add(gap.length);
        self.drop_marks();
        self.measure_run();
        Some(gap)
    }

    /// Drops everything that is here, bytes and gaps; returns the bytes dropped.
    pub fn clear(&mut self) -> usize {
        let dropped = self.held;
        if let Some(span) = self.marks.back() {
            self.last = Some(span.mark);
        }
        self.items = VecDeque::new();
        self.marks = VecDeque::new();
        self.position = self.end;
        (self.run, self.held, self.gaps, self.wanted) = (0, 0, 0, 0);
        dropped
    }

    fn front_length(&self) -> usize {
        self.items.front().and_then(Item::data).map_or(0, <[u8]>::len)
    }

    /// Book-keeping after `count` bytes left the front item.
    fn consumed(&mut self, count: usize) {
        if count > 0 {
            self.last = self.mark_at(count - 1).or(self.last);
        }
        self.position += count as u64;
        self.run -= count;
        self.held -= count;
        if self.front_length() == 0 {
            self.pop_empty();
        }
        self.drop_marks();
    }

    /// Removes the front item when its last byte is gone.
    fn pop_empty(&mut self) {
        match self.items.front() {
            Some(Item::Gap(_)) | None => return,
            Some(Item::Datagram { missing, .. }) => self.position = self.position.saturating_add(*missing),
            Some(Item::Slice { .. } | Item::Merged { .. }) => {}
        }
        self.items.pop_front();
        if self.run == 0 {
            self.measure_run();
        }
    }

    fn drop_marks(&mut self) {
        if self.datagrams {
            // One span an item: an empty datagram's has no length, so positions cannot tell.
            while self.marks.len() > self.items.len() {
                self.marks.pop_front();
            }
            return;
        }
        while self.marks.front().is_some_and(|span| span.end <= self.position) {
            self.marks.pop_front();
        }
    }

    fn measure_run(&mut self) {
        self.run = if self.datagrams {
            self.front_length()
        } else {
            self.items.iter().map_while(Item::data).map(<[u8]>::len).sum()
        };
    }

    /// Merges pieces until the first holds `want` bytes (at most the run).
    fn merge(&mut self, want: usize) {
        let want = want.min(self.run);
        let mut merged = match self.items.pop_front() {
            Some(Item::Merged { bytes, .. }) => bytes,
            Some(Item::Slice { bytes, .. }) => {
                let mut merged = BytesMut::with_capacity(want);
                merged.extend_from_slice(&bytes);
                merged
            }
            Some(other) => {
                self.items.push_front(other);
                return;
            }
            None => return,
        };
        while merged.len() < want {
            let missing = want - merged.len();
            match self.items.front_mut() {
                Some(Item::Slice { bytes, .. }) if bytes.len() > missing => {
                    merged.extend_from_slice(&bytes.split_to(missing));
                }
                Some(item) => match item.data() {
                    Some(bytes) => {
                        merged.extend_from_slice(bytes);
                        self.items.pop_front();
                    }
                    None => break,
                },
                None => break,
            }
        }
        let pinned = merged.capacity();
        self.items.push_front(Item::Merged { bytes: merged, pinned });
    }
}

/// A pattern as a number; patterns of up to 8 bytes have different ones.
fn pattern_key(pattern: &[u8]) -> u64 {
    debug_assert!((1..=8).contains(&pattern.len()), "patterns of a search have 1 to 8 bytes");
    pattern.iter().fold(pattern.len() as u64, |key, byte| key << 8 ^ u64::from(*byte) ^ key >> 56)
}
