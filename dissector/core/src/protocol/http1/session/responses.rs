//! The server's side of a session.

use bytes::Bytes;

use super::{Http1Session, Read, hand_over};
use crate::limits::Counter;
use crate::output::Output;
use crate::protocol::Progress;
use crate::protocol::http1::findings::Rule;
use crate::protocol::http1::framing::{self, Asked, Framing};
use crate::protocol::http1::incoming::Incoming;
use crate::protocol::http1::message::Head;
use crate::protocol::http1::parser::Event;
use crate::protocol::http1::upgrade;
use crate::stream::Stream;

impl Http1Session {
    /// Reads what can be read of the server's stream.
    pub(super) fn read_responses(&mut self, stream: &mut Stream, output: &mut Output<'_>) -> Read {
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
    pub(super) fn add_partial_response(
        &mut self,
        response: Box<Incoming>,
        stream: &Stream,
        output: &mut Output<'_>,
    ) {
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
}

/// The status of a response that another follows: 101 is final for HTTP.
fn interim_code(response: &Incoming) -> Option<u16> {
    response.head.status_code().filter(|code| matches!(code, 100 | 102..=199))
}
