//! The programs as they run: a watcher on a real kube-apiserver, an enricher between the topics of a real Kafka.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use wirecall_bus::{BusConfig, Delivery, Metrics, Outgoing, Producer, Reader, StartAt};
use wirecall_enricher::source::kafka::{Change, read_history};
use wirecall_enricher_core::{EnrichConfig, Enricher};
use wirecall_schemas::codec::{Decoder, Encoder, Framing};
use wirecall_schemas::topic::Topic;
use wirecall_schemas::{
    ApiEvent, Call, CallId, CaptureMethod, Completeness, ConnectionId, DeadLetter, Endpoint, Header, Ledger,
    Message, Provenance, Record, StatusClass, Timestamp, Transport,
};
use wirecall_test_support::kafka::KafkaCluster;
use wirecall_test_support::kubernetes::{Kubernetes, Pod};
use wirecall_test_support::or_skip;
use wirecall_test_support::process::{Process, wait_for};

const LIMIT: Duration = Duration::from_secs(60);
const CALLS: u8 = 40;

fn config(bootstrap: String) -> BusConfig {
    BusConfig { bootstrap_servers: bootstrap, partitions: 4, ..BusConfig::default() }
}

fn program(folder: &Path, name: &str, config: &BusConfig, arguments: &[String]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wirecall-enricher"));
    command
        .args(["--set", &format!("kafka.bootstrap_servers={}", config.bootstrap_servers)])
        .args(["--set", "kafka.partitions=4", "--set", "health.listen=127.0.0.1:0"])
        .args(arguments);
    Process::start_disposable(name, command, &folder.join(name)).unwrap()
}

fn set(key: &str, value: impl std::fmt::Display) -> [String; 2] {
    ["--set".to_owned(), format!("{key}={value}")]
}

fn call(number: u8) -> Call {
    let endpoint = |text: &str| {
        let socket: std::net::SocketAddr = text.parse().unwrap();
        Endpoint { address: socket.ip(), port: socket.port() }
    };
    Call {
        call_id: CallId::new([number; 16]),
        connection_id: ConnectionId::new([number; 16]),
        index: i64::from(number),
        protocol: "http".into(),
        protocol_version: Some("1.1".into()),
        transport: Transport::Tcp,
        client: endpoint("10.1.0.1:40000"),
        server: endpoint("10.1.0.2:8080"),
        operation: Some("GET".into()),
        target: Some(format!("/items/{number}?token=s3cr3t").into()),
        status: Some("200".into()),
        status_class: StatusClass::Ok,
        completeness: Completeness::Matched,
        completeness_cause: None,
        start_time: Timestamp::parse("2026-01-01T00:00:05Z"),
        end_time: None,
        request: Some(Message {
            headers: vec![Header { name: "Authorization".into(), value: "Bearer s3cr3t".into() }],
            ..Message::default()
        }),
        response: None,
        http: None,
        connection: None,
        trace: None,
        findings: Vec::new(),
        ledger: Ledger::default(),
        vantages: Vec::new(),
        provenance: Provenance {
            agent_id: "node-1".into(),
            agent_epoch: 1,
            capture_method: CaptureMethod::Pcap,
            first_sequence: Some(i64::from(number)),
            last_sequence: Some(i64::from(number)),
            topic: None,
            partition: None,
            first_offset: None,
            last_offset: None,
            parser: "http1".into(),
            parser_version: 1,
        },
    }
}

fn send_calls_and_one_that_is_none(config: &BusConfig) {
    let (sender, reports) = mpsc::channel();
    let report = move |delivery: Delivery| sender.send(delivery.outcome).unwrap_or_default();
    let producer = Producer::start(config, Arc::new(Metrics::default()), report).unwrap();
    let encoder = Encoder::<Call>::new(Framing::SingleObject).unwrap();
    let topic = config.topic(Topic::Calls);
    let send = |key: &[u8], value: &[u8]| {
        let record =
            Outgoing { topic: &topic, partition: None, key, value: Some(value), timestamp_ms: Some(1_000) };
        producer.try_send(&record, 0).unwrap();
        assert_eq!(reports.recv_timeout(LIMIT).unwrap(), Ok(()));
    };
    for number in 0..CALLS {
        let mut value = Vec::new();
        encoder.encode(&call(number), &mut value).unwrap();
        send(&[number], &value);
        if number == CALLS / 2 {
            send(b"broken", b"not a call");
        }
    }
}

/// Reads records of a topic until there are `count` of them.
fn read<R: Record>(config: &BusConfig, topic: &str, count: usize) -> Vec<(Vec<u8>, R)> {
    let mut reader = Reader::topics(config, &[topic], StartAt::Beginning).unwrap();
    let decoder = Decoder::<R>::new().unwrap();
    let mut records = Vec::new();
    let deadline = std::time::Instant::now() + LIMIT;
    while records.len() < count {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        let record = reader.poll(left, |record| {
            (record.key().unwrap().to_vec(), decoder.decode(record.value().unwrap()).unwrap())
        });
        records.push(record.unwrap().unwrap_or_else(|| panic!("{} of {count} in {topic}", records.len())));
    }
    records
}

/// An enricher in this process that knows the same history.
fn offline(config: &BusConfig) -> Enricher {
    let mut enricher = Enricher::new(EnrichConfig::default()).unwrap();
    let index = enricher.index_mut();
    read_history(config, LIMIT, |change: Change| assert!(change.apply(index))).unwrap();
    enricher
}

#[test]
fn calls_become_events_with_the_identity_of_the_cluster() {
    let kafka = or_skip!(KafkaCluster::start(1));
    let kubernetes = or_skip!(Kubernetes::start());
    let folder = tempfile::tempdir().unwrap();
    let config = config(kafka.bootstrap());
    kubernetes.create_namespace("shop").unwrap();
    for (name, address) in [("web", "10.1.0.1"), ("db", "10.1.0.2")] {
        let pod = Pod::new("shop", name).ip(address).start_time("2026-01-01T00:00:00Z");
        kubernetes.create_pod(&pod).unwrap();
    }

    let kubeconfig = set("watcher.kubeconfig", kubernetes.kubeconfig_path().display());
    let arguments = [&["--role".to_owned(), "watcher".to_owned()][..], &kubeconfig].concat();
    let mut watcher = program(folder.path(), "watcher", &config, &arguments);
    wait_for("both pods in the identity history", LIMIT, || {
        anyhow_alive(&mut watcher)?;
        let mut names = Vec::new();
        let read = read_history(&config, LIMIT, |change| {
            if let Change::Record(identity) = change {
                names.push(identity.name.to_string());
            }
        });
        Ok(read.is_ok() && ["web", "db"].iter().all(|name| names.iter().any(|other| other == name)))
    })
    .unwrap();

    let route = r#"routes=[{name="shop",topic="wirecall.shop",condition="server.namespace == 'shop'"}]"#;
    let mut enricher = program(folder.path(), "enricher", &config, &["--set".to_owned(), route.to_owned()]);
    wait_for("the topic of calls", LIMIT, || {
        anyhow_alive(&mut enricher)?;
        Ok(Reader::topics(&config, &[&config.topic(Topic::Calls)], StartAt::End).is_ok())
    })
    .unwrap();
    send_calls_and_one_that_is_none(&config);

    let mut events = read::<ApiEvent>(&config, &config.topic(Topic::ApiEvents), usize::from(CALLS));
    events.sort_by_key(|(_, event)| event.index);
    let mut offline = offline(&config);
    for (number, (key, event)) in (0..CALLS).zip(&events) {
        assert_eq!(key, b"shop/Pod/db");
        assert!(event.identity_watermark.is_some());
        let expected = offline.enrich(call(number));
        assert_eq!(event, &ApiEvent { identity_watermark: event.identity_watermark, ..expected });
        assert_eq!(event.client.pod.as_deref(), Some("web"));
        assert!(!serde_json::to_string(event).unwrap().contains("s3cr3t"));
    }
    let routed = read::<ApiEvent>(&config, "wirecall.shop", usize::from(CALLS));
    assert_eq!(routed.len(), events.len());
    let letters = read::<DeadLetter>(&config, &config.topic(Topic::DeadLetters), 1);
    assert_eq!((&*letters[0].1.reason, &*letters[0].1.stage), ("undecodable", "enricher"));

    for process in [&mut enricher, &mut watcher] {
        let status = process.terminate(LIMIT).unwrap();
        assert!(status.success(), "{status}: {}", process.log_tail());
    }
}

/// An error with the log's tail when the process has ended.
fn anyhow_alive(process: &mut Process) -> Result<(), anyhow::Error> {
    anyhow::ensure!(process.is_running(), "{} has ended: {}", process.name(), process.log_tail());
    Ok(())
}

#[test]
fn failures_have_their_exit_codes_and_remedies() {
    let kafka = or_skip!(KafkaCluster::start(1));
    let kubernetes = or_skip!(Kubernetes::start());
    let folder = tempfile::tempdir().unwrap();
    let config = config(kafka.bootstrap());
    let nobody = BusConfig { bootstrap_servers: "127.0.0.1:1".to_owned(), ..config.clone() };
    let stranger = set("watcher.kubeconfig", kubernetes.stranger_kubeconfig_path().display());
    let quick = set("kafka.start_timeout_ms", 1500);
    let file = folder.path().join("pods.txt");
    std::fs::write(&file, "NAME READY\nweb 1/1\n").unwrap();
    let text = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    for (name, config, arguments, code, expected) in [
        (
            "stranger",
            &config,
            [text(&["--role", "watcher"]), stranger.to_vec()].concat(),
            77,
            "get, list and watch",
        ),
        ("no-broker", &nobody, quick.to_vec(), 69, "bootstrap_servers"),
        ("no-json", &config, vec!["--identities".into(), file.display().to_string()], 65, "kubectl get"),
        ("unknown-key", &config, text(&["--set", "identitys.source=none"]), 78, "identitys"),
    ] {
        let mut process = program(folder.path(), name, config, &arguments);
        let status = process.wait(LIMIT).unwrap();
        let log = process.log_text().unwrap();
        assert_eq!(status.code(), Some(code), "{name}: {log}");
        assert!(log.contains(expected), "{name}: {log}");
    }
}
