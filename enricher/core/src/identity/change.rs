//! Kubernetes objects to identity records.
//!
//! An object as `kubectl get … -o json` or a watch gives it says little about time, and what it says is cut to whole
//! seconds. The rule for both ends of an interval is the same: it covers every moment in which the object **may** have
//! held its addresses. So a start is taken as it stands (the second's beginning) and an end known to the second is
//! moved to the next one. Where two pods may have held an address, the answer is then ambiguous, which is true;
//! an interval too short would give the call to the wrong pod.

use std::collections::BTreeMap;

use serde_json::Value;
use wirecall_schemas::{ByteString, Identity, Timestamp};

use super::record::{CONTAINERS_KEY, NODE_PORTS_KEY, is_reserved};
use crate::glob::Glob;

/// The kinds of objects that carry identity, as `kubectl get` and a watch name them.
pub const KINDS: [&str; 7] = ["Pod", "Service", "EndpointSlice", "Node", "Namespace", "ReplicaSet", "Job"];

/// Addresses of one object that are kept. An endpoint slice has at most 1000 (`maxEndpointsPerSlice`); whoever may
/// write objects could otherwise fill the index with one.
pub const MAX_ADDRESSES: usize = 1000;

/// Why an object cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// A field without which there is no identity.
    #[error("a {kind} has no {field}; give the whole object as `kubectl get -o json` prints it")]
    MissingField {
        /// Kind of the object.
        kind: String,
        /// Path of the field.
        field: &'static str,
    },
    /// A time that is not RFC 3339 in UTC.
    #[error("{field} of {kind} {name} is {value:?}, not a time such as 2026-01-02T03:04:05Z")]
    NotATime {
        /// Kind of the object.
        kind: String,
        /// Name of the object.
        name: String,
        /// Path of the field.
        field: &'static str,
        /// What it holds.
        value: String,
    },
}

/// The record of one object; none for a kind that carries no identity.
///
/// `kind` is for items of a typed list (`PodList`), which leave it out. `annotations` lets annotations through by name.
///
/// # Errors
/// When the object lacks its name or a time of it cannot be read.
pub fn identity_of(
    object: &Value,
    kind: Option<&str>,
    annotations: &[Glob],
) -> Result<Option<Identity>, ChangeError> {
    let Some(kind) = text(object, "/kind").or(kind) else { return Ok(None) };
    if !KINDS.contains(&kind) {
        return Ok(None);
    }
    let object = Object { kind, value: object };
    let mut identity = object.metadata(annotations)?;
    match kind {
        "Pod" => object.pod(&mut identity)?,
        "Service" => object.service(&mut identity),
        "EndpointSlice" => object.endpoint_slice(&mut identity),
        "Node" => object.node(&mut identity),
        "Job" => identity.valid_to = object.time("/status/completionTime")?.map(after),
        _ => {}
    }
    identity.addresses.truncate(MAX_ADDRESSES);
    Ok(Some(identity))
}

/// The last moment at which an object that was seen deleted at `observed` may have held its addresses. A pod whose
/// containers had all ended before had lost them then: the object outlives the pod's network by seconds.
pub fn end_of_deleted(kind: &str, object: &Value, observed: Timestamp) -> Timestamp {
    let ended = if kind == "Pod" {
        Object { kind: "Pod", value: object }.containers_ended().ok().flatten()
    } else {
        None
    };
    ended.map_or(observed, |ended| ended.min(observed))
}

/// The start of the next second: the end of an interval whose last second is known.
fn after(second: Timestamp) -> Timestamp {
    if second.as_micros() % 1_000_000 == 0 { second.plus_micros(1_000_000) } else { second }
}

/// An object while it is read.
struct Object<'v> {
    kind: &'v str,
    value: &'v Value,
}

impl<'v> Object<'v> {
    fn metadata(&self, allowed: &[Glob]) -> Result<Identity, ChangeError> {
        let name = text(self.value, "/metadata/name").ok_or_else(|| self.missing("metadata.name"))?;
        let namespace = text(self.value, "/metadata/namespace");
        // Hand-written files may leave the uid out; then the object is what its name says.
        let uid = text(self.value, "/metadata/uid").map_or_else(
            || ByteString::from(format!("{}/{name}", namespace.unwrap_or_default())),
            ByteString::from,
        );
        let owner = self.controller();
        let owner_text = |field: &str| owner.and_then(|owner| text(owner, field)).map(ByteString::from);
        let mut annotations = map(self.value, "/metadata/annotations");
        // The reserved names are ours: nobody may put facts about ports under them.
        annotations.retain(|name, _| !is_reserved(name) && allowed.iter().any(|glob| glob.matches(name)));
        Ok(Identity {
            kind: self.kind.into(),
            uid,
            namespace: namespace.map(ByteString::from),
            name: name.into(),
            resource_version: text(self.value, "/metadata/resourceVersion").map(ByteString::from),
            // Without a time of creation it has been there for as long as anybody knows.
            valid_from: self.time("/metadata/creationTimestamp")?.unwrap_or_default(),
            owner_kind: owner_text("/kind"),
            owner_name: owner_text("/name"),
            owner_uid: owner_text("/uid"),
            labels: map(self.value, "/metadata/labels"),
            annotations,
            ..Identity::default()
        })
    }

    /// The controlling owner; the only owner where none is marked as controlling.
    fn controller(&self) -> Option<&'v Value> {
        let owners = array(self.value, "/metadata/ownerReferences");
        owners.iter().find(|owner| owner.get("controller") == Some(&Value::Bool(true))).or(match owners {
            [only] => Some(only),
            _ => None,
        })
    }

    fn pod(&self, identity: &mut Identity) -> Result<(), ChangeError> {
        let pod = self.value;
        // The kubelet takes the pod before it gives it addresses, so this start is early enough.
        if let Some(start) = self.time("/status/startTime")? {
            identity.valid_from = start;
        }
        identity.node = text(pod, "/spec/nodeName").map(ByteString::from);
        identity.host_network = pod.pointer("/spec/hostNetwork") == Some(&Value::Bool(true));
        identity.service_account = text(pod, "/spec/serviceAccountName").map(ByteString::from);
        push_addresses(
            identity,
            array(pod, "/status/podIPs")
                .iter()
                .filter_map(|entry| text(entry, "/ip"))
                .chain(text(pod, "/status/podIP")),
        );
        if identity.host_network {
            push_addresses(
                identity,
                array(pod, "/status/hostIPs")
                    .iter()
                    .filter_map(|entry| text(entry, "/ip"))
                    .chain(text(pod, "/status/hostIP")),
            );
        }
        for status in self.container_statuses() {
            // `containerd://<id>`: the runtime's name is not part of what a cgroup shows.
            if let (Some(id), Some(name)) = (text(status, "/containerID"), text(status, "/name")) {
                let id = id.rsplit_once("://").map_or(id, |(_, id)| id);
                identity.containers.insert(id.to_owned(), name.to_owned());
            }
        }
        identity.annotations.insert(CONTAINERS_KEY.to_owned(), containers_text(pod));
        if matches!(text(pod, "/status/phase"), Some("Succeeded" | "Failed")) {
            identity.valid_to = self.end_of_finished_pod()?;
        }
        Ok(())
    }

    fn container_statuses(&self) -> impl Iterator<Item = &'v Value> + use<'v> {
        ["/status/containerStatuses", "/status/initContainerStatuses", "/status/ephemeralContainerStatuses"]
            .into_iter()
            .flat_map(|list| array(self.value, list))
    }

    /// A finished pod keeps its addresses in its status after they were given back. They were given back after the
    /// last container ended; a pod that was refused or evicted before has only the times of its conditions.
    fn end_of_finished_pod(&self) -> Result<Option<Timestamp>, ChangeError> {
        if let Some(end) = self.containers_ended()? {
            return Ok(Some(end));
        }
        let mut latest = self.time("/metadata/deletionTimestamp")?;
        for condition in array(self.value, "/status/conditions") {
            latest = latest.max(self.time_in(condition, "/lastTransitionTime", "status.conditions")?);
        }
        let fallback = self.time("/status/startTime")?.or(self.time("/metadata/creationTimestamp")?);
        Ok(latest.or(fallback).map(after).or(Some(Timestamp::default())))
    }

    /// The end of the last container; none while one of them runs or no status tells.
    fn containers_ended(&self) -> Result<Option<Timestamp>, ChangeError> {
        let statuses = array(self.value, "/status/containerStatuses");
        let mut latest = None;
        for status in statuses {
            let Some(finished) =
                self.time_in(status, "/state/terminated/finishedAt", "state.terminated.finishedAt")?
            else {
                return Ok(None);
            };
            latest = latest.max(Some(finished));
        }
        Ok(latest.map(after))
    }

    fn service(&self, identity: &mut Identity) {
        let service = self.value;
        push_addresses(
            identity,
            strings(service, "/spec/clusterIPs")
                .chain(text(service, "/spec/clusterIP"))
                .chain(strings(service, "/spec/externalIPs"))
                .chain(text(service, "/spec/loadBalancerIP"))
                .chain(
                    array(service, "/status/loadBalancer/ingress")
                        .iter()
                        .filter_map(|ingress| text(ingress, "/ip")),
                ),
        );
        let ports = array(service, "/spec/ports");
        identity.ports = ports.iter().filter_map(|port| integer(port, "/port")).collect();
        let node_ports: Vec<_> = ports
            .iter()
            .filter_map(|port| integer(port, "/nodePort"))
            .chain(integer(service, "/spec/healthCheckNodePort"))
            .filter(|port| *port != 0)
            .map(|port| port.to_string())
            .collect();
        if !node_ports.is_empty() {
            identity.annotations.insert(NODE_PORTS_KEY.to_owned(), node_ports.join(","));
        }
    }

    fn endpoint_slice(&self, identity: &mut Identity) {
        let slice = self.value;
        identity.service = text(slice, "/metadata/labels/kubernetes.io~1service-name").map(ByteString::from);
        let endpoints = array(slice, "/endpoints");
        push_addresses(identity, endpoints.iter().flat_map(|endpoint| strings(endpoint, "/addresses")));
        identity.endpoint_pods = endpoints
            .iter()
            .filter(|endpoint| text(endpoint, "/targetRef/kind") == Some("Pod"))
            .filter_map(|endpoint| text(endpoint, "/targetRef/name").map(ByteString::from))
            .take(MAX_ADDRESSES)
            .collect();
        identity.ports = array(slice, "/ports").iter().filter_map(|port| integer(port, "/port")).collect();
    }

    fn node(&self, identity: &mut Identity) {
        identity.node = Some(identity.name.clone());
        push_addresses(
            identity,
            array(self.value, "/status/addresses")
                .iter()
                .filter(|entry| matches!(text(entry, "/type"), Some("InternalIP" | "ExternalIP")))
                .filter_map(|entry| text(entry, "/address")),
        );
    }

    fn time(&self, pointer: &'static str) -> Result<Option<Timestamp>, ChangeError> {
        self.time_in(self.value, pointer, pointer)
    }

    fn time_in(
        &self,
        value: &Value,
        pointer: &str,
        field: &'static str,
    ) -> Result<Option<Timestamp>, ChangeError> {
        let Some(found) = text(value, pointer) else { return Ok(None) };
        Timestamp::parse(found).map(Some).ok_or_else(|| ChangeError::NotATime {
            kind: self.kind.to_owned(),
            name: text(self.value, "/metadata/name").unwrap_or_default().to_owned(),
            field,
            value: found.chars().take(64).collect(),
        })
    }

    fn missing(&self, field: &'static str) -> ChangeError {
        ChangeError::MissingField { kind: self.kind.to_owned(), field }
    }
}

/// The containers of a pod with the ports they declare, as `name=port,port;name=`. Sidecars that run as restartable
/// init containers count; other init containers end before the pod serves.
fn containers_text(pod: &Value) -> String {
    let sidecars = array(pod, "/spec/initContainers")
        .iter()
        .filter(|container| text(container, "/restartPolicy") == Some("Always"));
    let containers = array(pod, "/spec/containers").iter().chain(sidecars).filter_map(|container| {
        let ports: Vec<_> = array(container, "/ports")
            .iter()
            .filter_map(|port| integer(port, "/containerPort"))
            .map(|port| port.to_string())
            .collect();
        Some(format!("{}={}", text(container, "/name")?, ports.join(",")))
    });
    containers.collect::<Vec<_>>().join(";")
}

/// Adds addresses in their canonical spelling, each once. `None` (a headless service) and host names are not addresses.
fn push_addresses<'a>(identity: &mut Identity, addresses: impl Iterator<Item = &'a str>) {
    for address in addresses.filter_map(|text| text.parse::<std::net::IpAddr>().ok()) {
        let address = ByteString::from(address.to_string());
        if !identity.addresses.contains(&address) && identity.addresses.len() < MAX_ADDRESSES {
            identity.addresses.push(address);
        }
    }
}

fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn integer(value: &Value, pointer: &str) -> Option<i32> {
    value.pointer(pointer).and_then(Value::as_i64).and_then(|number| i32::try_from(number).ok())
}

fn array<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn strings<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = &'v str> + use<'v> {
    array(value, pointer).iter().filter_map(Value::as_str)
}

fn map(value: &Value, pointer: &str) -> BTreeMap<String, String> {
    let object = value.pointer(pointer).and_then(Value::as_object);
    object
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}
