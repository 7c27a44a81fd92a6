//! How much of a bare consumer-producer copy is left when every 200 ms are one transaction.
//!
//! `cargo run --release -p wirecall-bus --example throughput -- [RECORDS] [BYTES]` starts a broker of its own, or takes the
//! one that `KAFKA_BOOTSTRAP` names. It copies the same records twice, with bare clients and with the pipeline and a
//! transform that changes nothing, in turns, and prints one JSON line: records and bytes per second of each, best of the
//! rounds, and the ratio.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for the terminal")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use wirecall_bus::topics::{TopicSpec, prepare};
use wirecall_bus::{
    BusConfig, BusError, Incoming, Metrics, Outbox, Outgoing, Pipeline, Producer, Refusal, Transform,
};
use wirecall_schemas::topic::Topic;
use wirecall_test_support::kafka::KafkaCluster;

const PARTITIONS: i32 = 4;
const ROUNDS: usize = 3;
const LIMIT: Duration = Duration::from_secs(300);

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>().unwrap());
    let records = arguments.next().unwrap_or(200_000);
    let bytes = arguments.next().unwrap_or(1_024);
    let cluster = std::env::var("KAFKA_BOOTSTRAP").is_err().then(|| KafkaCluster::start(1).unwrap());
    let bootstrap =
        cluster.as_ref().map_or_else(|| std::env::var("KAFKA_BOOTSTRAP").unwrap(), KafkaCluster::bootstrap);
    let config = BusConfig {
        bootstrap_servers: bootstrap,
        topic_prefix: format!("throughput-{}.", std::process::id()),
        partitions: PARTITIONS,
        replication_factor: 1,
        ..BusConfig::default()
    };
    prepare(&config, &[Topic::Segments, Topic::Calls].map(|topic| TopicSpec::of(&config, topic))).unwrap();
    fill(&config, records, bytes);
    let rounds: Vec<_> =
        (0..ROUNDS).map(|round| (bare(&config, records), transactional(&config, records, round))).collect();
    let bare = rounds.iter().map(|(bare, _)| *bare).min().unwrap();
    let pipeline = rounds.iter().map(|(_, pipeline)| *pipeline).min().unwrap();
    let rate = |time: Duration| (records as f64 / time.as_secs_f64()).round();
    println!(
        "{{\"records\":{records},\"record_bytes\":{bytes},\"bare_records_per_second\":{},\"pipeline_records_per_second\":{},\
         \"bare_bytes_per_second\":{},\"pipeline_bytes_per_second\":{},\"ratio\":{:.3}}}",
        rate(bare),
        rate(pipeline),
        rate(bare) * bytes as f64,
        rate(pipeline) * bytes as f64,
        bare.as_secs_f64() / pipeline.as_secs_f64()
    );
}

/// Records that compress about as text does.
fn fill(config: &BusConfig, records: usize, bytes: usize) {
    let topic = config.topic(Topic::Segments);
    let producer =
        Producer::start(config, Arc::default(), |delivery| assert_eq!(delivery.outcome, Ok(()))).unwrap();
    let mut state = 1_u32;
    let mut value = vec![0; bytes];
    for number in 0..records {
        for byte in &mut value {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = b"etaoin shrdlucm "[(state >> 28) as usize];
        }
        let partition = Some(i32::try_from(number).unwrap() % PARTITIONS);
        let record =
            Outgoing { topic: &topic, partition, key: b"key", value: Some(&value), timestamp_ms: None };
        while producer.try_send(&record, 0) == Err(Refusal::Full) {
            producer.flush(Duration::from_millis(100));
        }
    }
    assert_eq!(producer.flush(LIMIT), 0);
}

/// Consumer to producer, nothing else: the ceiling.
fn bare(config: &BusConfig, records: usize) -> Duration {
    let (from, to) = (config.topic(Topic::Segments), config.topic(Topic::Calls));
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &config.bootstrap_servers)
        .set("group.id", "bare")
        .set("enable.auto.commit", "false")
        .set("fetch.queue.backoff.ms", "50")
        .create()
        .unwrap();
    let producer: ThreadedProducer<_> = ClientConfig::new()
        .set("bootstrap.servers", &config.bootstrap_servers)
        .set("linger.ms", "5")
        .set("compression.type", "lz4")
        .set("acks", "all")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(&from, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut start = None;
    for _ in 0..records {
        let message = consumer.poll(LIMIT).unwrap().unwrap();
        start.get_or_insert_with(Instant::now);
        let mut record = BaseRecord::to(&to)
            .partition(message.partition())
            .key(message.key().unwrap())
            .payload(message.payload().unwrap());
        while let Err((_full, back)) = producer.send(record) {
            record = back;
            producer.flush(Duration::from_millis(1)).unwrap_or_default();
        }
    }
    producer.flush(LIMIT).unwrap();
    start.unwrap().elapsed()
}

/// The pipeline, from its first record to its last commit.
fn transactional(config: &BusConfig, records: usize, round: usize) -> Duration {
    let config = BusConfig {
        group_id: format!("{}round-{round}", config.topic_prefix),
        instance_id: Some("one".to_owned()),
        ..config.clone()
    };
    let metrics = Arc::new(Metrics::default());
    let mut pipeline =
        Pipeline::new(&config, &[config.topic(Topic::Segments)], Arc::clone(&metrics)).unwrap();
    let mut copy = Identity { to: config.topic(Topic::Calls), start: None };
    pipeline.run(&mut copy, &|| metrics.records_in.value() >= records as u64).unwrap();
    copy.start.unwrap().elapsed()
}

struct Identity {
    to: String,
    start: Option<Instant>,
}

impl Transform for Identity {
    fn record(&mut self, record: &Incoming<'_>, out: &mut Outbox<'_>) -> Result<(), BusError> {
        self.start.get_or_insert_with(Instant::now);
        out.send(&Outgoing {
            topic: &self.to,
            partition: Some(record.partition()),
            key: record.key().unwrap_or_default(),
            value: record.value(),
            timestamp_ms: None,
        })
    }
}
