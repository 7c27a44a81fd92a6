//! IP datagrams from fragments, bounded in number, in pieces and in time.
//!
//! An exact repeat of a fragment is a duplicate. Any other overlap throws the datagram away, as RFC 5722 demands for
//! IPv6 and as Linux does for both versions: overlaps are how a sender shows a monitor something else than the host.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::Addresses;
use super::walk::Walk;
use crate::limits::{Limit, Limits};
use crate::stats::{Reason, Stats};

/// Longest payload of an IP datagram.
const LARGEST_DATAGRAM: usize = 65_535;

/// One fragment as it was captured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'p> {
    key: Key,
    offset: usize,
    more: bool,
    data: &'p [u8],
    headers_left: u8,
}

/// What the fragments of one datagram share (RFC 791 section 2.3, RFC 8200 section 4.5), and the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    addresses: Addresses,
    protocol: u8,
    identification: u32,
    domain: u32,
}

impl<'p> Part<'p> {
    /// Takes what follows the IP headers as a part of a datagram.
    pub(super) fn read(
        walk: &Walk<'p>,
        addresses: Addresses,
        protocol: u8,
        identification: u32,
        offset: usize,
        more: bool,
    ) -> Result<Self, Reason> {
        let data = walk.rest();
        // A cut fragment cannot be completed; all but the last must end on eight bytes.
        if walk.beyond() > 0 {
            return Err(Reason::Truncated);
        }
        if data.is_empty()
            || (more && !data.len().is_multiple_of(8))
            || offset + data.len() > LARGEST_DATAGRAM
        {
            return Err(Reason::Malformed);
        }
        let key = Key { addresses, protocol, identification, domain: walk.domain() };
        Ok(Self { key, offset, more, data, headers_left: walk.headers_left() })
    }
}

/// A datagram that is whole again.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) addresses: Addresses,
    pub(crate) protocol: u8,
    pub(crate) domain: u32,
    pub(crate) headers_left: u8,
    pub(crate) data: Vec<u8>,
    /// Frames it came in.
    pub(crate) packets: u64,
    /// Captured bytes of these frames, headers and all.
    pub(crate) captured: u64,
}

/// A datagram that waits for more.
struct Partial {
    /// Number of the datagram, to tell it from a later one of the same key.
    ordinal: u64,
    /// Sorted by offset, without overlaps.
    pieces: Vec<(usize, Box<[u8]>)>,
    bytes: usize,
    /// Length of the whole, known from the last fragment.
    total: Option<usize>,
    packets: u64,
    captured: u64,
}

/// What became of a fragment that was stored.
enum Fit {
    Stored,
    Repeated,
    Conflict,
}

/// The datagrams under way.
#[derive(Default)]
pub(crate) struct Fragments {
    partial: HashMap<Key, Partial, foldhash::fast::RandomState>,
    /// In the order of their first fragment: all wait equally long, so this is the order of their deadlines.
    deadlines: VecDeque<(i64, Key, u64)>,
    next_ordinal: u64,
    held: usize,
}

impl Fragments {
    /// Payload bytes held.
    pub(crate) const fn held(&self) -> usize {
        self.held
    }

    /// The time at which the oldest datagram is given up, in microseconds of the capture's own clock.
    pub(crate) fn next_deadline(&self) -> Option<i64> {
        self.deadlines.front().map(|(deadline, ..)| *deadline)
    }

    /// Stores a fragment; gives the datagram once it is whole. `frames` are the frames that it came in and their
    /// captured bytes: more than one when it was fragmented again on the way.
    pub(crate) fn handle(
        &mut self,
        part: &Part<'_>,
        frames: (u64, u64),
        now: i64,
        limits: &Limits,
        stats: &mut Stats,
    ) -> Option<Datagram> {
        if !self.partial.contains_key(&part.key) {
            self.begin(part.key, now, limits, stats);
        }
        let (packets, captured) = frames;
        let partial = self.partial.get_mut(&part.key)?;
        if partial.pieces.len() >= limits.fragments_per_datagram {
            stats.reach(Limit::FragmentsPerDatagram);
            stats.count(Reason::FragmentLimit, packets, captured);
            self.drop_datagram(part.key, Reason::FragmentLimit, stats);
            return None;
        }
        match partial.insert(part) {
            Fit::Repeated => stats.count(Reason::Duplicate, packets, captured),
            Fit::Conflict => {
                stats.count(Reason::FragmentOverlap, packets, captured);
                self.drop_datagram(part.key, Reason::FragmentOverlap, stats);
            }
            Fit::Stored => {
                partial.packets += packets;
                partial.captured += captured;
                self.held += part.data.len();
                stats.hold(packets, captured);
                if partial.is_whole() {
                    return self.complete(part, stats);
                }
            }
        }
        None
    }

    fn begin(&mut self, key: Key, now: i64, limits: &Limits, stats: &mut Stats) {
        while self.partial.len() >= limits.fragment_datagrams.max(1) {
            stats.reach(Limit::FragmentDatagrams);
            if !self.evict_oldest(Reason::FragmentLimit, stats) {
                break;
            }
        }
        let ordinal = self.next_ordinal;
        self.next_ordinal += 1;
        self.deadlines.push_back((now.saturating_add(limits.fragment_time), key, ordinal));
        let partial = Partial { ordinal, pieces: Vec::new(), bytes: 0, total: None, packets: 0, captured: 0 };
        self.partial.insert(key, partial);
    }

    fn complete(&mut self, part: &Part<'_>, stats: &mut Stats) -> Option<Datagram> {
        let partial = self.partial.remove(&part.key)?;
        self.held -= partial.bytes;
        stats.release(partial.packets, partial.captured);
        let mut data = Vec::with_capacity(partial.bytes);
        for (_, piece) in &partial.pieces {
            data.extend_from_slice(piece);
        }
        Some(Datagram {
            addresses: part.key.addresses,
            protocol: part.key.protocol,
            domain: part.key.domain,
            headers_left: part.headers_left,
            data,
            packets: partial.packets,
            captured: partial.captured,
        })
    }

    /// Gives up the datagrams whose time is over.
    pub(crate) fn expire(&mut self, now: i64, stats: &mut Stats) {
        while self.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.evict_oldest(Reason::FragmentIncomplete, stats);
        }
    }

    /// Gives up everything: the capture has ended.
    pub(crate) fn finish(&mut self, stats: &mut Stats) {
        while self.evict_oldest(Reason::FragmentIncomplete, stats) {}
    }

    /// Drops the oldest datagram; false when there is none.
    pub(crate) fn evict_oldest(&mut self, reason: Reason, stats: &mut Stats) -> bool {
        while let Some((_, key, ordinal)) = self.deadlines.pop_front() {
            if self.partial.get(&key).is_some_and(|partial| partial.ordinal == ordinal) {
                self.drop_datagram(key, reason, stats);
                return true;
            }
        }
        false
    }

    fn drop_datagram(&mut self, key: Key, reason: Reason, stats: &mut Stats) {
        if let Some(partial) = self.partial.remove(&key) {
            self.held -= partial.bytes;
            stats.release(partial.packets, partial.captured);
            stats.count(reason, partial.packets, partial.captured);
        }
    }
}

impl Partial {
    fn insert(&mut self, part: &Part<'_>) -> Fit {
        let end = part.offset + part.data.len();
        let position = self.pieces.partition_point(|(offset, _)| *offset < part.offset);
        if let Some((offset, data)) = self.pieces.get(position)
            && *offset == part.offset
            && **data == *part.data
        {
            return Fit::Repeated;
        }
        let before = position.checked_sub(1).and_then(|before| self.pieces.get(before));
        let overlaps = before.is_some_and(|(offset, data)| offset + data.len() > part.offset)
            || self.pieces.get(position).is_some_and(|(offset, _)| *offset < end);
        let last = self.pieces.last().map_or(0, |(offset, data)| offset + data.len());
        let contradicts = match (self.total, part.more) {
            (Some(total), true) => end > total,
            (Some(total), false) => end != total,
            (None, true) => false,
            (None, false) => last > end,
        };
        if overlaps || contradicts {
            return Fit::Conflict;
        }
        if !part.more {
            self.total = Some(end);
        }
        self.bytes += part.data.len();
        self.pieces.insert(position, (part.offset, part.data.into()));
        Fit::Stored
    }

    /// Without overlaps, as many bytes as the total means no hole.
    fn is_whole(&self) -> bool {
        self.total == Some(self.bytes)
    }
}
