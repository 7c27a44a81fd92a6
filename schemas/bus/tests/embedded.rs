//! The plumbing against the embedded broker: what needs no durability and no transactions that mean anything.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use wirecall_bus::config::Properties;
use wirecall_bus::topics::{TopicSpec, prepare};
use wirecall_bus::{
    BusConfig, BusError, Delivery, EmbeddedBroker, Incoming, Metrics, Outbox, Outgoing, Pipeline, Producer,
    Reader, Refusal, StartAt, Transform, Undelivered,
};
use wirecall_schemas::topic::{Retention, Topic};

const LIMIT: Duration = Duration::from_secs(30);

fn config(broker: &EmbeddedBroker, partitions: i32) -> BusConfig {
    BusConfig {
        bootstrap_servers: broker.bootstrap_servers().to_owned(),
        partitions,
        group_id: "test".to_owned(),
        commit_interval_ms: 50,
        ..BusConfig::default()
    }
}

fn outgoing<'r>(topic: &'r str, partition: i32, value: &'r [u8]) -> Outgoing<'r> {
    Outgoing { topic, partition: Some(partition), key: b"key", value: Some(value), timestamp_ms: Some(1_000) }
}

/// A producer whose reports arrive at the receiver.
fn producer(config: &BusConfig) -> (Producer, mpsc::Receiver<Delivery>) {
    let (sender, receiver) = mpsc::channel();
    let report = move |delivery| sender.send(delivery).unwrap_or_default();
    (Producer::start(config, Arc::new(Metrics::default()), report).unwrap(), receiver)
}

#[test]
fn records_arrive_where_they_were_sent() {
    let broker = EmbeddedBroker::start(3).unwrap();
    let config = config(&broker, 3);
    let topic = config.topic(Topic::Segments);
    let (producer, reports) = producer(&config);
    for number in 0..30_u8 {
        producer.try_send(&outgoing(&topic, i32::from(number % 3), &[number]), usize::from(number)).unwrap();
    }
    let mut tokens: Vec<_> = (0..30).map(|_| reports.recv_timeout(LIMIT).unwrap()).collect();
    tokens.sort_by_key(|delivery| delivery.token);
    assert!(
        tokens
            .iter()
            .enumerate()
            .all(|(number, delivery)| *delivery == Delivery { token: number, outcome: Ok(()) })
    );
    let mut reader = Reader::topics(&config, &[&topic], StartAt::Beginning).unwrap();
    let mut seen = Vec::new();
    let complete = reader.read_to_end(StartAt::Beginning, LIMIT, |record| {
        assert_eq!(record.key(), Some(&b"key"[..]));
        assert_eq!(record.timestamp_ms(), Some(1_000));
        seen.push((record.value().unwrap()[0], record.partition()));
    });
    assert!(complete.unwrap());
    seen.sort_unstable();
    assert_eq!(seen, (0..30_u8).map(|number| (number, i32::from(number % 3))).collect::<Vec<_>>());
    assert_eq!(reader.ends().unwrap().values().sum::<i64>(), 30);
}

#[test]
fn a_full_queue_is_an_answer_and_the_record_stays_with_the_caller() {
    let broker = EmbeddedBroker::start(1).unwrap();
    let mut config = config(&broker, 1);
    config.producer_properties = Properties::from([("queue.buffering.max.messages", "10")]);
    let topic = config.topic(Topic::Segments);
    let (producer, reports) = producer(&config);
    broker.set_down(true).unwrap();
    for token in 0..10 {
        producer.try_send(&outgoing(&topic, 0, b"fits"), token).unwrap();
    }
    assert_eq!(producer.try_send(&outgoing(&topic, 0, b"full"), 10), Err(Refusal::Full));
    assert_eq!(producer.in_flight(), 10);
    assert_eq!(producer.flush(Duration::from_millis(1)), 10);
    broker.set_down(false).unwrap();
    for _ in 0..10 {
        assert_eq!(reports.recv_timeout(LIMIT).unwrap().outcome, Ok(()));
    }
    producer.try_send(&outgoing(&topic, 0, b"room"), 10).unwrap();
    assert_eq!(reports.recv_timeout(LIMIT).unwrap(), Delivery { token: 10, outcome: Ok(()) });
    assert_eq!(producer.flush(LIMIT), 0);
}

#[test]
fn a_record_that_is_too_large_is_refused_at_once() {
    let broker = EmbeddedBroker::start(1).unwrap();
    let mut config = config(&broker, 1);
    config.properties = Properties::from([("message.max.bytes", "1000")]);
    let (producer, _reports) = producer(&config);
    let topic = config.topic(Topic::Segments);
    assert_eq!(producer.try_send(&outgoing(&topic, 0, &[0; 2_000]), 0), Err(Refusal::TooLarge));
}

#[test]
fn a_record_that_nobody_takes_comes_back_expired() {
    let broker = EmbeddedBroker::start(1).unwrap();
    let mut config = config(&broker, 1);
    config.producer_properties = Properties::from([("message.timeout.ms", "300")]);
    let (producer, reports) = producer(&config);
    broker.set_down(true).unwrap();
    producer.try_send(&outgoing(&config.topic(Topic::Segments), 0, b"lost"), 7).unwrap();
    let fate = reports.recv_timeout(LIMIT).unwrap();
    assert_eq!(fate, Delivery { token: 7, outcome: Err(Undelivered::Expired) });
}

#[test]
fn an_unreachable_broker_is_named_after_a_bounded_wait() {
    let broker = EmbeddedBroker::start(1).unwrap();
    broker.set_down(true).unwrap();
    let mut config = config(&broker, 1);
    config.start_timeout_ms = 300;
    let start = Instant::now();
    let error = prepare(&config, &[]).unwrap_err();
    assert!(start.elapsed() < LIMIT);
    assert_eq!(error.exit_code(), 69);
    assert!(error.to_string().contains(broker.bootstrap_servers()), "{error}");
}

#[test]
fn topics_are_checked_and_a_missing_one_is_named() {
    let broker = EmbeddedBroker::start(3).unwrap();
    let mut config = config(&broker, 3);
    let all: Vec<_> = Topic::ALL.iter().map(|topic| TopicSpec::of(&config, *topic)).collect();
    prepare(&config, &all).unwrap();
    config.partitions = 5;
    let error = prepare(&config, &[TopicSpec::of(&config, Topic::Calls)]).unwrap_err();
    assert!(matches!(error, BusError::WrongPartitions { found: 3, wanted: 5, .. }), "{error}");
    config.create_topics = false;
    let missing = TopicSpec {
        name: "missing".to_owned(),
        partitions: 1,
        retention: Retention::Delete { milliseconds: 1_000 },
    };
    let error = prepare(&config, std::slice::from_ref(&missing)).unwrap_err();
    assert!(matches!(&error, BusError::MissingTopic { topic, .. } if topic == "missing"), "{error}");
    assert_eq!(error.exit_code(), 78);
}

/// Copies records, and asks to stop after so many.
struct Copy {
    to: String,
    left: usize,
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicUsize>,
}

impl Transform for Copy {
    fn record(&mut self, record: &Incoming<'_>, out: &mut Outbox<'_>) -> Result<(), BusError> {
        out.send(&Outgoing {
            topic: &self.to,
            partition: Some(record.partition()),
            key: record.key().unwrap_or_default(),
            value: record.value(),
            timestamp_ms: record.timestamp_ms(),
        })?;
        self.left -= 1;
        if self.left == 0 {
            self.stop.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn committed(&mut self) {
        self.committed.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_pipeline_copies_and_stops_when_asked() {
    let broker = EmbeddedBroker::start(2).unwrap();
    let config = config(&broker, 2);
    let (producer, _reports) = producer(&config);
    let (segments, calls) = (config.topic(Topic::Segments), config.topic(Topic::Calls));
    for number in 0..100_u8 {
        producer.try_send(&outgoing(&segments, i32::from(number % 2), &[number]), 0).unwrap();
    }
    let metrics = Arc::new(Metrics::default());
    let (stop, committed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut copy =
        Copy { to: calls.clone(), left: 100, stop: Arc::clone(&stop), committed: Arc::clone(&committed) };
    let mut pipeline = Pipeline::new(&config, &[segments], Arc::clone(&metrics)).unwrap();
    pipeline.run(&mut copy, &|| stop.load(Ordering::Relaxed)).unwrap();
    assert!(committed.load(Ordering::Relaxed) >= 1);
    assert_eq!((metrics.records_in.value(), metrics.delivered.value()), (100, 100));
    let mut seen = Vec::new();
    let mut reader = Reader::topics(&config, &[&calls], StartAt::Beginning).unwrap();
    assert!(
        reader
            .read_to_end(StartAt::Beginning, LIMIT, |record| seen.push(record.value().unwrap()[0]))
            .unwrap()
    );
    seen.sort_unstable();
    assert_eq!(seen, (0..100).collect::<Vec<u8>>());
}
