//! API events: what users consume.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytestring::ByteString;
use serde::{Deserialize, Serialize};

use crate::endpoint::{AddressText, PortInt, address_text, port_int};
use crate::positional::positional;
use crate::{
    Call, CallId, Cause, Completeness, ConnectionId, ConnectionSummary, Endpoint, Finding, Http, Ledger,
    Message, Process, Provenance, StatusClass, Timestamp, TraceContext, Transport, Vantage,
};

/// A call with the identity of both peers. The fields are those of [`Call`], with [`Peer`] in place of [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "each field is documented at Call and in the schema")]
pub struct ApiEvent {
    pub call_id: CallId,
    pub connection_id: ConnectionId,
    pub index: i64,
    pub protocol: ByteString,
    pub protocol_version: Option<ByteString>,
    pub transport: Transport,
    pub client: Peer,
    pub server: Peer,
    pub operation: Option<ByteString>,
    pub target: Option<ByteString>,
    pub status: Option<ByteString>,
    pub status_class: StatusClass,
    pub completeness: Completeness,
    pub completeness_cause: Option<Cause>,
    pub start_time: Option<Timestamp>,
    pub end_time: Option<Timestamp>,
    pub request: Option<Message>,
    pub response: Option<Message>,
    pub http: Option<Http>,
    pub connection: Option<ConnectionSummary>,
    pub trace: Option<TraceContext>,
    pub findings: Vec<Finding>,
    pub ledger: Ledger,
    pub vantages: Vec<Vantage>,
    pub provenance: Provenance,
    /// What was removed from the event.
    pub redactions: Vec<Redaction>,
    /// Time up to which the identity history was known; none when no identity source is configured.
    pub identity_watermark: Option<Timestamp>,
}

positional!(ApiEvent {
    call_id,
    connection_id,
    index,
    protocol,
    protocol_version,
    transport,
    client,
    server,
    operation,
    target,
    status,
    status_class,
    completeness,
    completeness_cause,
    start_time,
    end_time,
    request,
    response,
    http,
    connection,
    trace,
    findings,
    ledger,
    vantages,
    provenance,
    redactions,
    identity_watermark,
});

impl ApiEvent {
    /// Joins a call with its peers; nothing is redacted yet.
    pub fn new(call: Call, client: Peer, server: Peer, identity_watermark: Option<Timestamp>) -> Self {
        Self {
            call_id: call.call_id,
            connection_id: call.connection_id,
            index: call.index,
            protocol: call.protocol,
            protocol_version: call.protocol_version,
            transport: call.transport,
            client,
            server,
            operation: call.operation,
            target: call.target,
            status: call.status,
            status_class: call.status_class,
            completeness: call.completeness,
            completeness_cause: call.completeness_cause,
            start_time: call.start_time,
            end_time: call.end_time,
            request: call.request,
            response: call.response,
            http: call.http,
            connection: call.connection,
            trace: call.trace,
            findings: call.findings,
            ledger: call.ledger,
            vantages: call.vantages,
            provenance: call.provenance,
            redactions: Vec::new(),
            identity_watermark,
        }
    }
}

/// One end of a call with its identity as of the call's time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Peer {
    /// IP address.
    #[serde(deserialize_with = "address_text::deserialize")]
    pub address: IpAddr,
    /// Port number; 0 where the transport has none.
    #[serde(deserialize_with = "port_int::deserialize")]
    pub port: u16,
    /// pod, service, node or external; none when unknown.
    pub kind: Option<ByteString>,
    /// `k8s.namespace.name`.
    pub namespace: Option<ByteString>,
    /// Kind of the top owner, for example Deployment.
    pub workload_kind: Option<ByteString>,
    /// Name of the top owner.
    pub workload_name: Option<ByteString>,
    /// `k8s.pod.name`.
    pub pod: Option<ByteString>,
    /// `k8s.pod.uid`.
    pub pod_uid: Option<ByteString>,
    /// Service that the address belongs to or that selects the pod; none when there is none or more than one.
    pub service: Option<ByteString>,
    /// `k8s.node.name`.
    pub node: Option<ByteString>,
    /// `k8s.container.name`.
    pub container: Option<ByteString>,
    /// Service account of the pod.
    pub service_account: Option<ByteString>,
    /// Labels of the pod, service or node, in the order of their names so that the same event has the same bytes.
    pub labels: BTreeMap<String, String>,
    /// Annotations that the allow-list lets through.
    pub annotations: BTreeMap<String, String>,
    /// Local process, where the capture method knows it.
    pub process: Option<Process>,
    /// DNS name of the address as observed in answers.
    pub dns_name: Option<ByteString>,
    /// How the peer was resolved.
    pub resolved_by: ResolvedBy,
    /// The time the identity is valid for: the start of the interval that answered.
    pub resolved_as_of: Option<Timestamp>,
    /// Whether the answer is the only one possible.
    pub certainty: Certainty,
    /// kind/namespace/name of each possible answer when it is ambiguous.
    pub candidates: Vec<ByteString>,
}

positional!(Peer {
    address via AddressText,
    port via PortInt,
    kind,
    namespace,
    workload_kind,
    workload_name,
    pod,
    pod_uid,
    service,
    node,
    container,
    service_account,
    labels,
    annotations,
    process,
    dns_name,
    resolved_by,
    resolved_as_of,
    certainty,
    candidates,
});

impl Peer {
    /// A peer of which nothing is known beyond its address.
    pub const fn unresolved(endpoint: Endpoint) -> Self {
        Self {
            address: endpoint.address,
            port: endpoint.port,
            kind: None,
            namespace: None,
            workload_kind: None,
            workload_name: None,
            pod: None,
            pod_uid: None,
            service: None,
            node: None,
            container: None,
            service_account: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            process: None,
            dns_name: None,
            resolved_by: ResolvedBy::None,
            resolved_as_of: None,
            certainty: Certainty::Unknown,
            candidates: Vec::new(),
        }
    }
}

/// How a peer was resolved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolvedBy {
    /// It was not.
    #[default]
    None,
    /// Its address is a pod's.
    PodIp,
    /// Its address is a service's cluster IP.
    ServiceIp,
    /// Its address is a node's.
    NodeIp,
    /// By the cgroup of the socket's owner.
    Cgroup,
    /// By the container of the socket's owner.
    Container,
    /// Its address is behind an endpoint slice.
    Endpoint,
    /// By a DNS answer that was observed.
    Dns,
}

/// Whether an identity is the only one possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// Nothing answered.
    #[default]
    Unknown,
    /// One answer.
    Exact,
    /// More than one; `candidates` lists them.
    Ambiguous,
}

/// Something that was removed from an event.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Redaction {
    /// Where, for example `request.headers.authorization`.
    pub path: ByteString,
    /// Name of the rule.
    pub rule: ByteString,
    /// `removed` or `masked`.
    pub action: ByteString,
}

positional!(Redaction { path, rule, action });
