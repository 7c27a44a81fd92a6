//! Intervals of time, and lists of them that answer "which of these cover this moment".
//!
//! An address is reused: what held it at nine is not what holds it at ten. So every fact of identity carries the time
//! it held, half-open, and the question always carries a time.

use wirecall_schemas::Timestamp;

/// The time from `from`, inclusive, to `to`, exclusive; without `to` it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// First moment inside.
    pub from: Timestamp,
    /// First moment after it; none while it lasts.
    pub to: Option<Timestamp>,
}

impl Interval {
    /// True when `time` lies inside. An interval that ends before it starts holds nothing.
    pub fn contains(&self, time: Timestamp) -> bool {
        self.from <= time && self.end() > time
    }

    /// The end, with the last moment of all for an interval that lasts.
    fn end(&self) -> Timestamp {
        self.to.unwrap_or(Timestamp::from_micros(i64::MAX))
    }
}

/// Values with intervals, ordered by their start.
///
/// ```text
///          t
/// a ├──────┼───────┤          latest_end of a: a's end
/// b   ├──┤ │                  latest_end of b: a's end, for a reaches further
/// c        │   ├──────▶       starts after t: not looked at
/// ```
///
/// A search starts at the last entry that began before the moment and walks back until the running maximum of the
/// ends says that nothing earlier can reach it. An address that a thousand short-lived pods have had costs a few steps.
#[derive(Clone, Debug)]
pub struct IntervalList<T> {
    entries: Vec<Entry<T>>,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    interval: Interval,
    /// The latest end among this entry and all before it.
    latest_end: Timestamp,
    value: T,
}

impl<T> Default for IntervalList<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<T> IntervalList<T> {
    /// Adds a value. Among equal starts the later insertion counts as newer.
    pub fn insert(&mut self, interval: Interval, value: T) {
        let place = self.entries.partition_point(|entry| entry.interval.from <= interval.from);
        self.entries.insert(place, Entry { interval, latest_end: interval.end(), value });
        self.mend(place);
    }

    /// Removes the values for which `unwanted` is true, and tells how many there were.
    pub fn remove(&mut self, mut unwanted: impl FnMut(&T) -> bool) -> usize {
        let before = self.entries.len();
        self.entries.retain(|entry| !unwanted(&entry.value));
        self.mend(0);
        before - self.entries.len()
    }

    /// The values that hold at `time`, the one that began last first.
    pub fn at(&self, time: Timestamp) -> impl Iterator<Item = &T> {
        let begun = self.entries.partition_point(|entry| entry.interval.from <= time);
        self.entries[..begun]
            .iter()
            .rev()
            .take_while(move |entry| entry.latest_end > time)
            .filter(move |entry| entry.interval.contains(time))
            .map(|entry| &entry.value)
    }

    /// True when there are no values.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Computes the running maximum anew from `place` on.
    fn mend(&mut self, place: usize) {
        let mut latest = match place.checked_sub(1).and_then(|before| self.entries.get(before)) {
            Some(entry) => entry.latest_end,
            None => Timestamp::from_micros(i64::MIN),
        };
        for entry in self.entries.iter_mut().skip(place) {
            latest = latest.max(entry.interval.end());
            entry.latest_end = latest;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn interval(from: i64, to: Option<i64>) -> Interval {
        Interval { from: Timestamp::from_micros(from), to: to.map(Timestamp::from_micros) }
    }

    #[test]
    fn the_end_is_outside() {
        let hour = interval(10, Some(20));
        for (time, inside) in [(9, false), (10, true), (19, true), (20, false)] {
            assert_eq!(hour.contains(Timestamp::from_micros(time)), inside, "{time}");
        }
        assert!(interval(10, None).contains(Timestamp::from_micros(i64::MAX - 1)));
        assert!(!interval(10, Some(10)).contains(Timestamp::from_micros(10)));
        assert!(!interval(10, Some(5)).contains(Timestamp::from_micros(7)));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(i64, Option<i64>),
        Remove(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_i64..60, proptest::option::of(0_i64..60)).prop_map(|(from, to)| Step::Insert(from, to)),
            1 => (0_usize..40).prop_map(Step::Remove),
        ]
    }

    proptest! {
        /// Whatever was inserted and removed in whatever order, a search finds what a look at everything finds.
        #[test]
        fn a_search_finds_what_a_look_at_everything_finds(steps in proptest::collection::vec(step(), 0..40)) {
            let mut list = IntervalList::default();
            let mut plain: Vec<(Interval, usize)> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(from, to) => {
                        list.insert(interval(from, to), number);
                        plain.push((interval(from, to), number));
                    }
                    Step::Remove(value) => {
                        let removed = list.remove(|other| *other == value);
                        let before = plain.len();
                        plain.retain(|(_, other)| *other != value);
                        prop_assert_eq!(removed, before - plain.len());
                    }
                }
                prop_assert_eq!(list.len(), plain.len());
                prop_assert_eq!(list.is_empty(), plain.is_empty());
            }
            for time in (-1..62).map(Timestamp::from_micros) {
                let found: Vec<_> = list.at(time).copied().collect();
                let mut expected: Vec<_> = plain.iter().filter(|(interval, _)| interval.contains(time)).collect();
                expected.sort_by_key(|(interval, number)| std::cmp::Reverse((interval.from, *number)));
                prop_assert_eq!(found, expected.iter().map(|(_, number)| *number).collect::<Vec<_>>());
            }
        }
    }
}
