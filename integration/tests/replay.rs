//! The contract of `wirecall replay`, through the program itself: output, account, exit codes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use wirecall_schemas::{ApiEvent, Timestamp};

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/http1-shop/input.pcap")
}

fn wirecall(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wirecall")).args(arguments).output().expect("the program runs")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn lines(output: &[u8]) -> Vec<Value> {
    String::from_utf8_lossy(output)
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect()
}

#[test]
fn each_line_has_what_the_contract_promises() {
    let output = wirecall(&["replay", text(&sample())]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let events = lines(&output.stdout);
    assert_eq!(events.len(), 16);
    for event in &events {
        for field in ["call_id", "connection_id", "protocol", "completeness"] {
            assert!(event[field].is_string(), "{field} in {event}");
        }
        for field in ["operation", "target", "status", "start_time", "end_time"] {
            assert!(event[field].is_string() || event[field].is_null(), "{field} in {event}");
        }
        for peer in ["client", "server"] {
            assert!(event[peer]["address"].is_string() && event[peer]["port"].is_u64(), "{peer} in {event}");
        }
        if let Some(time) = event["start_time"].as_str() {
            assert_eq!(Timestamp::parse(time).expect("ISO 8601").to_string(), time);
        }
    }
    let first = &events[0];
    assert_eq!((&first["protocol"], &first["operation"]), (&Value::from("http"), &Value::from("GET")));
    assert_eq!((&first["target"], &first["status"]), (&Value::from("/v1/cart"), &Value::from("200")));
    assert_eq!(first["completeness"], "matched");
}

#[test]
fn standard_input_and_gzip_give_the_same() {
    let expected = wirecall(&["replay", text(&sample())]).stdout;
    let piped = Command::new(env!("CARGO_BIN_EXE_wirecall"))
        .args(["replay", "-"])
        .stdin(fs::File::open(sample()).expect("opens"))
        .output()
        .expect("the program runs");
    assert!(piped.status.success() && piped.stdout == expected);

    let folder = tempfile::tempdir().expect("a folder");
    let zipped = folder.path().join("input.pcap.gz");
    let gzip = Command::new("gzip")
        .arg("-c")
        .stdin(fs::File::open(sample()).expect("opens"))
        .stdout(fs::File::create(&zipped).expect("creates"))
        .status()
        .expect("gzip runs");
    assert!(gzip.success());
    let output = wirecall(&["replay", text(&zipped)]);
    assert!(output.status.success() && output.stdout == expected);
}

#[test]
fn the_account_adds_up() {
    let output = wirecall(&["replay", text(&sample()), "--stats", "--format", "table"]);
    let account = lines(&output.stderr).pop().expect("a line on standard error");
    let sum = |key: &str| {
        let counted: u64 = account["counted"]
            .as_object()
            .expect("reasons")
            .values()
            .map(|count| count[key].as_u64().expect("a number"))
            .sum();
        counted + account[format!("{key}_delivered")].as_u64().expect("a number")
    };
    assert_eq!(account["packets_read"].as_u64(), Some(sum("packets")));
    assert_eq!(account["bytes_read"].as_u64(), Some(sum("bytes")));
    assert_eq!(account["calls"], 16);
    assert_eq!(account["calls_by_protocol"]["http"], 15);
    assert_eq!(account["calls_by_completeness"]["matched"], 15);
    assert!(account["peak_held_bytes"].is_u64());
}

#[test]
fn avro_is_a_container_that_reads_back_as_the_json() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events.avro");
    let output = wirecall(&["replay", text(&sample()), "--format", "avro", "--output", text(&file)]);
    assert!(output.status.success());
    let bytes = fs::read(&file).expect("reads");
    let reader = apache_avro::Reader::new(&bytes[..]).expect("a container");
    assert_eq!(reader.count(), 16);
    let reader = apache_avro::Reader::new(&bytes[..]).expect("a container");
    let events: Vec<ApiEvent> =
        reader.into_deser_iter::<ApiEvent>().collect::<Result<_, _>>().expect("each block is readable");
    let json: Vec<_> = events.iter().map(|event| serde_json::to_value(event).expect("JSON")).collect();
    assert_eq!(json, lines(&wirecall(&["replay", text(&sample())]).stdout));
}

#[test]
fn a_filter_and_a_loop() {
    let failed = wirecall(&["replay", text(&sample()), "--filter", "status_class == 'server_error'"]);
    assert_eq!(lines(&failed.stdout).len(), 1);
    let looped = wirecall(&["replay", text(&sample()), "--loop", "3"]);
    let mut ids: Vec<_> = lines(&looped.stdout).iter().map(|event| event["call_id"].to_string()).collect();
    assert_eq!(ids.len(), 48);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 48, "each round's calls are calls of their own");
}

/// Runs a replay of these bytes; gives exit code and message.
fn replay_of(bytes: &[u8]) -> (Option<i32>, String, usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("input.pcap");
    fs::write(&file, bytes).expect("writes");
    let output = wirecall(&["replay", text(&file)]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), message, lines(&output.stdout).len())
}

#[test]
fn bad_files_are_told_with_the_place_and_code_65() {
    let whole = fs::read(sample()).expect("reads");
    let (code, message, events) = replay_of(b"");
    assert_eq!((code, events), (Some(65), 0), "{message}");
    assert!(message.contains("input.pcap"), "{message}");

    let (code, message, events) = replay_of(b"GET / HTTP/1.1\r\n\r\nthis is no capture at all");
    assert_eq!((code, events), (Some(65), 0), "{message}");

    let (code, message, events) = replay_of(&whole[..whole.len() - 5]);
    assert_eq!(code, Some(65), "{message}");
    assert_eq!(events, 16, "what could be read was written");
    assert!(message.contains("byte"), "names the place: {message}");

    let mut corrupt = whole.clone();
    corrupt[24 + 8..24 + 12].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    let (code, message, _) = replay_of(&corrupt);
    assert_eq!(code, Some(65), "{message}");

    let missing = wirecall(&["replay", "/nowhere/input.pcap"]);
    assert_eq!(missing.status.code(), Some(74), "reading failed");
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere/input.pcap"));
}

#[test]
fn wrong_usage_is_64() {
    for arguments in [
        &["replay"][..],
        &["replay", "x.pcap", "--format", "xml"],
        &["replay", "x.pcap", "--filter", "status =="],
        &["replay", "x.pcap", "--speed", "-1"],
        &["replay", "x.pcap", "--partitions", "0"],
        &["nothing"],
    ] {
        assert_eq!(wirecall(arguments).status.code(), Some(64), "{arguments:?}");
    }
    assert_eq!(wirecall(&["--help"]).status.code(), Some(0));
    assert_eq!(wirecall(&["--version"]).status.code(), Some(0));
}

#[test]
fn a_reader_that_goes_away_ends_the_replay_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_wirecall"))
        .args(["replay", text(&sample()), "--loop", "500"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_ne!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
