//! The conversation of one connection: reads both directions, pairs what they say, and hands calls out.

mod requests;
mod responses;

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use wirecall_schemas::{Cause, Direction, Timestamp};

use super::draft::draft;
use super::framing::Framing;
use super::head::Side;
use super::pairing::{Pairing, Ready, Why};
use super::parser::Reader;
use crate::limits::{Counter, Limits};
use crate::output::Output;
use crate::protocol::{HandOver, Progress, Session, Start};
use crate::stream::{Mark, Streams};

/// An HTTP/1 conversation.
pub(super) struct Http1Session {
    limits: Arc<Limits>,
    client: Reader,
    server: Reader,
    pairing: Pairing,
    mid_stream: bool,
    /// The server began with a status line.
    server_speaks: bool,
    /// The client's bytes wait for the answer to a request to change the protocol.
    blocked: bool,
    /// Offset that the server's stream has reached.
    server_end: u64,
    /// Offset of the first byte of the server's stream.
    server_start: Option<u64>,
    /// Capture time and offset of the server's bytes that were not read when reading began.
    server_unread: Option<(Timestamp, u64)>,
    /// Bytes of the client wait in a search: where the server's stream stood when the first of them came.
    unread_since: Option<u64>,
    /// Last byte skipped before the next request, and where the server's stream stood then.
    skipped: Option<(Mark, u64)>,
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
            server_speaks: false,
            blocked: false,
            server_end: 0,
            server_start: None,
            server_unread: None,
            unread_since: None,
            skipped: None,
            matched: 0,
            requests_gap: false,
            ended: None,
        }
    }

    fn hand_out(&mut self, output: &mut Output<'_>) {
        while let Some(ready) = self.pairing.poll() {
            let cause = self.cause(&ready, output);
            if ready.why == Why::Limit && ready.exchange.request.is_some() {
                output.count(Counter::OpenCallsLimited, 1);
            }
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

impl Session for Http1Session {
    fn advance(&mut self, direction: Direction, streams: &mut Streams, output: &mut Output<'_>) -> Progress {
        self.listen(&mut streams.server);
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

/// What comes after this protocol.
fn hand_over(to: ByteString, settings: Bytes) -> Progress {
    Progress::HandOver(Box::new(HandOver { to, settings, open_call: None }))
}
