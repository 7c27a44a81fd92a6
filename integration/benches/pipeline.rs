//! The whole pipeline through a real Kafka on one machine: the agent writes a capture's segments, then one dissector and
//! one enricher work through them. Beside it, in the same run, a bare copy of the same segment records, twice, since
//! every byte of a body crosses the broker twice more on its way to an event.
//!
//! `cargo bench -p wirecall --bench pipeline` records the capture with `integration/bench/record-http1.sh` if it is not there.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use wirecall::follow::Follow;
use wirecall::services::{Running, Service};
use wirecall_bus::topics::{TopicSpec, prepare};
use wirecall_bus::{BusConfig, Metrics, Outgoing, Producer, Reader, Refusal, StartAt};
use wirecall_schemas::ApiEvent;
use wirecall_schemas::topic::Topic;
use wirecall_test_support::kafka::KafkaCluster;

const PARTITIONS: i32 = 4;
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> anyhow::Result<()> {
    if !std::env::args().any(|argument| argument == "--bench") {
        // `cargo test` builds and runs benches too; there is nothing to test here.
        return Ok(());
    }
    let capture = capture()?;
    let truth: usize = std::fs::read_to_string(capture.with_extension("truth"))?.trim().parse()?;
    let cluster = KafkaCluster::start(1)?;
    let bus = BusConfig {
        bootstrap_servers: cluster.bootstrap(),
        partitions: PARTITIONS,
        replication_factor: 1,
        ..BusConfig::default()
    };
    prepare(&bus, &Topic::ALL.map(|topic| TopicSpec::of(&bus, topic)))?;
    let folder = tempfile::tempdir()?;

    let agent = write_segments(&bus, &capture, folder.path())?;
    let (records, bytes) = size_of(&bus)?;
    let rate = |count: usize, time: Duration| count as f64 / time.as_secs_f64();
    println!("{truth} calls in {records} segment records of {:.1} MB", bytes as f64 / 1e6);
    println!("  agent, file to Kafka (start included)  {:>9.1} MB/s", rate(bytes, agent) / 1e6);

    let first_copy = copy(&bus, "bench.copy-1", bytes)?;
    let second_copy = copy(&bus, "bench.copy-2", bytes)?;
    let copies = first_copy + second_copy;
    println!("  bare copy of the records, twice        {:>9.1} MB/s", rate(bytes, copies) / 1e6);

    let pipeline = events(&bus, truth, folder.path())?;
    println!(
        "  dissector and enricher, transactions   {:>9.1} MB/s  {:>9.0} events/s",
        rate(bytes, pipeline) / 1e6,
        rate(truth, pipeline)
    );
    println!("  pipeline : bare copy twice = {:.2}", copies.as_secs_f64() / pipeline.as_secs_f64());
    Ok(())
}

/// The recorded capture.
fn capture() -> anyhow::Result<PathBuf> {
    let folder = std::env::var_os("WIRECALL_BENCH_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench-data"), PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("pipeline.pcap");
    if !path.exists() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/record-http1.sh");
        let status =
            Command::new(script).arg(&path).arg("60000").status().context("the recorder cannot be run")?;
        ensure!(status.success(), "the recorder ended with {status}");
    }
    Ok(path)
}

fn start(service: Service, bus: &BusConfig, sections: &str, folder: &Path) -> anyhow::Result<Running> {
    let configuration = format!(
        "{sections}\n[health]\nlisten = \"127.0.0.1:0\"\n[kafka]\nbootstrap_servers = \"{}\"\npartitions = {PARTITIONS}\n\
         group_id = \"bench-{}\"\n",
        bus.bootstrap_servers,
        service.program(),
    );
    Running::start(service, service.program(), &configuration, folder)
}

fn write_segments(bus: &BusConfig, capture: &Path, folder: &Path) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let source = format!("[source]\nfiles = [\"{}\"]\n", capture.display());
    let mut agent = start(Service::Capture, bus, &source, folder)?;
    let status = agent.wait(PATIENCE)?;
    ensure!(status.success(), "the agent ended with {status}:\n{}", agent.log_tail());
    Ok(started.elapsed())
}

/// Records and bytes of the segments topic.
fn size_of(bus: &BusConfig) -> anyhow::Result<(usize, usize)> {
    let mut reader = Reader::topics(bus, &[&bus.topic(Topic::Segments)], StartAt::Beginning)?;
    let (mut records, mut bytes) = (0, 0);
    reader.read_to_end(StartAt::Beginning, PATIENCE, |incoming| {
        records += 1;
        bytes += incoming.value().map_or(0, <[u8]>::len);
    })?;
    Ok((records, bytes))
}

/// Copies the segments topic with a plain consumer and a plain producer.
fn copy(bus: &BusConfig, target: &str, bytes: usize) -> anyhow::Result<Duration> {
    let spec = TopicSpec { name: target.to_owned(), ..TopicSpec::of(bus, Topic::Segments) };
    prepare(bus, &[spec])?;
    let producer = Producer::start(bus, Arc::new(Metrics::default()), |_| {})?;
    producer.wait_reachable()?;
    let mut reader = Reader::topics(bus, &[&bus.topic(Topic::Segments)], StartAt::Beginning)?;
    let started = Instant::now();
    let mut copied = 0;
    while copied < bytes {
        let size = reader.poll(PATIENCE, |incoming| {
            let record = Outgoing {
                topic: target,
                partition: Some(incoming.partition()),
                key: incoming.key().unwrap_or_default(),
                value: incoming.value(),
                timestamp_ms: None,
            };
            while let Err(Refusal::Full) = producer.try_send(&record, 0) {
                producer.flush(Duration::from_millis(5));
            }
            incoming.value().map_or(0, <[u8]>::len)
        })?;
        copied += size.context("the segments ended early")?;
    }
    ensure!(producer.flush(PATIENCE) == 0, "the copy was not delivered");
    Ok(started.elapsed())
}

/// How long the whole takes at the pace of the last three quarters: neither the start of two processes nor the first
/// transaction, which is worked on before anything can be seen, is in it.
fn events(bus: &BusConfig, truth: usize, folder: &Path) -> anyhow::Result<Duration> {
    let _dissector = start(Service::Dissector, bus, "[dissection]\nconnection_records = \"none\"\n", folder)?;
    let _enricher = start(Service::Enricher, bus, "[identities]\nsource = \"none\"\n", folder)?;
    let mut follow: Follow<ApiEvent> = Follow::new(bus, &bus.topic(Topic::ApiEvents), StartAt::Beginning)?;
    let mut quarter = Instant::now();
    for count in 0..truth {
        ensure!(follow.next(PATIENCE)?.is_some(), "{count} of {truth} events came");
        if count == truth / 4 {
            quarter = Instant::now();
        }
    }
    Ok(quarter.elapsed().mul_f64(truth as f64 / (truth - truth / 4) as f64))
}
