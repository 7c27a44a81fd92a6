//! Identity records: Kubernetes objects as a history.

use std::collections::BTreeMap;

use bytestring::ByteString;
use serde::Deserialize;

use crate::Timestamp;
use crate::positional::positional;

/// One version of one Kubernetes object as far as identity needs it, with the time it became valid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Identity {
    /// Pod, Service, EndpointSlice, Node, Namespace, ReplicaSet or Job.
    pub kind: ByteString,
    /// `metadata.uid`.
    pub uid: ByteString,
    /// `metadata.namespace`.
    pub namespace: Option<ByteString>,
    /// `metadata.name`.
    pub name: ByteString,
    /// `metadata.resourceVersion` of this version.
    pub resource_version: Option<ByteString>,
    /// Time from which this version holds.
    pub valid_from: Timestamp,
    /// Time the object ceased to hold its addresses; none while it lasts.
    pub valid_to: Option<Timestamp>,
    /// Pod IPs, cluster IPs, node addresses, or endpoint addresses.
    pub addresses: Vec<ByteString>,
    /// Service ports, for services and endpoint slices.
    pub ports: Vec<i32>,
    /// The pod shares its node's addresses.
    pub host_network: bool,
    /// Node of the pod.
    pub node: Option<ByteString>,
    /// Service that an endpoint slice belongs to.
    pub service: Option<ByteString>,
    /// Names of the pods behind an endpoint slice.
    pub endpoint_pods: Vec<ByteString>,
    /// Kind of the controlling owner.
    pub owner_kind: Option<ByteString>,
    /// Name of the controlling owner.
    pub owner_name: Option<ByteString>,
    /// Uid of the controlling owner.
    pub owner_uid: Option<ByteString>,
    /// Service account of the pod.
    pub service_account: Option<ByteString>,
    /// Container id (without its runtime prefix) to container name.
    pub containers: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations on the allow-list.
    pub annotations: BTreeMap<String, String>,
}

positional!(Identity {
    kind,
    uid,
    namespace,
    name,
    resource_version,
    valid_from,
    valid_to,
    addresses,
    ports,
    host_network,
    node,
    service,
    endpoint_pods,
    owner_kind,
    owner_name,
    owner_uid,
    service_account,
    containers,
    labels,
    annotations,
});

impl Identity {
    /// The record's key: kind, uid and the time it became valid, so that compaction keeps the whole history.
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.kind, self.uid, self.valid_from.as_micros())
    }
}
