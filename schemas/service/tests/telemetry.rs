//! Metrics as Prometheus and OTLP see them, and health by its parts.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use prometheus::{Encoder as _, TextEncoder};
use wirecall_service::health::{Health, HealthConfig};
use wirecall_service::telemetry::{Service, Telemetry, TelemetryConfig};

wirecall_service::label! {
    /// Why something was dropped.
    enum Reason: "reason" {
        /// No room.
        Full = "full",
        /// Too long.
        Oversize = "oversize",
    }
}

fn service() -> Service {
    Service { name: "example", version: "1.2.3", instance: "here".to_owned() }
}

fn exported(telemetry: &Telemetry) -> String {
    let mut text = Vec::new();
    TextEncoder::new().encode(&telemetry.registry().gather(), &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn instruments_are_exported_under_their_whole_names() {
    let telemetry = Telemetry::metrics_only(&TelemetryConfig::default(), &service()).unwrap();
    let metrics = telemetry.metrics();
    let read = metrics.counter("read_packets_total", "Packets.");
    let dropped = metrics.counters::<Reason>("dropped_segments_total", "Drops.");
    let open = metrics.gauge("open_connections", "Connections.");
    let commit = metrics.histogram("commit_seconds", "Commits.", &wirecall_service::metrics::SECONDS);
    metrics.observe("absent", "Nothing now.", || None);
    metrics.observe_each("lag_records", "Lag.", "partition", || vec![("0".to_owned(), 5.0)]);
    read.add(3);
    read.advance_to(2);
    dropped.add(Reason::Oversize, 2);
    open.set(-4);
    commit.record(0.2, &[]);
    let text = exported(&telemetry);
    for line in [
        "# TYPE example_read_packets_total counter",
        "example_read_packets_total 3",
        "example_dropped_segments_total{reason=\"full\"} 0",
        "example_dropped_segments_total{reason=\"oversize\"} 2",
        "example_open_connections -4",
        "example_commit_seconds_count 1",
        "example_commit_seconds_bucket{le=\"0.25\"} 1",
        "example_lag_records{partition=\"0\"} 5",
        "example_build_info{version=\"1.2.3\"} 1",
    ] {
        assert!(text.lines().any(|exported| exported == line), "{line} is not in {text}");
    }
    assert!(!text.contains("example_absent"), "{text}");
}

#[test]
fn the_end_pushes_what_the_collector_has_not_seen() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/v1/metrics", listener.local_addr().unwrap());
    let collector = std::thread::spawn(move || receive(&listener));
    let mut config = TelemetryConfig::default();
    config.otlp.endpoint = Some(endpoint);
    config.otlp.interval_seconds = 3600;
    let telemetry = Telemetry::metrics_only(&config, &service()).unwrap();
    telemetry.metrics().counter("last_words_total", "The last.").add(1);
    drop(telemetry);
    let request = collector.join().unwrap();
    assert!(request.starts_with(b"POST /v1/metrics "));
    let holds = |name: &[u8]| request.windows(name.len()).any(|window| window == name);
    assert!(holds(b"example_last_words"));
    assert!(holds(b"wirecall-example"));
}

/// Takes one HTTP request with a declared length, and answers it.
fn receive(listener: &TcpListener) -> Vec<u8> {
    let (mut stream, _) = listener.accept().unwrap();
    let mut request = Vec::new();
    let mut part = [0; 4096];
    loop {
        let length = stream.read(&mut part).unwrap();
        request.extend_from_slice(&part[..length]);
        let Some(head) = request.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
        let (_, after) = text.split_once("content-length: ").unwrap();
        let body: usize = after.lines().next().unwrap().trim().parse().unwrap();
        if request.len() >= head + 4 + body {
            break;
        }
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
    request
}

#[test]
fn a_service_is_ready_when_all_its_conditions_hold() {
    let health = Health::new(&HealthConfig::default());
    assert!(health.is_ready());
    let (one, two) = (health.condition("one"), health.condition("two"));
    assert!(!health.is_ready());
    one.set(true);
    assert!(!health.is_ready());
    two.set(true);
    assert!(health.is_ready());
    one.set(false);
    assert!(!health.is_ready());
}

#[test]
fn a_service_that_does_not_beat_is_not_alive() {
    let patient = Health::new(&HealthConfig::default());
    assert!(patient.is_alive());
    let strict = Health::new(&HealthConfig { stall_seconds: 0, ..HealthConfig::default() });
    // With no patience at all it stalls as soon as the clock has moved.
    while strict.is_alive() {
        std::thread::yield_now();
    }
    assert!(strict.since_beat() > std::time::Duration::ZERO);
}
