//! A message on its way: its head, and what was read of the rest so far.

use wirecall_schemas::{Header, Timestamp};

use super::body::BodyKeeper;
use super::framing::Framing;
use super::message::Head;
use crate::limits::Limits;
use crate::output::MarkRange;
use crate::stream::{Mark, Stream};

/// A message whose head was read, whole or in part.
#[derive(Debug)]
pub(super) struct Incoming {
    /// The head.
    pub(super) head: Head,
    /// How the end of the body is told.
    pub(super) framing: Framing,
    /// Mark of the first byte.
    pub(super) first: Option<Mark>,
    /// Mark of the last byte; none until it was seen.
    pub(super) last: Option<Mark>,
    /// Where the bytes lie in the log.
    pub(super) marks: MarkRange,
    /// Bytes seen on the wire.
    pub(super) wire_bytes: u64,
    /// The body.
    pub(super) body: BodyKeeper,
    /// Trailer fields.
    pub(super) trailers: Vec<Header>,
    /// Bytes missing in the message, as far as known.
    pub(super) gap_bytes: u64,
    /// Bytes of the head or of the trailers may be missing.
    pub(super) headers_affected: bool,
    /// Bytes of the body are missing, or may be.
    pub(super) body_affected: bool,
    /// It was found by a search.
    pub(super) resynchronised: bool,
    /// Nothing more will be read of it.
    pub(super) done: bool,
    /// It was read to the end that its framing tells.
    pub(super) whole: bool,
    /// It may answer a HEAD request, so that its body may not be there.
    pub(super) may_lack_body: bool,
    /// Stream offset of the first byte.
    start: u64,
    /// Bytes of gaps that were stepped over.
    stepped_over: u64,
}

impl Incoming {
    /// A message whose head was just consumed; it began at `start` with the mark `first`.
    pub(super) fn new(head: Head, start: u64, first: Option<Mark>, stream: &Stream) -> Self {
        let mut message = Self {
            head,
            framing: Framing::Unknown,
            first,
            last: None,
            marks: MarkRange::default(),
            wire_bytes: 0,
            body: BodyKeeper::default(),
            trailers: Vec::new(),
            gap_bytes: 0,
            headers_affected: false,
            body_affected: false,
            resynchronised: false,
            done: false,
            whole: false,
            may_lack_body: false,
            start,
            stepped_over: 0,
        };
        message.marks.cover_some(first);
        message.note_progress(stream);
        message
    }

    /// Capture time of the first byte.
    pub(super) fn first_time(&self) -> Option<Timestamp> {
        self.first.map(|mark| mark.time)
    }

    /// Counts what was consumed of the stream since the message began.
    pub(super) fn note_progress(&mut self, stream: &Stream) {
        self.marks.cover_some(stream.last_mark());
        self.wire_bytes = (stream.position() - self.start).saturating_sub(self.stepped_over);
    }

    /// Ends the message; `seen` is false when its last bytes are missing.
    pub(super) fn finish(&mut self, stream: &Stream, seen: bool) {
        self.note_progress(stream);
        if seen {
            self.last = stream.last_mark();
        }
        self.done = true;
        self.whole = true;
    }

    /// Ends the message with its head: it has no body.
    pub(super) fn end_at_head(&mut self) {
        self.last = self.marks.last();
        self.done = true;
        self.whole = true;
    }

    /// Notes missing bytes of the body, out of a gap of `gap` bytes that was stepped over.
    pub(super) fn miss(&mut self, length: u64, gap: u64, limits: &Limits) {
        self.stepped_over = self.stepped_over.saturating_add(gap);
        self.body.miss(length, limits);
        self.gap_bytes = self.gap_bytes.saturating_add(length);
        self.body_affected = true;
    }

    /// Ends the message before its end.
    pub(super) fn abandon(&mut self) {
        self.done = true;
    }

    /// Bytes of memory held for it.
    pub(super) fn held_bytes(&self) -> usize {
        let fields = (self.head.fields.capacity() + self.trailers.capacity()) * size_of::<Header>();
        self.body.held_bytes() + self.head.text_bytes + fields + size_of::<Self>()
    }
}
