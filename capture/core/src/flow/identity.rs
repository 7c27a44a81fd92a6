//! Connection keys and ids, derived from content by a fixed hash.
//!
//! The hash is FNV-1a with 128 bits (offset basis `0x6c62272e07bb014262b821756295c58d`, prime `2^88 + 0x13b`), over a
//! tag byte and big-endian fields; a key is its two halves folded with XOR. It must never change: two agents of
//! different versions have to agree, and so do a replay and the run it repeats. It need not resist an attacker: who can
//! choose initial sequence numbers can make ids collide under any public hash, and the ordinal below handles that.
//!
//! | what | tag | fields |
//! |---|---|---|
//! | key, TCP from its handshake | 1 | client ISN |
//! | id, TCP from its handshake | 2 | client ISN, server ISN |
//! | id, TCP that no server answered | 3 | client ISN |
//! | key, TCP mid-stream and UDP | 4 | tuple, address space |
//! | id, TCP mid-stream and UDP | 5 | tuple, address space, time of the first packet in microseconds |
//! | id, used before | 6 | the id, ordinal |
//!
//! Captures made by hand reuse initial sequence numbers (0, 1000). A connection that claims the id of another one,
//! alive or recent, gets the id hashed with an ordinal. The exception is one connection seen twice through address
//! translation: other addresses or ports, at the same time, and a SYN with the same TSval. It keeps the id, so that both
//! sightings meet. (The same addresses and ports seen in two VLANs or tunnels do not come here twice: the table knows
//! them for one connection by the same signs, or else they are two.)

use std::collections::VecDeque;

use hashbrown::HashMap;
use wirecall_schemas::{ConnectionId, ConnectionKey, Timestamp};

use super::key::FlowKey;
use crate::limits::Limit;
use crate::stats::Stats;

const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

/// FNV-1a, 128 bits.
#[derive(Clone, Copy)]
struct StableHash(u128);

impl StableHash {
    fn tagged(tag: u8) -> Self {
        Self(BASIS).with(&[tag])
    }

    fn with(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME)))
    }

    const fn id(self) -> ConnectionId {
        ConnectionId::new(self.0.to_be_bytes())
    }

    fn key(self) -> ConnectionKey {
        let folded = (self.0 >> 64) ^ (self.0 & u128::from(u64::MAX));
        ConnectionKey::new(u64::try_from(folded).unwrap_or_default().to_be_bytes())
    }
}

/// Key of a TCP connection whose handshake was seen.
pub(crate) fn handshake_key(client_isn: u32) -> ConnectionKey {
    StableHash::tagged(1).with(&client_isn.to_be_bytes()).key()
}

/// Id of a TCP connection whose handshake was seen; without a server ISN if nobody answered.
pub(crate) fn handshake_id(client_isn: u32, server_isn: Option<u32>) -> ConnectionId {
    match server_isn {
        Some(server_isn) => {
            StableHash::tagged(2).with(&client_isn.to_be_bytes()).with(&server_isn.to_be_bytes()).id()
        }
        None => StableHash::tagged(3).with(&client_isn.to_be_bytes()).id(),
    }
}

/// Key of a flow that is known by its tuple only.
pub(crate) fn tuple_key(key: &FlowKey, domain: u32) -> ConnectionKey {
    StableHash::tagged(4).with(&key.stable_bytes()).with(&domain.to_be_bytes()).key()
}

/// Id of a flow that is known by its tuple only.
pub(crate) fn tuple_id(key: &FlowKey, domain: u32, first: Timestamp) -> ConnectionId {
    StableHash::tagged(5)
        .with(&key.stable_bytes())
        .with(&domain.to_be_bytes())
        .with(&first.as_micros().to_be_bytes())
        .id()
}

fn salted_id(id: ConnectionId, ordinal: u32) -> ConnectionId {
    if ordinal == 0 {
        return id;
    }
    StableHash::tagged(6).with(id.as_bytes()).with(&ordinal.to_be_bytes()).id()
}

/// An id that a connection holds until [`Identities::release`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    unsalted: ConnectionId,
    ordinal: u32,
    /// The id to use.
    pub(crate) id: ConnectionId,
}

struct Recent {
    ordinal: u32,
    /// Connections that hold the newest ordinal.
    holders: u32,
    tuple: FlowKey,
    timestamp: Option<u32>,
}

/// The ids of live and recent connections, bounded: the oldest is forgotten first.
#[derive(Default)]
pub(crate) struct Identities {
    recent: HashMap<ConnectionId, Recent, foldhash::fast::RandomState>,
    order: VecDeque<ConnectionId>,
}

impl Identities {
    /// Gives a connection its id; `timestamp` is the TSval of its SYN.
    pub(crate) fn claim(
        &mut self,
        unsalted: ConnectionId,
        tuple: FlowKey,
        timestamp: Option<u32>,
        bound: usize,
        stats: &mut Stats,
    ) -> Claim {
        let ordinal = match self.recent.get_mut(&unsalted) {
            Some(recent) => recent.meet(tuple, timestamp),
            None => {
                self.forget(bound, stats);
                self.order.push_back(unsalted);
                self.recent.insert(unsalted, Recent { ordinal: 0, holders: 1, tuple, timestamp });
                0
            }
        };
        Claim { unsalted, ordinal, id: salted_id(unsalted, ordinal) }
    }

    fn forget(&mut self, bound: usize, stats: &mut Stats) {
        while self.order.len() >= bound.max(1) {
            let Some(oldest) = self.order.pop_front() else { return };
            // Forgetting an ended connection is the rule, forgetting a live one is what an operator must know.
            if self.recent.remove(&oldest).is_some_and(|recent| recent.holders > 0) {
                stats.reach(Limit::RecentIds);
            }
        }
    }

    /// The connection has ended.
    pub(crate) fn release(&mut self, claim: &Claim) {
        if let Some(recent) = self.recent.get_mut(&claim.unsalted)
            && recent.ordinal == claim.ordinal
        {
            recent.holders = recent.holders.saturating_sub(1);
        }
    }
}

impl Recent {
    fn meet(&mut self, tuple: FlowKey, timestamp: Option<u32>) -> u32 {
        let translated = self.holders > 0
            && !tuple.has_ends_of(&self.tuple)
            && timestamp.is_some()
            && timestamp == self.timestamp;
        if translated {
            self.holders += 1;
        } else {
            self.ordinal += 1;
            self.holders = 1;
            (self.tuple, self.timestamp) = (tuple, timestamp);
        }
        self.ordinal
    }
}

#[cfg(test)]
mod tests {
    use wirecall_schemas::Transport;

    use super::*;
    use crate::packet::Addresses;

    fn tuple(port: u16) -> FlowKey {
        FlowKey::of(&Addresses { source: 1, destination: 2, is_v6: false }, [port, 80], Transport::Tcp).key
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        // The published vectors for the empty text, "a" and "foobar".
        assert_eq!(StableHash(BASIS).with(b"").0, BASIS);
        assert_eq!(StableHash(BASIS).with(b"a").0, 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
        assert_eq!(StableHash(BASIS).with(b"foobar").0, 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18);
    }

    #[test]
    fn ids_are_fixed_for_ever() {
        assert_eq!(handshake_key(1).to_string(), FIXED[0]);
        assert_eq!(handshake_id(1, Some(2)).to_string(), FIXED[1]);
        assert_eq!(handshake_id(1, None).to_string(), FIXED[2]);
        assert_eq!(tuple_key(&tuple(9), 0).to_string(), FIXED[3]);
        assert_eq!(tuple_id(&tuple(9), 0, Timestamp::from_micros(7)).to_string(), FIXED[4]);
    }

    /// Computed once by another implementation; a change here is a change of the contract.
    const FIXED: [&str; 5] = [
        "985cff7e8b725f70",
        "cb9609767103c100bd9f2e196991a3d4",
        "ffc939571583d94f70803c3a505db255",
        "bfaf7a78c95c2889",
        "5ecedbadb6b5842ec8f82b79a25794df",
    ];

    #[test]
    fn a_reused_id_gets_an_ordinal() {
        let (mut identities, mut stats) = (Identities::default(), Stats::default());
        let id = handshake_id(0, Some(0));
        let first = identities.claim(id, tuple(1), None, 8, &mut stats);
        let second = identities.claim(id, tuple(2), None, 8, &mut stats);
        identities.release(&second);
        let third = identities.claim(id, tuple(2), None, 8, &mut stats);
        assert_eq!(first.id, id);
        assert!(second.id != id && third.id != id && second.id != third.id);
    }

    #[test]
    fn one_connection_through_translation_keeps_its_id() {
        let (mut identities, mut stats) = (Identities::default(), Stats::default());
        let id = handshake_id(5, Some(6));
        let first = identities.claim(id, tuple(1), Some(77), 8, &mut stats);
        let second = identities.claim(id, tuple(2), Some(77), 8, &mut stats);
        assert_eq!(first.id, second.id);
        identities.release(&first);
        identities.release(&second);
        assert_ne!(identities.claim(id, tuple(3), Some(77), 8, &mut stats).id, id, "not at the same time");
    }

    #[test]
    fn limit_recent_ids_is_reached() {
        let (mut identities, mut stats) = (Identities::default(), Stats::default());
        for isn in 0..5 {
            identities.claim(handshake_id(isn, None), tuple(1), None, 3, &mut stats);
        }
        assert_eq!(stats.limit(Limit::RecentIds), 2);
        assert_eq!((identities.recent.len(), identities.order.len()), (3, 3));
    }
}
