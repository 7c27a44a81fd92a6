//! Calls, events and identities for tests.

use wirecall_schemas::{
    ApiEvent, Call, CallId, CaptureMethod, Completeness, ConnectionId, Endpoint, Ledger, Peer, Provenance,
    StatusClass, Timestamp, Transport,
};

/// An address and a port from `address:port`.
pub(crate) fn endpoint(text: &str) -> Endpoint {
    let socket: std::net::SocketAddr = text.parse().unwrap();
    Endpoint { address: socket.ip(), port: socket.port() }
}

/// A time from ISO 8601.
pub(crate) fn time(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

/// A call of the protocol without any content.
pub(crate) fn call(protocol: &str) -> Call {
    Call {
        call_id: CallId::new([1; 16]),
        connection_id: ConnectionId::new([2; 16]),
        index: 0,
        protocol: protocol.into(),
        protocol_version: None,
        transport: Transport::Tcp,
        client: endpoint("10.1.0.1:40000"),
        server: endpoint("10.1.0.2:8080"),
        operation: None,
        target: None,
        status: None,
        status_class: StatusClass::Unknown,
        completeness: Completeness::Matched,
        completeness_cause: None,
        start_time: Some(time("2026-01-01T00:10:00Z")),
        end_time: None,
        request: None,
        response: None,
        http: None,
        connection: None,
        trace: None,
        findings: Vec::new(),
        ledger: Ledger::default(),
        vantages: Vec::new(),
        provenance: Provenance {
            agent_id: "agent".into(),
            agent_epoch: 1,
            capture_method: CaptureMethod::Pcap,
            first_sequence: None,
            last_sequence: None,
            topic: None,
            partition: None,
            first_offset: None,
            last_offset: None,
            parser: "http1".into(),
            parser_version: 1,
        },
    }
}

/// An event of the protocol whose peers nobody knows.
pub(crate) fn event(protocol: &str) -> ApiEvent {
    let call = call(protocol);
    let (client, server) = (Peer::unresolved(call.client), Peer::unresolved(call.server));
    ApiEvent::new(call, client, server, None)
}
