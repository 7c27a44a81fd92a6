//! What one call costs: identity of both peers, redaction and key.
//!
//! The usual event has nothing to redact; `secrets` has what the built-in rules remove. Bodies are what the figures
//! depend on most, so there is one with a body of 1 KiB and one with 16 KiB.

#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use wirecall_enricher_core::route::{RouteConfig, write_event_key};
use wirecall_enricher_core::{EnrichConfig, Enricher};
use wirecall_schemas::{
    Blob, Body, Call, CallId, CaptureMethod, Completeness, ConnectionId, Endpoint, Header, Http, Identity,
    Ledger, Message, Provenance, StatusClass, Timestamp, Transport,
};

const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

fn header(name: &'static str, value: &'static str) -> Header {
    Header { name: name.into(), value: value.into() }
}

fn body(size: usize) -> Body {
    let item = r#"{"id":17,"name":"a chair","price":12.5,"tags":["wood","garden"]},"#;
    let mut text = String::from("[");
    while text.len() < size {
        text.push_str(item);
    }
    text.push_str("{}]");
    Body {
        content: Some(Blob::new(Bytes::from(text))),
        media_type: Some("application/json".into()),
        ..Body::default()
    }
}

fn call(body_size: usize) -> Call {
    let request_headers = vec![
        header("Host", "catalogue.shop.svc.cluster.local"),
        header("User-Agent", "curl/8.5.0"),
        header("Accept", "application/json, text/plain;q=0.8"),
        header("Accept-Encoding", "gzip, deflate"),
        header("X-Request-Id", "6f1c2d3e4f5a6b7c"),
        header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let response_headers = vec![
        header("Server", "nginx"),
        header("Date", "Thu, 01 Jan 2026 00:00:00 GMT"),
        header("Content-Type", "application/json; charset=utf-8"),
        header("Content-Length", "1024"),
        header("Connection", "keep-alive"),
        header("Cache-Control", "max-age=60, public"),
    ];
    Call {
        call_id: CallId::new([1; 16]),
        connection_id: ConnectionId::new([2; 16]),
        index: 0,
        protocol: "http".into(),
        protocol_version: Some("1.1".into()),
        transport: Transport::Tcp,
        client: Endpoint { address: "10.1.0.7".parse().unwrap(), port: 40_000 },
        server: Endpoint { address: "10.1.0.9".parse().unwrap(), port: 8080 },
        operation: Some("GET".into()),
        target: Some("/items?page=2&sort=name".into()),
        status: Some("200".into()),
        status_class: StatusClass::Ok,
        completeness: Completeness::Matched,
        completeness_cause: None,
        start_time: Some(START.plus_micros(1_000_000)),
        end_time: None,
        request: Some(Message { headers: request_headers, ..Message::default() }),
        response: Some(Message {
            headers: response_headers,
            body: (body_size > 0).then(|| body(body_size)),
            ..Message::default()
        }),
        http: Some(Http {
            url_path: Some("/items".into()),
            url_query: Some("page=2&sort=name".into()),
            ..Http::default()
        }),
        connection: None,
        trace: None,
        findings: Vec::new(),
        ledger: Ledger::default(),
        vantages: Vec::new(),
        provenance: Provenance {
            agent_id: "node-1".into(),
            agent_epoch: 1,
            capture_method: CaptureMethod::AfPacket,
            first_sequence: Some(1),
            last_sequence: Some(1),
            topic: None,
            partition: None,
            first_offset: None,
            last_offset: None,
            parser: "http1".into(),
            parser_version: 1,
        },
    }
}

fn call_with_secrets() -> Call {
    let mut call = call(1024);
    call.target = Some("/items?page=2&access_token=abcdefghijkl".into());
    if let Some(request) = &mut call.request {
        request.headers.push(header("Authorization", "Bearer abcdefghijklmnopqrstuvwxyz"));
        request.headers.push(header("Cookie", "sid=0123456789abcdef; theme=dark"));
    }
    call
}

/// A cluster of 1000 nodes with ten pods of four labels each, one service for each 50 pods.
fn feed(enricher: &mut Enricher) {
    for number in 0_u32..10_000 {
        enricher.index_mut().apply(Identity {
            kind: "Pod".into(),
            uid: format!("uid-{number}").into(),
            namespace: Some("shop".into()),
            name: format!("web-5d8f7c-{number}").into(),
            valid_from: START,
            addresses: vec![format!("10.1.{}.{}", number / 256, number % 256).into()],
            node: Some(format!("node-{}", number / 10).into()),
            owner_kind: Some("ReplicaSet".into()),
            owner_name: Some("web-5d8f7c".into()),
            owner_uid: Some("uid-rs".into()),
            service_account: Some("web".into()),
            labels: ["app", "version", "tier", "pod-template-hash"]
                .map(|name| (name.to_owned(), format!("{name}-value")))
                .into(),
            ..Identity::default()
        });
    }
    for number in 0..200_u32 {
        enricher.index_mut().apply(Identity {
            kind: "EndpointSlice".into(),
            uid: format!("uid-slice-{number}").into(),
            namespace: Some("shop".into()),
            name: format!("web-{number}").into(),
            valid_from: START,
            service: Some(format!("web-{number}").into()),
            endpoint_pods: (number * 50..number * 50 + 50)
                .map(|pod| format!("web-5d8f7c-{pod}").into())
                .collect(),
            ..Identity::default()
        });
    }
    enricher.index_mut().apply(Identity {
        kind: "ReplicaSet".into(),
        uid: "uid-rs".into(),
        namespace: Some("shop".into()),
        name: "web-5d8f7c".into(),
        valid_from: START,
        owner_kind: Some("Deployment".into()),
        owner_name: Some("web".into()),
        owner_uid: Some("uid-deployment".into()),
        ..Identity::default()
    });
}

fn enrich(criterion: &mut Criterion) {
    let mut enricher = Enricher::new(EnrichConfig::default()).unwrap();
    feed(&mut enricher);
    let mut key = Vec::new();
    let cases = [
        ("no-body", call(0)),
        ("body-1k", call(1024)),
        ("body-16k", call(16_384)),
        ("secrets", call_with_secrets()),
    ];
    for (name, call) in cases {
        criterion.bench_function(&format!("enrich-{name}"), |bencher| {
            bencher.iter_batched(
                || call.clone(),
                |call| {
                    let event = enricher.enrich(call);
                    write_event_key(&event, &mut key);
                    event
                },
                BatchSize::SmallInput,
            );
        });
    }
}

fn route(criterion: &mut Criterion) {
    let rule = |name: &str, condition: &str| RouteConfig {
        name: name.into(),
        topic: name.into(),
        condition: Some(condition.into()),
        ..RouteConfig::default()
    };
    for (name, condition) in [
        ("protocol", "protocol == 'redis'"),
        ("peer", "protocol == 'http' && server.namespace == 'other'"),
        ("body", "response.headers.exists(h, h.name == 'X-Cache')"),
    ] {
        let config = EnrichConfig { routes: vec![rule(name, condition)], ..EnrichConfig::default() };
        let mut enricher = Enricher::new(config).unwrap();
        feed(&mut enricher);
        let event = enricher.enrich(call(1024));
        criterion.bench_function(&format!("route-{name}"), |bencher| {
            bencher.iter(|| enricher.routes(&event).len());
        });
    }
}

criterion_group!(benches, enrich, route);
criterion_main!(benches);
