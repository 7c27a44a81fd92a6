//! An identity record as the index keeps it: read once when it arrives, so that answering copies and computes little.

use std::collections::BTreeMap;
use std::net::IpAddr;

use wirecall_schemas::{ByteString, Identity};

use super::interval::Interval;

/// Reserved annotation that carries the node ports of a service: `30080,30443`.
///
/// The record has no fields of their own for these two facts; they travel under names that no annotation of an
/// object can have here, because the allow-list is applied before they are added, and never reach an event.
pub(crate) const NODE_PORTS_KEY: &str = "wirecall.io/node-ports";

/// Reserved annotation that carries the containers of a pod and their ports: `web=8080,8443;sidecar=`.
pub(crate) const CONTAINERS_KEY: &str = "wirecall.io/containers";

/// True for the names of the two reserved annotations.
pub(crate) fn is_reserved(name: &str) -> bool {
    name == NODE_PORTS_KEY || name == CONTAINERS_KEY
}

/// What kind of object a record speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Pod,
    HostNetworkPod,
    Service,
    EndpointSlice,
    Node,
    Owner,
    Other,
}

/// A record and what follows from it.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) identity: Identity,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) node_ports: Vec<u16>,
    containers: Vec<Container>,
    annotations: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Container {
    name: ByteString,
    ports: Vec<u16>,
}

impl Record {
    pub(crate) fn new(identity: Identity) -> Self {
        let kind = match identity.kind.as_ref() {
            "Pod" if identity.host_network => Kind::HostNetworkPod,
            "Pod" => Kind::Pod,
            "Service" => Kind::Service,
            "EndpointSlice" => Kind::EndpointSlice,
            "Node" => Kind::Node,
            "ReplicaSet" | "Job" => Kind::Owner,
            _ => Kind::Other,
        };
        let addresses = identity.addresses.iter().filter_map(|address| address.parse().ok()).collect();
        let reserved = |key: &str| identity.annotations.get(key).map(String::as_str).unwrap_or_default();
        let node_ports = ports(reserved(NODE_PORTS_KEY));
        let containers = containers(reserved(CONTAINERS_KEY));
        let mut annotations = identity.annotations.clone();
        annotations.retain(|key, _| !is_reserved(key));
        Self { kind, identity, addresses, node_ports, containers, annotations }
    }

    pub(crate) fn interval(&self) -> Interval {
        Interval { from: self.identity.valid_from, to: self.identity.valid_to }
    }

    /// Annotations that an event may show.
    pub(crate) const fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// True when a service declares the port, or declares none at all.
    pub(crate) fn serves(&self, port: u16) -> bool {
        self.identity.ports.is_empty() || self.identity.ports.contains(&i32::from(port))
    }

    /// The container: the only one there is, else the only one that declares the port.
    pub(crate) fn container(&self, port: Option<u16>) -> Option<&ByteString> {
        if let [only] = self.containers.as_slice() {
            return Some(&only.name);
        }
        let port = port?;
        let mut declaring = self.containers.iter().filter(|container| container.ports.contains(&port));
        match (declaring.next(), declaring.next()) {
            (Some(only), None) => Some(&only.name),
            _ => None,
        }
    }

    /// kind/namespace/name, for the list of candidates.
    pub(crate) fn title(&self) -> ByteString {
        let Identity { kind, namespace, name, service, node, .. } = &self.identity;
        // An address of a slice is a service's, one of the host's network is a node's.
        match (self.kind, service, node) {
            (Kind::EndpointSlice, Some(service), _) => {
                return format!("Service/{}/{service}", namespace.as_deref().unwrap_or_default()).into();
            }
            (Kind::HostNetworkPod, _, Some(node)) => return format!("Node//{node}").into(),
            _ => {}
        }
        match namespace {
            Some(namespace) => format!("{kind}/{namespace}/{name}").into(),
            None => format!("{kind}//{name}").into(),
        }
    }
}

fn ports(text: &str) -> Vec<u16> {
    text.split(',').filter_map(|port| port.parse().ok()).collect()
}

fn containers(text: &str) -> Vec<Container> {
    text.split(';')
        .filter_map(|entry| entry.split_once('='))
        .map(|(name, declared)| Container { name: name.into(), ports: ports(declared) })
        .collect()
}
