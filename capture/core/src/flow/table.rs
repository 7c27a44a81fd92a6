//! The table of connections: a map to slots, and lists in the order of last use.
//!
//! **Address spaces.** VLAN and tunnel ids are not part of the key: many taps tag one direction only, and some tunnels
//! have an id per direction. Each connection remembers the space of each direction instead. A packet of the same tuple
//! and direction from another space is another connection, which goes under a key with that space in it; or it is the
//! same one seen a second time (on the host's interface and inside the overlay's tunnel), which the connection itself
//! recognises by its SYN: then that key becomes a second name of it.
//!
//! **Order of last use.** A list per kind of waiting, linked through the slots. A connection moves to the end at most
//! once a second of capture time, so that a busy one does not touch its neighbours' cache lines with every packet; the
//! exact time of last use is kept beside it, and decides.

use hashbrown::HashMap;

use super::key::{FlowKey, Sighting};

/// Names a connection for as long as it lives: a slot is used again under another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct SlotId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// What a connection waits for; each kind has its own idle time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Ended, and remembered for stragglers.
    Linger,
    /// A handshake that is not complete.
    Handshake,
    /// A UDP flow.
    Udp,
    /// A TCP connection.
    Tcp,
}

impl Waiting {
    pub(crate) const ALL: [Self; 4] = [Self::Linger, Self::Handshake, Self::Udp, Self::Tcp];
}

/// End of a list.
const NONE: u32 = u32::MAX;
/// How stale a place in the list may be, in microseconds.
const COARSE: i64 = 1_000_000;

#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
    length: usize,
}

struct Slot<C> {
    generation: u32,
    previous: u32,
    next: u32,
    waiting: Waiting,
    /// Time of the last move to the end of the list.
    listed: i64,
    /// Time of the last packet.
    used: i64,
    key: FlowKey,
    /// Address space of the packets of the lower end and of the higher end.
    spaces: [Option<u32>; 2],
    /// Further keys that lead here: none in nearly every connection.
    aliases: Vec<FlowKey>,
    connection: C,
}

/// Second names of one connection: a packet crosses fewer tunnels than this on one host. A guess.
const MOST_ALIASES: usize = 8;

/// See the module.
pub(crate) struct Table<C> {
    slots: Vec<Option<Slot<C>>>,
    generations: Vec<u32>,
    free: Vec<u32>,
    map: HashMap<FlowKey, u32, foldhash::fast::RandomState>,
    /// Keys with an address space in them: none in nearly every capture, so the second look-up is skipped.
    alternates: usize,
    lists: [List; 4],
}

impl<C> Default for Table<C> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            generations: Vec::new(),
            free: Vec::new(),
            map: HashMap::default(),
            alternates: 0,
            lists: [List { first: NONE, last: NONE, length: 0 }; 4],
        }
    }
}

impl<C> Table<C> {
    /// Connections in the table, ended ones included.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The connection of a packet.
    pub(crate) fn find(&mut self, sighting: Sighting, domain: u32) -> Option<u32> {
        let Some(index) = self.map.get(&sighting.key).copied() else {
            return self.find_alternate(sighting.key, domain);
        };
        let side = usize::from(sighting.from_low);
        let spaces = self.slot(index)?.spaces;
        if spaces[side] == Some(domain) {
            return Some(index);
        }
        if spaces[side].is_some() {
            return self.find_alternate(sighting.key, domain);
        }
        if spaces[1 - side] != Some(domain)
            && let Some(alternate) = self.find_alternate(sighting.key, domain)
        {
            return Some(alternate);
        }
        self.slot_mut(index)?.spaces[side] = Some(domain);
        Some(index)
    }

    fn find_alternate(&self, key: FlowKey, domain: u32) -> Option<u32> {
        if self.alternates == 0 { None } else { self.map.get(&key.in_space(domain)).copied() }
    }

    /// The connection that has the tuple in the first address space, for a packet that [`Table::find`] did not know.
    pub(crate) fn namesake(&self, sighting: Sighting) -> Option<(u32, &C)> {
        let index = self.map.get(&sighting.key).copied()?;
        self.slot(index).map(|slot| (index, &slot.connection))
    }

    /// Gives a connection a second name: its tuple in another address space.
    pub(crate) fn add_alias(&mut self, index: u32, sighting: Sighting, domain: u32) {
        let key = sighting.key.in_space(domain);
        if let Some(slot) = self.slot_mut(index)
            && slot.aliases.len() < MOST_ALIASES
        {
            slot.aliases.push(key);
            self.map.insert(key, index);
            self.alternates += 1;
        }
    }

    /// Adds a connection that [`Table::find`] did not know; `make` is told its slot.
    pub(crate) fn insert(
        &mut self,
        sighting: Sighting,
        domain: u32,
        waiting: Waiting,
        now: i64,
        make: impl FnOnce(SlotId, FlowKey) -> C,
    ) -> u32 {
        let mut key = sighting.key;
        if self.map.contains_key(&key) {
            key = key.in_space(domain);
            self.alternates += 1;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.generations.push(0);
            u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
        });
        let generation = self.generations.get(index as usize).copied().unwrap_or_default();
        let mut spaces = [None; 2];
        spaces[usize::from(sighting.from_low)] = Some(domain);
        if key.is_alternate() {
            spaces = [Some(domain); 2];
        }
        let connection = make(SlotId { index, generation }, key);
        let slot = Slot {
            generation,
            previous: NONE,
            next: NONE,
            waiting,
            listed: now,
            used: now,
            key,
            spaces,
            aliases: Vec::new(),
            connection,
        };
        if let Some(place) = self.slots.get_mut(index as usize) {
            *place = Some(slot);
        }
        self.map.insert(key, index);
        self.append(index);
        index
    }

    /// Takes a connection out.
    pub(crate) fn remove(&mut self, index: u32) -> Option<C> {
        self.unlink(index);
        let slot = self.slots.get_mut(index as usize)?.take()?;
        for key in slot.aliases.iter().chain([&slot.key]) {
            self.map.remove(key);
            self.alternates -= usize::from(key.is_alternate());
        }
        if let Some(generation) = self.generations.get_mut(index as usize) {
            *generation = generation.wrapping_add(1);
        }
        self.free.push(index);
        Some(slot.connection)
    }

    /// The connection in a slot.
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut C> {
        self.slot_mut(index).map(|slot| &mut slot.connection)
    }

    /// The connection that a slot id names, if it still lives.
    pub(crate) fn named_mut(&mut self, id: SlotId) -> Option<&mut C> {
        self.slot_mut(id.index)
            .filter(|slot| slot.generation == id.generation)
            .map(|slot| &mut slot.connection)
    }

    /// All connections in the order of their slots, which depends on nothing but the packets.
    pub(crate) fn indexes(&self) -> Vec<u32> {
        (0_u32..).zip(&self.slots).filter(|(_, slot)| slot.is_some()).map(|(index, _)| index).collect()
    }

    /// Notes that a connection was used, and what it waits for now; true if that is something else than before.
    pub(crate) fn touch(&mut self, index: u32, waiting: Waiting, now: i64) -> bool {
        let Some(slot) = self.slot_mut(index) else { return false };
        slot.used = now;
        let changes = slot.waiting != waiting;
        if !changes && now.saturating_sub(slot.listed) < COARSE {
            return false;
        }
        self.unlink(index);
        if let Some(slot) = self.slot_mut(index) {
            (slot.waiting, slot.listed) = (waiting, now);
        }
        self.append(index);
        changes
    }

    /// The next connection of a kind that was last used `idle` microseconds ago or earlier. One that is due may wait
    /// behind one that was used since its last move, but not for longer than [`COARSE`].
    pub(crate) fn idle(&self, waiting: Waiting, idle: i64, now: i64) -> Option<u32> {
        let first = self.lists[waiting as usize].first;
        let slot = self.slot(first)?;
        (slot.used <= now.saturating_sub(idle)).then_some(first)
    }

    /// The connection of a kind that waits for longest, if there are more than `bound` of them.
    pub(crate) fn surplus(&self, waiting: Waiting, bound: usize) -> Option<u32> {
        let list = &self.lists[waiting as usize];
        (list.length > bound).then_some(list.first)
    }

    /// When the first connection of a kind was last used.
    pub(crate) fn oldest(&self, waiting: Waiting) -> Option<i64> {
        self.slot(self.lists[waiting as usize].first).map(|slot| slot.used)
    }

    /// The connection to give up when the table is full: an ended one, else one without a handshake, else the one
    /// that was not used for longest. So a flood of SYNs displaces itself first.
    pub(crate) fn least_useful(&self) -> Option<u32> {
        let first = |waiting: Waiting| {
            let index = self.lists[waiting as usize].first;
            self.slot(index).map(|slot| (slot.listed, index))
        };
        first(Waiting::Linger)
            .or_else(|| first(Waiting::Handshake))
            .or_else(|| first(Waiting::Udp).into_iter().chain(first(Waiting::Tcp)).min())
            .map(|(_, index)| index)
    }

    fn slot(&self, index: u32) -> Option<&Slot<C>> {
        self.slots.get(index as usize)?.as_ref()
    }

    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot<C>> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    fn append(&mut self, index: u32) {
        let Some(waiting) = self.slot(index).map(|slot| slot.waiting) else { return };
        self.lists[waiting as usize].length += 1;
        let last = std::mem::replace(&mut self.lists[waiting as usize].last, index);
        match self.slot_mut(last) {
            Some(slot) => slot.next = index,
            None => self.lists[waiting as usize].first = index,
        }
        if let Some(slot) = self.slot_mut(index) {
            (slot.previous, slot.next) = (last, NONE);
        }
    }

    fn unlink(&mut self, index: u32) {
        let Some((waiting, previous, next)) =
            self.slot(index).map(|slot| (slot.waiting as usize, slot.previous, slot.next))
        else {
            return;
        };
        self.lists[waiting].length -= 1;
        match self.slot_mut(previous) {
            Some(slot) => slot.next = next,
            None => self.lists[waiting].first = next,
        }
        match self.slot_mut(next) {
            Some(slot) => slot.previous = previous,
            None => self.lists[waiting].last = previous,
        }
    }
}

#[cfg(test)]
mod tests {
    use wirecall_schemas::Transport;

    use super::*;
    use crate::packet::Addresses;

    fn sighting(port: u16) -> Sighting {
        FlowKey::of(&Addresses { source: 1, destination: 2, is_v6: false }, [port, 80], Transport::Tcp)
    }

    fn answer(port: u16) -> Sighting {
        FlowKey::of(&Addresses { source: 2, destination: 1, is_v6: false }, [80, port], Transport::Tcp)
    }

    fn table_of(ports: &[u16]) -> Table<u16> {
        let mut table = Table::default();
        for (now, port) in (0..).zip(ports) {
            table.insert(sighting(*port), 0, Waiting::Tcp, now, |_, _| *port);
        }
        table
    }

    #[test]
    fn a_slot_is_not_mistaken_for_its_predecessor() {
        let mut table = Table::default();
        let mut id = SlotId::default();
        let index = table.insert(sighting(1), 0, Waiting::Tcp, 0, |slot, _| {
            id = slot;
            1_u16
        });
        assert_eq!(table.remove(index), Some(1));
        table.insert(sighting(2), 0, Waiting::Tcp, 0, |_, _| 2);
        assert_eq!(table.named_mut(id), None);
        assert_eq!(table.remove(99), None);
    }

    #[test]
    fn idle_connections_come_in_order_and_used_ones_stay() {
        let mut table = table_of(&[1, 2, 3]);
        assert!(!table.touch(0, Waiting::Tcp, 5_000_000));
        let mut gone = Vec::new();
        while let Some(index) = table.idle(Waiting::Tcp, 100, 5_000_050) {
            gone.push(table.remove(index).unwrap());
        }
        assert_eq!(gone, [2, 3]);
        assert_eq!(table.idle(Waiting::Tcp, 100, 5_000_099), None);
        assert_eq!(table.idle(Waiting::Tcp, 100, 5_000_100), Some(0));
        assert!(table.touch(0, Waiting::Linger, 5_000_100));
        assert_eq!(table.idle(Waiting::Tcp, 100, 9_000_000), None);
    }

    #[test]
    fn a_flood_of_handshakes_displaces_itself() {
        let mut table = table_of(&[1, 2]);
        table.insert(sighting(3), 0, Waiting::Handshake, 9, |_, _| 3);
        assert_eq!(table.least_useful(), Some(2));
        assert!(table.touch(2, Waiting::Linger, 9));
        assert_eq!(table.least_useful(), Some(2));
        table.remove(2);
        assert_eq!(table.least_useful(), Some(0));
    }

    #[test]
    fn one_sided_tags_are_one_connection() {
        let mut table = Table::default();
        let index = table.insert(sighting(1), 0, Waiting::Tcp, 0, |_, _| ());
        assert_eq!(table.find(answer(1), 77), Some(index));
        assert_eq!(table.find(sighting(1), 0), Some(index));
    }

    #[test]
    fn the_same_tuple_in_another_space_is_another_connection() {
        let mut table = Table::default();
        let first = table.insert(sighting(1), 5, Waiting::Tcp, 0, |_, _| ());
        assert_eq!(table.find(sighting(1), 6), None);
        let second = table.insert(sighting(1), 6, Waiting::Tcp, 0, |_, _| ());
        assert_eq!(table.find(answer(1), 6), Some(second));
        assert_eq!(table.find(answer(1), 5), Some(first));
        table.remove(first);
        assert_eq!(table.find(answer(1), 6), Some(second));
    }
}
