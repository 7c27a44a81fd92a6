//! Deadlines of connections, in two queues that need no scan.
//!
//! All runs wait equally long, so their deadlines come in the order in which they are set: a plain queue. Reorder
//! deadlines do not, but are rare: a heap. Idle times are kept by the table's lists. An entry is not taken out when
//! its reason goes away; it is compared with the connection's own deadline when its time comes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::table::SlotId;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    runs: VecDeque<(i64, SlotId)>,
    reorder: BinaryHeap<Reverse<(i64, SlotId)>>,
}

impl Timers {
    /// A run began that is due at `deadline`.
    pub(crate) fn set_run(&mut self, deadline: i64, slot: SlotId) {
        self.runs.push_back((deadline, slot));
    }

    /// Something waits in a reorder buffer until `deadline`.
    pub(crate) fn set_reorder(&mut self, deadline: i64, slot: SlotId) {
        self.reorder.push(Reverse((deadline, slot)));
    }

    /// The next run that is due.
    pub(crate) fn due_run(&mut self, now: i64) -> Option<(i64, SlotId)> {
        self.runs.pop_front_if(|(deadline, _)| *deadline <= now)
    }

    /// The next reorder deadline that has passed.
    pub(crate) fn due_reorder(&mut self, now: i64) -> Option<(i64, SlotId)> {
        let due = self.reorder.peek().is_some_and(|Reverse((deadline, _))| *deadline <= now);
        if due { self.reorder.pop().map(|Reverse(entry)| entry) } else { None }
    }

    /// The oldest reorder deadline, due or not: for when memory is short.
    pub(crate) fn oldest_reorder(&mut self) -> Option<(i64, SlotId)> {
        self.reorder.pop().map(|Reverse(entry)| entry)
    }

    /// The oldest run, due or not: for when memory is short.
    pub(crate) fn oldest_run(&mut self) -> Option<(i64, SlotId)> {
        self.runs.pop_front()
    }

    /// Whether any deadline has passed.
    pub(crate) fn is_due(&self, now: i64) -> bool {
        self.runs.front().is_some_and(|(deadline, _)| *deadline <= now)
            || self.reorder.peek().is_some_and(|Reverse((deadline, _))| *deadline <= now)
    }
}
