//! Pairing by order: the first answer belongs to the first open request (HTTP/1, Redis, SMTP).

use std::collections::VecDeque;

/// Open requests in the order they were asked. `Request` is whatever the session needs when the answer comes: the draft
/// of the call, and what steers the response parser (RFC 9112 section 6.3: HEAD and CONNECT change the framing).
///
/// Bounded: beyond `capacity` a request no longer waits with its contents. Its place is kept as a number, so that its
/// answer is not taken for another request's.
#[derive(Clone, Debug)]
pub struct Ordered<Request> {
    places: VecDeque<Place<Request>>,
    open: usize,
    capacity: usize,
}

#[derive(Clone, Debug)]
enum Place<Request> {
    Open(Request),
    /// This many requests that did not fit.
    Forgotten(u64),
}

/// Whose answer the next one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<Request> {
    /// This request's.
    Of(Request),
    /// That of a request whose contents were given up ([`Ordered::ask`]).
    OfForgotten,
    /// Nobody asked: the request was not seen, or not yet.
    Unasked,
}

impl<Request> Ordered<Request> {
    /// No open requests, at most `capacity` of them at once.
    #[must_use]
    pub const fn new(capacity: usize) -> Self {
        Self { places: VecDeque::new(), open: 0, capacity }
    }

    /// Adds a request.
    ///
    /// # Errors
    /// Gives the request back when too many are open: emit it as unanswered for reason of a limit. Its place is kept.
    pub fn ask(&mut self, request: Request) -> Result<(), Request> {
        if self.open < self.capacity {
            self.open += 1;
            self.places.push_back(Place::Open(request));
            return Ok(());
        }
        self.forget();
        Err(request)
    }

    /// Adds the place of a request whose contents are not known or not kept.
    pub fn forget(&mut self) {
        if let Some(Place::Forgotten(count)) = self.places.back_mut() {
            *count = count.saturating_add(1);
        } else {
            self.places.push_back(Place::Forgotten(1));
        }
    }

    /// The request that the next answer belongs to, to steer its parser; none when it is forgotten or nobody asked.
    #[must_use]
    pub fn next(&self) -> Option<&Request> {
        match self.places.front() {
            Some(Place::Open(request)) => Some(request),
            Some(Place::Forgotten(_)) | None => None,
        }
    }

    /// As [`Ordered::next`], to change it (an interim answer came).
    pub fn next_mut(&mut self) -> Option<&mut Request> {
        match self.places.front_mut() {
            Some(Place::Open(request)) => Some(request),
            Some(Place::Forgotten(_)) | None => None,
        }
    }

    /// The request asked last, to change it (its body goes on).
    pub fn last_mut(&mut self) -> Option<&mut Request> {
        match self.places.back_mut() {
            Some(Place::Open(request)) => Some(request),
            Some(Place::Forgotten(_)) | None => None,
        }
    }

    /// Takes the request that the next answer belongs to.
    pub fn answer(&mut self) -> Answer<Request> {
        match self.places.front_mut() {
            None => Answer::Unasked,
            Some(Place::Forgotten(count)) => {
                *count -= 1;
                if *count == 0 {
                    self.places.pop_front();
                }
                Answer::OfForgotten
            }
            Some(Place::Open(_)) => match self.places.pop_front() {
                Some(Place::Open(request)) => {
                    self.open -= 1;
                    Answer::Of(request)
                }
                _ => Answer::Unasked,
            },
        }
    }

    /// Takes all open requests in their order and drops the forgotten places: after answers were lost, nothing that
    /// follows can be paired by order.
    pub fn drain(&mut self) -> impl Iterator<Item = Request> + use<Request> {
        self.open = 0;
        std::mem::take(&mut self.places).into_iter().filter_map(|place| match place {
            Place::Open(request) => Some(request),
            Place::Forgotten(_) => None,
        })
    }

    /// The open requests in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Request> {
        self.places.iter().filter_map(|place| match place {
            Place::Open(request) => Some(request),
            Place::Forgotten(_) => None,
        })
    }

    /// Number of open requests, without the forgotten.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.open
    }

    /// True when no answer is expected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_the_order_of_requests() {
        let mut ordered = Ordered::new(10);
        ordered.ask("a").unwrap();
        ordered.ask("b").unwrap();
        assert_eq!(ordered.next(), Some(&"a"));
        assert_eq!(ordered.answer(), Answer::Of("a"));
        assert_eq!(ordered.answer(), Answer::Of("b"));
        assert_eq!(ordered.answer(), Answer::Unasked);
    }

    #[test]
    fn a_request_beyond_the_limit_keeps_its_place() {
        let mut ordered = Ordered::new(2);
        let outcomes: Vec<_> = (0..5).map(|request| ordered.ask(request)).collect();
        assert_eq!(outcomes, [Ok(()), Ok(()), Err(2), Err(3), Err(4)]);
        assert_eq!(ordered.answer(), Answer::Of(0));
        ordered.ask(5).unwrap();
        let answers: Vec<_> = (0..6).map(|_| ordered.answer()).collect();
        let forgotten = Answer::OfForgotten;
        assert_eq!(
            answers,
            [Answer::Of(1), forgotten.clone(), forgotten.clone(), forgotten, Answer::Of(5), Answer::Unasked]
        );
        assert_eq!(ordered.len(), 0);
    }

    #[test]
    fn a_million_requests_beyond_the_limit_cost_one_place() {
        let mut ordered = Ordered::new(1);
        let refused = (0..1_000_000).filter(|request| ordered.ask(*request).is_err()).count();
        assert_eq!((refused, ordered.places.len()), (999_999, 2));
    }

    #[test]
    fn draining_forgets_the_places_too() {
        let mut ordered = Ordered::new(2);
        for request in 0..4 {
            let _ = ordered.ask(request);
        }
        assert_eq!(ordered.drain().collect::<Vec<_>>(), [0, 1]);
        assert_eq!((ordered.answer(), ordered.len()), (Answer::Unasked, 0));
    }
}
