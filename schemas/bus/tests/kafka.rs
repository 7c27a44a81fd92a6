//! What only a real Kafka can prove: transactions, fencing, rebalances, permissions, a broker that dies.
//!
//! All tests share one broker, each with topics and groups of its own; the test that kills the broker has one for itself.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use support::{Broker, Numbers, Worker, broker, read_numbers, read_uncommitted, send_numbers};
use wirecall_bus::config::{GroupProtocol, Properties};
use wirecall_bus::topics::{TopicSpec, prepare};
use wirecall_bus::{
    Assigned, BusConfig, BusError, Incoming, Metrics, Outbox, Outgoing, Pipeline, Position, Reader, Release,
    Start, StartAt, TopicPartition, Transform,
};
use wirecall_schemas::topic::Topic;

const LIMIT: Duration = Duration::from_secs(60);

fn segments(config: &BusConfig) -> String {
    config.topic(Topic::Segments)
}

fn calls(config: &BusConfig) -> String {
    config.topic(Topic::Calls)
}

#[test]
fn topics_are_created_as_they_must_be_and_checked_the_next_time() {
    let Some(broker) = broker() else { return };
    let mut config = broker.config("topics");
    let all: Vec<_> = Topic::ALL.iter().map(|topic| TopicSpec::of(&config, *topic)).collect();
    prepare(&config, &all).unwrap();
    prepare(&config, &all).unwrap();
    config.partitions = 7;
    let error = prepare(&config, &[TopicSpec::of(&config, Topic::Calls)]).unwrap_err();
    assert!(matches!(error, BusError::WrongPartitions { found: 4, wanted: 7, .. }), "{error}");
    config.partitions = 4;
    // A topic of the other kind under the name of the state.
    let mut state = TopicSpec::of(&config, Topic::DissectorState);
    state.name = segments(&config);
    let error = prepare(&config, &[state]).unwrap_err();
    assert!(error.to_string().contains("cleanup.policy=delete where compact is wanted"), "{error}");
    config.create_topics = false;
    config.topic_prefix = "elsewhere.".to_owned();
    let error = prepare(&config, &[TopicSpec::of(&config, Topic::Calls)]).unwrap_err();
    assert!(matches!(&error, BusError::MissingTopic { topic, .. } if topic == "elsewhere.calls"), "{error}");
}

#[test]
fn offsets_and_outputs_are_committed_together_or_not_at_all() {
    let Some(broker) = broker() else { return };
    let mut config = broker.prepared("atomic");
    config.max_records_per_transaction = 250;
    send_numbers(&config, 0..1_000);
    // The first process fails in the middle of the topic, with some transactions committed and one open.
    let error = Worker::new(&config).fail_at(600).run().unwrap_err();
    assert!(matches!(error, BusError::Transform(_)), "{error}");
    let committed = read_numbers(&config);
    assert!(committed.len() < 600 && !committed.is_empty(), "{}", committed.len());
    assert!(read_uncommitted(&config).len() > committed.len(), "the open transaction wrote something");
    // The second does the rest. What the first had not committed is done once.
    Worker::new(&config).stop_when_output(1_000).run().unwrap();
    assert_eq!(read_numbers(&config), Numbers::each_once(0..1_000));
}

/// Sends every number; goes wrong once.
struct AbortsOnce {
    config: BusConfig,
    stop: Arc<AtomicBool>,
    aborted: bool,
    releases: Vec<Release>,
    seen: usize,
    metrics: Arc<Metrics>,
}

impl Transform for AbortsOnce {
    fn revoked(&mut self, _: &TopicPartition, release: Release) {
        self.releases.push(release);
    }

    fn record(&mut self, record: &Incoming<'_>, out: &mut Outbox<'_>) -> Result<(), BusError> {
        support::copy(&calls(&self.config), record, out)?;
        self.seen += 1;
        Ok(())
    }

    fn before_commit(&mut self, out: &mut Outbox<'_>) -> Result<(), BusError> {
        if !self.aborted && self.seen > 0 {
            self.aborted = true;
            support::wait("a delivery", || self.metrics.delivered.value() > 0);
            return Err(out.abort("the test wants it"));
        }
        Ok(())
    }

    fn committed(&mut self) {
        if read_numbers(&self.config).len() == 100 {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn an_aborted_transaction_is_invisible_and_done_again() {
    let Some(broker) = broker() else { return };
    let config = broker.prepared("abort");
    send_numbers(&config, 0..100);
    let stop = Arc::new(AtomicBool::new(false));
    let metrics = Arc::new(Metrics::default());
    let mut transform = AbortsOnce {
        config: config.clone(),
        stop: Arc::clone(&stop),
        aborted: false,
        releases: Vec::new(),
        seen: 0,
        metrics: Arc::clone(&metrics),
    };
    let mut pipeline = Pipeline::new(&config, &[segments(&config)], Arc::clone(&metrics)).unwrap();
    pipeline.run(&mut transform, &|| stop.load(Ordering::Relaxed)).unwrap();
    assert_eq!(read_numbers(&config), Numbers::each_once(0..100));
    assert!(read_uncommitted(&config).len() > 100);
    assert_eq!(metrics.aborts.value(), 1);
    assert!(transform.releases.contains(&Release::Aborted));
}

/// A process that stops in the middle of a batch, as one that is suspended does, and the moment it goes on.
struct Zombie {
    running: support::Running,
    resume: mpsc::Sender<()>,
}

impl Zombie {
    fn start(config: &BusConfig, instance: &str) -> Self {
        let mut config = config.clone();
        // A suspended process sends no heartbeats; a thread that waits is found out by its missing polls.
        config.consumer_properties.set("max.poll.interval.ms", "3000");
        let (entered, entries) = mpsc::channel();
        let (resume, resumed) = mpsc::channel();
        let running = Worker::new(&config).named(instance).pause_at(50, entered, resumed).spawn();
        if entries.recv_timeout(LIMIT).is_err() {
            running.stop().unwrap();
            panic!("it never came to the record at which it waits");
        }
        Self { running, resume }
    }
}

#[test]
fn a_zombie_of_the_same_name_is_fenced() {
    let Some(broker) = broker() else { return };
    let mut config = broker.prepared("zombie");
    // Nobody but the newcomer ends its transaction.
    config.transaction_timeout_ms = 60_000;
    send_numbers(&config, 0..100);
    let zombie = Zombie::start(&config, "one");
    Worker::new(&config).named("one").stop_when_output(100).run().unwrap();
    zombie.resume.send(()).unwrap();
    let error = zombie.running.join().unwrap_err();
    assert!(matches!(error, BusError::Fenced { .. }), "{error}");
    assert_eq!(read_numbers(&config), Numbers::each_once(0..100));
}

#[test]
fn a_zombie_of_another_name_cannot_commit_for_partitions_that_moved_on() {
    let Some(broker) = broker() else { return };
    let mut config = broker.prepared("generation");
    config.transaction_timeout_ms = 5_000;
    send_numbers(&config, 0..100);
    let zombie = Zombie::start(&config, "one");
    Worker::new(&config).named("two").stop_when_output(100).run().unwrap();
    zombie.resume.send(()).unwrap();
    // It aborts, joins again, and does what is new.
    support::wait("the abort", || zombie.running.metrics.aborts.value() > 0);
    send_numbers(&config, 100..200);
    support::wait("everything committed", || read_numbers(&config).len() >= 200);
    zombie.running.stop().unwrap();
    assert_eq!(read_numbers(&config), Numbers::each_once(0..200));
}

#[test]
fn members_come_and_go_without_loss_or_doubles() {
    for (name, protocol) in
        [("rebalance", GroupProtocol::Classic), ("rebalance-848", GroupProtocol::Consumer)]
    {
        let Some(broker) = broker() else { return };
        let mut config = broker.prepared(name);
        config.group_protocol = protocol;
        if protocol == GroupProtocol::Consumer {
            // The broker sets the session's times.
            config.consumer_properties = Properties::default();
        }
        let total = Arc::new(AtomicUsize::new(0));
        let first = Worker::new(&config).named("first").counting(&total).spawn();
        send_numbers(&config, 0..500);
        first.wait_assigned(4);
        let second = Worker::new(&config).named("second").counting(&total).spawn();
        send_numbers(&config, 500..1_000);
        second.wait_assigned(1);
        first.wait_revoked(1);
        send_numbers(&config, 1_000..1_500);
        first.stop().unwrap();
        second.wait_assigned(4);
        send_numbers(&config, 1_500..2_000);
        support::wait("everything committed", || read_numbers(&config).len() >= 2_000);
        second.stop().unwrap();
        assert_eq!(read_numbers(&config), Numbers::each_once(0..2_000), "{name}");
    }
}

#[test]
fn more_members_than_partitions_harm_nobody() {
    let Some(broker) = broker() else { return };
    let config = broker.prepared("idle");
    let total = Arc::new(AtomicUsize::new(0));
    let members: Vec<_> = (0..5)
        .map(|number| Worker::new(&config).named(&format!("member-{number}")).counting(&total).spawn())
        .collect();
    send_numbers(&config, 0..200);
    support::wait("everything committed", || read_numbers(&config).len() >= 200);
    for member in members {
        member.stop().unwrap();
    }
    assert_eq!(read_numbers(&config), Numbers::each_once(0..200));
}

/// Commits the offset of the input with a note, and asks to start two before it.
struct Rewinds {
    to: String,
    stop: Arc<AtomicBool>,
    assigned: Vec<Assigned>,
    replayed: Vec<i64>,
    live: BTreeSet<(i32, i64)>,
    goal: usize,
}

impl Transform for Rewinds {
    fn assigned(&mut self, assigned: &Assigned) -> Result<Start, BusError> {
        self.assigned.push(assigned.clone());
        Ok(assigned.committed.map_or(Start::Committed, |offset| Start::Rewind { offset: offset - 2 }))
    }

    fn record(&mut self, record: &Incoming<'_>, out: &mut Outbox<'_>) -> Result<(), BusError> {
        assert_eq!(out.is_suppressed(), record.replayed());
        if record.replayed() {
            self.replayed.push(record.offset());
        } else {
            self.live.insert((record.partition(), record.offset()));
        }
        support::copy(&self.to, record, out)
    }

    fn position(&mut self, _: &TopicPartition, next: i64) -> Position {
        Position { offset: next, metadata: format!("rewind={}", next - 2) }
    }

    fn committed(&mut self) {
        if self.live.len() >= self.goal {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_rewound_partition_is_replayed_with_its_output_suppressed() {
    let Some(broker) = broker() else { return };
    let mut config = broker.config("rewind");
    config.partitions = 1;
    broker.prepare(&config);
    let run = |goal| {
        let stop = Arc::new(AtomicBool::new(false));
        let mut transform = Rewinds {
            to: calls(&config),
            stop: Arc::clone(&stop),
            assigned: Vec::new(),
            replayed: Vec::new(),
            live: BTreeSet::new(),
            goal,
        };
        let mut pipeline =
            Pipeline::new(&config, &[segments(&config)], Arc::new(Metrics::default())).unwrap();
        pipeline.run(&mut transform, &|| stop.load(Ordering::Relaxed)).unwrap();
        transform
    };
    send_numbers(&config, 0..10);
    let first = run(10);
    assert_eq!(first.assigned[0].committed, None);
    assert!(first.replayed.is_empty());
    send_numbers(&config, 10..20);
    let second = run(10);
    assert_eq!(second.assigned[0].committed, Some(10));
    assert_eq!(second.assigned[0].metadata, "rewind=8");
    assert_eq!(second.replayed, [8, 9]);
    assert_eq!(read_numbers(&config), Numbers::each_once(0..20));
}

#[test]
fn a_record_that_the_topic_does_not_take_stops_with_its_name() {
    let Some(broker) = broker() else { return };
    let mut config = broker.prepared("large");
    config.producer_properties = Properties::from([("compression.type", "none")]);
    broker.limit_records(&calls(&config), 1_000);
    support::send(&config, &[0; 5_000]);
    let error = Worker::new(&config).run().unwrap_err();
    assert!(matches!(&error, BusError::MessageTooLarge { topic, .. } if *topic == calls(&config)), "{error}");
    assert_eq!(error.exit_code(), 65);
    assert!(read_numbers(&config).is_empty());
}

#[test]
fn wrong_credentials_are_told_apart_from_an_unreachable_broker() {
    let Some(broker) = broker() else { return };
    let config = broker.as_user(&broker.config("wrong-password"), "writer", "not the password");
    let error = prepare(&config, &[TopicSpec::of(&config, Topic::Calls)]).unwrap_err();
    assert!(matches!(error, BusError::Authentication { .. }), "{error}");
    assert_eq!(error.exit_code(), 77);
    assert!(!error.to_string().contains("not the password"));
    let error = Worker::new(&config).run().unwrap_err();
    assert!(matches!(error, BusError::Authentication { .. }), "{error}");
    let error = Reader::topics(&config, &["any"], StartAt::End).err().unwrap();
    assert!(matches!(error, BusError::Authentication { .. }), "{error}");
}

#[test]
fn each_missing_permission_is_named() {
    let Some(broker) = broker() else { return };
    let prepared = broker.prepared("denied");
    send_numbers(&prepared, 0..10);
    let config = broker.as_user(&prepared, "writer", support::PASSWORD);
    let denied = |wanted: &str, name: &str| {
        let error = Worker::new(&config).run().unwrap_err();
        match &error {
            BusError::Denied { resource, name: found, .. } if *resource == wanted && found == name => {}
            _ => panic!("{wanted} {name}: {error}"),
        }
        assert_eq!(error.exit_code(), 77);
    };
    let error = prepare(&config, &[TopicSpec::of(&config, Topic::Segments)]).unwrap_err();
    assert!(
        matches!(
            error,
            BusError::Denied { .. } | BusError::MissingTopic { .. } | BusError::TopicCreation { .. }
        ),
        "{error}"
    );
    denied("transactional id", &config.transactional_id());
    broker.allow("writer", &["Write", "Describe"], &["--transactional-id", &config.transactional_id()]);
    denied("group", &config.group_id);
    broker.allow("writer", &["Read"], &["--group", &config.group_id]);
    denied("topic", &segments(&config));
    broker.allow("writer", &["Read", "Describe"], &["--topic", &segments(&config)]);
    denied("topic", &calls(&config));
    assert!(read_numbers(&prepared).is_empty());
    broker.allow("writer", &["Write", "Describe"], &["--topic", &calls(&config)]);
    Worker::new(&config).reading(&prepared).stop_when_output(10).run().unwrap();
    assert_eq!(read_numbers(&prepared), Numbers::each_once(0..10));
}

#[test]
fn a_reader_starts_where_it_is_told() {
    let Some(broker) = broker() else { return };
    let mut config = broker.config("reader");
    config.partitions = 1;
    broker.prepare(&config);
    let topic = segments(&config);
    for (number, timestamp_ms) in [(0_u64, 1_000_i64), (1, 2_000), (2, 3_000)] {
        let (value, key) = (number.to_be_bytes(), number.to_be_bytes());
        let record = Outgoing {
            topic: &topic,
            partition: Some(0),
            key: &key,
            value: Some(&value),
            timestamp_ms: Some(timestamp_ms),
        };
        support::send_record(&config, &record);
    }
    let read = |start| {
        let mut reader = Reader::topics(&config, &[&topic], start).unwrap();
        let mut offsets = Vec::new();
        assert!(reader.read_to_end(start, LIMIT, |record| offsets.push(record.offset())).unwrap());
        offsets
    };
    assert_eq!(read(StartAt::Beginning), [0, 1, 2]);
    assert_eq!(read(StartAt::Offset(1)), [1, 2]);
    assert_eq!(read(StartAt::Timestamp(2_500)), [2]);
    assert_eq!(read(StartAt::End), [0_i64; 0]);
}

#[test]
fn a_broker_that_dies_in_the_middle_loses_and_doubles_nothing() {
    let Some(mut broker) = Broker::alone() else { return };
    let config = broker.prepared("broker-dies");
    let total = Arc::new(AtomicUsize::new(0));
    let worker = Worker::new(&config).counting(&total).spawn();
    send_numbers(&config, 0..2_000);
    support::wait("some output", || total.load(Ordering::Relaxed) > 500);
    broker.kill();
    broker.restart();
    send_numbers(&config, 2_000..3_000);
    support::wait("everything committed", || read_numbers(&config).len() >= 3_000);
    worker.stop().unwrap();
    assert_eq!(read_numbers(&config), Numbers::each_once(0..3_000));
}

#[test]
fn properties_that_librdkafka_refuses_are_named_without_their_secrets() {
    let mut config = BusConfig { group_id: "test".to_owned(), ..BusConfig::default() };
    config.properties = Properties::from([("no.such.property", "1")]);
    let error = Pipeline::new(&config, &["t".to_owned()], Arc::default()).err().unwrap();
    assert!(error.to_string().contains("no.such.property"), "{error}");
    assert_eq!(error.exit_code(), 78);
}
