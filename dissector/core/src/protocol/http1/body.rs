//! Keeps the first bytes of a body, counts the rest, and notes what is missing.

use bytes::{Bytes, BytesMut};
use wirecall_schemas::Hole;

use crate::limits::Limits;
use crate::stream::{Front, Stream};

/// A body while it is read.
#[derive(Debug, Default)]
pub(super) struct BodyKeeper {
    kept: Kept,
    /// Bytes delivered.
    seen: u64,
    /// Bytes missing.
    missing: u64,
    holes: Vec<Hole>,
    /// Holes beyond the limit on the list.
    holes_unlisted: u64,
}

#[derive(Debug, Default)]
enum Kept {
    #[default]
    Nothing,
    /// All in one piece of the stream, which is shared.
    One(Bytes),
    /// Pieces joined.
    Joined(BytesMut),
}

impl Kept {
    fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::One(bytes) => bytes.len(),
            Self::Joined(bytes) => bytes.len(),
        }
    }
}

impl BodyKeeper {
    /// Reads up to `most` bytes of the body from the front of the stream, up to the next gap. Returns how many.
    pub(super) fn read(&mut self, stream: &mut Stream, most: u64, limits: &Limits) -> u64 {
        let mut left = usize::try_from(most).unwrap_or(usize::MAX).min(stream.available());
        let all = left;
        while left > 0 {
            let Front::Data(piece) = stream.front() else { break };
            let room = limits.body_bytes.saturating_sub(self.kept.len());
            let count = piece.len().min(left);
            if room == 0 {
                left -= stream.consume(left);
                break;
            }
            let kept = count.min(room);
            self.keep(stream, kept, left.min(room));
            left -= kept;
        }
        let read = (all - left) as u64;
        self.seen += read;
        read
    }

    /// Keeps `count` bytes of the first piece. `expected` bytes, these included, are there to be kept.
    fn keep(&mut self, stream: &mut Stream, count: usize, expected: usize) {
        match &mut self.kept {
            Kept::Nothing if count == expected => self.kept = Kept::One(stream.take_kept(count)),
            Kept::Nothing => {
                let mut joined = BytesMut::with_capacity(expected);
                joined.extend_from_slice(&stream.take_front(count));
                self.kept = Kept::Joined(joined);
            }
            Kept::One(first) => {
                let mut joined = BytesMut::with_capacity(first.len() + expected);
                joined.extend_from_slice(first);
                joined.extend_from_slice(&stream.take_front(count));
                self.kept = Kept::Joined(joined);
            }
            Kept::Joined(joined) => joined.extend_from_slice(&stream.take_front(count)),
        }
    }

    /// Notes missing bytes at the current place.
    pub(super) fn miss(&mut self, length: u64, limits: &Limits) {
        let hole = Hole { offset: signed(self.position()), length: signed(length) };
        let listed = self.holes.len();
        match self.holes.last_mut() {
            Some(last) if last.offset.saturating_add(last.length) == hole.offset => {
                last.length = last.length.saturating_add(hole.length);
            }
            _ if listed < limits.body_holes => self.holes.push(hole),
            _ => self.holes_unlisted += 1,
        }
        self.missing = self.missing.saturating_add(length);
    }

    /// Bytes of the body so far, missing ones included.
    pub(super) const fn position(&self) -> u64 {
        self.seen.saturating_add(self.missing)
    }

    /// Bytes that are missing.
    pub(super) const fn missing(&self) -> u64 {
        self.missing
    }

    /// True when nothing of the body was seen or is known to be missing.
    pub(super) const fn is_untouched(&self) -> bool {
        self.position() == 0
    }

    /// Bytes of memory held for it.
    pub(super) fn held_bytes(&self) -> usize {
        let kept = match &self.kept {
            Kept::Nothing => 0,
            Kept::One(bytes) => bytes.len(),
            Kept::Joined(bytes) => bytes.capacity(),
        };
        kept + self.holes.capacity() * size_of::<Hole>()
    }

    /// The kept bytes, whether they are all that were sent, the holes, and whether holes went unlisted.
    pub(super) fn into_parts(self) -> (Bytes, bool, Vec<Hole>, bool) {
        let whole = self.missing == 0 && self.kept.len() as u64 == self.seen;
        let bytes = match self.kept {
            Kept::Nothing => Bytes::new(),
            Kept::One(bytes) => bytes,
            Kept::Joined(bytes) => bytes.freeze(),
        };
        (bytes, whole, self.holes, self.holes_unlisted > 0)
    }
}

/// Records count in signed integers; a count beyond them is pinned to the largest.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
