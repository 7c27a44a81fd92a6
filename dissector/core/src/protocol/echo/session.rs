//! Lines to calls: the server's next line answers the client's first open one.
//!
//! After a gap or a late start lines may be missing on either side. Echo can tell, since an answer repeats its request:
//! then an answer is given to the open request with its text, and those before it stay unanswered.

use std::sync::Arc;

use bytestring::ByteString;
use wirecall_schemas::{Cause, Completeness, Direction, Ledger, StatusClass};

use super::message::Line;
use super::parser::{self, Parsed};
use crate::limits::{Counter, Limits};
use crate::matching::{Answer, Ordered};
use crate::output::{CallDraft, Output};
use crate::protocol::{Progress, Session};
use crate::stream::{Stream, Streams};

/// One echo conversation.
#[derive(Debug)]
pub struct EchoSession {
    limits: Arc<Limits>,
    client: Reader,
    server: Reader,
    asked: Ordered<Line>,
    /// Lines may be missing: order alone does not pair.
    disordered: bool,
    held: usize,
}

/// How far one side is read.
#[derive(Debug, Default)]
struct Reader {
    /// The start of the present line was not seen.
    skipping: bool,
    /// Bytes that were missing before the next line.
    gap_bytes: u64,
    resynchronised: bool,
}

impl Session for EchoSession {
    fn advance(&mut self, _: Direction, streams: &mut Streams, output: &mut Output<'_>) -> Progress {
        self.read_requests(&mut streams.client, output);
        self.read_answers(&mut streams.server, output)
    }

    fn close(&mut self, cause: Cause, streams: &mut Streams, output: &mut Output<'_>) {
        self.read_requests(&mut streams.client, output);
        // Nothing will ask any more: what is left is unasked.
        self.disordered = true;
        while let Some(line) = self.server.next(&mut streams.server, &self.limits, output) {
            self.answer(line, output);
        }
        let cause = if streams.server.is_started() { cause } else { Cause::OneSided };
        for request in self.asked.drain() {
            emit(Some(request), None, Some(cause), output);
        }
        self.held = 0;
    }

    fn held_bytes(&self) -> usize {
        self.held
    }

    fn open_calls(&self) -> usize {
        self.asked.len()
    }
}

impl EchoSession {
    /// A conversation from its start, or joined mid-stream.
    #[must_use]
    pub fn new(limits: &Arc<Limits>, mid_stream: bool) -> Self {
        let reader = || Reader { skipping: mid_stream, resynchronised: mid_stream, gap_bytes: 0 };
        Self {
            limits: Arc::clone(limits),
            client: reader(),
            server: reader(),
            asked: Ordered::new(limits.open_calls),
            disordered: mid_stream,
            held: 0,
        }
    }

    fn read_requests(&mut self, stream: &mut Stream, output: &mut Output<'_>) {
        while let Some(line) = self.client.next(stream, &self.limits, output) {
            self.disordered |= line.resynchronised;
            self.held += line.text.len();
            if let Err(line) = self.asked.ask(line) {
                self.held -= line.text.len();
                output.count(Counter::OpenCallsLimited, 1);
                emit(Some(line), None, Some(Cause::Limit), output);
            }
        }
    }

    /// Answers wait in their stream until something was asked: the log may show them before their request.
    fn read_answers(&mut self, stream: &mut Stream, output: &mut Output<'_>) -> Progress {
        while !self.asked.is_empty() {
            let Some(line) = self.server.next(stream, &self.limits, output) else { break };
            self.disordered |= line.resynchronised;
            let expected = self.asked.next().is_none_or(|request| request.text == line.text);
            if !expected && !self.disordered && output.emitted() == 0 {
                return Progress::Withdraw;
            }
            self.answer(line, output);
        }
        Progress::Continue
    }

    fn answer(&mut self, line: Line, output: &mut Output<'_>) {
        if self.disordered {
            if !self.asked.iter().any(|request| request.text == line.text) {
                return emit(None, Some(line), Some(Cause::Gap), output);
            }
            while self.asked.next().is_none_or(|request| request.text != line.text) {
                self.skip_request(output);
            }
        }
        match self.asked.answer() {
            Answer::Of(request) if request.text == line.text => {
                self.held -= request.text.len();
                emit(Some(request), Some(line), None, output);
            }
            Answer::Of(request) => {
                self.held -= request.text.len();
                output.count(Counter::MessagesMalformed, 1);
                emit(Some(request), None, Some(Cause::Malformed), output);
                emit(None, Some(line), Some(Cause::Malformed), output);
            }
            Answer::OfForgotten => emit(None, Some(line), Some(Cause::Limit), output),
            Answer::Unasked => emit(None, Some(line), Some(Cause::Gap), output),
        }
    }

    /// Gives up on the answer to the first open request.
    fn skip_request(&mut self, output: &mut Output<'_>) {
        if let Answer::Of(request) = self.asked.answer() {
            self.held -= request.text.len();
            emit(Some(request), None, Some(Cause::Gap), output);
        }
    }
}

impl Reader {
    /// The next line whose start was seen.
    fn next(&mut self, stream: &mut Stream, limits: &Limits, output: &mut Output<'_>) -> Option<Line> {
        loop {
            if self.skipping && !self.skip(stream) {
                return None;
            }
            match parser::parse(stream, limits.head_bytes) {
                Parsed::Line(line) => return Some(self.finish(line, output)),
                Parsed::NotYet => return None,
                Parsed::Lost { bytes } => self.lose(bytes),
                Parsed::TooLong => {
                    output.count(Counter::HeadsLimited, 1);
                    self.lose(0);
                }
            }
        }
    }

    /// Reads past the rest of a line whose start is missing, and over further gaps; false when its end is not here yet.
    fn skip(&mut self, stream: &mut Stream) -> bool {
        while !parser::skip_line(stream) {
            let Some(gap) = stream.skip_gap() else { return false };
            self.lose(gap.length);
        }
        self.skipping = false;
        true
    }

    const fn lose(&mut self, bytes: u64) {
        self.gap_bytes = self.gap_bytes.saturating_add(bytes);
        (self.skipping, self.resynchronised) = (true, true);
    }

    fn finish(&mut self, mut line: Line, output: &mut Output<'_>) -> Line {
        if std::mem::take(&mut self.resynchronised) {
            line.resynchronised = true;
            output.count(Counter::Resynchronisations, 1);
        }
        line.missing_before = std::mem::take(&mut self.gap_bytes);
        line
    }
}

fn emit(request: Option<Line>, answer: Option<Line>, cause: Option<Cause>, output: &mut Output<'_>) {
    let completeness = match (&request, &answer) {
        (Some(_), Some(_)) => Completeness::Matched,
        (Some(_), None) => Completeness::RequestOnly,
        (None, _) => Completeness::ResponseOnly,
    };
    let resynchronised = [&request, &answer].into_iter().flatten().any(|line| line.resynchronised);
    let mut draft = CallDraft {
        protocol: ByteString::from_static("echo"),
        operation: request.as_ref().map(|_| ByteString::from_static("echo")),
        target: request.as_ref().map(|line| line.text.clone()),
        status_class: if answer.is_some() { StatusClass::Ok } else { StatusClass::Unknown },
        completeness,
        cause,
        ledger: Ledger {
            resynchronised,
            request_gap_bytes: missing_before(request.as_ref()),
            response_gap_bytes: missing_before(answer.as_ref()),
            ..Ledger::default()
        },
        ..CallDraft::default()
    };
    for line in [&request, &answer].into_iter().flatten() {
        draft.marks.cover_range(line.marks);
    }
    draft.request = request.map(|line| line.message);
    draft.response = answer.map(|line| line.message);
    output.call(draft);
}

fn missing_before(line: Option<&Line>) -> i64 {
    line.map_or(0, |line| i64::try_from(line.missing_before).unwrap_or(i64::MAX))
}
