//! From the records that held an address to the identity of a peer.
//!
//! The order of the questions, for an address and a port at a time:
//!
//! 1. pods of their own network (`pod_ip`) and services (`service_ip`); where services share the address with each
//!    other or with a node, the one that serves the port;
//! 2. a node's address (`node_ip`): for a server's port that is a node port, the service behind it; else the node.
//!    Pods of the host's network share it, so their presence does not make it ambiguous: the address is the node's,
//!    and nothing in a packet says which of the node's processes it was. They tell the node's name where the node's
//!    own object is unknown;
//! 3. an endpoint slice (`endpoint`): the service that has the address as its backend, with no pod of ours behind it;
//! 4. nobody.
//!
//! More than one answer to a question is ambiguous: all are listed, and only what they agree on is told.

use smallvec::SmallVec;
use wirecall_schemas::{ByteString, Certainty, Endpoint, Peer, ResolvedBy, Timestamp};

use super::index::{Index, Role};
use super::record::{Kind, Record};

/// Candidates that an event lists. More is possible only with forged or broken objects.
const MAX_CANDIDATES: usize = 32;

type Records<'i> = SmallVec<[&'i Record; 4]>;

impl Index {
    /// Who the endpoint was at `time`.
    pub fn peer(&self, endpoint: Endpoint, role: Role, time: Timestamp) -> Peer {
        let question = Question { index: self, endpoint, role, time };
        let holders = Holders::of(self, endpoint, time);
        let (records, by) = question.candidates(&holders);
        let [first, others @ ..] = records.as_slice() else { return Peer::unresolved(endpoint) };
        let mut peer = question.peer(first, by);
        if others.is_empty() {
            peer.certainty = Certainty::Exact;
        } else {
            peer.certainty = Certainty::Ambiguous;
            others.iter().for_each(|other| keep_agreement(&mut peer, question.peer(other, by)));
            peer.candidates = titles(&records);
        }
        if by == ResolvedBy::NodeIp && peer.node.is_none() {
            peer.node = only_name(&holders.nodes);
        }
        peer
    }
}

/// The records that held an address at a time, each object once, by what they are.
#[derive(Default)]
struct Holders<'i> {
    pods: Records<'i>,
    host_network_pods: Records<'i>,
    services: Records<'i>,
    slices: Records<'i>,
    nodes: Records<'i>,
}

impl<'i> Holders<'i> {
    fn of(index: &'i Index, endpoint: Endpoint, time: Timestamp) -> Self {
        let mut holders = Self::default();
        for record in index.records_at(endpoint.address, time) {
            match record.kind {
                Kind::Pod => push_new(&mut holders.pods, record, same_object),
                Kind::HostNetworkPod => push_new(&mut holders.host_network_pods, record, same_node),
                Kind::Service => push_new(&mut holders.services, record, same_object),
                Kind::EndpointSlice => push_new(&mut holders.slices, record, same_service),
                Kind::Node => push_new(&mut holders.nodes, record, same_object),
                Kind::Owner | Kind::Other => {}
            }
        }
        holders
    }
}

/// Adds a record unless it says the same as one that is there; the newest comes first and stays.
fn push_new<'i>(list: &mut Records<'i>, record: &'i Record, same: fn(&Record, &Record) -> bool) {
    if !list.iter().any(|other| same(other, record)) {
        list.push(record);
    }
}

fn same_object(one: &Record, other: &Record) -> bool {
    one.identity.uid == other.identity.uid
}

fn same_node(one: &Record, other: &Record) -> bool {
    one.identity.node == other.identity.node
}

fn same_service(one: &Record, other: &Record) -> bool {
    one.identity.namespace == other.identity.namespace && one.identity.service == other.identity.service
}

/// Who was this, at that time.
struct Question<'i> {
    index: &'i Index,
    endpoint: Endpoint,
    role: Role,
    time: Timestamp,
}

impl<'i> Question<'i> {
    /// The records that answer, and how they were found. See the module's text for the order.
    fn candidates(&self, holders: &Holders<'i>) -> (Records<'i>, ResolvedBy) {
        let services = self.serving(holders);
        if !holders.pods.is_empty() {
            let by = if services.is_empty() { ResolvedBy::PodIp } else { ResolvedBy::None };
            return (holders.pods.iter().chain(&services).copied().collect(), by);
        }
        if !services.is_empty() {
            return (services, ResolvedBy::ServiceIp);
        }
        if !holders.nodes.is_empty() || !holders.host_network_pods.is_empty() {
            return (self.at_node(holders), ResolvedBy::NodeIp);
        }
        if !holders.services.is_empty() {
            return (holders.services.clone(), ResolvedBy::ServiceIp);
        }
        let mut slices = holders.slices.clone();
        slices.retain(|slice| slice.identity.service.is_some());
        (slices, ResolvedBy::Endpoint)
    }

    /// The services at the address that serve the port. Several can share an address (load balancers do that), and
    /// an external address of a service can be a node's.
    fn serving(&self, holders: &Holders<'i>) -> Records<'i> {
        let mut services = holders.services.clone();
        if self.role == Role::Server {
            services.retain(|service| service.serves(self.endpoint.port));
        } else if !holders.nodes.is_empty() || !holders.host_network_pods.is_empty() {
            services.clear();
        }
        services
    }

    /// The service behind the node port, else the node.
    fn at_node(&self, holders: &Holders<'i>) -> Records<'i> {
        let mut found = Records::new();
        if self.role == Role::Server {
            for service in self.index.services_at_node_port(self.endpoint.port, self.time) {
                push_new(&mut found, service, same_object);
            }
        }
        if !found.is_empty() {
            return found;
        }
        if holders.nodes.is_empty() { holders.host_network_pods.clone() } else { holders.nodes.clone() }
    }

    /// The identity that one record gives.
    fn peer(&self, record: &'i Record, by: ResolvedBy) -> Peer {
        let identity = &record.identity;
        let mut peer = Peer::unresolved(self.endpoint);
        peer.resolved_by = by;
        // Zero stands for an object that does not tell when it was made.
        peer.resolved_as_of = Some(identity.valid_from).filter(|from| *from != Timestamp::default());
        match record.kind {
            Kind::Pod => self.fill_pod(&mut peer, record),
            Kind::HostNetworkPod => {
                peer.kind = Some(NODE);
                peer.node.clone_from(&identity.node);
            }
            Kind::Node => {
                peer.kind = Some(NODE);
                peer.node = Some(identity.name.clone());
                fill_names(&mut peer, record);
            }
            Kind::EndpointSlice => {
                peer.kind = Some(SERVICE);
                peer.namespace.clone_from(&identity.namespace);
                peer.service.clone_from(&identity.service);
            }
            Kind::Service | Kind::Owner | Kind::Other => {
                peer.kind = Some(SERVICE);
                peer.namespace.clone_from(&identity.namespace);
                peer.service = Some(identity.name.clone());
                fill_names(&mut peer, record);
            }
        }
        peer
    }

    fn fill_pod(&self, peer: &mut Peer, record: &'i Record) {
        let identity = &record.identity;
        let (workload_kind, workload_name) = self.index.workload_of(identity);
        let port = (self.role == Role::Server).then_some(self.endpoint.port);
        peer.kind = Some(POD);
        peer.namespace.clone_from(&identity.namespace);
        peer.workload_kind = Some(workload_kind.clone());
        peer.workload_name = Some(workload_name.clone());
        peer.pod = Some(identity.name.clone());
        // A file written by hand may have no uid; what stands in for it has a slash, which no uid has.
        peer.pod_uid = Some(identity.uid.clone()).filter(|uid| !uid.contains('/'));
        peer.service = self.index.service_of_pod(identity, self.time).cloned();
        peer.node.clone_from(&identity.node);
        peer.container = record.container(port).cloned();
        peer.service_account.clone_from(&identity.service_account);
        fill_names(peer, record);
    }
}

const POD: ByteString = ByteString::from_static("pod");
const SERVICE: ByteString = ByteString::from_static("service");
const NODE: ByteString = ByteString::from_static("node");

fn fill_names(peer: &mut Peer, record: &Record) {
    peer.labels.clone_from(&record.identity.labels);
    peer.annotations.clone_from(record.annotations());
}

/// Keeps in `peer` what `other` says too.
fn keep_agreement(peer: &mut Peer, other: Peer) {
    for (field, others) in [
        (&mut peer.kind, other.kind),
        (&mut peer.namespace, other.namespace),
        (&mut peer.pod, other.pod),
        (&mut peer.pod_uid, other.pod_uid),
        (&mut peer.service, other.service),
        (&mut peer.node, other.node),
        (&mut peer.container, other.container),
        (&mut peer.service_account, other.service_account),
    ] {
        if *field != others {
            *field = None;
        }
    }
    // Kind and name of a workload mean nothing without each other.
    if peer.workload_kind != other.workload_kind || peer.workload_name != other.workload_name {
        peer.workload_kind = None;
        peer.workload_name = None;
    }
    peer.labels.retain(|name, value| other.labels.get(name) == Some(value));
    peer.annotations.retain(|name, value| other.annotations.get(name) == Some(value));
    // All of them hold since the last of them began.
    peer.resolved_as_of = peer.resolved_as_of.max(other.resolved_as_of);
}

/// kind/namespace/name of each candidate, in alphabetical order so that equal answers are equal bytes.
fn titles(records: &Records<'_>) -> Vec<ByteString> {
    let mut titles: Vec<_> = records.iter().take(MAX_CANDIDATES).map(|record| record.title()).collect();
    titles.sort();
    titles
}

/// The name of the only record.
fn only_name(records: &Records<'_>) -> Option<ByteString> {
    match records.as_slice() {
        [only] => Some(only.identity.name.clone()),
        _ => None,
    }
}
