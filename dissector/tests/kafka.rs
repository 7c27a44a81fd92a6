//! The dissector's program between two topics of a real Kafka.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use wirecall_bus::topics::{TopicSpec, prepare};
use wirecall_bus::{BusConfig, Outgoing, Producer, Reader, StartAt};
use wirecall_dissector_core::{Dissector, Limits, LogPosition, Registry};
use wirecall_schemas::codec::{Decoder, Encoder, Framing};
use wirecall_schemas::topic::{Topic, partition_of};
use wirecall_schemas::{
    ByteString, Call, CaptureMethod, Chunk, ChunkCause, ChunkKind, Completeness, ConnectionId, ConnectionKey,
    DeadLetter, Direction, Endpoint, Orientation, Record, Segment, Timestamp, Transport, VantageKind,
};
use wirecall_test_support::kafka::KafkaCluster;
use wirecall_test_support::{or_skip, scratch};

const LIMIT: Duration = Duration::from_secs(90);
const PARTITIONS: i32 = 4;
const CONNECTIONS: u32 = 100;

fn config(cluster: &KafkaCluster, prefix: &str) -> BusConfig {
    BusConfig {
        bootstrap_servers: cluster.bootstrap(),
        topic_prefix: prefix.to_owned(),
        partitions: PARTITIONS,
        replication_factor: 1,
        ..BusConfig::default()
    }
}

/// The records of a connection: its request, its answer, its end.
fn connection(number: u32) -> [Segment; 3] {
    use ChunkKind::{Close, Data, Open};
    use Direction::{ClientToServer, ServerToClient};
    let request = format!("GET /items/{number} HTTP/1.1\r\nHost: shop\r\n\r\n");
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{number}", number.to_string().len());
    let (asked, answered) = (request.len(), response.len());
    let chunk = |direction, kind, offset: usize, length: usize, micros: i64| Chunk {
        direction,
        kind,
        cause: if kind == Close { ChunkCause::Fin } else { ChunkCause::None },
        offset: offset as i64,
        length: length as i64,
        time: Timestamp::from_micros(1_700_000_000_000_000 + i64::from(number) * 1_000 + micros),
    };
    [
        (vec![chunk(ClientToServer, Open, 0, 0, 0), chunk(ClientToServer, Data, 0, asked, 1)], request),
        (vec![chunk(ServerToClient, Data, 0, answered, 2)], response),
        (
            vec![chunk(ClientToServer, Close, asked, 0, 3), chunk(ServerToClient, Close, answered, 0, 4)],
            String::new(),
        ),
    ]
    .map(|(chunks, payload)| segment(number, chunks, payload))
}

fn segment(number: u32, chunks: Vec<Chunk>, payload: String) -> Segment {
    let end = |last, port| Endpoint { address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), port };
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    Segment {
        connection_id: ConnectionId::new(id),
        connection_key: ConnectionKey::new((u64::from(number) * 0x9e37_79b9).to_be_bytes()),
        transport: Transport::Tcp,
        client: end(1, 40_000 + u16::try_from(number).unwrap()),
        server: end(2, 80),
        orientation: Orientation::Syn,
        vantage: VantageKind::Unknown,
        capture_method: CaptureMethod::Pcap,
        agent_id: ByteString::from_static("node-a"),
        agent_epoch: 1,
        partition: 0,
        sequence: i64::from(number),
        interface: None,
        process: None,
        chunks,
        totals: None,
        payload: Bytes::from(payload),
    }
}

fn send(config: &BusConfig, records: &[(i32, Vec<u8>)]) {
    let topic = config.topic(Topic::Segments);
    let report = |delivery: wirecall_bus::Delivery| assert_eq!(delivery.outcome, Ok(()));
    let producer = Producer::start(config, Arc::default(), report).unwrap();
    for (partition, value) in records {
        let record = Outgoing {
            topic: &topic,
            partition: Some(*partition),
            key: b"key",
            value: Some(value),
            timestamp_ms: None,
        };
        producer.try_send(&record, 0).unwrap();
    }
    assert_eq!(producer.flush(LIMIT), 0);
}

/// As the capture agent frames and places it.
fn framed(segment: &Segment) -> (i32, Vec<u8>) {
    let mut value = Vec::new();
    Encoder::new(Framing::SingleObject).unwrap().encode(segment, &mut value).unwrap();
    (partition_of(segment.connection_key.as_bytes(), PARTITIONS), value)
}

/// Reads a topic with partitions and offsets; what does not decode is left out.
fn read<R: Record>(config: &BusConfig, topic: Topic) -> Vec<(i32, i64, R)> {
    let decoder = Decoder::<R>::new().unwrap();
    let topic = config.topic(topic);
    let mut records = Vec::new();
    let mut reader = Reader::topics(config, &[&topic], StartAt::Beginning).unwrap();
    let complete = reader.read_to_end(StartAt::Beginning, LIMIT, |record| {
        if let Ok(decoded) = decoder.decode(record.value().unwrap()) {
            records.push((record.partition(), record.offset(), decoded));
        }
    });
    assert!(complete.unwrap());
    records
}

/// What the core makes of the same log, by call id.
fn truth(config: &BusConfig) -> BTreeMap<String, Call> {
    let mut dissectors: Vec<_> =
        (0..PARTITIONS).map(|_| Dissector::new(Registry::default(), Limits::default())).collect();
    let mut calls = BTreeMap::new();
    for (partition, offset, segment) in read::<Segment>(config, Topic::Segments) {
        let dissector = &mut dissectors[usize::try_from(partition).unwrap()];
        let topic = config.topic(Topic::Segments).into();
        dissector.handle_segment(&segment, Some(&LogPosition { topic, partition, offset })).unwrap();
        calls.extend(
            std::iter::from_fn(|| dissector.poll_call()).map(|call| (call.call_id.to_string(), call)),
        );
    }
    calls
}

struct Program {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Program {
    fn start(config: &BusConfig, instance: &str) -> Self {
        let folder = scratch::folder("dissector").unwrap();
        let path = folder.path().join("dissector.toml");
        let text = format!(
            "[kafka]\nbootstrap_servers = \"{}\"\ntopic_prefix = \"{}\"\npartitions = {}\nreplication_factor = 1\n\
             group_id = \"{}dissector\"\ninstance_id = \"{instance}\"\ncommit_interval_ms = 50\n\
             [health]\nlisten = \"127.0.0.1:0\"\n",
            config.bootstrap_servers, config.topic_prefix, config.partitions, config.topic_prefix
        );
        std::fs::write(&path, text).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_wirecall-dissector"))
            .arg("--config")
            .arg(&path)
            .stdout(Stdio::null())
            // A few lines, which fit the pipe of a program whose log nobody reads.
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, _folder: folder }
    }

    fn stop(mut self) -> ExitStatus {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "the pace of looking at a condition")]
fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn segments_become_the_same_calls_whoever_dissects_them() {
    let cluster = or_skip!(KafkaCluster::start(1));
    let mut outputs = Vec::new();
    for (prefix, instances) in [("one.", &["a"][..]), ("two.", &["a", "b"][..])] {
        let config = config(&cluster, prefix);
        let topics = [Topic::Segments, Topic::Calls, Topic::DeadLetters];
        prepare(&config, &topics.map(|topic| TopicSpec::of(&config, topic))).unwrap();
        let mut records: Vec<_> =
            (0..CONNECTIONS).flat_map(|number| connection(number).map(|one| framed(&one))).collect();
        // A record that is nothing, and one that contradicts itself.
        records.insert(7, (1, b"not a segment".to_vec()));
        let mut lying = connection(9).into_iter().next().unwrap();
        lying.payload = Bytes::new();
        let programs: Vec<_> = instances.iter().map(|instance| Program::start(&config, instance)).collect();
        send(&config, &records);
        wait("all calls", || read::<Call>(&config, Topic::Calls).len() >= CONNECTIONS as usize);
        let truth = truth(&config);
        send(&config, &[(2, framed(&lying).1)]);
        wait("both dead letters", || read::<DeadLetter>(&config, Topic::DeadLetters).len() >= 2);
        for program in programs {
            assert_eq!(program.stop().code(), Some(0));
        }
        let calls = read::<Call>(&config, Topic::Calls);
        assert_eq!(calls.len(), CONNECTIONS as usize, "each call once");
        for (partition, _, call) in &calls {
            assert_eq!(*partition, partition_of(call.connection_id.as_bytes(), PARTITIONS));
            assert_eq!(call.completeness, Completeness::Matched);
        }
        let letters = read::<DeadLetter>(&config, Topic::DeadLetters);
        let reasons: Vec<_> =
            letters.iter().map(|(_, _, letter)| (letter.reason.to_string(), letter.partition)).collect();
        assert_eq!(reasons, [("undecodable".to_owned(), 1), ("refused".to_owned(), 2)]);
        assert_eq!(letters[0].2.value.as_ref().unwrap().as_bytes(), &b"not a segment"[..]);
        let by_id: BTreeMap<_, _> =
            calls.into_iter().map(|(_, _, call)| (call.call_id.to_string(), call)).collect();
        assert_eq!(by_id, truth, "as the core makes them of the same log");
        outputs.push(by_id);
    }
    // The name of the topic is the only difference.
    let strip = |calls: &BTreeMap<String, Call>| -> Vec<Call> {
        calls
            .values()
            .cloned()
            .map(|mut call| {
                call.provenance.topic = None;
                call
            })
            .collect()
    };
    assert_eq!(strip(&outputs[0]), strip(&outputs[1]));
}

#[test]
fn a_topic_with_the_wrong_partition_count_stops_it_with_the_remedy() {
    let cluster = or_skip!(KafkaCluster::start(1));
    let mut config = config(&cluster, "wrong.");
    prepare(&config, &[TopicSpec::of(&config, Topic::Calls)]).unwrap();
    config.partitions = 6;
    let mut program = Program::start(&config, "a");
    let mut log = String::new();
    std::io::Read::read_to_string(&mut program.child.stderr.take().unwrap(), &mut log).unwrap();
    assert_eq!(program.child.wait().unwrap().code(), Some(78), "{log}");
    assert!(log.contains("the topic wrong.calls has 4 partitions where 6 are wanted"), "{log}");
}

#[test]
fn a_connection_that_is_open_at_a_restart_goes_on_mid_stream() {
    let cluster = or_skip!(KafkaCluster::start(1));
    let config = config(&cluster, "restart.");
    let topics = [Topic::Segments, Topic::Calls, Topic::DeadLetters];
    prepare(&config, &topics.map(|topic| TopicSpec::of(&config, topic))).unwrap();
    let [request, response, close] = connection(1);
    let home = framed(&request).0;
    // Another connection of the same partition, whose call shows how far the program has come.
    let other = (2..CONNECTIONS).find(|number| framed(&connection(*number)[0]).0 == home).unwrap();
    let program = Program::start(&config, "a");
    let before: Vec<_> = std::iter::once(&request).chain(&connection(other)).map(framed).collect();
    send(&config, &before);
    wait("the other call", || read::<Call>(&config, Topic::Calls).len() == 1);
    assert_eq!(program.stop().code(), Some(0));
    let program = Program::start(&config, "a");
    send(&config, &[framed(&response), framed(&close)]);
    wait("the answer", || read::<Call>(&config, Topic::Calls).len() == 2);
    assert_eq!(program.stop().code(), Some(0));
    let calls = read::<Call>(&config, Topic::Calls);
    let (_, _, call) = calls.iter().find(|(_, _, call)| call.connection_id == request.connection_id).unwrap();
    assert_eq!(call.completeness, Completeness::ResponseOnly);
    assert!(call.ledger.mid_stream);
}
