//! The conversation of one connection: reads both directions, pairs what they say, and hands calls out.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use wirecall_schemas::{Cause, Direction};

use super::draft::draft;
use super::findings::Rule;
use super::framing::{self, Asked, Framing};
use super::head::Side;
use super::incoming::Incoming;
use super::limits::UNDECIDED_BYTES;
use super::message::Head;
use super::pairing::{Doubt, Pairing, Ready};
use super::parser::{Event, Reader};
use super::{resync, upgrade};
use crate::limits::{Counter, Limits};
use crate::output::Output;
use crate::protocol::{HandOver, Progress, Session, Start};
use crate::stream::{Front, Stream, Streams};

/// An HTTP/1 conversation.
pub(super) struct Http1Session {
    limits: Arc<Limits>,
    client: Reader,
    server: Reader,
    pairing: Pairing,
    mid_stream: bool,
    /// The client's bytes wait for the answer to a request to change the protocol.
    blocked: bool,
    /// Offset that the server's stream has reached.
    server_end: u64,
    /// Bytes of the client wait in a search: where the server's stream stood when the first of them came.
    unread_since: Option<u64>,
    /// Calls with both halves that were handed out.
    matched: u64,
    /// The client's stream lost bytes that may have held requests.
    requests_gap: bool,
    /// How the connection ended, once it has.
    ended: Option<Cause>,
}

/// What reading one direction came to.
enum Read {
    /// Nothing more can be read now.
    Wait,
    /// Nothing more can be read before the other direction says what comes.
    Blocked,
    /// The session is over.
    Leave(Progress),
}

impl Http1Session {
    /// A session with nothing read.
    pub(super) fn new(start: &Start<'_>) -> Self {
        Self {
            limits: Arc::clone(start.limits),
            client: Reader::new(Side::Request, start.mid_stream),
            server: Reader::new(Side::Response, start.mid_stream),
            pairing: Pairing::default(),
            mid_stream: start.mid_stream,
            blocked: false,
            server_end: 0,
            unread_since: None,
            matched: 0,
            requests_gap: false,
            ended: None,
        }
    }

    fn read_requests(&mut self, stream: &mut Stream, output: &mut Output<'_>) -> Read {
        loop {
            if self.client.is_between()
                && let Some(undecided) = self.undecided(stream)
            {
                return undecided;
            }
            let limits = &*self.limits;
            let event = self.client.next(stream, self.pairing.request(), limits, output);
            self.note_skipped(&event);
            match event {
                Event::Wait => return Read::Wait,
                Event::Head(request) => self.begin_request(request, stream),
                Event::CutHead(request) => {
                    if let Some(request) = request {
                        self.add_request(request);
                    }
                    self.lose_requests();
                }
                Event::NotHttp if self.is_stranger() => return Read::Leave(Progress::Withdraw),
                Event::NotHttp => {
                    output.count(Counter::MessagesMalformed, 1);
                    self.client.search(Rule::UnexpectedBytes);
                }
                Event::End => self.pairing.settle(),
                Event::Broken { lost } => {
                    output.count(Counter::MessagesMalformed, u64::from(!lost));
                    self.pairing.settle();
                    if lost {
                        self.lose_requests();
                    }
                }
                Event::Lost => {
                    self.pairing.settle();
                    self.lose_requests();
                }
            }
            self.hand_out(output);
        }
    }

    /// Bytes that were skipped because others are missing may be of a request.
    fn note_skipped(&mut self, event: &Event) {
        let Some(skipped) = self.client.take_skipped() else { return };
        let with_head = matches!(event, Event::Head(request) if request.first == Some(skipped));
        // Bytes that waited here came before the server said what it said since.
        let noticed = self.unread_since.take().filter(|_| !with_head).unwrap_or(self.server_end);
        self.pairing.lose_requests(noticed);
    }

    fn lose_requests(&mut self) {
        self.requests_gap = true;
        self.pairing.lose_requests(self.server_end);
    }

    /// A request that may change the protocol waits for its answer: what the client sends behind it is of the old
    /// protocol or of the new one. None when that does not matter, or the bytes tell.
    fn undecided(&self, stream: &mut Stream) -> Option<Read> {
        let request = self.pairing.last_unanswered()?;
        let connect = asked(request) == Asked::Connect;
        let to = if connect { Some(upgrade::TUNNEL) } else { request.head.known.upgrade.clone() }?;
        let Front::Data(piece) = stream.front() else { return None };
        if !connect && resync::could_start(piece, Side::Request) {
            return None;
        }
        if stream.available() < UNDECIDED_BYTES {
            return Some(Read::Blocked);
        }
        // The answer is not coming: the server's direction is not seen.
        let to = if connect { to } else { upgrade::protocol(&to) };
        Some(Read::Leave(hand_over(to, Bytes::new())))
    }

    /// True while nothing speaks for HTTP.
    const fn is_stranger(&self) -> bool {
        !self.mid_stream && self.client.heads() == 0 && self.server.heads() == 0
    }

    fn begin_request(&mut self, mut request: Box<Incoming>, stream: &Stream) {
        check_host(&mut request.head);
        request.framing = framing::of_request(&mut request.head);
        if self.client.begin(request.framing) {
            request.finish(stream, true);
        } else if request.framing == Framing::Unknown {
            request.abandon();
        }
        self.add_request(request);
        self.pairing.settle();
    }

    fn add_request(&mut self, request: Box<Incoming>) {
        let head = asked(&request) == Asked::Head;
        let first = self.mid_stream && self.client.heads() == 1 && self.server_end == 0;
        let joined = if first { Doubt::Joined } else { Doubt::None };
        let limit = self.limits.open_calls;
        let adopted = self.pairing.add_request(request, self.server_end, joined, limit);
        // The response was read before its request was known: HEAD would have told that it has no body.
        if adopted
            && head
            && let Some(response) = self.pairing.response().filter(|response| response.body.is_untouched())
        {
            response.framing = Framing::None;
            response.end_at_head();
            self.server.end_body();
            self.pairing.end_response(self.server_end);
        }
    }

    fn read_responses(&mut self, stream: &mut Stream, output: &mut Output<'_>) -> Read {
        loop {
            let limits = &*self.limits;
            match self.server.next(stream, self.pairing.response(), limits, output) {
                Event::Wait => return Read::Wait,
                Event::Head(response) => {
                    if let Some(leave) = self.begin_response(response, stream, output) {
                        return Read::Leave(leave);
                    }
                }
                Event::CutHead(response) => {
                    if let Some(response) = response {
                        self.add_partial_response(response, stream, output);
                    }
                    self.pairing.lose_responses();
                }
                Event::NotHttp if self.is_stranger() => return Read::Leave(Progress::Withdraw),
                Event::NotHttp => self.begin_headless(stream, output),
                Event::End => self.pairing.end_response(stream.position()),
                Event::Broken { lost } => {
                    output.count(Counter::MessagesMalformed, u64::from(!lost));
                    self.pairing.end_response(stream.position());
                    if lost {
                        self.pairing.lose_responses();
                    }
                }
                Event::Lost => {
                    self.pairing.end_response(stream.position());
                    self.pairing.lose_responses();
                }
            }
            self.hand_out(output);
        }
    }

    /// Adds a response and says what it answers.
    fn add_response(&mut self, mut response: Box<Incoming>) -> Asked {
        if response.head.status_line().is_none() {
            response.head.findings.add(Rule::NoStatusLine);
        }
        let under_way = !self.client.is_between() || self.blocked;
        let assigned = self.pairing.add_response(response, under_way);
        if let Some(response) = self.pairing.response() {
            response.may_lack_body = assigned.doubtful;
            if assigned.ambiguous {
                response.head.findings.add(Rule::AmbiguousPairing);
            }
        }
        assigned.asked
    }

    /// Adds a response whose head breaks off.
    fn add_partial_response(&mut self, response: Box<Incoming>, stream: &Stream, output: &mut Output<'_>) {
        match interim_code(&response) {
            Some(code) => self.add_interim(code, output),
            None => {
                self.add_response(response);
                self.pairing.end_response(stream.position());
            }
        }
    }

    fn begin_response(
        &mut self,
        mut response: Box<Incoming>,
        stream: &Stream,
        output: &mut Output<'_>,
    ) -> Option<Progress> {
        if let Some(code) = interim_code(&response) {
            framing::of_response(&mut response.head, Some(code), Asked::Plain);
            self.server.begin(Framing::None);
            self.add_interim(code, output);
            return None;
        }
        let code = response.head.status_code();
        let asked = self.add_response(response);
        let response = self.pairing.response()?;
        response.framing = framing::of_response(&mut response.head, code, asked);
        if response.framing == Framing::Tunnel {
            return Some(self.change_protocol(code, stream, output));
        }
        if self.server.begin(response.framing) {
            response.finish(stream, true);
            self.pairing.end_response(stream.position());
        }
        None
    }

    fn add_interim(&mut self, code: u16, output: &mut Output<'_>) {
        if !self.pairing.add_interim(code, self.limits.interim_responses) {
            output.count(Counter::ListsLimited, 1);
        }
    }

    /// Bytes without a status line answer the first request as in HTTP/0.9; later they are skipped.
    fn begin_headless(&mut self, stream: &mut Stream, output: &mut Output<'_>) {
        output.count(Counter::MessagesMalformed, 1);
        let first = self.server.heads() == 0 && self.pairing.is_waiting() && self.pairing.is_in_order();
        if !first {
            self.server.search(Rule::UnexpectedBytes);
            return;
        }
        let response = Incoming::new(Head::absent(), stream.position(), stream.mark(), stream);
        self.add_response(Box::new(response));
        if let Some(response) = self.pairing.response() {
            response.framing = Framing::Close;
        }
        self.server.begin(Framing::Close);
    }

    /// The response that is being read starts another protocol.
    fn change_protocol(&mut self, code: Option<u16>, stream: &Stream, output: &mut Output<'_>) -> Progress {
        let mut to = upgrade::TUNNEL;
        let mut settings = Bytes::new();
        if let Some(exchange) = self.pairing.response_exchange() {
            if let (Some(101), Some(response)) = (code, &exchange.response) {
                to = response.head.known.upgrade.as_ref().map_or(upgrade::TUNNEL, upgrade::protocol);
                exchange.upgrade = Some(to.clone());
            }
            if let Some(request) = &mut exchange.request {
                request.done = true;
                settings = upgrade::h2c_settings(&request.head.fields);
            }
            if let Some(response) = &mut exchange.response {
                response.finish(stream, true);
            }
        }
        self.server.begin(Framing::Tunnel);
        self.pairing.end_response(stream.position());
        self.hand_out(output);
        hand_over(to, settings)
    }

    fn hand_out(&mut self, output: &mut Output<'_>) {
        while let Some(ready) = self.pairing.poll() {
            let cause = self.cause(&ready, output);
            self.matched += u64::from(ready.exchange.request.is_some() && ready.exchange.response.is_some());
            let call = draft(ready, cause, self.ended, &self.limits, output);
            output.call(call);
        }
    }

    /// Why a half is missing, where the pairing does not know.
    fn cause(&self, ready: &Ready, output: &Output<'_>) -> Cause {
        let one_sided = output.facts().one_sided;
        if ready.exchange.request.is_some() {
            return match self.ended {
                // The end was seen, so it is the better answer; the ledger says that only one side was.
                Some(cause @ (Cause::Closed | Cause::Reset | Cause::Upgraded)) => cause,
                _ if one_sided => Cause::OneSided,
                Some(cause) => cause,
                None => Cause::Unknown,
            };
        }
        if one_sided {
            Cause::OneSided
        } else if self.requests_gap {
            Cause::Gap
        } else if self.mid_stream && self.matched == 0 {
            Cause::MidStream
        } else if self.client.is_searching() {
            Cause::Malformed
        } else {
            Cause::Unknown
        }
    }

    /// Hands out everything that is open.
    fn finish(&mut self, cause: Cause, output: &mut Output<'_>) {
        self.ended = Some(cause);
        if let Some(request) = self.pairing.request() {
            request.abandon();
        }
        if let Some(response) = self.pairing.response() {
            response.abandon();
        }
        self.pairing.finish();
        self.hand_out(output);
    }

    /// Reads what the ended streams still hold: heads that break off, and bodies that the end ends.
    fn read_rest(&mut self, cause: Cause, streams: &mut Streams, output: &mut Output<'_>) {
        if let Some(request) = self.client.finish_head(&mut streams.client, &self.limits) {
            self.add_request(request);
        }
        let in_body = self.server.is_in_body();
        if let Some(response) = self.server.finish_head(&mut streams.server, &self.limits) {
            self.add_partial_response(response, &streams.server, output);
            return;
        }
        // A body delimited by the close is whole only if the close was seen (RFC 9112 section 8).
        if in_body
            && cause == Cause::Closed
            && let Some(response) = self.pairing.response()
            && response.framing == Framing::Close
        {
            response.finish(&streams.server, true);
        }
    }
}

/// The status of a response that another follows: 101 is final for HTTP.
fn interim_code(response: &Incoming) -> Option<u16> {
    response.head.status_code().filter(|code| matches!(code, 100 | 102..=199))
}

fn asked(request: &Incoming) -> Asked {
    request.head.request_line().map_or(Asked::Plain, |line| Asked::by(&line.method))
}

fn hand_over(to: ByteString, settings: Bytes) -> Progress {
    Progress::HandOver(Box::new(HandOver { to, settings, open_call: None }))
}

/// One Host field is a must in HTTP/1.1 (RFC 9112 section 3.2); two are how virtual hosts are confused.
fn check_host(head: &mut Head) {
    if head.known.host_repeated {
        head.findings.add(Rule::RepeatedHost);
    }
    if head.known.host.is_none() && !head.is_http_1_0() {
        head.findings.add(Rule::MissingHost);
    }
}

impl Session for Http1Session {
    fn advance(&mut self, direction: Direction, streams: &mut Streams, output: &mut Output<'_>) -> Progress {
        self.server_end = streams.server.end_position();
        if direction == Direction::ServerToClient {
            if self.is_stranger()
                && !streams.server.is_empty()
                && let Some(request) = self.client.simple_request(&mut streams.client, &self.limits)
            {
                self.begin_request(request, &streams.client);
            }
            if let Read::Leave(progress) = self.read_responses(&mut streams.server, output) {
                if matches!(progress, Progress::HandOver(_)) {
                    self.finish(Cause::Upgraded, output);
                }
                return progress;
            }
            if streams.client.is_empty() {
                return Progress::Continue;
            }
        }
        // Requests that waited for this response, or those that are new.
        let read = self.read_requests(&mut streams.client, output);
        if direction != Direction::ServerToClient {
            let waits = self.client.is_searching() && streams.client.available() > 0;
            self.unread_since = waits.then(|| self.unread_since.unwrap_or(self.server_end));
        }
        self.blocked = matches!(read, Read::Blocked);
        match read {
            Read::Wait | Read::Blocked => Progress::Continue,
            Read::Leave(progress) => {
                if matches!(progress, Progress::HandOver(_)) {
                    self.finish(Cause::Upgraded, output);
                }
                progress
            }
        }
    }

    fn close(&mut self, cause: Cause, streams: &mut Streams, output: &mut Output<'_>) {
        self.ended = Some(cause);
        self.read_requests(&mut streams.client, output);
        self.read_responses(&mut streams.server, output);
        self.read_rest(cause, streams, output);
        self.finish(cause, output);
    }

    fn held_bytes(&self) -> usize {
        self.pairing.held_bytes() + self.client.held_bytes() + self.server.held_bytes()
    }

    fn open_calls(&self) -> usize {
        self.pairing.len()
    }
}
