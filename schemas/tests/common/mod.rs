//! One sample of each record, shared by the tests of the contracts.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;

use bytes::Bytes;
use wirecall_schemas::*;

pub fn text(text: &str) -> ByteString {
    ByteString::from(text)
}

pub fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + micros)
}

fn endpoint(address: &str, port: u16) -> Endpoint {
    Endpoint { address: address.parse().expect("an address"), port }
}

pub fn segment() -> Segment {
    let chunk = |direction, kind, cause, offset, length, micros| Chunk {
        direction,
        kind,
        cause,
        offset,
        length,
        time: time(micros),
    };
    use Direction::{ClientToServer, ServerToClient};
    Segment {
        connection_id: ConnectionId::new([7; 16]),
        connection_key: ConnectionKey::new([9; 8]),
        transport: Transport::Tcp,
        client: endpoint("10.0.0.1", 40_000),
        server: endpoint("2001:db8::2", 80),
        orientation: Orientation::Syn,
        vantage: VantageKind::Client,
        capture_method: CaptureMethod::Pcap,
        agent_id: text("node-a"),
        agent_epoch: 1,
        partition: 3,
        sequence: 42,
        interface: Some(text("eth0")),
        process: Some(Process { pid: 1, name: Some(text("curl")), cgroup_id: Some(5), container_id: None }),
        chunks: vec![
            chunk(ClientToServer, ChunkKind::Open, ChunkCause::None, 0, 0, 0),
            chunk(ClientToServer, ChunkKind::Data, ChunkCause::None, 0, 5, 10),
            chunk(ServerToClient, ChunkKind::Gap, ChunkCause::Loss, 0, 100, 20),
            chunk(ServerToClient, ChunkKind::Data, ChunkCause::None, 100, 3, 30),
            chunk(ServerToClient, ChunkKind::Close, ChunkCause::Fin, 103, 0, 40),
        ],
        totals: Some(Totals { client_packets: 4, client_bytes: 5, ..Totals::default() }),
        payload: Bytes::from_static(b"helloyes"),
    }
}

pub fn call() -> Call {
    Call {
        call_id: CallId::new([1; 16]),
        connection_id: ConnectionId::new([7; 16]),
        index: 2,
        protocol: text("http"),
        protocol_version: Some(text("1.1")),
        transport: Transport::Tcp,
        client: endpoint("10.0.0.1", 40_000),
        server: endpoint("10.0.0.2", 80),
        operation: Some(text("GET")),
        target: Some(text("/items?id=1")),
        status: Some(text("200")),
        status_class: StatusClass::Ok,
        completeness: Completeness::Matched,
        completeness_cause: Some(Cause::Gap),
        start_time: Some(time(1)),
        end_time: Some(time(4)),
        request: Some(Message { first_byte_time: Some(time(1)), last_byte_time: None, ..message() }),
        response: Some(message()),
        http: Some(Http {
            request_method: Some(text("GET")),
            response_status_code: Some(200),
            interim_status_codes: vec![100, 103],
            ..Http::default()
        }),
        connection: Some(ConnectionSummary {
            open_time: Some(time(0)),
            close_time: None,
            close_reason: ChunkCause::Reset,
            totals: Totals::default(),
            client_stream_bytes: 1,
            server_stream_bytes: 2,
            dissected_as: Some(text("http")),
        }),
        trace: Some(TraceContext {
            format: text("w3c"),
            trace_id: text("4bf92f3577b34da6a3ce929d0e0e4736"),
            span_id: Some(text("00f067aa0ba902b7")),
            flags: Some(1),
            state: None,
        }),
        findings: vec![Finding { code: text("http.conflicting_lengths"), detail: Some(text("3 and 4")) }],
        ledger: Ledger { response_gap_bytes: 100, body_affected: true, ..Ledger::default() },
        vantages: vec![Vantage {
            kind: VantageKind::Client,
            agent_id: text("node-a"),
            request_first_byte_time: Some(time(1)),
            request_last_byte_time: Some(time(2)),
            response_first_byte_time: Some(time(3)),
            response_last_byte_time: Some(time(4)),
            gap_bytes: 100,
        }],
        provenance: Provenance {
            agent_id: text("node-a"),
            agent_epoch: 1,
            capture_method: CaptureMethod::Pcap,
            first_sequence: Some(42),
            last_sequence: Some(43),
            topic: Some(text("wirecall.segments")),
            partition: Some(3),
            first_offset: Some(10),
            last_offset: Some(11),
            parser: text("http"),
            parser_version: 1,
        },
    }
}

fn message() -> Message {
    Message {
        first_byte_time: Some(time(3)),
        last_byte_time: Some(time(4)),
        wire_bytes: 120,
        headers: vec![
            Header { name: text("Set-Cookie"), value: text("a=1") },
            Header { name: text("Set-Cookie"), value: text("b=2") },
        ],
        trailers: vec![Header { name: text("Digest"), value: text("") }],
        body: Some(Body {
            content: Some(Blob::new(Bytes::from_static(b"{\"ok\":true}"))),
            size: Some(11),
            decoded_size: None,
            truncated: false,
            content_encoding: None,
            decoding: Decoding::Identity,
            media_type: Some(text("application/json")),
            parts: vec![BodyPart { name: Some(text("f")), filename: None, media_type: None, size: 3 }],
            holes: vec![Hole { offset: 1, length: 2 }],
        }),
    }
}

pub fn event() -> ApiEvent {
    let call = call();
    let mut server = Peer::unresolved(call.server);
    server.kind = Some(text("pod"));
    server.labels = BTreeMap::from([("app".to_owned(), "shop".to_owned())]);
    server.resolved_by = ResolvedBy::PodIp;
    server.certainty = Certainty::Ambiguous;
    server.candidates = vec![text("Pod/shop/cart-1"), text("Pod/shop/cart-2")];
    let mut event = ApiEvent::new(call.clone(), Peer::unresolved(call.client), server, Some(time(9)));
    event.redactions = vec![Redaction {
        path: text("request.headers.authorization"),
        rule: text("authorization"),
        action: text("removed"),
    }];
    event
}

pub fn identity() -> Identity {
    Identity {
        kind: text("Pod"),
        uid: text("u-1"),
        namespace: Some(text("shop")),
        name: text("cart-1"),
        valid_from: time(0),
        valid_to: Some(time(100)),
        addresses: vec![text("10.0.0.2")],
        containers: BTreeMap::from([("c-1".to_owned(), "cart".to_owned())]),
        ..Identity::default()
    }
}

pub fn agent() -> Agent {
    Agent {
        agent_id: text("node-a"),
        time: time(5),
        counts: vec![Count { reason: text("delivered"), packets: 3, bytes: 180 }],
        partitions: vec![PartitionProgress { partition: 3, next_sequence: 44 }],
        ..Agent::default()
    }
}

pub fn dead_letter() -> DeadLetter {
    DeadLetter {
        stage: text("dissector"),
        topic: text("wirecall.segments"),
        partition: 3,
        offset: 10,
        time: Some(time(0)),
        reason: text("undecodable"),
        error: text("the record starts with 0x42"),
        key: None,
        value: Some(Blob::new(Bytes::from_static(&[0x42]))),
    }
}
