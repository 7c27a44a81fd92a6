//! Which response answers which request.
//!
//! HTTP/1 has no ids: responses come in the order of the requests. That holds as long as no message is missing. Once
//! one may be, order alone would shift every later pair, so the times of capture are asked too: a client that never
//! pipelined sends a request only when the one before was answered. Where that does not settle it, the halves go out
//! unpaired: a wrong pair is worse than none.

use std::collections::VecDeque;

use smallvec::SmallVec;
use wirecall_schemas::Timestamp;

use super::exchange::{Doubt, Exchange};
use super::findings::Rule;
use super::framing::Asked;
use super::incoming::Incoming;
use super::limits::{FORGOTTEN_REQUESTS, WAITING_RESPONSES};

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
    /// The request it answers is not known for sure, so neither is whether that was HEAD.
    pub(super) doubtful: bool,
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
    /// Requests may be missing before the next one: how far the server's stream had come when that was noticed.
    requests_lost: Option<u64>,
    /// How far the server's stream had come when the last pair was complete.
    settled_to: u64,
    /// Bytes that may have held responses are missing since the last pair.
    responses_gap: bool,
    /// Proven: a request was sent before an earlier one was answered.
    pipelines: bool,
    /// Seen: a request sent after the one before was answered.
    takes_turns: bool,
}

impl Pairing {
    /// The server's stream begins at this offset.
    pub(super) fn start_at(&mut self, position: u64) {
        self.settled_to = self.settled_to.max(position);
    }

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
    ///
    /// `answered_to` is the offset that the server's stream has reached, `joined` the doubt that the start of the
    /// capture casts on it.
    pub(super) fn add_request(
        &mut self,
        request: Box<Incoming>,
        answered_to: u64,
        joined: Doubt,
        limit: usize,
    ) -> bool {
        let mut exchange = Exchange::of_request(request, answered_to);
        let lost = self.requests_lost.take();
        // A client that waits for answers sent this one after the missing ones were answered. So if the server said
        // nothing since, either they were none, or the client does not wait.
        let doubtful = lost.is_some_and(|lost| answered_to <= lost.min(self.settled_to));
        exchange.doubt = if doubtful { Doubt::Lost } else { joined };
        if lost.is_some() && self.open.front().is_some_and(|front| front.doubt == Doubt::Skipped) {
            self.part_front();
        } else {
            self.believe_front();
        }
        let adopted = self.open.is_empty() && !doubtful && self.adopt(&mut exchange);
        self.flush_unasked();
        let reading = adopted
            && self.owner == Owner::Unasked
            && exchange.response.as_ref().is_some_and(|response| !response.done);
        self.open.push_back(exchange);
        if reading {
            self.owner = Owner::Front;
        }
        if self.open.len() > limit {
            self.forget_oldest();
        }
        reading
    }

    /// The client goes on: it has its answer.
    fn believe_front(&mut self) {
        if let Some(front) = self.open.front_mut().filter(|front| front.is_complete()) {
            front.doubt = Doubt::None;
            self.settle();
        }
    }

    /// Gives the oldest response that waits to a request that was sent no later, though it was delivered later.
    fn adopt(&mut self, exchange: &mut Exchange) -> bool {
        if self.pipelines || self.responses_gap || self.order == Order::Ambiguous {
            return false;
        }
        let time = exchange.request_time();
        let before = |unasked: &(Exchange, Why)| {
            let first = unasked.0.response.as_ref().and_then(|response| response.first_time());
            time.zip(first).is_some_and(|(request, response)| request > response)
        };
        while self.unasked.front().is_some_and(before) {
            if self.unasked.len() == 1 && self.owner == Owner::Unasked {
                return false;
            }
            self.release_unasked();
        }
        let Some((unasked, _)) = self.unasked.pop_front() else { return false };
        exchange.response = unasked.response;
        exchange.interim = unasked.interim;
        self.order = Order::Sure;
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
    ///
    /// `under_way` is true when the client's stream stands inside a request.
    pub(super) fn add_response(&mut self, response: Box<Incoming>, under_way: bool) -> Assigned {
        let mut assigned = self.assign(response.first_time(), under_way);
        let interim = std::mem::take(&mut self.interim);
        match (assigned.without, self.open.front_mut()) {
            (None, Some(exchange)) => {
                assigned.doubtful = exchange.doubt != Doubt::None;
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
                assigned.doubtful = without != Some(Without::Forgotten);
                self.unasked.push_back((exchange, why));
                self.owner = Owner::Unasked;
            }
        }
        assigned
    }

    fn assign(&mut self, first: Option<Timestamp>, under_way: bool) -> Assigned {
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
            Order::Lost | Order::Ambiguous => self.assign_by_time(first, under_way),
        }
    }

    fn assign_in_order(&mut self, first: Option<Timestamp>) -> Assigned {
        let without = |why| Assigned { without: Some(why), ..Assigned::default() };
        self.doubt_front();
        // A front with a response waits for the end of its request: a second response is nobody's.
        let Some(front) = self.open.front().filter(|front| front.response.is_none()) else {
            return without(Without::NotYet);
        };
        if front.doubt != Doubt::None {
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

    /// One more response came than requests were seen: that of a doubtful pair was another request's.
    fn doubt_front(&mut self) {
        if self.open.front().is_some_and(|front| front.doubt == Doubt::Skipped && front.is_complete()) {
            self.part_front();
            self.release_front();
            return;
        }
        let doubtful = |front: &&mut Exchange| front.doubt != Doubt::None && front.is_complete();
        if let Some(front) = self.open.front_mut().filter(doubtful) {
            let exchange = Exchange {
                response: front.response.take(),
                interim: std::mem::take(&mut front.interim),
                ..Exchange::default()
            };
            let why = if front.doubt == Doubt::Lost { Why::Gap } else { Why::Ask };
            self.ready.push_back(Ready { exchange, why });
        }
    }

    fn assign_by_time(&mut self, first: Option<Timestamp>, under_way: bool) -> Assigned {
        let sent = self.sent_by(first);
        if sent == 0 {
            // Had the client waited, this response would have its request: more than one was under way.
            return Assigned { without: Some(Without::Gap), ..Assigned::default() };
        }
        let one = sent == 1 || self.takes_turns || self.took_turns(sent);
        let all_seen = self.requests_lost.is_none() && !under_way;
        let settled = self.order == Order::Lost && !self.pipelines && all_seen && one;
        if !settled {
            return self.give_up(first);
        }
        for _ in 1..sent {
            self.release_front();
        }
        self.order = Order::Sure;
        let doubt = if self.responses_gap { Doubt::Skipped } else { Doubt::None };
        let assigned = self.pair_front();
        if let Some(front) = self.open.front_mut() {
            front.doubt = doubt;
        }
        assigned
    }

    /// True when the server said something, or bytes of it went missing, between each two of the first requests.
    fn took_turns(&self, count: usize) -> bool {
        let first = self.open.iter().take(count);
        first.clone().zip(first.skip(1)).all(|(earlier, next)| earlier.answered_to < next.answered_to)
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
    ///
    /// `position` is where the server's stream stands.
    pub(super) fn end_response(&mut self, position: u64) {
        if self.owner == Owner::Front {
            self.settled_to = position;
        }
        self.owner = Owner::None;
        self.settle();
    }

    /// Hands out the front if both halves are done; to be called when a request has ended.
    pub(super) fn settle(&mut self) {
        let certain = |front: &Exchange| front.is_complete() && front.doubt == Doubt::None;
        while self.owner != Owner::Front && self.open.front().is_some_and(certain) {
            let Some(exchange) = self.open.pop_front() else { return };
            self.takes_turns |= self.open.is_empty();
            self.ready.push_back(Ready { exchange, why: Why::Ask });
        }
    }

    /// Requests may be missing before the next one; the server's stream has reached `server_end`.
    pub(super) fn lose_requests(&mut self, server_end: u64) {
        self.requests_lost = Some(server_end);
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
        self.part_unconfirmed();
        while !self.open.is_empty() {
            self.release_front();
        }
    }

    /// Takes a pair apart that nothing has confirmed when the end comes. A connection that was joined right before a
    /// request is given the benefit of the doubt, if the response ends where it should.
    fn part_unconfirmed(&mut self) {
        let unconfirmed = self.open.front().is_some_and(|front| match front.doubt {
            Doubt::None => false,
            Doubt::Joined => !front.response.as_ref().is_some_and(|response| response.whole),
            Doubt::Lost | Doubt::Skipped => true,
        });
        if unconfirmed {
            self.part_front();
        }
    }

    /// Hands out the response of the front as nobody's; the request stays.
    fn part_front(&mut self) {
        let Some(front) = self.open.front_mut() else { return };
        front.doubt = Doubt::None;
        let Some(mut response) = front.response.take() else { return };
        response.head.findings.add(Rule::AmbiguousPairing);
        let interim = std::mem::take(&mut front.interim);
        let exchange = Exchange { response: Some(response), interim, ..Exchange::default() };
        self.ready.push_back(Ready { exchange, why: Why::Gap });
        self.responses_gap = true;
    }
}

/// True when the request was certainly sent after the response began.
fn later(request: Option<Timestamp>, response: Option<Timestamp>) -> bool {
    request.zip(response).is_some_and(|(request, response)| request > response)
}
