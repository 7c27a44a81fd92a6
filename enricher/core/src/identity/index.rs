//! The identity history of a cluster, ready to be asked who had an address at a time.
//!
//! Fed with [`Identity`] records in any order; a record with the key of an earlier one replaces it, as on the
//! compacted topic. Everything is bounded: records leave when they are older than the retention, or when there are too
//! many, the ones that ended first before the others.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use wirecall_schemas::{ByteString, Identity, Timestamp};

use super::interval::IntervalList;
use super::record::{Kind, Record};

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Hops from a pod to its top owner. Kubernetes itself makes two (pod, ReplicaSet, Deployment); operators add one or
/// two; a cycle of forged owner references must end.
const MAX_OWNERS: usize = 8;

/// Bounds of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IndexLimits {
    /// Records kept at most. A record takes 1 to 2 KiB; a million is a cluster of 100,000 pods replaced ten times a day.
    pub max_records: usize,
    /// Seconds that a record outlives its end, for calls that arrive late and for replays.
    pub retention_seconds: u32,
}

impl Default for IndexLimits {
    fn default() -> Self {
        Self { max_records: 1_000_000, retention_seconds: 7 * 24 * 3600 }
    }
}

/// What happened to the records that were fed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexStats {
    /// Records taken in for the first time.
    pub added: u64,
    /// Records that replaced one with the same key.
    pub replaced: u64,
    /// Records removed because they ended before the retention.
    pub expired: u64,
    /// Records removed to make room for newer ones.
    pub evicted: u64,
    /// Records not taken in because the index was full of records that still hold.
    pub refused: u64,
}

/// Which end of a connection is asked for: only a server's port names a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The end that asks.
    Client,
    /// The end that answers.
    Server,
}

/// The index.
#[derive(Debug)]
pub struct Index {
    limits: IndexLimits,
    stats: IndexStats,
    watermark: Option<Timestamp>,
    records: Map<Key, Arc<Record>>,
    by_address: Map<IpAddr, IntervalList<Arc<Record>>>,
    by_node_port: Map<u16, IntervalList<Arc<Record>>>,
    slices_by_pod: Map<Name, IntervalList<Arc<Record>>>,
    owners: Map<ByteString, Arc<Record>>,
    /// Keys of the records that ended, by their end.
    ended: BTreeSet<(Timestamp, Key)>,
}

/// A record's key as [`Identity::key`] has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    kind: ByteString,
    uid: ByteString,
    from: Timestamp,
}

impl Key {
    fn of(identity: &Identity) -> Self {
        Self { kind: identity.kind.clone(), uid: identity.uid.clone(), from: identity.valid_from }
    }
}

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name {
    namespace: Option<ByteString>,
    name: ByteString,
}

impl Index {
    /// An empty index.
    pub fn new(limits: IndexLimits) -> Self {
        Self {
            limits,
            stats: IndexStats::default(),
            watermark: None,
            records: Map::default(),
            by_address: Map::default(),
            by_node_port: Map::default(),
            slices_by_pod: Map::default(),
            owners: Map::default(),
            ended: BTreeSet::new(),
        }
    }

    /// Takes a record in. One with the same kind, uid and start is replaced: that is how an end arrives.
    pub fn apply(&mut self, identity: Identity) {
        let key = Key::of(&identity);
        self.advance_watermark(identity.valid_from.max(identity.valid_to.unwrap_or(identity.valid_from)));
        if self.remove(&key) {
            self.stats.replaced += 1;
        } else if self.has_room() {
            self.stats.added += 1;
        } else {
            self.stats.refused += 1;
            return;
        }
        self.insert(key, Arc::new(Record::new(identity)));
    }

    /// Takes the removal of a record in, by the key that [`Identity::key`] writes. Unknown keys are ignored.
    pub fn apply_tombstone(&mut self, key: &str) {
        let mut parts = key.splitn(2, '/');
        let (Some(kind), Some(rest)) = (parts.next(), parts.next()) else { return };
        let Some((uid, from)) = rest.rsplit_once('/') else { return };
        let Ok(from) = from.parse().map(Timestamp::from_micros) else { return };
        self.remove(&Key { kind: kind.into(), uid: uid.into(), from });
    }

    /// Says that all changes up to `time` have been fed. Never goes back.
    pub fn advance_watermark(&mut self, time: Timestamp) {
        self.watermark = self.watermark.max(Some(time));
    }

    /// Removes the records that ended before the retention, counted back from the watermark. Whoever follows a history
    /// without end calls it now and then; a history from a file stays whole, since the calls may be as old as it is.
    pub fn expire(&mut self) {
        let Some(watermark) = self.watermark else { return };
        let oldest = watermark.plus_micros(-i64::from(self.limits.retention_seconds) * 1_000_000);
        while let Some((end, key)) = self.ended.first().cloned() {
            if end >= oldest {
                break;
            }
            self.remove(&key);
            self.stats.expired += 1;
        }
    }

    /// Time up to which the history is known; none before the first record.
    pub const fn watermark(&self) -> Option<Timestamp> {
        self.watermark
    }

    /// What happened to the records that were fed.
    pub const fn stats(&self) -> &IndexStats {
        &self.stats
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True when nothing is known.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The records of all objects that held the address at `time`, the one that began last first.
    pub fn holders(&self, address: IpAddr, time: Timestamp) -> impl Iterator<Item = &Identity> {
        self.records_at(address, time).map(|record| &record.identity)
    }

    pub(crate) fn records_at(&self, address: IpAddr, time: Timestamp) -> impl Iterator<Item = &Record> {
        self.by_address.get(&address).into_iter().flat_map(move |list| list.at(time)).map(AsRef::as_ref)
    }

    pub(crate) fn services_at_node_port(&self, port: u16, time: Timestamp) -> impl Iterator<Item = &Record> {
        self.by_node_port.get(&port).into_iter().flat_map(move |list| list.at(time)).map(AsRef::as_ref)
    }

    /// The one service whose endpoint slices named the pod at `time`; none when there is none or more than one.
    pub(crate) fn service_of_pod(&self, pod: &Identity, time: Timestamp) -> Option<&ByteString> {
        let name = Name { namespace: pod.namespace.clone(), name: pod.name.clone() };
        let mut services =
            self.slices_by_pod.get(&name)?.at(time).filter_map(|slice| slice.identity.service.as_ref());
        let first = services.next()?;
        services.all(|other| other == first).then_some(first)
    }

    /// Kind and name of the top owner; a pod that nobody owns is its own workload.
    pub(crate) fn workload_of<'i>(&'i self, pod: &'i Identity) -> (&'i ByteString, &'i ByteString) {
        let mut current = pod;
        for _ in 0..MAX_OWNERS {
            let (Some(kind), Some(name)) = (&current.owner_kind, &current.owner_name) else { break };
            // The mirror of a static pod is owned by its node, which is no workload.
            if kind == "Node" {
                break;
            }
            match current.owner_uid.as_ref().and_then(|uid| self.owners.get(uid)) {
                Some(owner) => current = &owner.identity,
                None => return (kind, name),
            }
        }
        (&current.kind, &current.name)
    }

    fn insert(&mut self, key: Key, record: Arc<Record>) {
        let interval = record.interval();
        for address in &record.addresses {
            self.by_address.entry(*address).or_default().insert(interval, Arc::clone(&record));
        }
        for port in &record.node_ports {
            self.by_node_port.entry(*port).or_default().insert(interval, Arc::clone(&record));
        }
        for name in pod_names(&record) {
            self.slices_by_pod.entry(name).or_default().insert(interval, Arc::clone(&record));
        }
        if record.kind == Kind::Owner {
            self.owners.insert(record.identity.uid.clone(), Arc::clone(&record));
        }
        if let Some(end) = record.identity.valid_to {
            self.ended.insert((end, key.clone()));
        }
        self.records.insert(key, record);
    }

    fn remove(&mut self, key: &Key) -> bool {
        let Some(record) = self.records.remove(key) else { return false };
        for address in &record.addresses {
            remove_from(&mut self.by_address, address, &record);
        }
        for port in &record.node_ports {
            remove_from(&mut self.by_node_port, port, &record);
        }
        for name in pod_names(&record) {
            remove_from(&mut self.slices_by_pod, &name, &record);
        }
        // Another version of the same owner may have taken the place since.
        let uid = &record.identity.uid;
        if self.owners.get(uid).is_some_and(|owner| Arc::ptr_eq(owner, &record)) {
            self.owners.remove(uid);
        }
        if let Some(end) = record.identity.valid_to {
            self.ended.remove(&(end, key.clone()));
        }
        true
    }

    /// Makes room by removing the record that ended first; false when all records still hold.
    fn has_room(&mut self) -> bool {
        while self.records.len() >= self.limits.max_records {
            let Some((_, key)) = self.ended.first().cloned() else { return false };
            self.remove(&key);
            self.stats.evicted += 1;
        }
        true
    }
}

impl Default for Index {
    fn default() -> Self {
        Self::new(IndexLimits::default())
    }
}

fn pod_names(record: &Record) -> impl Iterator<Item = Name> + use<> {
    let namespace = record.identity.namespace.clone();
    record
        .identity
        .endpoint_pods
        .clone()
        .into_iter()
        .map(move |name| Name { namespace: namespace.clone(), name })
}

fn remove_from<K: std::hash::Hash + Eq>(
    lists: &mut Map<K, IntervalList<Arc<Record>>>,
    key: &K,
    record: &Arc<Record>,
) {
    if let Some(list) = lists.get_mut(key) {
        list.remove(|other| Arc::ptr_eq(other, record));
        if list.is_empty() {
            lists.remove(key);
        }
    }
}
