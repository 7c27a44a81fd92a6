//! The three services as processes of their own, through a real Apache Kafka: the same events as a replay.

mod common;

use std::path::PathBuf;

use common::{Installation, PATIENCE, assert_same, kafka, sample};
use wirecall::services::Service;
use wirecall_bus::config::Properties;
use wirecall_schemas::topic::Topic;
use wirecall_schemas::{Agent, DeadLetter};
use wirecall_test_support::kafka::KafkaCluster;
use wirecall_test_support::registry::Registry;
use wirecall_test_support::{or_skip, skip};

/// The HTTP captures of the corpus that read whole, if the corpus is there.
fn corpus() -> Option<Vec<PathBuf>> {
    let root = std::env::var_os("WIRECALL_CORPUS")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus"));
    let manifest = std::fs::read_to_string(root.join("manifest.tsv")).ok()?;
    let captures = manifest.lines().skip(1).filter_map(|line| {
        let columns: Vec<_> = line.split('\t').collect();
        (*columns.get(1)? == "http1").then(|| root.join(columns[3]))
    });
    Some(captures.filter(|path| reads_whole(path)).collect())
}

fn reads_whole(path: &std::path::Path) -> bool {
    let Ok(mut reader) = wirecall_capture::source::pcap::Reader::open(path) else { return false };
    loop {
        match reader.next_packet() {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Plays the files through `dissectors` dissectors and compares with the replay.
fn check(name: &str, files: &[PathBuf], identities: Option<&std::path::Path>, dissectors: usize) {
    let cluster = or_skip!(kafka());
    let installation = Installation::new(&cluster.bootstrap(), name, 8);
    let mut services = installation.start_dissectors(dissectors);
    services.push(installation.start_enricher(identities));
    installation.play(files);
    let expected = installation.replay(files, identities);
    let found = installation.events(expected.len(), &mut services);
    assert_same(expected, found);
    for mut service in services {
        let status = service.terminate(PATIENCE).expect("the service drains");
        assert!(status.success(), "it ended with {status}:\n{}", service.log_tail());
    }
}

#[test]
fn the_events_of_one_dissector_equal_the_replay() {
    let (capture, identities) = sample();
    check("one", &[capture], Some(&identities), 1);
}

#[test]
fn the_events_of_four_dissectors_equal_the_replay() {
    let (capture, identities) = sample();
    check("four", &[capture], Some(&identities), 4);
}

#[test]
fn the_http_captures_of_the_corpus_give_the_same_events_through_one_and_through_four_dissectors() {
    let Some(files) = corpus() else { skip!("the corpus of captures is not beside this checkout") };
    check("corpus-one", &files, None, 1);
    check("corpus-four", &files, None, 4);
}

#[test]
fn a_registry_frames_the_records() {
    let cluster = or_skip!(kafka());
    let registry = or_skip!(Registry::start());
    let (capture, identities) = sample();
    let installation = Installation::new(&cluster.bootstrap(), "registry", 4).with_registry(&registry.url());
    let mut services = installation.start_dissectors(1);
    services.push(installation.start_enricher(Some(&identities)));
    installation.play(std::slice::from_ref(&capture));
    let expected = installation.replay(&[capture], Some(&identities));
    let found = installation.events(expected.len(), &mut services);
    assert_same(expected, found);
}

#[test]
fn the_agent_says_what_it_saw() {
    let cluster = or_skip!(kafka());
    let installation = Installation::new(&cluster.bootstrap(), "heartbeat", 4);
    installation.play(&[sample().0]);
    let heartbeats: Vec<Agent> = installation.records(Topic::Agents, 1, &mut []);
    let last = heartbeats.last().expect("a heartbeat");
    assert!(last.stopping, "the last heartbeat says so");
    assert_eq!(last.packets_read, 116);
    let (packets, bytes) =
        last.counts.iter().fold((0, 0), |sum, count| (sum.0 + count.packets, sum.1 + count.bytes));
    assert_eq!((packets, bytes), (last.packets_read, last.bytes_read), "{:?}", last.counts);
}

#[test]
fn a_record_that_is_no_segment_becomes_a_dead_letter_and_the_rest_goes_on() {
    let cluster = or_skip!(kafka());
    let (capture, identities) = sample();
    let installation = Installation::new(&cluster.bootstrap(), "dead", 4);
    let mut services = installation.start_dissectors(1);
    services.push(installation.start_enricher(Some(&identities)));
    installation.play(std::slice::from_ref(&capture));
    produce(&installation, &installation.topic(Topic::Segments), b"this is no segment");
    let letters: Vec<DeadLetter> = installation.records(Topic::DeadLetters, 1, &mut services);
    assert_eq!(letters.len(), 1);
    assert_eq!(&*letters[0].stage, "dissector");
    assert_eq!(
        letters[0].value.as_ref().map(|value| &value.as_bytes()[..]),
        Some(&b"this is no segment"[..])
    );
    let expected = installation.replay(&[capture], Some(&identities));
    assert_same(expected.clone(), installation.events(expected.len(), &mut services));
}

/// Puts raw bytes on a topic.
fn produce(installation: &Installation, topic: &str, value: &[u8]) {
    use std::sync::Arc;
    use wirecall_bus::{Metrics, Outgoing, Producer};
    let producer =
        Producer::start(&installation.bus, Arc::new(Metrics::default()), |_| {}).expect("a producer");
    producer.wait_reachable().expect("the broker answers");
    producer
        .try_send(
            &Outgoing { topic, partition: Some(0), key: b"k", value: Some(value), timestamp_ms: None },
            0,
        )
        .expect("there is room");
    assert_eq!(producer.flush(PATIENCE), 0, "all is delivered");
}

#[test]
fn a_broker_that_dies_and_comes_back_loses_and_doubles_nothing() {
    let mut cluster = or_skip!(KafkaCluster::start(1));
    let (capture, identities) = sample();
    let installation = Installation::new(&cluster.bootstrap(), "outage", 4);
    let mut services = installation.start_dissectors(1);
    services.push(installation.start_enricher(Some(&identities)));
    // Twenty rounds of the sample at twice its speed take some seconds; the outage falls into them.
    let mut agent = installation.start_agent(std::slice::from_ref(&capture), "speed = 2.0\nloops = 20\n");
    let before: Vec<wirecall_schemas::ApiEvent> = installation.events(16, &mut services);
    assert!(before.len() >= 16);
    cluster.kill(1).expect("the broker dies");
    cluster.restart(1).expect("the broker comes back");
    cluster.wait_ready(PATIENCE).expect("the broker is ready");
    let status = agent.wait(PATIENCE).expect("the agent ends");
    assert!(status.success(), "the agent ended with {status}:\n{}", agent.log_tail());
    let events = installation.events(16 * 20, &mut services);
    let mut ids: Vec<_> = events.iter().map(|event| event.call_id).collect();
    assert_eq!(ids.len(), 16 * 20, "each call of each round once");
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 16 * 20, "no call twice");
}

#[test]
fn what_stands_in_the_way_is_told_with_its_remedy_and_exit_code() {
    let cluster = or_skip!(kafka());
    let installation = Installation::new(&cluster.bootstrap(), "refused", 4);
    installation.play(&[sample().0]);

    let wrong = Installation {
        bus: wirecall_bus::BusConfig { partitions: 5, ..installation.bus.clone() },
        folder: tempfile::tempdir().expect("a folder"),
    };
    ends_with(&wrong, Service::Dissector, "", 78, "partitions");
    ends_with(&wrong, Service::Capture, "[source]\nfiles = [\"x.pcap\"]\n", 78, "partitions");
    ends_with(&installation, Service::Dissector, "[dissection]\nprotocol = [\"http\"]\n", 78, "protocols");
    ends_with(
        &installation,
        Service::Capture,
        "[source]\nfiles = [\"/nowhere/x.pcap\"]\n",
        74,
        "/nowhere/x.pcap",
    );

    let mut nobody = Installation::new("127.0.0.1:9", "nobody", 4);
    nobody.bus.properties = Properties::default();
    ends_with(&nobody, Service::Enricher, "[identities]\nsource = \"none\"\n", 69, "127.0.0.1:9");
}

fn ends_with(installation: &Installation, service: Service, sections: &str, code: i32, says: &str) {
    let mut running = installation.start(service, "refused", sections);
    let status = running.wait(PATIENCE).expect("the service ends by itself");
    let log = running.log();
    assert_eq!(status.code(), Some(code), "{} ended with {status}:\n{log}", service.program());
    assert!(log.contains(says), "{}: {says:?} is not in:\n{log}", service.program());
}
