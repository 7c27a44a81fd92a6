//! Reads the messages of one direction: where each starts, its head, its body, its end, and what gaps do to all that.
//!
//! The reader pulls from the stream and keeps its place in a small state, so no byte is looked at twice however the
//! bytes arrive. Heads wait in the stream until they are whole; bodies move on piece by piece.

use memchr::{memchr, memrchr};

use super::chunked::Chunked;
use super::delimited::{close_body, length_body};
use super::findings::Rule;
use super::framing::Framing;
use super::head::{HeadScan, Side, parse_head};
use super::incoming::Incoming;
use super::limits::SEARCH_LINE_BYTES;
use super::message::Head;
use super::overflow::Overflow;
use super::resync;
use crate::limits::{Counter, Limits};
use crate::output::Output;
use crate::stream::{Found, Front, Mark, Stream};

/// Bytes that are merged at a time while a head is searched for its end: a body that follows stays in its pieces.
const MERGE_STEP: usize = 4 * 1024;

/// What reading came to.
#[derive(Debug)]
pub(super) enum Event {
    /// Nothing more can be read now.
    Wait,
    /// A head; [`Reader::begin`] says how to go on.
    Head(Box<Incoming>),
    /// A head that a gap cuts: what is known of it. The place in the sequence of messages is lost.
    CutHead(Option<Box<Incoming>>),
    /// What stands where a message should start is none. Nothing was consumed.
    NotHttp,
    /// The message ended.
    End,
    /// The end of the message cannot be found. `lost` is true when further messages may be missing too.
    Broken {
        /// Bytes are missing.
        lost: bool,
    },
    /// Bytes are missing between messages: any number of messages may be.
    Lost,
}

/// The place of one direction.
#[derive(Debug)]
pub(super) struct Reader {
    side: Side,
    state: State,
    scan: HeadScan,
    /// The next message is found by a search.
    searched: bool,
    /// The search is there because bytes are missing.
    lossy: bool,
    /// The last byte that was skipped in such a search.
    skipped: Option<Mark>,
    /// Line feeds skipped before the message.
    empty_lines: u64,
    /// A broken rule to report with the next message.
    pending: Option<Rule>,
    /// Heads read so far.
    heads: u64,
}

#[derive(Debug)]
enum State {
    /// Between messages.
    Start,
    /// At the first byte of a head.
    Head,
    /// A head over the limit, its end not found yet.
    Overflow(Box<Overflow>),
    /// A head was handed out.
    Decide,
    Length(u64),
    Chunked(Chunked),
    Close,
    /// Looking for a start line; true when the front is known to be the start of a line.
    Search(bool),
    /// At a start line that a search found.
    Trial,
    /// What follows is not HTTP.
    Stopped,
}

enum Scan {
    Found(usize),
    Limit,
    More,
}

impl Reader {
    /// A reader at the start of a message, or anywhere when the stream was joined late.
    pub(super) fn new(side: Side, mid_stream: bool) -> Self {
        Self {
            side,
            state: if mid_stream { State::Search(false) } else { State::Start },
            scan: HeadScan::default(),
            searched: false,
            lossy: mid_stream,
            skipped: None,
            empty_lines: 0,
            pending: None,
            heads: 0,
        }
    }

    /// True between messages, when nothing of the next one was seen.
    pub(super) const fn is_between(&self) -> bool {
        matches!(self.state, State::Start)
    }

    /// True while the body of a message is read.
    pub(super) const fn is_in_body(&self) -> bool {
        matches!(self.state, State::Length(_) | State::Chunked(_) | State::Close)
    }

    /// Heads read so far.
    pub(super) const fn heads(&self) -> u64 {
        self.heads
    }

    /// True when a search is under way.
    pub(super) const fn is_searching(&self) -> bool {
        matches!(self.state, State::Search(_) | State::Trial)
    }

    /// The last byte skipped since the last call, when others are missing: it may be of a message that goes unseen.
    pub(super) fn take_skipped(&mut self) -> Option<Mark> {
        self.skipped.take()
    }

    /// Bytes of memory held.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.state {
            State::Overflow(overflow) => overflow.held_bytes(),
            _ => 0,
        }
    }

    /// Says how the body of the message that was handed out ends. True when the message has ended already.
    pub(super) fn begin(&mut self, framing: Framing) -> bool {
        self.state = match framing {
            Framing::None | Framing::Length(0) => State::Start,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Chunked::default()),
            Framing::Close => State::Close,
            Framing::Tunnel => State::Stopped,
            Framing::Unknown => {
                self.searched = true;
                State::Search(true)
            }
        };
        self.is_between()
    }

    /// Ends the body at once: it turned out to have none.
    pub(super) fn end_body(&mut self) {
        self.state = State::Start;
    }

    /// Skips to the next plausible start line, and reports `rule` with it.
    pub(super) fn search(&mut self, rule: Rule) {
        self.pending = Some(rule);
        self.searched = true;
        self.state = State::Search(true);
    }

    /// Reads on. `message` is the one whose body is read.
    pub(super) fn next(
        &mut self,
        stream: &mut Stream,
        message: Option<&mut Incoming>,
        limits: &Limits,
        output: &mut Output<'_>,
    ) -> Event {
        match &mut self.state {
            State::Start => self.start(stream, limits, output),
            State::Head => self.head(stream, limits, output),
            State::Overflow(_) => self.overflow(stream),
            State::Search(_) => self.search_on(stream, limits, output),
            State::Trial => self.trial(stream, limits, output),
            State::Decide | State::Stopped => Event::Wait,
            State::Length(_) | State::Chunked(_) | State::Close => match message {
                Some(message) => self.body(stream, message, limits),
                None => self.broken(false),
            },
        }
    }

    fn start(&mut self, stream: &mut Stream, limits: &Limits, output: &mut Output<'_>) -> Event {
        loop {
            match stream.front() {
                Front::Data(piece) => {
                    let count = piece.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
                    self.empty_lines += memchr::memchr_iter(b'\n', &piece[..count]).count() as u64;
                    if count < piece.len() {
                        stream.consume(count);
                        self.scan = HeadScan::default();
                        self.state = State::Head;
                        return self.head(stream, limits, output);
                    }
                    stream.consume(count);
                }
                Front::Gap(_) => {
                    stream.skip_gap();
                    return self.lost();
                }
                Front::End | Front::Empty => return Event::Wait,
            }
        }
    }

    fn head(&mut self, stream: &mut Stream, limits: &Limits, output: &mut Output<'_>) -> Event {
        match self.scan_head(stream, limits.head_bytes) {
            Scan::Found(length) => {
                let piece = stream.contiguous(length);
                match parse_head(&piece[..length.min(piece.len())], self.side, limits) {
                    Some(head) => self.hand_out(head, length, stream, output),
                    None => Event::NotHttp,
                }
            }
            Scan::Limit => self.begin_overflow(stream, limits, output),
            Scan::More => {
                let (side, cut) = (self.side, stream.is_cut() && !stream.is_ended());
                if !resync::could_start(stream.contiguous(1), side) {
                    return Event::NotHttp;
                }
                if cut { self.cut_head(stream, limits) } else { Event::Wait }
            }
        }
    }

    /// Looks for the end of the head at the front.
    fn scan_head(&mut self, stream: &mut Stream, limit: usize) -> Scan {
        let available = stream.available();
        // The first piece as it is; later ones are merged to it step by step.
        let mut want = 1;
        loop {
            let piece = stream.contiguous(want);
            let within = &piece[..piece.len().min(limit)];
            if let Some(length) = self.scan.find_end(within) {
                return Scan::Found(length);
            }
            if within.len() >= limit {
                return Scan::Limit;
            }
            if within.len() >= available {
                return Scan::More;
            }
            want = (within.len() + MERGE_STEP).min(available);
        }
    }

    /// Consumes a head and hands it out.
    fn hand_out(&mut self, head: Head, length: usize, stream: &mut Stream, output: &mut Output<'_>) -> Event {
        let message = self.message(head, length, stream);
        if message.resynchronised {
            output.count(Counter::Resynchronisations, 1);
        }
        self.state = State::Decide;
        Event::Head(Box::new(message))
    }

    fn message(&mut self, head: Head, length: usize, stream: &mut Stream) -> Incoming {
        let (start, first) = (stream.position(), stream.mark());
        stream.consume(length);
        let mut message = Incoming::new(head, start, first, stream);
        message.resynchronised = std::mem::take(&mut self.searched);
        if std::mem::take(&mut self.empty_lines) > 1 {
            message.head.findings.add(Rule::LeadingEmptyLines);
        }
        if let Some(rule) = self.pending.take() {
            message.head.findings.add(rule);
        }
        self.heads += 1;
        self.lossy = false;
        message
    }

    /// What is known of a head that breaks off: at a gap, or where the stream ends.
    fn cut_head(&mut self, stream: &mut Stream, limits: &Limits) -> Event {
        let message = self.partial(stream, limits);
        let gap = stream.skip_gap();
        let message = message.map(|mut message| {
            message.headers_affected = true;
            message.gap_bytes = gap.map_or(0, |gap| gap.length);
            message.abandon();
            message
        });
        self.lost();
        Event::CutHead(message)
    }

    /// Consumes the beginning of a head; none when it does not tell even the first word of a start line.
    fn partial(&mut self, stream: &mut Stream, limits: &Limits) -> Option<Box<Incoming>> {
        let available = stream.available().min(limits.head_bytes);
        let piece = stream.contiguous(available);
        let bytes = &piece[..available.min(piece.len())];
        let head = parse_head(bytes, self.side, limits).filter(|head| {
            head.request_line().is_none_or(|line| resync::is_plausible_method(line.method.as_bytes()))
        });
        let Some(head) = head else {
            stream.consume(available);
            return None;
        };
        Some(Box::new(self.message(head, available, stream)))
    }

    /// Takes a first request of one line without a version, as HTTP/0.9 has it: nothing but an answer tells that the
    /// line is all of it.
    pub(super) fn simple_request(&mut self, stream: &mut Stream, limits: &Limits) -> Option<Box<Incoming>> {
        if !matches!(self.state, State::Head) || self.heads > 0 {
            return None;
        }
        let available = stream.available().min(limits.head_bytes);
        let line = stream.contiguous(available).get(..available)?;
        if memchr(b'\n', line)? + 1 != available {
            return None;
        }
        let head = parse_head(line, self.side, limits)?;
        if head.request_line()?.version.is_some() {
            return None;
        }
        let message = self.message(head, available, stream);
        self.state = State::Decide;
        Some(Box::new(message))
    }

    /// Ends the stream inside a head: what is known of it.
    pub(super) fn finish_head(&mut self, stream: &mut Stream, limits: &Limits) -> Option<Box<Incoming>> {
        let message = match std::mem::replace(&mut self.state, State::Stopped) {
            State::Head => self.partial(stream, limits),
            State::Overflow(overflow) => Some(overflow.into_message()),
            other => {
                self.state = other;
                None
            }
        };
        message.map(|mut message| {
            message.head.findings.add(Rule::IncompleteHead);
            message.abandon();
            message
        })
    }

    /// A head over the limit: its first bytes are kept, the rest is read for framing fields alone.
    fn begin_overflow(&mut self, stream: &mut Stream, limits: &Limits, output: &mut Output<'_>) -> Event {
        output.count(Counter::HeadsLimited, 1);
        let piece = stream.contiguous(limits.head_bytes);
        let bytes = &piece[..limits.head_bytes.min(piece.len())];
        let lines = memrchr(b'\n', bytes).map_or(bytes.len(), |last| last + 1);
        let ignored = memchr(b'\n', bytes).is_none();
        let Some(mut head) = parse_head(&bytes[..lines], self.side, limits) else { return Event::NotHttp };
        head.findings.add(Rule::HeadTooLarge);
        let message = Box::new(self.message(head, lines, stream));
        self.state = State::Overflow(Box::new(Overflow::new(message, ignored)));
        self.overflow(stream)
    }

    fn overflow(&mut self, stream: &mut Stream) -> Event {
        let State::Overflow(overflow) = &mut self.state else { return Event::Wait };
        if overflow.read(stream) {
            let State::Overflow(overflow) = std::mem::replace(&mut self.state, State::Decide) else {
                return Event::Wait;
            };
            return Event::Head(overflow.into_message());
        }
        let Some(gap) = stream.skip_gap() else { return Event::Wait };
        let State::Overflow(overflow) = std::mem::replace(&mut self.state, State::Start) else {
            return Event::Wait;
        };
        self.lost();
        let mut message = overflow.into_message();
        message.headers_affected = true;
        message.gap_bytes = gap.length;
        message.abandon();
        Event::CutHead(Some(message))
    }

    fn body(&mut self, stream: &mut Stream, message: &mut Incoming, limits: &Limits) -> Event {
        if message.may_lack_body && !matches!(self.state, State::Close) {
            match resync::is_at_status_line(stream.contiguous(resync::STATUS_LINE_BYTES)) {
                // The next response stands where the body should: this one answered HEAD.
                Some(true) => {
                    message.framing = Framing::None;
                    message.end_at_head();
                    self.state = State::Start;
                    return Event::End;
                }
                None if !stream.is_cut() => return Event::Wait,
                Some(false) | None => message.may_lack_body = false,
            }
        }
        let event = match &mut self.state {
            State::Length(left) => length_body(left, stream, message, limits),
            State::Chunked(chunked) => chunked.read(stream, message, limits),
            _ => close_body(stream, message, limits),
        };
        message.note_progress(stream);
        match event {
            Event::End => {
                self.state = State::Start;
                Event::End
            }
            Event::Broken { lost } => {
                message.abandon();
                self.broken(lost)
            }
            // The end of the message lay in a gap that went further.
            Event::Lost => self.lost(),
            event => event,
        }
    }

    fn broken(&mut self, lost: bool) -> Event {
        self.searched = true;
        self.lossy |= lost;
        self.state = State::Search(false);
        Event::Broken { lost }
    }

    fn lost(&mut self) -> Event {
        self.searched = true;
        self.lossy = true;
        self.empty_lines = 0;
        self.state = State::Search(false);
        Event::Lost
    }

    /// Reads line after line until one holds a start line.
    fn search_on(&mut self, stream: &mut Stream, limits: &Limits, output: &mut Output<'_>) -> Event {
        loop {
            let State::Search(line_start_known) = self.state else { return Event::Wait };
            if matches!(stream.front(), Front::Gap(_)) {
                stream.skip_gap();
                return self.lost();
            }
            match stream.find(b"\n", SEARCH_LINE_BYTES) {
                Found::At(end) => {
                    let line = &stream.contiguous(end + 1)[..end];
                    let start = resync::find_start(line, self.side, line_start_known);
                    if start == Some(0) && !self.searched && self.heads == 0 {
                        // The first byte that was seen is the first of a packet, where messages begin: no trial needed.
                        self.scan = HeadScan::default();
                        self.state = State::Head;
                        return self.head(stream, limits, output);
                    }
                    self.skip(start.unwrap_or(end + 1), stream, output);
                    self.state = State::Search(true);
                    if start.is_some() {
                        self.scan = HeadScan::default();
                        self.state = State::Trial;
                        return self.trial(stream, limits, output);
                    }
                }
                Found::Limit => {
                    self.skip(SEARCH_LINE_BYTES / 2, stream, output);
                    self.state = State::Search(false);
                }
                Found::NotYet if stream.is_cut() && stream.available() > 0 => {
                    self.skip(stream.available(), stream, output);
                    self.state = State::Search(false);
                }
                Found::NotYet => return Event::Wait,
            }
        }
    }

    /// Drops bytes that are of no message.
    fn skip(&mut self, count: usize, stream: &mut Stream, output: &mut Output<'_>) {
        let skipped = stream.consume(count);
        if skipped > 0 {
            self.searched = true;
            self.skipped = if self.lossy { stream.last_mark() } else { None };
            output.count(Counter::BytesSkipped, skipped as u64);
        }
    }

    /// Believes a start line only when a whole head without a malformed line follows it.
    fn trial(&mut self, stream: &mut Stream, limits: &Limits, output: &mut Output<'_>) -> Event {
        let rejected = match self.scan_head(stream, limits.head_bytes) {
            Scan::Found(length) => {
                let piece = stream.contiguous(length);
                let bytes = &piece[..length.min(piece.len())];
                match parse_head(bytes, self.side, limits) {
                    Some(head) if head.first_malformed.is_none() => {
                        return self.hand_out(head, length, stream, output);
                    }
                    // The search goes on at the line that failed, so that the same lines are not tried again.
                    Some(head) => head.first_malformed.unwrap_or(length),
                    None => memchr(b'\n', bytes).map_or(length, |end| end + 1),
                }
            }
            Scan::Limit => limits.head_bytes,
            Scan::More if stream.is_cut() => stream.available(),
            Scan::More => return Event::Wait,
        };
        self.skip(rejected.max(1), stream, output);
        self.state = State::Search(true);
        self.search_on(stream, limits, output)
    }
}
