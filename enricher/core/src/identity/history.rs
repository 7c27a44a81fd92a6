//! From what a watch tells to a history: the versions of each object, each with its interval.
//!
//! A watch gives objects as they are now. The history of an object is made by comparing: what does not change what the
//! object is to a peer makes no record (a node's heartbeat, a pod's readiness), what does ends the last version and
//! begins the next. A pod begins when it has an address, with the start that its status tells then.
//!
//! After a restart, or when the API server has forgotten the version that a watch was at, everything is listed anew.
//! What is not in the list any more was deleted meanwhile; when, nobody saw, so its interval ends now: it may have held
//! its addresses until then, and if somebody else had them too the answer is ambiguous.

use std::collections::VecDeque;

use hashbrown::{HashMap, HashSet};
use serde_json::Value;
use wirecall_schemas::{ByteString, Identity, Timestamp};

use super::change::{ChangeError, end_of_deleted, identity_of};
use crate::glob::Glob;

/// Containers of one pod that are kept, those that ended and were restarted among them.
const MAX_CONTAINERS: usize = 64;

/// The newest version of every object, and the records that follow from changes to it.
#[derive(Debug, Default)]
pub struct History {
    annotations: Vec<Glob>,
    newest: HashMap<Object, Identity>,
    /// Objects seen in the list that is under way, by kind.
    listed: HashMap<ByteString, HashSet<ByteString>>,
    records: VecDeque<Identity>,
}

/// Kind and uid.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Object {
    kind: ByteString,
    uid: ByteString,
}

impl Object {
    fn of(identity: &Identity) -> Self {
        Self { kind: identity.kind.clone(), uid: identity.uid.clone() }
    }
}

impl History {
    /// An empty history that lets these annotations through.
    pub fn new(annotations: Vec<Glob>) -> Self {
        Self { annotations, ..Self::default() }
    }

    /// Takes a record of an earlier run in, so that this run goes on where that one ended.
    pub fn handle_known(&mut self, record: Identity) {
        let object = Object::of(&record);
        if self.newest.get(&object).is_none_or(|newest| newest.valid_from <= record.valid_from) {
            self.newest.insert(object, record);
        }
    }

    /// Takes an object in as it was seen at `observed`.
    ///
    /// # Errors
    /// When the object cannot be read; nothing changes then.
    pub fn handle_applied(
        &mut self,
        kind: &str,
        object: &Value,
        observed: Timestamp,
    ) -> Result<(), ChangeError> {
        if let Some(identity) = identity_of(object, Some(kind), &self.annotations)? {
            self.apply(identity, observed);
        }
        Ok(())
    }

    /// Takes the deletion of an object in, seen at `observed`.
    ///
    /// # Errors
    /// As [`handle_applied`](Self::handle_applied).
    pub fn handle_deleted(
        &mut self,
        kind: &str,
        object: &Value,
        observed: Timestamp,
    ) -> Result<(), ChangeError> {
        let Some(identity) = identity_of(object, Some(kind), &self.annotations)? else { return Ok(()) };
        let end = end_of_deleted(kind, object, observed);
        match self.newest.remove(&Object::of(&identity)) {
            Some(newest) => self.close(newest, end),
            // It came and went between two looks.
            None => self.close(Identity { valid_to: None, ..identity }, end),
        }
        Ok(())
    }

    /// A list of all objects of a kind begins; each of them is to follow by [`handle_listed`](Self::handle_listed).
    pub fn handle_list_start(&mut self, kind: &str) {
        self.listed.insert(kind.into(), HashSet::new());
    }

    /// Takes an object of the list in.
    ///
    /// # Errors
    /// As [`handle_applied`](Self::handle_applied); an object that cannot be read does not count as deleted.
    pub fn handle_listed(
        &mut self,
        kind: &str,
        object: &Value,
        observed: Timestamp,
    ) -> Result<(), ChangeError> {
        if let (Some(listed), Some(uid)) =
            (self.listed.get_mut(kind), object.pointer("/metadata/uid").and_then(Value::as_str))
        {
            listed.insert(uid.into());
        }
        self.handle_applied(kind, object, observed)
    }

    /// The list is complete: what was known and is not in it was deleted.
    pub fn handle_list_end(&mut self, kind: &str, observed: Timestamp) {
        let Some(listed) = self.listed.remove(kind) else { return };
        let gone: Vec<_> = self
            .newest
            .extract_if(|object, _| &*object.kind == kind && !listed.contains(&object.uid))
            .map(|(_, identity)| identity)
            .collect();
        for identity in gone {
            self.close(identity, observed);
        }
    }

    /// The next record to write, in the order of the changes.
    pub fn poll_record(&mut self) -> Option<Identity> {
        self.records.pop_front()
    }

    /// Objects that are known.
    pub fn len(&self) -> usize {
        self.newest.len()
    }

    /// True when no object is known.
    pub fn is_empty(&self) -> bool {
        self.newest.is_empty()
    }

    fn apply(&mut self, mut next: Identity, observed: Timestamp) {
        let object = Object::of(&next);
        let Some(newest) = self.newest.get_mut(&object) else {
            // A pod that waits for its node and its addresses is nobody yet, and its start is not known.
            if &*next.kind == "Pod" && next.addresses.is_empty() {
                return;
            }
            self.records.push_back(next.clone());
            self.newest.insert(object, next);
            return;
        };
        let grew = keep_containers(newest, &mut next);
        if let Some(end) = next.valid_to {
            // A finished pod: its last version ends, whatever else changed with that.
            if newest.valid_to.is_none() {
                newest.valid_to = Some(end.max(newest.valid_from));
                self.records.push_back(newest.clone());
            }
            return;
        }
        if newest.valid_to.is_none() && same_meaning(newest, &next) {
            if grew {
                newest.containers = next.containers;
                self.records.push_back(newest.clone());
            }
            return;
        }
        if newest.addresses.is_empty() && newest.valid_to.is_none() {
            // The same key: it takes the place of the record without addresses.
            next.valid_from = newest.valid_from;
        } else {
            next.valid_from = observed.max(newest.valid_from.plus_micros(1));
            if newest.valid_to.is_none() {
                newest.valid_to = Some(next.valid_from);
                self.records.push_back(newest.clone());
            }
        }
        newest.clone_from(&next);
        self.records.push_back(next);
    }

    fn close(&mut self, mut identity: Identity, end: Timestamp) {
        if identity.valid_to.is_none() {
            identity.valid_to = Some(end.max(identity.valid_from));
            self.records.push_back(identity);
        }
    }
}

/// Containers that ended stay in the record: their ids are still in what was captured. Tells whether there is a new one.
fn keep_containers(newest: &Identity, next: &mut Identity) -> bool {
    let grew = next.containers.keys().any(|id| !newest.containers.contains_key(id));
    for (id, name) in &newest.containers {
        if next.containers.len() < MAX_CONTAINERS {
            next.containers.entry(id.clone()).or_insert_with(|| name.clone());
        }
    }
    grew
}

/// True when two versions are the same to a peer: versions, times and containers apart.
fn same_meaning(one: &Identity, other: &Identity) -> bool {
    let stripped = |identity: &Identity| Identity {
        resource_version: None,
        valid_from: Timestamp::default(),
        valid_to: None,
        containers: std::collections::BTreeMap::new(),
        ..identity.clone()
    };
    stripped(one) == stripped(other)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::time;

    fn pod(address: Option<&str>, app: &str) -> Value {
        let mut pod = json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"app": app},
                "creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"phase": "Running", "startTime": "2026-01-01T00:00:01Z"},
        });
        if let Some(address) = address {
            pod["status"]["podIP"] = address.into();
        }
        pod
    }

    fn seconds(second: u32) -> Timestamp {
        time(&format!("2026-01-01T00:00:{second:02}Z"))
    }

    /// Name, address, from, to.
    fn drain(history: &mut History) -> Vec<(String, i64, Option<i64>)> {
        let second = |time: Timestamp| time.micros_since(seconds(0)) / 1_000_000;
        std::iter::from_fn(|| history.poll_record())
            .map(|record| {
                let address = record.addresses.first().map(ToString::to_string).unwrap_or_default();
                (address, second(record.valid_from), record.valid_to.map(second))
            })
            .collect()
    }

    #[test]
    fn a_pod_begins_when_it_has_an_address() {
        let mut history = History::default();
        let mut waiting = pod(None, "a");
        waiting["status"] = json!({"phase": "Pending"});
        history.handle_applied("Pod", &waiting, seconds(0)).unwrap();
        history.handle_applied("Pod", &pod(None, "a"), seconds(2)).unwrap();
        history.handle_applied("Pod", &pod(Some("10.0.0.1"), "a"), seconds(3)).unwrap();
        history.handle_applied("Pod", &pod(Some("10.0.0.1"), "a"), seconds(4)).unwrap();
        assert_eq!(drain(&mut history), [("10.0.0.1".into(), 1, None)]);
    }

    #[test]
    fn another_address_or_label_is_another_version() {
        let mut history = History::default();
        history.handle_applied("Pod", &pod(Some("10.0.0.1"), "a"), seconds(2)).unwrap();
        history.handle_applied("Pod", &pod(Some("10.0.0.2"), "a"), seconds(5)).unwrap();
        history.handle_applied("Pod", &pod(Some("10.0.0.2"), "b"), seconds(7)).unwrap();
        history.handle_deleted("Pod", &pod(Some("10.0.0.2"), "b"), seconds(9)).unwrap();
        assert_eq!(
            drain(&mut history),
            [
                ("10.0.0.1".into(), 1, None),
                ("10.0.0.1".into(), 1, Some(5)),
                ("10.0.0.2".into(), 5, None),
                ("10.0.0.2".into(), 5, Some(7)),
                ("10.0.0.2".into(), 7, None),
                ("10.0.0.2".into(), 7, Some(9)),
            ]
        );
        assert!(history.is_empty());
    }

    #[test]
    fn a_finished_pod_ends_once() {
        let mut history = History::default();
        history.handle_applied("Pod", &pod(Some("10.0.0.1"), "a"), seconds(2)).unwrap();
        let mut finished = pod(Some("10.0.0.1"), "a");
        finished["status"]["phase"] = "Succeeded".into();
        finished["status"]["containerStatuses"] =
            json!([{"state": {"terminated": {"finishedAt": "2026-01-01T00:00:05Z"}}}]);
        history.handle_applied("Pod", &finished, seconds(8)).unwrap();
        history.handle_applied("Pod", &finished, seconds(9)).unwrap();
        history.handle_deleted("Pod", &finished, seconds(10)).unwrap();
        assert_eq!(drain(&mut history), [("10.0.0.1".into(), 1, None), ("10.0.0.1".into(), 1, Some(6))]);
    }

    #[test]
    fn a_restarted_container_is_added() {
        let mut history = History::default();
        let with = |id: &str| {
            let mut pod = pod(Some("10.0.0.1"), "a");
            pod["status"]["containerStatuses"] = json!([{"name": "c", "containerID": id}]);
            pod
        };
        history.handle_applied("Pod", &with("containerd://1"), seconds(2)).unwrap();
        history.handle_applied("Pod", &with("containerd://2"), seconds(3)).unwrap();
        let last = std::iter::from_fn(|| history.poll_record()).last().unwrap();
        assert_eq!(last.containers.keys().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(last.valid_to, None);
    }

    #[test]
    fn what_a_new_list_lacks_was_deleted_meanwhile() {
        let mut before = History::default();
        before.handle_applied("Pod", &pod(Some("10.0.0.1"), "a"), seconds(2)).unwrap();
        let mut history = History::default();
        while let Some(record) = before.poll_record() {
            history.handle_known(record);
        }
        let mut other = pod(Some("10.0.0.9"), "z");
        other["metadata"]["uid"] = "u2".into();
        history.handle_list_start("Pod");
        history.handle_listed("Pod", &other, seconds(20)).unwrap();
        // Another kind's list says nothing about pods.
        history.handle_list_start("Node");
        history.handle_list_end("Node", seconds(21));
        history.handle_list_end("Pod", seconds(22));
        assert_eq!(drain(&mut history), [("10.0.0.9".into(), 1, None), ("10.0.0.1".into(), 1, Some(22))]);
        assert_eq!(history.len(), 1);
    }

    #[test]
    fn a_restart_without_changes_writes_nothing() {
        let mut before = History::default();
        before.handle_applied("Pod", &pod(Some("10.0.0.1"), "a"), seconds(2)).unwrap();
        before.handle_applied("Pod", &pod(Some("10.0.0.2"), "a"), seconds(5)).unwrap();
        let mut history = History::default();
        while let Some(record) = before.poll_record() {
            history.handle_known(record);
        }
        history.handle_list_start("Pod");
        history.handle_listed("Pod", &pod(Some("10.0.0.2"), "a"), seconds(20)).unwrap();
        history.handle_list_end("Pod", seconds(22));
        assert_eq!(history.poll_record(), None);
    }

    #[test]
    fn a_pod_that_came_and_went_between_two_looks_leaves_a_record() {
        let mut history = History::default();
        history.handle_deleted("Pod", &pod(Some("10.0.0.1"), "a"), seconds(3)).unwrap();
        assert_eq!(drain(&mut history), [("10.0.0.1".into(), 1, Some(3))]);
    }
}
