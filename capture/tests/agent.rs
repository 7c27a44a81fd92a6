//! The program from its configuration to its exit code: files and live traffic to an embedded broker.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use common::traffic::conversations;
use wirecall_bus::{BusConfig, EmbeddedBroker, Reader, StartAt};
use wirecall_schemas::{
    Agent, CaptureMethod, ChunkCause, ChunkKind, ConnectionId, Direction, Segment, codec::Decoder,
    topic::Topic,
};

const PARTITIONS: i32 = 3;
const LIMIT: Duration = Duration::from_secs(30);

fn bus(broker: &EmbeddedBroker) -> BusConfig {
    BusConfig {
        bootstrap_servers: broker.bootstrap_servers().to_owned(),
        partitions: PARTITIONS,
        ..BusConfig::default()
    }
}

/// The program with its configuration, ready to be started.
fn program(servers: &str, settings: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wirecall-capture"));
    command.env_remove("WIRECALL_CONFIG");
    for setting in [
        format!("kafka.bootstrap_servers={servers}"),
        format!("kafka.partitions={PARTITIONS}"),
        "health.listen=127.0.0.1:0".to_owned(),
        "agent.node=node-1".to_owned(),
        "drain.deadline_seconds=20".to_owned(),
    ] {
        command.args(["--set", &setting]);
    }
    for setting in settings {
        command.args(["--set", setting]);
    }
    command.stdin(Stdio::null());
    command
}

fn files(paths: &[&Path]) -> String {
    format!("source.files={paths:?}")
}

fn run(broker: &EmbeddedBroker, settings: &[String]) -> Output {
    program(broker.bootstrap_servers(), settings).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn write(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn segments(bus: &BusConfig) -> Vec<Segment> {
    let decoder = Decoder::<Segment>::new().unwrap();
    let mut all = Vec::new();
    let mut reader = Reader::topics(bus, &[&bus.topic(Topic::Segments)], StartAt::Beginning).unwrap();
    let whole = reader.read_to_end(StartAt::Beginning, LIMIT, |record| {
        all.push(decoder.decode(record.value().unwrap()).unwrap());
    });
    assert!(whole.unwrap());
    all
}

fn heartbeats(bus: &BusConfig) -> Vec<Agent> {
    let decoder = Decoder::<Agent>::new().unwrap();
    let mut all = Vec::new();
    let mut reader = Reader::topics(bus, &[&bus.topic(Topic::Agents)], StartAt::Beginning).unwrap();
    let whole = reader.read_to_end(StartAt::Beginning, LIMIT, |record| {
        assert_eq!(record.key().unwrap(), b"node-1");
        all.push(decoder.decode(record.value().unwrap()).unwrap());
    });
    assert!(whole.unwrap());
    all
}

/// Bytes of each direction, by connection.
fn streams(segments: &[Segment]) -> BTreeMap<ConnectionId, [usize; 2]> {
    let mut streams = BTreeMap::<ConnectionId, [usize; 2]>::new();
    for segment in segments {
        for (chunk, bytes) in segment.chunks_with_bytes() {
            let way = usize::from(chunk.direction == Direction::ServerToClient);
            streams.entry(segment.connection_id).or_default()[way] += bytes.len();
        }
    }
    streams
}

fn closes(segments: &[Segment]) -> Vec<ChunkCause> {
    let chunks = segments.iter().flat_map(|segment| &segment.chunks);
    chunks.filter(|chunk| chunk.kind == ChunkKind::Close).map(|chunk| chunk.cause).collect()
}

#[test]
fn a_file_goes_to_kafka_whole_and_the_program_ends_by_itself() {
    let broker = EmbeddedBroker::start(PARTITIONS).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = write(&folder, "traffic.pcap", &conversations(40, 5));
    let output = run(&broker, &[files(&[&file])]);
    assert!(output.status.success(), "{}", text(&output));

    let segments = segments(&bus(&broker));
    let streams = streams(&segments);
    assert_eq!(streams.len(), 40);
    assert!(streams.values().all(|bytes| *bytes == [500, 5_000]));
    assert_eq!(closes(&segments), vec![ChunkCause::Fin; 40]);
    assert!(segments.iter().all(|segment| {
        segment.agent_id == "node-1"
            && segment.agent_epoch == 0
            && segment.capture_method == CaptureMethod::Pcap
    }));

    let heartbeats = heartbeats(&bus(&broker));
    let last = heartbeats.last().unwrap();
    assert!(last.stopping && !heartbeats[0].stopping);
    assert_eq!(last.packets_read, 40 * 16);
    assert_eq!(last.counts.iter().map(|count| count.packets).sum::<i64>(), last.packets_read);
    assert_eq!(last.counts.iter().map(|count| count.bytes).sum::<i64>(), last.bytes_read);
    let records: i64 = last.partitions.iter().map(|partition| partition.next_sequence).sum();
    assert_eq!(records, i64::try_from(segments.len()).unwrap());
}

#[test]
fn loops_are_new_connections_each_time() {
    let broker = EmbeddedBroker::start(PARTITIONS).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = write(&folder, "traffic.pcap", &conversations(4, 1));
    let output = run(&broker, &[files(&[&file]), "source.loops=3".to_owned()]);
    assert!(output.status.success(), "{}", text(&output));
    let segments = segments(&bus(&broker));
    let streams = streams(&segments);
    assert_eq!(streams.len(), 12);
    assert!(streams.values().all(|bytes| *bytes == [100, 1_000]));
    let mut times: Vec<_> =
        segments.iter().flat_map(|segment| &segment.chunks).map(|chunk| chunk.time).collect();
    times.sort();
    times.dedup();
    assert!(times.last().unwrap().micros_since(times[0]) > 2_000_000);
}

#[test]
fn standard_input_is_a_file_too() {
    let broker = EmbeddedBroker::start(PARTITIONS).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = write(&folder, "traffic.pcap", &conversations(2, 1));
    let output = program(broker.bootstrap_servers(), &[files(&[Path::new("-")])])
        .stdin(fs::File::open(file).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(streams(&segments(&bus(&broker))).len(), 2);
}

/// What is wrong with a file is an error at the end: what came before is delivered.
#[test]
fn a_damaged_file_delivers_what_it_has_and_fails() {
    let broker = EmbeddedBroker::start(PARTITIONS).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let whole = conversations(10, 2);
    let cut = write(&folder, "cut.pcap", &whole[..whole.len() - 7]);
    let output = run(&broker, &[files(&[&cut])]);
    assert_eq!(output.status.code(), Some(65), "{}", text(&output));
    let message = text(&output);
    assert!(message.contains("cut.pcap") && message.contains("ends inside a record"), "{message}");
    assert_eq!(streams(&segments(&bus(&broker))).len(), 10);
    assert!(heartbeats(&bus(&broker)).last().unwrap().stopping);
}

#[test]
fn wrong_input_ends_with_its_exit_code_and_a_remedy() {
    let broker = EmbeddedBroker::start(PARTITIONS).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let empty = write(&folder, "empty.pcap", b"");
    let text_file = write(&folder, "notes.txt", b"these are not packets");
    for (settings, code, says) in [
        (files(&[&empty]), 65, "empty"),
        (files(&[&text_file]), 65, "not a capture file"),
        (files(&[Path::new("/no/such/file")]), 74, "cannot be opened"),
        ("source.interfaces=[\"no-such\"]".to_owned(), 78, "does not exist"),
        ("source.colour=\"red\"".to_owned(), 78, "colour"),
        ("source.rings=0".to_owned(), 78, "at least 1"),
        ("filter.include_networks=[\"10.0.0.0/33\"]".to_owned(), 78, "include_networks"),
        ("kafka.partitions=5".to_owned(), 78, "partitions"),
    ] {
        let output = run(&broker, std::slice::from_ref(&settings));
        let message = text(&output);
        assert_eq!(output.status.code(), Some(code), "{settings}: {message}");
        assert!(message.contains(says), "{settings}: {message}");
    }
}

#[test]
fn a_broker_that_is_not_there_is_said_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(&folder, "traffic.pcap", &conversations(1, 1));
    // Nobody listens on the discard port of the loopback.
    let output = program("127.0.0.1:9", &[files(&[&file]), "kafka.start_timeout_ms=500".to_owned()]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(69), "{}", text(&output));
    assert!(text(&output).contains("127.0.0.1:9"), "{}", text(&output));
}

#[test]
fn the_configuration_is_checked_and_printed_without_a_broker() {
    let mut command = program("127.0.0.1:9", &["source.interfaces=[\"eth0\"]".to_owned()]);
    let output = command.arg("--print-config").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("interfaces = [\"eth0\"]") && printed.contains("[buffer]"), "{printed}");
}
