//! One direction: what was delivered, what is buffered, and where it stands in sequence space.

use std::collections::VecDeque;

use wirecall_schemas::Timestamp;

use crate::segment::signed;

/// Gaps remembered per direction to tell late bytes from repeated ones; older ones are forgotten.
const REMEMBERED_GAPS: usize = 16;

/// A range of the stream, its captured bytes, and how many the capture cut off behind them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'p> {
    pub(crate) offset: i64,
    pub(crate) data: &'p [u8],
    pub(crate) missing: i64,
}

impl<'p> Span<'p> {
    pub(crate) fn end(&self) -> i64 {
        self.offset + signed(self.data.len()) + self.missing
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.data.is_empty() && self.missing == 0
    }

    /// Takes the part before `end` off the front.
    pub(crate) fn split_before(&mut self, end: i64) -> Self {
        let wanted = (end - self.offset).clamp(0, self.end() - self.offset);
        let bytes = usize::try_from(wanted).unwrap_or(usize::MAX).min(self.data.len());
        let (head, rest) = self.data.split_at(bytes);
        let missing = wanted - signed(bytes);
        let front = Self { offset: self.offset, data: head, missing };
        *self = Self { offset: self.offset + wanted, data: rest, missing: self.missing - missing };
        front
    }
}

/// A buffered range.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) offset: i64,
    pub(crate) data: Box<[u8]>,
    pub(crate) missing: i64,
    /// Offset up to which the other direction must be delivered before.
    pub(crate) needs: i64,
    pub(crate) time: Timestamp,
    /// Arrival by the capture's own clock.
    pub(crate) arrival: i64,
    /// Packets that are settled with this piece: 0 for all but one piece of a packet.
    pub(crate) packets: u64,
}

impl Piece {
    pub(crate) fn end(&self) -> i64 {
        self.offset + signed(self.data.len()) + self.missing
    }

    /// Shortens the piece to end at `end` at most; gives the number of data bytes dropped.
    pub(crate) fn cut_at(&mut self, end: i64) -> usize {
        let kept = (end - self.offset).clamp(0, self.end() - self.offset);
        let bytes = usize::try_from(kept).unwrap_or(usize::MAX).min(self.data.len());
        let dropped = self.data.len() - bytes;
        self.missing = kept - signed(bytes);
        if dropped > 0 {
            self.data = self.data[..bytes].into();
        }
        dropped
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// Offset of the next byte to deliver, and its sequence number.
    pub(crate) next: i64,
    next_sequence: u32,
    /// The sequence numbers are anchored.
    pub(crate) started: bool,
    /// Anchored by the first packet seen and not by the handshake.
    pub(crate) is_mid_stream: bool,
    /// A packet of this direction was seen.
    pub(crate) seen: bool,
    pub(crate) last_seen: i64,
    /// Nothing was heard of this direction while the other waited for it.
    pub(crate) absent: bool,
    /// Offset behind the last byte, known from a FIN, and when the FIN came.
    pub(crate) finish: Option<(i64, i64)>,
    /// Offset up to which the other side has acknowledged.
    pub(crate) acknowledged: i64,
    /// When it was first seen that the other side has acknowledged the bytes of the hole before the buffer.
    pub(crate) hole_acknowledged: Option<i64>,
    /// Offset at which a far jump would continue; a second packet there makes it believable.
    pub(crate) suspect: Option<i64>,
    /// Sorted, without overlaps.
    pub(crate) queue: VecDeque<Piece>,
    /// Ranges that were declared missing.
    gaps: Vec<(i64, i64)>,
}

impl Stream {
    /// Anchors offset 0 at a sequence number.
    pub(crate) const fn start(&mut self, sequence: u32) {
        self.started = true;
        self.next = 0;
        self.next_sequence = sequence;
    }

    /// Offset of a sequence number: the one nearest to what is expected, so that wrapping at 2^32 does not show.
    pub(crate) fn offset_of(&self, sequence: u32) -> i64 {
        self.next + i64::from(sequence.wrapping_sub(self.next_sequence).cast_signed())
    }

    /// The next sequence number, once it is known.
    pub(crate) fn expected(&self) -> Option<u32> {
        self.started.then_some(self.next_sequence)
    }

    /// Moves the next expected byte forward.
    pub(crate) fn advance(&mut self, end: i64) {
        let delta = (end - self.next).rem_euclid(1 << 32);
        self.next_sequence = self.next_sequence.wrapping_add(u32::try_from(delta).unwrap_or_default());
        self.next = end;
        self.hole_acknowledged = None;
    }

    /// Notes when the hole before the buffer, or before the FIN, is known to be acknowledged; true if that is news.
    pub(crate) fn note_hole(&mut self, now: i64) -> bool {
        let end = match (self.queue.front(), self.finish) {
            (Some(front), _) => front.offset,
            (None, Some((finish, _))) => finish,
            (None, None) => return false,
        };
        if self.hole_acknowledged.is_some() || end <= self.next || self.acknowledged < end {
            return false;
        }
        self.hole_acknowledged = Some(now);
        true
    }

    /// Makes room for bytes before the first one, the last `gap` of them missing.
    pub(crate) fn shift(&mut self, bytes: i64, gap: i64) {
        self.next += bytes;
        self.acknowledged += bytes;
        self.suspect = None;
        if let Some((finish, _)) = &mut self.finish {
            *finish += bytes;
        }
        for piece in &mut self.queue {
            piece.offset += bytes;
        }
        for (start, end) in &mut self.gaps {
            *start += bytes;
            *end += bytes;
        }
        if gap > 0 {
            self.gaps.push((bytes - gap, bytes));
        }
    }

    /// The acknowledgement that covers all that was delivered: a FIN counts as one.
    pub(crate) fn reach(&self) -> i64 {
        self.next + i64::from(self.is_finished())
    }

    /// Everything up to the FIN was delivered.
    pub(crate) fn is_finished(&self) -> bool {
        self.finish.is_some_and(|(finish, _)| finish == self.next)
    }

    /// Offset behind the last buffered byte.
    pub(crate) fn buffered_end(&self) -> i64 {
        self.queue.back().map_or(self.next, Piece::end)
    }

    /// Notes a range as missing.
    pub(crate) fn note_gap(&mut self, end: i64) {
        if self.gaps.len() >= REMEMBERED_GAPS {
            self.gaps.remove(0);
        }
        self.gaps.push((self.next, end));
    }

    /// Takes a range that was filled after all out of the gaps.
    pub(crate) fn forget_gap(&mut self, from: i64, to: i64) {
        let gaps = std::mem::take(&mut self.gaps);
        for (start, end) in gaps {
            for (start, end) in [(start, end.min(from)), (start.max(to), end)] {
                if start < end {
                    self.gaps.push((start, end));
                }
            }
        }
    }

    /// Splits the front of a range off, such that it lies wholly inside a remembered gap (true) or outside of all.
    pub(crate) fn split_by_gap<'p>(&self, span: &mut Span<'p>) -> (Span<'p>, bool) {
        let mut border = span.end();
        for &(start, end) in &self.gaps {
            if start <= span.offset && span.offset < end {
                return (span.split_before(end), true);
            }
            if start > span.offset {
                border = border.min(start);
            }
        }
        (span.split_before(border), false)
    }

    /// True if the byte lies in a gap.
    pub(crate) fn is_missing(&self, offset: i64) -> bool {
        self.gaps.iter().any(|&(start, end)| start <= offset && offset < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_survive_the_wrap() {
        let mut stream = Stream::default();
        stream.start(u32::MAX - 1);
        assert_eq!([stream.offset_of(u32::MAX), stream.offset_of(0), stream.offset_of(5)], [1, 2, 7]);
        stream.advance(6);
        assert_eq!([stream.offset_of(4), stream.offset_of(u32::MAX)], [6, 1]);
    }

    #[test]
    fn a_span_splits_data_before_what_is_missing() {
        let mut span = Span { offset: 10, data: &[1, 2, 3], missing: 4 };
        let front = span.split_before(12);
        assert_eq!((front.offset, front.data, front.missing), (10, &[1, 2][..], 0));
        let middle = span.split_before(15);
        assert_eq!((middle.offset, middle.data, middle.missing), (12, &[3][..], 2));
        assert_eq!((span.offset, span.data.len(), span.missing), (15, 0, 2));
        assert!(span.split_before(3).is_empty());
    }

    #[test]
    fn gaps_are_forgotten_where_they_were_filled() {
        let mut stream = Stream::default();
        stream.note_gap(100);
        stream.forget_gap(20, 30);
        assert!(
            stream.is_missing(19)
                && !stream.is_missing(20)
                && !stream.is_missing(29)
                && stream.is_missing(30)
        );
        let mut span = Span { offset: 10, data: &[0; 15], missing: 0 };
        let (front, missing) = stream.split_by_gap(&mut span);
        assert_eq!((front.end(), missing), (20, true));
        assert_eq!((stream.split_by_gap(&mut span).1, span.is_empty()), (false, true));
    }
}
