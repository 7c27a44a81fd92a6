//! Cases of identity, each a file of objects as `kubectl get -o json` prints them and the questions to it.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use wirecall_schemas::{ByteString, Certainty, Endpoint, Identity, Peer, ResolvedBy, Timestamp};

use super::change::{ChangeError, end_of_deleted, identity_of};
use super::index::{Index, IndexLimits, Role};
use crate::glob::Glob;
use crate::testing::{endpoint, time};

fn identities(case: &str) -> Vec<Identity> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/identities").join(case).with_extension("json");
    let list: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| identity_of(item, None, &[Glob::new("team")]).unwrap().unwrap()).collect()
}

fn index(case: &str) -> Index {
    let mut index = Index::default();
    identities(case).into_iter().for_each(|identity| index.apply(identity));
    index
}

/// The server at an address as of a clock time on the first of January.
fn server(index: &Index, address: &str, clock: &str) -> Peer {
    index.peer(endpoint(address), Role::Server, time(&format!("2026-01-01T{clock}Z")))
}

fn text(field: &Option<ByteString>) -> &str {
    field.as_deref().unwrap_or("-")
}

/// kind namespace workload pod service node, how and how sure.
fn line(peer: &Peer) -> String {
    format!(
        "{} {} {}/{} {} {} {} {:?} {:?}",
        text(&peer.kind),
        text(&peer.namespace),
        text(&peer.workload_kind),
        text(&peer.workload_name),
        text(&peer.pod),
        text(&peer.service),
        text(&peer.node),
        peer.resolved_by,
        peer.certainty,
    )
}

fn assert_lines(case: &str, role: Role, questions: &[(&str, &str, &str)]) {
    let index = index(case);
    for (address, clock, expected) in questions {
        let peer = index.peer(endpoint(address), role, time(&format!("2026-01-01T{clock}Z")));
        assert_eq!(line(&peer), *expected, "{address} at {clock} in {case}");
    }
}

#[test]
fn owners_are_followed_to_the_top() {
    assert_lines(
        "workloads",
        Role::Server,
        &[
            ("10.1.0.2:8080", "01:00:00", "pod shop Deployment/web web-5d-a web node-1 PodIp Exact"),
            ("10.1.0.3:1", "01:00:00", "pod shop CronJob/report report-1-x - node-1 PodIp Exact"),
            ("10.1.0.4:1", "01:00:00", "pod shop StatefulSet/db db-0 - node-1 PodIp Exact"),
            ("10.1.0.5:1", "01:00:00", "pod shop Pod/bare bare - node-1 PodIp Exact"),
            ("10.1.0.6:1", "01:00:00", "pod shop Pod/static-node-1 static-node-1 - node-1 PodIp Exact"),
            ("198.51.100.1:1", "01:00:00", "- - -/- - - - None Unknown"),
        ],
    );
}

#[test]
fn a_pod_tells_its_account_labels_annotations_and_container() {
    let index = index("workloads");
    let peer = server(&index, "[fd00::2]:8080", "01:00:00");
    assert_eq!(text(&peer.service_account), "web");
    assert_eq!(text(&peer.pod_uid), "uid-web-5d-a");
    assert_eq!(peer.labels, [("app".to_owned(), "web".to_owned())].into());
    assert_eq!(peer.annotations, [("team".to_owned(), "shop".to_owned())].into());
    assert_eq!(peer.resolved_as_of, Some(time("2026-01-01T00:00:00Z")));
    for (port, role, container) in [
        (8080, Role::Server, "web"),
        (15001, Role::Server, "proxy"),
        (9999, Role::Server, "-"),
        (8080, Role::Client, "-"),
    ] {
        let endpoint = Endpoint { port, ..endpoint("10.1.0.2:1") };
        assert_eq!(
            text(&index.peer(endpoint, role, time("2026-01-01T01:00:00Z")).container),
            container,
            "{port}"
        );
    }
    // The only container of a pod is it, whatever the port.
    assert_eq!(text(&server(&index, "10.1.0.4:9999", "01:00:00").container), "main");
}

#[test]
fn an_address_is_whose_it_was_at_the_time() {
    assert_lines(
        "ip-reuse",
        Role::Server,
        &[
            ("10.1.0.9:1", "00:10:00.999999", "pod shop Pod/old-1 old-1 - node-1 PodIp Exact"),
            ("10.1.0.9:1", "00:10:01", "- - -/- - - - None Unknown"),
            ("10.1.0.9:1", "00:19:59.999999", "- - -/- - - - None Unknown"),
            ("10.1.0.9:1", "00:20:00", "pod shop Pod/short-1 short-1 - node-1 PodIp Exact"),
            ("10.1.0.9:1", "00:20:02.5", "pod shop Pod/short-1 short-1 - node-1 PodIp Exact"),
            ("10.1.0.9:1", "00:20:03", "- - -/- - - - None Unknown"),
            ("10.1.0.9:1", "00:30:00", "pod shop Pod/new-1 new-1 - node-1 PodIp Exact"),
        ],
    );
    let before = index("ip-reuse").peer(endpoint("10.1.0.9:1"), Role::Client, time("2025-12-31T23:59:59Z"));
    assert_eq!(before, Peer::unresolved(endpoint("10.1.0.9:1")));
}

#[test]
fn the_address_of_the_host_network_is_the_nodes() {
    assert_lines(
        "host-network",
        Role::Server,
        &[
            ("192.0.2.1:9100", "01:00:00", "node - -/- - - node-1 NodeIp Exact"),
            ("[2001:db8::1]:9100", "01:00:00", "node - -/- - - node-1 NodeIp Exact"),
            // The node's own object is not in the file; its pods know its name.
            ("192.0.2.2:9100", "01:00:00", "node - -/- - - node-2 NodeIp Exact"),
        ],
    );
}

#[test]
fn services_answer_for_their_addresses_and_ports() {
    assert_lines(
        "services",
        Role::Server,
        &[
            ("10.96.0.10:80", "01:00:00", "service shop -/- - web - ServiceIp Exact"),
            ("[fd00:96::10]:80", "01:00:00", "service shop -/- - web - ServiceIp Exact"),
            // A port that the service does not have: the address is its all the same.
            ("10.96.0.10:81", "01:00:00", "service shop -/- - web - ServiceIp Exact"),
            // One address of the load balancer for two services.
            ("203.0.113.5:80", "01:00:00", "service shop -/- - web - ServiceIp Exact"),
            ("203.0.113.5:8443", "01:00:00", "service shop -/- - api - ServiceIp Exact"),
            ("203.0.113.5:1", "01:00:00", "service shop -/- - - - ServiceIp Ambiguous"),
            // Node ports, and an external address that is a node's.
            ("192.0.2.1:30080", "01:00:00", "service shop -/- - web node-1 NodeIp Exact"),
            ("192.0.2.1:8443", "01:00:00", "service shop -/- - api - ServiceIp Exact"),
            ("192.0.2.1:22", "01:00:00", "node - -/- - - node-1 NodeIp Exact"),
            // Headless: the pods answer, and the slice names the service where it is the only one.
            ("10.1.0.20:5432", "01:00:00", "pod shop StatefulSet/db db-0 headless node-1 PodIp Exact"),
            ("10.1.0.21:5432", "01:00:00", "pod shop StatefulSet/two two-0 - node-1 PodIp Exact"),
            // A backend outside the cluster; a slice that belongs to no service tells nothing.
            ("198.51.100.7:5432", "01:00:00", "service shop -/- - external-db - Endpoint Exact"),
            ("198.51.100.8:5432", "01:00:00", "- - -/- - - - None Unknown"),
        ],
    );
    // A client's port is its own choice and names no service.
    assert_lines(
        "services",
        Role::Client,
        &[
            ("192.0.2.1:30080", "01:00:00", "node - -/- - - node-1 NodeIp Exact"),
            ("192.0.2.1:8443", "01:00:00", "node - -/- - - node-1 NodeIp Exact"),
        ],
    );
}

#[test]
fn an_ambiguous_answer_lists_all_and_tells_what_they_agree_on() {
    let index = index("ambiguous");
    let peer = server(&index, "10.1.0.30:1", "00:06:00");
    assert_eq!(line(&peer), "pod shop StatefulSet/same - - - PodIp Ambiguous");
    assert_eq!(peer.candidates, ["Pod/shop/a-1", "Pod/shop/a-2"]);
    assert_eq!(peer.labels, [("app".to_owned(), "same".to_owned())].into());
    assert_eq!(peer.resolved_as_of, Some(time("2026-01-01T00:05:00Z")));
    assert_eq!(server(&index, "10.1.0.30:1", "00:04:00").certainty, Certainty::Exact);
    let peer = server(&index, "10.1.0.31:1", "00:06:00");
    assert_eq!(line(&peer), "pod - -/- - - node-1 PodIp Ambiguous");
    assert_eq!(peer.candidates, ["Pod/one/b-1", "Pod/two/b-2"]);
}

#[test]
fn an_end_replaces_the_open_record() {
    let mut index = index("ip-reuse");
    let mut closed = identities("ip-reuse").pop().unwrap();
    closed.valid_to = Some(time("2026-01-01T00:40:00Z"));
    index.apply(closed.clone());
    assert_eq!(index.stats().replaced, 1);
    assert_eq!(index.watermark(), closed.valid_to);
    assert_eq!(server(&index, "10.1.0.9:1", "00:39:59").resolved_by, ResolvedBy::PodIp);
    assert_eq!(server(&index, "10.1.0.9:1", "00:40:00").resolved_by, ResolvedBy::None);
    index.apply_tombstone(&closed.key());
    index.apply_tombstone("no key");
    assert_eq!(index.len(), 2);
    assert_eq!(server(&index, "10.1.0.9:1", "00:35:00").resolved_by, ResolvedBy::None);
}

#[test]
fn history_ends_with_the_retention() {
    let mut index = Index::new(IndexLimits { retention_seconds: 600, ..IndexLimits::default() });
    identities("ip-reuse").into_iter().for_each(|identity| index.apply(identity));
    assert_eq!((index.len(), index.stats().expired), (3, 0));
    index.expire();
    // The pod of 00:30 is the newest: the one that ended at 00:10:01 is out, the one of 00:20:03 is not.
    assert_eq!((index.len(), index.stats().expired), (2, 1));
    assert_eq!(server(&index, "10.1.0.9:1", "00:05:00").resolved_by, ResolvedBy::None);
    assert_eq!(server(&index, "10.1.0.9:1", "00:20:01").resolved_by, ResolvedBy::PodIp);
}

#[test]
fn a_full_index_gives_up_what_ended_first_and_then_refuses() {
    let mut index = Index::new(IndexLimits { max_records: 2, ..IndexLimits::default() });
    identities("ip-reuse").into_iter().for_each(|identity| index.apply(identity));
    assert_eq!((index.len(), index.stats().evicted, index.stats().refused), (2, 1, 0));
    identities("host-network").into_iter().take(3).for_each(|identity| index.apply(identity));
    assert_eq!((index.len(), index.stats().evicted, index.stats().refused), (2, 2, 2));
}

#[test]
fn objects_that_cannot_be_read_are_named() {
    let error = identity_of(&json!({"kind": "Pod", "metadata": {}}), None, &[]).unwrap_err();
    assert_eq!(error, ChangeError::MissingField { kind: "Pod".into(), field: "metadata.name" });
    let object = json!({"kind": "Pod", "metadata": {"name": "x", "creationTimestamp": "yesterday"}});
    let message = identity_of(&object, None, &[]).unwrap_err().to_string();
    assert!(message.contains("Pod x") && message.contains("yesterday"), "{message}");
    assert_eq!(identity_of(&json!({"kind": "Secret", "metadata": {}}), None, &[]), Ok(None));
    assert_eq!(identity_of(&json!({"no": "kind"}), None, &[]), Ok(None));
}

#[test]
fn a_hand_written_object_without_uid_and_times_holds_for_ever() {
    let object = json!({"metadata": {"name": "x", "namespace": "n"}, "status": {"podIP": "10.1.0.40"}});
    let mut index = Index::default();
    index.apply(identity_of(&object, Some("Pod"), &[]).unwrap().unwrap());
    let peer = server(&index, "10.1.0.40:1", "00:00:00");
    assert_eq!(line(&peer), "pod n Pod/x x - - PodIp Exact");
    assert_eq!((peer.resolved_as_of, peer.pod_uid), (None, None));
}

#[test]
fn nobody_can_forge_the_reserved_annotations() {
    let object = json!({"kind": "Service", "metadata": {"name": "x", "annotations": {
        "wirecall.io/node-ports": "22", "other": "y"}}, "spec": {"clusterIP": "None"}});
    let identity = identity_of(&object, None, &[Glob::new("*")]).unwrap().unwrap();
    assert_eq!(identity.annotations, [("other".to_owned(), "y".to_owned())].into());
    assert!(identity.addresses.is_empty());
}

#[test]
fn a_deleted_pod_ends_with_its_containers_when_they_ended_before() {
    let observed = time("2026-01-01T00:00:30Z");
    let pod = |finished: &str| {
        json!({"kind": "Pod", "status": {"containerStatuses": [
            {"state": {"terminated": {"finishedAt": "2026-01-01T00:00:10Z"}}},
            {"state": {"terminated": {"finishedAt": finished}}},
        ]}})
    };
    assert_eq!(end_of_deleted("Pod", &pod("2026-01-01T00:00:20Z"), observed), time("2026-01-01T00:00:21Z"));
    // The node's clock may be ahead of ours.
    assert_eq!(end_of_deleted("Pod", &pod("2026-01-01T00:00:40Z"), observed), observed);
    assert_eq!(end_of_deleted("Pod", &json!({"kind": "Pod"}), observed), observed);
    assert_eq!(end_of_deleted("Service", &json!({"kind": "Service"}), observed), observed);
}

#[test]
fn a_cycle_of_owners_ends() {
    let owner = |name: &str, of: &str| {
        json!({"kind": "ReplicaSet", "metadata": {"name": name, "namespace": "n", "uid": name, "ownerReferences": [
            {"kind": "ReplicaSet", "name": of, "uid": of, "controller": true}]}})
    };
    let pod = json!({"kind": "Pod", "metadata": {"name": "p", "namespace": "n", "uid": "p", "ownerReferences": [
        {"kind": "ReplicaSet", "name": "a", "uid": "a", "controller": true}]}, "status": {"podIP": "10.1.0.41"}});
    let mut index = Index::default();
    for object in [owner("a", "b"), owner("b", "a"), pod] {
        index.apply(identity_of(&object, None, &[]).unwrap().unwrap());
    }
    assert_eq!(text(&server(&index, "10.1.0.41:1", "00:00:00").workload_kind), "ReplicaSet");
}

proptest! {
    /// Records in any order, some ended later by a second record: the pods that hold an address at a time are those
    /// whose interval covers it, and the answer is exact for one, ambiguous for more, unknown for none.
    #[test]
    fn the_answer_follows_the_intervals(
        pods in proptest::collection::vec((0_i64..50, proptest::option::of(0_i64..50), 0_u8..3, any::<bool>()), 0..12),
        order in any::<prop::sample::Index>(),
    ) {
        let mut index = Index::default();
        let mut feed = Vec::new();
        for (number, (from, to, address, later)) in pods.iter().enumerate() {
            let identity = Identity {
                kind: "Pod".into(),
                uid: format!("uid-{number}").into(),
                namespace: Some("n".into()),
                name: format!("p{number}").into(),
                valid_from: Timestamp::from_micros(*from),
                valid_to: to.map(Timestamp::from_micros),
                addresses: vec![format!("10.0.0.{address}").into()],
                ..Identity::default()
            };
            if *later {
                index.apply(Identity { valid_to: None, ..identity.clone() });
            }
            feed.push(identity);
        }
        let middle = if feed.is_empty() { 0 } else { order.index(feed.len()) };
        feed.rotate_left(middle);
        feed.into_iter().for_each(|identity| index.apply(identity));
        for address in 0..3 {
            for now in -1..52 {
                let mut names: Vec<_> = pods.iter().enumerate()
                    .filter(|(_, (from, to, other, _))| *other == address && *from <= now && to.is_none_or(|to| now < to))
                    .map(|(number, _)| format!("Pod/n/p{number}")).collect();
                names.sort();
                let peer = index.peer(endpoint(&format!("10.0.0.{address}:1")), Role::Server, Timestamp::from_micros(now));
                let certainty = match names.len() { 0 => Certainty::Unknown, 1 => Certainty::Exact, _ => Certainty::Ambiguous };
                prop_assert_eq!(peer.certainty, certainty);
                if names.len() == 1 {
                    prop_assert_eq!(format!("Pod/n/{}", peer.pod.unwrap()), names.remove(0));
                } else {
                    prop_assert_eq!(peer.candidates.iter().map(ToString::to_string).collect::<Vec<_>>(), names);
                }
            }
        }
    }
}
