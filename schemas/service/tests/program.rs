//! The `smallest` example as a process: exit codes, signals, and health over real HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// The example's program, which `cargo test -p wirecall-service` builds beside the tests.
fn program() -> Command {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples/smallest");
    assert!(program.exists(), "{} is absent: run `cargo test -p wirecall-service` whole", program.display());
    let mut command = Command::new(program);
    command.env_clear();
    command
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(name)
}

fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A started service with its log; killed if a test fails halfway.
struct Running {
    child: Child,
    log: std::io::Lines<BufReader<std::process::ChildStderr>>,
    address: SocketAddr,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut child = program()
            .args(["--set", "health.listen=127.0.0.1:0"])
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let served = wait_for(&mut log, "health and metrics are served");
        let event: serde_json::Value = serde_json::from_str(&served).unwrap();
        let address = event["address"].as_str().unwrap().parse().unwrap();
        wait_for(&mut log, "readiness changed");
        Self { child, log, address }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn exit_code(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    fn get(&self, path: &str) -> (u16, String) {
        get(self.address, path)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails when it has ended already, which is the good case.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn wait_for(log: &mut impl Iterator<Item = std::io::Result<String>>, wanted: &str) -> String {
    log.map(Result::unwrap)
        .find(|line| line.contains(wanted))
        .unwrap_or_else(|| panic!("no log line: {wanted}"))
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[test]
fn check_config_says_ok_and_touches_nothing() {
    let output = run(&["--check-config", "--set", "health.listen=203.0.113.1:1"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "ok\n".to_owned()));
}

#[test]
fn print_config_shows_every_key() {
    let output = run(&["--print-config", "--set", "drain.deadline_seconds=3"]);
    assert_eq!(output.status.code(), Some(0));
    let printed: toml::Table = text(&output.stdout).parse().unwrap();
    assert_eq!(printed["drain"]["deadline_seconds"].as_integer(), Some(3));
    assert_eq!(printed["health"]["stall_seconds"].as_integer(), Some(60));
}

#[test]
fn wrong_configuration_exits_with_78_and_says_it_once() {
    let output = run(&["--config", fixture("unknown-key.toml").to_str().unwrap(), "--check-config"]);
    assert_eq!(output.status.code(), Some(78));
    let errors = text(&output.stderr);
    assert_eq!(errors.matches("unknown key").count(), 1, "{errors}");
    assert!(errors.contains("unknown-key.toml:3: unknown key `kafka`"), "{errors}");
    let output = run(&["--config", "/nowhere.toml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).ends_with("(os error 2)\n"));
}

#[test]
fn wrong_values_of_the_shared_sections_are_refused() {
    for (flag, word) in [
        ("telemetry.log.filter=a=b=c", "telemetry.log.filter"),
        ("telemetry.otlp.endpoint=collector:4318", "http://"),
        ("telemetry.otlp.interval_seconds=0", "interval_seconds"),
        ("health.listen=9464", "health.listen"),
    ] {
        let output = run(&["--check-config", "--set", flag]);
        assert_eq!(output.status.code(), Some(78), "{flag}");
        assert!(text(&output.stderr).contains(word), "{flag}: {}", text(&output.stderr));
    }
}

#[test]
fn a_wrong_command_line_exits_with_64() {
    assert_eq!(run(&["--no-such-flag"]).status.code(), Some(64));
    assert_eq!(run(&["--version"]).status.code(), Some(0));
}

#[test]
fn a_taken_port_is_named_with_the_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["--set", &format!("health.listen={address}")]);
    assert_eq!(output.status.code(), Some(69));
    let log = text(&output.stderr);
    assert!(log.contains(&address) && log.contains("free the port"), "{log}");
}

#[test]
fn health_and_metrics_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let port_file = folder.path().join("port");
    let running = Running::start(&["--set", &format!("health.port_file={}", port_file.display())]);
    assert_eq!(std::fs::read_to_string(&port_file).unwrap().trim(), running.address.to_string());
    assert_eq!(running.get("/healthz").0, 200);
    assert_eq!(running.get("/readyz"), (200, "ready\nok   running\n".to_owned()));
    assert_eq!(running.get("/nothing").0, 404);
    let (status, metrics) = running.get("/metrics");
    assert_eq!(status, 200);
    for name in
        ["smallest_loop_turns_total ", "smallest_build_info{version=", "process_resident_memory_bytes "]
    {
        assert!(metrics.contains(&format!("\n{name}")), "{name} is not in {metrics}");
    }
}

#[test]
fn either_signal_drains_with_success() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut running = Running::start(&[]);
        running.signal(signal);
        wait_for(&mut running.log, "draining");
        assert_eq!(running.exit_code(), Some(0));
    }
}

#[test]
fn a_second_signal_ends_a_hung_drain_at_once() {
    let mut running = Running::start(&["--set", "hang=true", "--set", "drain.deadline_seconds=3600"]);
    running.signal(Signal::TERM);
    wait_for(&mut running.log, "draining");
    running.signal(Signal::INT);
    wait_for(&mut running.log, "second signal");
    assert_eq!(running.exit_code(), Some(130));
}

#[test]
fn the_deadline_ends_a_hung_drain() {
    let mut running = Running::start(&["--set", "hang=true", "--set", "drain.deadline_seconds=0"]);
    running.signal(Signal::TERM);
    wait_for(&mut running.log, "did not end in time");
    assert_eq!(running.exit_code(), Some(69));
}
