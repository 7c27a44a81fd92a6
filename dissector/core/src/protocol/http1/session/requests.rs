//! The client's side of a session.

use bytes::Bytes;
use wirecall_schemas::Timestamp;

use super::{Http1Session, Read, hand_over};
use crate::limits::Counter;
use crate::output::Output;
use crate::protocol::Progress;
use crate::protocol::http1::exchange::Doubt;
use crate::protocol::http1::findings::Rule;
use crate::protocol::http1::framing::{self, Asked, Framing};
use crate::protocol::http1::head::Side;
use crate::protocol::http1::incoming::Incoming;
use crate::protocol::http1::limits::UNDECIDED_BYTES;
use crate::protocol::http1::message::Head;
use crate::protocol::http1::parser::Event;
use crate::protocol::http1::{resync, upgrade};
use crate::stream::{Front, Stream};

impl Http1Session {
    /// Reads what can be read of the client's stream.
    pub(super) fn read_requests(&mut self, stream: &mut Stream, output: &mut Output<'_>) -> Read {
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

    /// Bytes that were skipped because others are missing may be of a request that precedes the one just found.
    fn note_skipped(&mut self, event: &Event) {
        if let Some(skipped) = self.client.take_skipped() {
            // Bytes that waited here came before the server said what it said since.
            self.skipped = Some((skipped, self.unread_since.take().unwrap_or(self.server_end)));
        }
        let Event::Head(request) = event else { return };
        let Some((skipped, noticed)) = self.skipped.take() else { return };
        // The same packet, however it is cut into records.
        if request.first_time() == Some(skipped.time) {
            self.pairing.lose_requests(self.server_reached(request.first_time()));
        } else if !(self.mid_stream && self.client.heads() == 1) {
            // Before the first request of a connection that was joined late, a packet that holds none (a keep-alive
            // probe, the end of a request) says no more than that it was joined late.
            self.pairing.lose_requests(noticed);
        }
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
    pub(super) const fn is_stranger(&self) -> bool {
        let heads = self.client.heads() + self.server.heads();
        !self.mid_stream && heads == 0 && !self.server_speaks
    }

    /// How far the server's stream had come at a time. When a session begins late, both streams hold bytes already.
    fn server_reached(&self, time: Option<Timestamp>) -> u64 {
        match (self.server_unread, time) {
            (Some((unread, position)), Some(time)) if time <= unread => position,
            _ => self.server_end,
        }
    }

    /// Notes where the server's stream stands, and whether its first bytes are a status line: then a client that does
    /// not speak HTTP is refused by one that does.
    pub(super) fn listen(&mut self, server: &mut Stream) {
        self.server_end = server.end_position();
        self.server_unread = server.mark().map(|mark| (mark.time, server.position()));
        if self.server_start.is_none() && server.is_started() {
            self.server_start = Some(server.position());
            self.pairing.start_at(server.position());
        }
        if self.server.heads() == 0 && !self.server_speaks {
            let start = server.contiguous(resync::STATUS_LINE_BYTES);
            self.server_speaks = resync::is_at_status_line(start) == Some(true);
        }
    }

    pub(super) fn begin_request(&mut self, mut request: Box<Incoming>, stream: &Stream) {
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

    pub(super) fn add_request(&mut self, request: Box<Incoming>) {
        let head = asked(&request) == Asked::Head;
        let reached = self.server_reached(request.first_time());
        let silent = self.server_start.is_none_or(|start| reached <= start);
        let first = self.mid_stream && self.client.heads() == 1 && silent;
        let joined = if first { Doubt::Joined } else { Doubt::None };
        let adopted = self.pairing.add_request(request, reached, joined, self.limits.open_calls);
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
}

fn asked(request: &Incoming) -> Asked {
    request.head.request_line().map_or(Asked::Plain, |line| Asked::by(&line.method))
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
