//! What one core encodes: segments of 16 KiB in bytes a second, API events of 1.7 kB in events a second, each beside a
//! plain copy of the same bytes in the same run, so that the ratio can be compared between machines.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use wirecall_schemas::codec::{Decoder, Encoder, Framing};
use wirecall_schemas::*;

/// How long each measurement runs.
const RUN: Duration = Duration::from_millis(700);
/// How many times each is run; the best counts, since noise only slows down.
const RUNS: usize = 5;

fn main() {
    let segment = segment(16 * 1024);
    let event = event();
    report("segment, 16 KiB payload", &segment, segment.payload.len());
    report("api event", &event, 0);
}

/// Operations a second, best of several runs.
fn rate(mut operation: impl FnMut()) -> f64 {
    let mut best = 0.0_f64;
    for _ in 0..RUNS {
        let start = Instant::now();
        let mut count = 0_u32;
        while start.elapsed() < RUN {
            for _ in 0..64 {
                operation();
            }
            count += 64;
        }
        best = best.max(f64::from(count) / start.elapsed().as_secs_f64());
    }
    best
}

fn report<R: Record>(name: &str, record: &R, payload: usize) {
    let encoder = Encoder::<R>::new(Framing::Confluent { id: 1 }).expect("schema");
    let mut decoder = Decoder::<R>::new().expect("schema");
    decoder.learn(1, R::SCHEMA_TEXT).expect("schema");
    let mut buffer = Vec::new();
    encoder.encode(record, &mut buffer).expect("encodes");
    let framed = buffer.clone();

    let encode = rate(|| {
        buffer.clear();
        encoder.encode(black_box(record), &mut buffer).expect("encodes");
        black_box(&buffer);
    });
    let copy = rate(|| {
        buffer.clear();
        buffer.extend_from_slice(black_box(&framed));
        black_box(&buffer);
    });
    let decode = rate(|| {
        black_box(decoder.decode(black_box(&framed)).expect("decodes"));
    });
    let bytes = framed.len();
    println!("{name}: {bytes} bytes framed");
    println!("  encode {:>12.0}/s  {:>6.2} us  1/{:.0} of a copy", encode, 1e6 / encode, copy / encode);
    println!("  decode {:>12.0}/s  {:>6.2} us", decode, 1e6 / decode);
    if payload > 0 {
        let payload = u32::try_from(payload).map_or(0.0, f64::from);
        println!(
            "  encode {:.2} GB/s of payload, decode {:.2} GB/s",
            encode * payload / 1e9,
            decode * payload / 1e9
        );
    }
}

fn text(text: &'static str) -> ByteString {
    ByteString::from_static(text)
}

fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + micros)
}

fn endpoint(address: &str, port: u16) -> Endpoint {
    Endpoint { address: address.parse().expect("an address"), port }
}

/// A record as an agent sends it: full packets of 1,448 bytes.
fn segment(length: usize) -> Segment {
    let mut chunks = Vec::new();
    let mut offset = 0;
    while offset < length {
        let take = 1448.min(length - offset);
        chunks.push(Chunk {
            direction: Direction::ServerToClient,
            kind: ChunkKind::Data,
            cause: ChunkCause::None,
            offset: offset as i64,
            length: take as i64,
            time: time(offset as i64),
        });
        offset += take;
    }
    Segment {
        connection_id: ConnectionId::new([7; 16]),
        connection_key: ConnectionKey::new([9; 8]),
        transport: Transport::Tcp,
        client: endpoint("10.0.0.1", 40_000),
        server: endpoint("10.0.0.2", 80),
        orientation: Orientation::Syn,
        vantage: VantageKind::Client,
        capture_method: CaptureMethod::AfPacket,
        agent_id: text("node-a"),
        agent_epoch: 1_700_000_000_000_000,
        partition: 3,
        sequence: 123_456,
        interface: Some(text("eth0")),
        process: None,
        chunks,
        totals: None,
        payload: Bytes::from(vec![0x61; length]),
    }
}

/// An event of about 1.7 kB: twenty header fields, half a kilobyte of body, both peers resolved.
fn event() -> ApiEvent {
    let headers = |names: &[(&'static str, &'static str)]| {
        names.iter().map(|(name, value)| Header { name: text(name), value: text(value) }).collect::<Vec<_>>()
    };
    let body = |length: usize| {
        Some(Body {
            content: Some(Blob::new(Bytes::from(vec![b'x'; length]))),
            size: Some(length as i64),
            decoding: Decoding::Identity,
            media_type: Some(text("application/json")),
            ..Body::default()
        })
    };
    let request = Message {
        first_byte_time: Some(time(1)),
        last_byte_time: Some(time(1)),
        wire_bytes: 480,
        headers: headers(&[
            ("Host", "api.shop.svc.cluster.local"),
            ("User-Agent", "shop-client/2.4.1"),
            ("Accept", "application/json"),
            ("Accept-Encoding", "gzip, br"),
            ("Content-Type", "application/json"),
            ("X-Request-Id", "5f0c7f3e-9d0c-4d8d-8c43-2a5c6e7b8f90"),
            ("X-Forwarded-For", "192.0.2.17"),
            ("X-Forwarded-Proto", "https"),
            ("Connection", "keep-alive"),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ]),
        trailers: Vec::new(),
        body: None,
    };
    let response = Message {
        first_byte_time: Some(time(900)),
        last_byte_time: Some(time(1_100)),
        wire_bytes: 840,
        headers: headers(&[
            ("Server", "nginx/1.22.1"),
            ("Date", "Tue, 14 Nov 2023 22:13:20 GMT"),
            ("Content-Type", "application/json"),
            ("Content-Length", "512"),
            ("Connection", "keep-alive"),
            ("Cache-Control", "no-store"),
            ("X-Request-Id", "5f0c7f3e-9d0c-4d8d-8c43-2a5c6e7b8f90"),
            ("Vary", "Accept-Encoding"),
            ("Strict-Transport-Security", "max-age=31536000"),
            ("X-Content-Type-Options", "nosniff"),
        ]),
        trailers: Vec::new(),
        body: body(512),
    };
    let (client, server) = (endpoint("10.244.1.17", 40_000), endpoint("10.244.2.9", 8080));
    let peer = |endpoint, name: &'static str| Peer {
        kind: Some(text("pod")),
        namespace: Some(text("shop")),
        workload_kind: Some(text("Deployment")),
        workload_name: Some(text(name)),
        pod: Some(text("cart-6d5f7c9b8-x2x7k")),
        pod_uid: Some(text("0a5e4a70-27bb-4b41-8bfa-0de2ad9d4d0e")),
        node: Some(text("node-a")),
        labels: [("app".to_owned(), name.to_owned())].into(),
        resolved_by: ResolvedBy::PodIp,
        resolved_as_of: Some(time(0)),
        certainty: Certainty::Exact,
        ..Peer::unresolved(endpoint)
    };
    let call = Call {
        call_id: CallId::new([1; 16]),
        connection_id: ConnectionId::new([7; 16]),
        index: 2,
        protocol: text("http"),
        protocol_version: Some(text("1.1")),
        transport: Transport::Tcp,
        client,
        server,
        operation: Some(text("GET")),
        target: Some(text("/v1/carts/8a7d/items?limit=20")),
        status: Some(text("200")),
        status_class: StatusClass::Ok,
        completeness: Completeness::Matched,
        completeness_cause: None,
        start_time: Some(time(1)),
        end_time: Some(time(1_100)),
        request: Some(request),
        response: Some(response),
        http: Some(Http {
            request_method: Some(text("GET")),
            request_version: Some(text("1.1")),
            target_form: Some(text("origin")),
            host: Some(text("api.shop.svc.cluster.local")),
            url_path: Some(text("/v1/carts/8a7d/items")),
            url_query: Some(text("limit=20")),
            user_agent: Some(text("shop-client/2.4.1")),
            response_version: Some(text("1.1")),
            response_status_code: Some(200),
            reason_phrase: Some(text("OK")),
            request_framing: Some(text("none")),
            response_framing: Some(text("content_length")),
            ..Http::default()
        }),
        connection: None,
        trace: None,
        findings: Vec::new(),
        ledger: Ledger::default(),
        vantages: vec![Vantage {
            kind: VantageKind::Client,
            agent_id: text("node-a"),
            request_first_byte_time: Some(time(1)),
            request_last_byte_time: Some(time(1)),
            response_first_byte_time: Some(time(900)),
            response_last_byte_time: Some(time(1_100)),
            gap_bytes: 0,
        }],
        provenance: Provenance {
            agent_id: text("node-a"),
            agent_epoch: 1_700_000_000_000_000,
            capture_method: CaptureMethod::AfPacket,
            first_sequence: Some(42),
            last_sequence: Some(43),
            topic: Some(text("wirecall.segments")),
            partition: Some(3),
            first_offset: Some(10),
            last_offset: Some(11),
            parser: text("http"),
            parser_version: 1,
        },
    };
    ApiEvent::new(call, peer(client, "web"), peer(server, "cart"), None)
}
