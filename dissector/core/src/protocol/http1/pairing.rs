//! Which response answers which request.
//!
//! HTTP/1 has no ids: responses come in the order of the requests. That holds as long as no message is missing. Once
//! one may be, order alone would shift every later pair, so the times of capture are asked too: a client that never
//! pipelined sends a request only when the one before was answered. Where that does not settle it, the halves go out
//! unpaired: a wrong pair is worse than none.

use std::collections::VecDeque;

use bytestring::ByteString;
use smallvec::SmallVec;
use wirecall_schemas::Timestamp;

use super::framing::Asked;
use super::incoming::Incoming;
use super::limits::{FORGOTTEN_REQUESTS, WAITING_RESPONSES};

/// A request, its response, or both.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// The request.
    pub(super) request: Option<Box<Incoming>>,
    /// The response.
    pub(super) response: Option<Box<Incoming>>,
    /// 1xx responses before it.
    pub(super) interim: SmallVec<[u16; 4]>,
    /// Protocol that the connection changes to after this exchange.
    pub(super) upgrade: Option<ByteString>,
    /// Requests may be missing right before this one.
    lost_before: bool,
}

impl Exchange {
    fn of_request(request: Box<Incoming>) -> Self {
        Self { request: Some(request), ..Self::default() }
    }

    /// True when both halves were read as far as they go.
    fn is_complete(&self) -> bool {
        let done = |half: &Option<Box<Incoming>>| half.as_ref().is_some_and(|message| message.done);
        done(&self.request) && done(&self.response)
    }

    fn request_time(&self) -> Option<Timestamp> {
        self.request.as_ref().and_then(|request| request.first_time())
    }

    fn asked(&self) -> Asked {
        let line = self.request.as_ref().and_then(|request| request.head.request_line());
        line.map_or(Asked::Plain, |line| Asked::by(&line.method))
    }

    fn held_bytes(&self) -> usize {
        let half = |half: &Option<Box<Incoming>>| half.as_ref().map_or(0, |message| message.held_bytes());
        half(&self.request) + half(&self.response)
    }
}

/// Whether the order of responses can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Order {
    /// No response is missing.
    #[default]
    Sure,
    /// Responses may be missing since the last one.
    Lost,
    /// Responses are missing, and the client pipelines: nothing tells which.
    Ambiguous,
}

/// Where the response that is being read belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Owner {
    /// No response is being read.
    #[default]
    None,
    /// To the oldest request.
    Front,
    /// To no request known.
    Unasked,
}

/// What became of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Assigned {
    /// What it answers.
    pub(super) asked: Asked,
    /// It may answer one of several requests and was given to none.
    pub(super) ambiguous: bool,
    /// Its request is known not to be found.
    pub(super) without: Option<Without>,
}

/// Why a response has no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Without {
    /// The request was given up because too many waited.
    Forgotten,
    /// Bytes are missing.
    Gap,
    /// None was there; one may yet come.
    NotYet,
}

/// A call that is ready to go out.
#[derive(Debug)]
pub(super) struct Ready {
    /// The halves.
    pub(super) exchange: Exchange,
    /// Why a half is missing, where the pairing knows.
    pub(super) why: Why,
}

/// Why a half is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// None is, or the session knows.
    Ask,
    /// Bytes are missing.
    Gap,
    /// Too many waited.
    Limit,
}

/// Requests and responses that wait for each other.
#[derive(Debug, Default)]
pub(super) struct Pairing {
    /// Requests in order; only the first may have its response.
    open: VecDeque<Exchange>,
    /// What the requests asked that were given up, all older than the open ones that have no response.
    forgotten: VecDeque<Asked>,
    /// Responses without request, oldest first.
    unasked: VecDeque<(Exchange, Why)>,
    ready: VecDeque<Ready>,
    order: Order,
    owner: Owner,
    /// 1xx responses seen since the last final one.
    interim: SmallVec<[u16; 4]>,
    /// Requests may be missing before the next one.
    requests_lost: bool,
    /// Bytes that may have held responses are missing since the last pair.
    responses_gap: bool,
    /// Proven: a request was sent before an earlier one was answered.
    pipelines: bool,
    /// Seen: a request sent after the one before was answered.
    takes_turns: bool,
}

impl Pairing {
    /// Takes a call that is ready.
    pub(super) fn poll(&mut self) -> Option<Ready> {
        self.ready.pop_front()
    }

    /// Calls begun and not handed out.
    pub(super) fn len(&self) -> usize {
        self.open.len() + self.unasked.len() + self.ready.len()
    }

    /// Bytes of memory held.
    pub(super) fn held_bytes(&self) -> usize {
        let unasked = self.unasked.iter().map(|(exchange, _)| exchange.held_bytes());
        self.open.iter().map(Exchange::held_bytes).chain(unasked).sum::<usize>()
            + self.forgotten.capacity()
            + (self.open.capacity() + self.unasked.capacity()) * size_of::<Exchange>()
    }

    /// Requests without response.
    pub(super) fn is_waiting(&self) -> bool {
        !self.open.is_empty()
    }

    /// True when no response is missing, as far as known.
    pub(super) fn is_in_order(&self) -> bool {
        self.order == Order::Sure
    }

    /// The request that is being read.
    pub(super) fn request(&mut self) -> Option<&mut Incoming> {
        self.open
            .back_mut()
            .and_then(|exchange| exchange.request.as_deref_mut())
            .filter(|request| !request.done)
    }

    /// The last request, if it has no response yet.
    pub(super) fn last_unanswered(&self) -> Option<&Incoming> {
        let last = self.open.back().filter(|exchange| exchange.response.is_none())?;
        last.request.as_deref()
    }

    /// The response that is being read.
    pub(super) fn response(&mut self) -> Option<&mut Incoming> {
        self.response_exchange().and_then(|exchange| exchange.response.as_deref_mut())
    }

    /// The exchange of the response that is being read.
    pub(super) fn response_exchange(&mut self) -> Option<&mut Exchange> {
        match self.owner {
            Owner::None => None,
            Owner::Front => self.open.front_mut(),
            Owner::Unasked => self.unasked.back_mut().map(|(exchange, _)| exchange),
        }
    }

    /// A request came. True when it took over a response that was being read, which is then to be framed anew.
    pub(super) fn add_request(&mut self, request: Box<Incoming>, limit: usize) -> bool {
        let mut exchange = Exchange::of_request(request);
        exchange.lost_before = std::mem::take(&mut self.requests_lost);
        let adopted = self.open.is_empty() && self.adopt(&mut exchange);
        self.flush_unasked();
        let reading = adopted && exchange.response.as_ref().is_some_and(|response| !response.done);
        self.open.push_back(exchange);
        if reading {
            self.owner = Owner::Front;
        }
        if self.open.len() > limit {
            self.forget_oldest();
        }
        reading
    }

    /// Gives the oldest response that waits to a request that was sent no later, though it was delivered later.
    fn adopt(&mut self, exchange: &mut Exchange) -> bool {
        if self.order != Order::Sure || exchange.lost_before {
            return false;
        }
        let Some((oldest, _)) = self.unasked.front() else { return false };
        let first = oldest.response.as_ref().and_then(|response| response.first_time());
        let before =
            exchange.request_time().zip(first).is_some_and(|(request, response)| request <= response);
        let Some((unasked, _)) = before.then(|| self.unasked.pop_front()).flatten() else { return false };
        exchange.response = unasked.response;
        exchange.interim = unasked.interim;
        true
    }

    /// Lets responses go for which no request came; all but one that is being read.
    fn flush_unasked(&mut self) {
        let keep = usize::from(self.owner == Owner::Unasked);
        while self.unasked.len() > keep {
            self.release_unasked();
        }
    }

    fn release_unasked(&mut self) {
        if let Some((exchange, why)) = self.unasked.pop_front() {
            if why == Why::Ask && self.order == Order::Sure {
                // Either a server spoke unasked, or a request was not delivered: later pairs are checked by time.
                self.order = Order::Lost;
            }
            self.ready.push_back(Ready { exchange, why });
        }
    }

    /// Gives up the oldest request that is not being answered.
    fn forget_oldest(&mut self) {
        let index = usize::from(self.open.front().is_some_and(|exchange| exchange.response.is_some()));
        if let Some(exchange) = self.open.remove(index) {
            self.forgotten.push_back(exchange.asked());
            self.ready.push_back(Ready { exchange, why: Why::Limit });
        }
        if self.forgotten.len() > FORGOTTEN_REQUESTS {
            self.forgotten.clear();
            self.order = Order::Lost;
        }
    }

    /// An interim response came. False when it is over the limit on the list.
    pub(super) fn add_interim(&mut self, code: u16, limit: usize) -> bool {
        let room = self.interim.len() < limit;
        if room {
            self.interim.push(code);
        }
        room
    }

    /// A final response came; says what it answers.
    pub(super) fn add_response(&mut self, response: Box<Incoming>) -> Assigned {
        let assigned = self.assign(response.first_time());
        let interim = std::mem::take(&mut self.interim);
        match (assigned.without, self.open.front_mut()) {
            (None, Some(exchange)) => {
                exchange.response = Some(response);
                exchange.interim = interim;
                self.owner = Owner::Front;
            }
            (without, _) => {
                let why = match without {
                    Some(Without::Forgotten) => Why::Limit,
                    Some(Without::Gap) => Why::Gap,
                    Some(Without::NotYet) | None => Why::Ask,
                };
                let exchange = Exchange { response: Some(response), interim, ..Exchange::default() };
                self.unasked.push_back((exchange, why));
                self.owner = Owner::Unasked;
            }
        }
        assigned
    }

    fn assign(&mut self, first: Option<Timestamp>) -> Assigned {
        while self.unasked.len() >= WAITING_RESPONSES {
            self.release_unasked();
        }
        let without = |why| Assigned { without: Some(why), ..Assigned::default() };
        if self.order == Order::Sure
            && let Some(asked) = self.forgotten.pop_front()
        {
            return Assigned { asked, ..without(Without::Forgotten) };
        }
        self.forgotten.clear();
        match self.order {
            Order::Sure => self.assign_in_order(first),
            Order::Lost | Order::Ambiguous => self.assign_by_time(first),
        }
    }

    fn assign_in_order(&mut self, first: Option<Timestamp>) -> Assigned {
        let without = |why| Assigned { without: Some(why), ..Assigned::default() };
        // A front with a response waits for the end of its request: a second response is nobody's.
        let Some(front) = self.open.front().filter(|front| front.response.is_none()) else {
            return without(Without::NotYet);
        };
        if front.lost_before {
            if later(front.request_time(), first) {
                return without(Without::Gap);
            }
            if self.sent_by(first) > 1 {
                return self.give_up(first);
            }
        }
        if self.open.get(1).is_some_and(|next| !later(next.request_time(), first)) {
            self.pipelines = true;
        }
        self.pair_front()
    }

    fn assign_by_time(&mut self, first: Option<Timestamp>) -> Assigned {
        let sent = self.sent_by(first);
        if sent == 0 {
            // Had the client waited, this response would have its request: more than one was under way.
            return Assigned { without: Some(Without::Gap), ..Assigned::default() };
        }
        let one = sent == 1 || self.takes_turns;
        let settled = self.order == Order::Lost && !self.pipelines && !self.requests_lost && one;
        if !settled {
            return self.give_up(first);
        }
        for _ in 1..sent {
            self.release_front();
        }
        self.order = Order::Sure;
        self.pair_front()
    }

    /// Gives out all requests sent before the response as unanswered, and the response as unasked.
    fn give_up(&mut self, first: Option<Timestamp>) -> Assigned {
        for _ in 0..self.sent_by(first) {
            self.release_front();
        }
        self.order = if self.pipelines || self.order != Order::Sure { Order::Ambiguous } else { Order::Lost };
        if self.takes_turns && !self.pipelines {
            self.order = Order::Lost;
        }
        Assigned { without: Some(Without::Gap), ambiguous: true, ..Assigned::default() }
    }

    fn pair_front(&mut self) -> Assigned {
        let Some(front) = self.open.front_mut() else {
            return Assigned { without: Some(Without::NotYet), ..Assigned::default() };
        };
        front.lost_before = false;
        self.responses_gap = false;
        Assigned { asked: front.asked(), ..Assigned::default() }
    }

    fn release_front(&mut self) {
        let why = self.why_unanswered();
        if let Some(exchange) = self.open.pop_front() {
            self.ready.push_back(Ready { exchange, why });
        }
    }

    const fn why_unanswered(&self) -> Why {
        if self.responses_gap { Why::Gap } else { Why::Ask }
    }

    /// Requests without response that were sent no later than a response; they come first in the queue.
    fn sent_by(&self, first: Option<Timestamp>) -> usize {
        self.open
            .iter()
            .take_while(|exchange| exchange.response.is_none() && !later(exchange.request_time(), first))
            .count()
    }

    /// The response that is being read has ended, or can be read no further.
    pub(super) fn end_response(&mut self) {
        self.owner = Owner::None;
        self.settle();
    }

    /// Hands out the front if both halves are done; to be called when a request has ended.
    pub(super) fn settle(&mut self) {
        while self.owner != Owner::Front && self.open.front().is_some_and(Exchange::is_complete) {
            let Some(exchange) = self.open.pop_front() else { return };
            self.takes_turns |= self.open.is_empty();
            self.ready.push_back(Ready { exchange, why: Why::Ask });
        }
    }

    /// Requests may be missing before the next one.
    pub(super) fn lose_requests(&mut self) {
        self.requests_lost = true;
    }

    /// Responses may be missing before the next one.
    pub(super) fn lose_responses(&mut self) {
        self.responses_gap = true;
        if self.order == Order::Sure {
            self.order = if self.pipelines { Order::Ambiguous } else { Order::Lost };
        }
    }

    /// Hands out everything, in order.
    pub(super) fn finish(&mut self) {
        self.owner = Owner::None;
        while let Some((exchange, why)) = self.unasked.pop_front() {
            self.ready.push_back(Ready { exchange, why });
        }
        let interim = std::mem::take(&mut self.interim);
        if let Some(front) = self.open.iter_mut().find(|exchange| exchange.response.is_none()) {
            front.interim = interim;
        }
        while !self.open.is_empty() {
            self.release_front();
        }
    }
}

/// True when the request was certainly sent after the response began.
fn later(request: Option<Timestamp>, response: Option<Timestamp>) -> bool {
    request.zip(response).is_some_and(|(request, response)| request > response)
}
