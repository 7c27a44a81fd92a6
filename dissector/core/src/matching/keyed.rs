//! Pairing by key: a stream or correlation id tells whose answer it is (HTTP/2, DNS, Kafka).

use std::collections::BTreeMap;
use std::hash::Hash;

use hashbrown::HashMap;

/// Open requests by key, in the order they were asked.
///
/// Bounded: beyond `capacity` the oldest open request makes room, since with keys nothing is shifted by its loss.
#[derive(Clone, Debug)]
pub struct Keyed<Key, Request> {
    /// Where in `open` a key's request stands. Only looked up, never walked: the order of a hash map must not show.
    places: HashMap<Key, u64, foldhash::fast::RandomState>,
    open: BTreeMap<u64, Pending<Key, Request>>,
    asked: u64,
    capacity: usize,
}

#[derive(Clone, Debug)]
struct Pending<Key, Request> {
    key: Key,
    request: Request,
    repeats: u32,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened<'k, Key, Request> {
    /// It waits for its answer.
    New,
    /// It waits, and the oldest request made room: emit that one as unanswered for reason of a limit.
    Displaced(Key, Request),
    /// A request with this key is open already: a retransmission, or the reuse of a key whose answer was lost. The
    /// new request is given back beside the open one.
    Repeated {
        /// The open request.
        open: &'k mut Request,
        /// How often it was repeated, this time included.
        repeats: u32,
        /// The new one.
        repeated: Request,
    },
}

impl<Key: Hash + Eq + Clone, Request> Keyed<Key, Request> {
    /// No open requests, at most `capacity` (at least 1) of them at once.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { places: HashMap::default(), open: BTreeMap::new(), asked: 0, capacity: capacity.max(1) }
    }

    /// Adds a request.
    pub fn ask(&mut self, key: Key, request: Request) -> Opened<'_, Key, Request> {
        if let Some(place) = self.places.get(&key) {
            // Every place in the index has its entry; the insert below covers the impossible other case.
            if self.open.contains_key(place) {
                return self.repeat(*place, request);
            }
        }
        let displaced = if self.open.len() >= self.capacity { self.take_oldest() } else { None };
        self.places.insert(key.clone(), self.asked);
        self.open.insert(self.asked, Pending { key, request, repeats: 0 });
        self.asked += 1;
        displaced.map_or(Opened::New, |(key, request)| Opened::Displaced(key, request))
    }

    fn repeat(&mut self, place: u64, repeated: Request) -> Opened<'_, Key, Request> {
        match self.open.get_mut(&place) {
            Some(pending) => {
                pending.repeats = pending.repeats.saturating_add(1);
                Opened::Repeated { open: &mut pending.request, repeats: pending.repeats, repeated }
            }
            None => Opened::New,
        }
    }

    /// The open request with this key, to change it.
    pub fn get_mut(&mut self, key: &Key) -> Option<&mut Request> {
        let place = self.places.get(key)?;
        self.open.get_mut(place).map(|pending| &mut pending.request)
    }

    /// Takes the request that an answer with this key belongs to, and how often it was repeated.
    pub fn answer(&mut self, key: &Key) -> Option<(Request, u32)> {
        let place = self.places.remove(key)?;
        self.open.remove(&place).map(|pending| (pending.request, pending.repeats))
    }

    /// Takes the request that waits longest.
    pub fn take_oldest(&mut self) -> Option<(Key, Request)> {
        let (_, pending) = self.open.pop_first()?;
        self.places.remove(&pending.key);
        Some((pending.key, pending.request))
    }

    /// The request that waits longest.
    #[must_use]
    pub fn oldest(&self) -> Option<(&Key, &Request)> {
        self.open.first_key_value().map(|(_, pending)| (&pending.key, &pending.request))
    }

    /// Takes all open requests in the order they were asked.
    pub fn drain(&mut self) -> impl Iterator<Item = (Key, Request)> + use<Key, Request> {
        self.places.clear();
        std::mem::take(&mut self.open).into_values().map(|pending| (pending.key, pending.request))
    }

    /// The open requests in the order they were asked.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Request)> {
        self.open.values().map(|pending| (&pending.key, &pending.request))
    }

    /// Number of open requests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// True when none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_find_their_request_in_any_order() {
        let mut keyed = Keyed::new(10);
        for key in [3, 1, 2] {
            assert_eq!(keyed.ask(key, key * 10), Opened::New);
        }
        assert_eq!(keyed.answer(&2), Some((20, 0)));
        assert_eq!(keyed.answer(&2), None);
        assert_eq!(keyed.drain().collect::<Vec<_>>(), [(3, 30), (1, 10)]);
        assert!(keyed.is_empty());
    }

    #[test]
    fn a_repeated_key_is_counted_and_opens_nothing() {
        let mut keyed = Keyed::new(10);
        assert_eq!(keyed.ask(7, "first"), Opened::New);
        assert_eq!(
            keyed.ask(7, "again"),
            Opened::Repeated { open: &mut "first", repeats: 1, repeated: "again" }
        );
        assert_eq!(keyed.answer(&7), Some(("first", 1)));
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut keyed = Keyed::new(2);
        assert_eq!(keyed.ask(1, 'a'), Opened::New);
        assert_eq!(keyed.ask(2, 'b'), Opened::New);
        assert_eq!(keyed.ask(3, 'c'), Opened::Displaced(1, 'a'));
        assert_eq!(keyed.answer(&1), None);
        assert_eq!(keyed.oldest(), Some((&2, &'b')));
        assert_eq!(keyed.len(), 2);
    }
}
