//! The program from its configuration to its exit code: files and live traffic to an embedded broker.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{
    capture_file::{Order, Pcap},
    traffic::{Conversation, conversations},
};
use rustix::process::{Pid, Signal, kill_process};
use wirecall_bus::{BusConfig, EmbeddedBroker, Reader, StartAt};
use wirecall_schemas::{
    Agent, CaptureMethod, ChunkCause, ChunkKind, ConnectionId, Direction, Segment, codec::Decoder,
    topic::Topic,
};
use wirecall_test_support::skip;

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

#[test]
fn without_the_right_to_capture_the_remedy_is_told() {
    if !rustix::process::geteuid().is_root() {
        skip!("giving up rights needs root: run the tests as root");
    }
    let broker = EmbeddedBroker::start(PARTITIONS).unwrap();
    let mut command = program(broker.bootstrap_servers(), &["source.interfaces=[\"lo\"]".to_owned()]);
    // Nobody, on every Linux.
    let output = match command.uid(65_534).gid(65_534).output() {
        Ok(output) => output,
        Err(error) => skip!("another user cannot run the program where it was built: {error}"),
    };
    assert_eq!(output.status.code(), Some(77), "{}", text(&output));
    assert!(text(&output).contains("NET_RAW"), "{}", text(&output));
}

/// Waits for a value; the limit only ends a test that has failed.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(started.elapsed() < LIMIT, "{what} did not come");
        thread::park_timeout(Duration::from_millis(10));
    }
}

/// The body of an HTTP answer, whatever its status.
fn ask(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A running agent; killed if the test fails.
struct RunningAgent {
    child: Child,
    health: SocketAddr,
}

impl RunningAgent {
    fn start(broker: &EmbeddedBroker, folder: &tempfile::TempDir, settings: &[String]) -> Self {
        let port_file = folder.path().join("port");
        let mut settings = settings.to_vec();
        settings.push(format!("health.port_file={}", port_file.display()));
        let mut child =
            program(broker.bootstrap_servers(), &settings).stderr(Stdio::piped()).spawn().unwrap();
        let health = wait_for("the health server", || {
            if child.try_wait().unwrap().is_some() {
                let mut log = String::new();
                child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
                panic!("the agent ended early: {log}");
            }
            fs::read_to_string(&port_file).ok()?.trim().parse().ok()
        });
        wait_for("readiness", || ask(health, "/readyz").contains("200 OK").then_some(()));
        Self { child, health }
    }

    /// Sends the signal and waits for the end.
    fn stop(mut self, signal: Signal) -> (Option<i32>, String) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        // It has usually ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Live on the loopback, where the agent's own records to the broker pass too: what it captures is the conversation,
/// never itself.
#[test]
fn live_traffic_is_captured_without_the_agents_own_and_a_signal_drains() {
    if !rustix::process::geteuid().is_root() {
        skip!("live capture needs root: run the tests as root");
    }
    let broker = EmbeddedBroker::start(PARTITIONS).unwrap();
    let broker_port = broker.bootstrap_servers().rsplit_once(':').unwrap().1.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let agent = RunningAgent::start(
        &broker,
        &folder,
        &[
            "source.interfaces=[\"lo\"]".to_owned(),
            // Seconds before an agent that the machine lets wait loses anything.
            "source.block_timeout_ms=100".to_owned(),
            format!("filter.include_ports=[{port},{broker_port}]"),
            "agent.heartbeat_seconds=1".to_owned(),
        ],
    );
    let server = thread::spawn(move || {
        for _ in 0..20 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1_000];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(&[b'r'; 50_000]).unwrap();
        }
    });
    for _ in 0..20 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(&[b'q'; 1_000]).unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).unwrap();
        assert_eq!(response.len(), 50_000);
    }
    server.join().unwrap();
    wait_for("delivery", || (streams(&segments(&bus(&broker))).len() >= 20).then_some(()));
    let metrics = ask(agent.health, "/metrics");
    assert!(
        metrics.contains("capture_read_packets_total") && metrics.contains("reason=\"excluded_endpoint\"")
    );
    let (code, log) = agent.stop(Signal::TERM);
    assert_eq!(code, Some(0), "{log}");

    let segments = segments(&bus(&broker));
    assert!(segments.iter().all(|segment| segment.server.port == port), "the agent captured itself");
    let streams = streams(&segments);
    assert_eq!(streams.len(), 20);
    assert!(streams.values().all(|bytes| *bytes == [1_000, 50_000]), "{streams:?}");
    assert!(segments.iter().all(|segment| {
        segment.agent_epoch > 0
            && segment.capture_method == CaptureMethod::AfPacket
            && segment.interface.as_ref().is_some_and(|name| name == "lo")
    }));
    let last = heartbeats(&bus(&broker)).pop().unwrap();
    assert!(last.stopping && last.kernel_dropped_packets == 0);
    assert_eq!(last.interfaces, ["lo"]);
    assert!(last.counts.iter().all(|count| count.reason != "back_pressure"));
}

/// A file that has three whole conversations, then opens one, and goes on an hour later.
fn slow_file(folder: &tempfile::TempDir) -> PathBuf {
    let mut bytes = conversations(3, 1);
    let mut conversation = Conversation::new(30_000, 80);
    let mut second = Pcap { order: Order::Little, bytes: Vec::new() };
    for frame in conversation.open() {
        second.packet(1_700_000_000, 999_000, &frame, frame.len() as u32);
    }
    second.packet(1_700_003_600, 0, &conversation.exchange(b"late", b"later")[0], 58);
    bytes.extend(&second.bytes);
    write(folder, "slow.pcap", &bytes)
}

/// Starts playing the slow file, and waits for all that comes before the hour.
fn play_slowly(broker: &EmbeddedBroker, folder: &tempfile::TempDir, setting: &str) -> RunningAgent {
    let settings = [files(&[&slow_file(folder)]), "source.speed=1".to_owned(), setting.to_owned()];
    let agent = RunningAgent::start(broker, folder, &settings);
    wait_for("the first part", || (streams(&segments(&bus(broker))).len() >= 3).then_some(()));
    wait_for("the open connection", || {
        ask(agent.health, "/metrics").contains("capture_open_connections 1").then_some(())
    });
    agent
}

#[test]
fn a_file_that_is_interrupted_says_where_and_closes_its_connections() {
    let broker = EmbeddedBroker::start(PARTITIONS).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let agent = play_slowly(&broker, &folder, "agent.id=agent-1");
    let (code, log) = agent.stop(Signal::INT);
    assert_eq!(code, Some(69), "{log}");
    assert!(log.contains("stopped before the end") && log.contains("slow.pcap"), "{log}");
    assert!(closes(&segments(&bus(&broker))).contains(&ChunkCause::AgentShutdown));
}

#[test]
fn a_broker_that_died_is_told_before_the_drain_is_over() {
    let broker = EmbeddedBroker::start(PARTITIONS).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let agent = play_slowly(&broker, &folder, "drain.deadline_seconds=4");
    broker.set_down(true).unwrap();
    let (code, log) = agent.stop(Signal::TERM);
    assert_eq!(code, Some(69), "{log}");
    assert!(log.contains("1 records with 0 captured bytes were not delivered"), "{log}");
}
