//! Segments to a broker that is well, slow, or gone.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use wirecall_bus::{BusConfig, EmbeddedBroker, Metrics, Reader, StartAt};
use wirecall_capture::sink::{Sink, SinkConfig, SinkError};
use wirecall_schemas::{
    Agent, ByteString, CaptureMethod, Chunk, ChunkCause, ChunkKind, ConnectionId, ConnectionKey, Direction,
    Endpoint, Orientation, Segment, Timestamp, Transport, VantageKind,
    codec::Decoder,
    topic::{Topic, partition_of},
};

const PARTITIONS: i32 = 3;
const LIMIT: Duration = Duration::from_secs(30);

fn bus(broker: &EmbeddedBroker) -> BusConfig {
    let mut bus = BusConfig {
        bootstrap_servers: broker.bootstrap_servers().to_owned(),
        partitions: PARTITIONS,
        ..BusConfig::default()
    };
    // A broker that is up again is tried at once.
    bus.properties.set("reconnect.backoff.max.ms", "100");
    bus.producer_properties.set("linger.ms", "1");
    bus
}

fn start(config: SinkConfig, bus: &BusConfig) -> Sink {
    Sink::start(config, bus, Arc::new(Metrics::default())).unwrap()
}

/// One data chunk of a connection; the partition is the connection's, the number is not the sink's.
fn segment(connection: u8, offset: i64, bytes: usize) -> Segment {
    let end = Endpoint { address: Ipv4Addr::LOCALHOST.into(), port: u16::from(connection) };
    let key = ConnectionKey::new([connection; 8]);
    let length = i64::try_from(bytes).unwrap();
    Segment {
        connection_id: ConnectionId::new([connection; 16]),
        connection_key: key,
        transport: Transport::Tcp,
        client: end,
        server: end,
        orientation: Orientation::Syn,
        vantage: VantageKind::Unknown,
        capture_method: CaptureMethod::AfPacket,
        agent_id: ByteString::from_static("test"),
        agent_epoch: 1,
        partition: partition_of(key.as_bytes(), PARTITIONS),
        sequence: 77,
        interface: None,
        process: None,
        chunks: vec![Chunk {
            direction: Direction::ClientToServer,
            kind: ChunkKind::Data,
            cause: ChunkCause::None,
            offset,
            length,
            time: Timestamp::from_micros(1_700_000_000_000_000 + offset),
        }],
        totals: None,
        payload: vec![connection; bytes].into(),
    }
}

/// Everything on the topic: partition, key, record.
fn read(bus: &BusConfig) -> Vec<(i32, Vec<u8>, Segment)> {
    let decoder = Decoder::<Segment>::new().unwrap();
    let mut all = Vec::new();
    let mut reader = Reader::topics(bus, &[&bus.topic(Topic::Segments)], StartAt::Beginning).unwrap();
    let whole = reader.read_to_end(StartAt::Beginning, LIMIT, |record| {
        let segment = decoder.decode(record.value().unwrap()).unwrap();
        all.push((record.partition(), record.key().unwrap().to_vec(), segment));
    });
    assert!(whole.unwrap());
    all
}

/// Numbers without holes in each partition, and each connection's chunks in their order.
fn check_order(records: &[(i32, Vec<u8>, Segment)]) {
    let mut numbers = BTreeMap::<i32, i64>::new();
    let mut offsets = HashMap::<ConnectionId, i64>::new();
    for (partition, key, segment) in records {
        assert_eq!((*partition, key.as_slice()), (segment.partition, &segment.connection_key.as_bytes()[..]));
        let next = numbers.entry(*partition).or_default();
        assert_eq!(segment.sequence, *next, "partition {partition}");
        *next += 1;
        for chunk in &segment.chunks {
            let expected = offsets.entry(segment.connection_id).or_default();
            assert_eq!(chunk.offset, *expected);
            *expected += chunk.length;
        }
        segment.check().unwrap();
    }
}

fn gap_bytes(records: &[(i32, Vec<u8>, Segment)]) -> u64 {
    let chunks = records.iter().flat_map(|record| &record.2.chunks);
    let dropped =
        chunks.filter(|chunk| chunk.kind == ChunkKind::Gap && chunk.cause == ChunkCause::BackPressure);
    dropped.map(|chunk| chunk.length.cast_unsigned()).sum()
}

fn payload_bytes(records: &[(i32, Vec<u8>, Segment)]) -> u64 {
    records.iter().map(|record| record.2.payload.len() as u64).sum()
}

const NEVER: fn() -> Option<Instant> = || None;

#[test]
fn segments_arrive_in_order_under_their_key_with_numbers_without_holes() {
    let broker = EmbeddedBroker::start(PARTITIONS).unwrap();
    let bus = bus(&broker);
    let sink = start(SinkConfig::default(), &bus);
    for round in 0..50_i64 {
        for connection in 0..20 {
            assert!(sink.push_when_there_is_room(segment(connection, round * 500, 500)));
        }
    }
    let counts = sink.finish(LIMIT, NEVER).unwrap();
    assert_eq!((counts.accepted.records, counts.accepted.bytes), (1_000, 500_000));
    assert_eq!(counts.delivered, counts.accepted);

    let records = read(&bus);
    assert_eq!(records.len(), 1_000);
    check_order(&records);
    let progress: i64 = sink.progress().iter().map(|partition| partition.next_sequence).sum();
    assert_eq!(progress, 1_000);
}

/// A file waits for a broker that is gone, in bounded memory, and loses nothing.
#[test]
fn a_source_that_can_wait_loses_nothing_to_a_broker_that_was_gone() {
    let broker = EmbeddedBroker::start(PARTITIONS).unwrap();
    let bus = bus(&broker);
    let config = SinkConfig { buffer_bytes: 200_000, window_bytes: 50_000 };
    let sink = Arc::new(start(config, &bus));
    broker.set_down(true).unwrap();
    let source = std::thread::spawn({
        let sink = Arc::clone(&sink);
        move || (0..1_000).all(|number| sink.push_when_there_is_room(segment(1, number * 1_000, 1_000)))
    });
    wait_until(|| sink.counts().waiting_bytes > 190_000);
    let counts = sink.counts();
    assert!(counts.waiting_bytes <= 200_000 && counts.under_way_bytes <= 52_000, "{counts:?}");
    assert_eq!(counts.back_pressure.bytes, 0);

    broker.set_down(false).unwrap();
    assert!(source.join().unwrap());
    let counts = sink.finish(LIMIT, NEVER).unwrap();
    assert_eq!(counts.delivered.bytes, 1_000_000);
    let records = read(&bus);
    check_order(&records);
    assert_eq!((records.len(), payload_bytes(&records), gap_bytes(&records)), (1_000, 1_000_000, 0));
}

/// Live capture never waits: memory stays bounded, what is dropped is a gap, and the sums agree.
#[test]
fn what_a_live_capture_drops_is_a_gap_in_its_stream() {
    let broker = EmbeddedBroker::start(PARTITIONS).unwrap();
    let bus = bus(&broker);
    let config = SinkConfig { buffer_bytes: 200_000, window_bytes: 50_000 };
    let sink = start(config, &bus);
    broker.set_down(true).unwrap();
    for round in 0..100_i64 {
        for connection in 0..30 {
            sink.push(segment(connection, round * 1_000, 1_000));
            assert!(sink.counts().waiting_bytes <= 250_000);
        }
    }
    let dropped = sink.counts().back_pressure;
    assert!(dropped.bytes > 2_000_000 && dropped.records == 0, "{dropped:?}");

    broker.set_down(false).unwrap();
    wait_until(|| sink.counts().waiting_bytes == 0);
    for connection in 0..30 {
        sink.push(segment(connection, 100_000, 1_000));
    }
    let counts = sink.finish(LIMIT, NEVER).unwrap();
    let records = read(&bus);
    // Every byte of every connection is there, or is in a gap: `check_order` found no hole between chunks.
    check_order(&records);
    assert_eq!(payload_bytes(&records), counts.delivered.bytes);
    assert_eq!(gap_bytes(&records), counts.back_pressure.bytes);
    assert_eq!(counts.delivered.bytes + counts.back_pressure.bytes, counts.accepted.bytes);
    assert_eq!(counts.delivered.records + counts.joined_records, counts.accepted.records);
    assert_eq!(counts.accepted.bytes, 3_030_000);
}

#[test]
fn what_cannot_be_delivered_in_time_is_told_and_counted() {
    let broker = EmbeddedBroker::start(PARTITIONS).unwrap();
    let bus = bus(&broker);
    let sink = start(SinkConfig { buffer_bytes: 1 << 20, window_bytes: 10_000 }, &bus);
    broker.set_down(true).unwrap();
    for number in 0..100 {
        sink.push(segment(1, number * 1_000, 1_000));
    }
    let error = sink.finish(Duration::from_millis(300), NEVER).unwrap_err();
    assert!(
        matches!(error, SinkError::Undelivered { records: 100, bytes: 100_000, .. }),
        "{error:?}, {:?}",
        sink.counts()
    );
    assert!(error.to_string().contains(broker.bootstrap_servers()));
    assert!(!sink.push_when_there_is_room(segment(1, 0, 1)), "a sink that has ended takes no more");
}

#[test]
fn a_deadline_ends_the_wait_before_patience_does() {
    let broker = EmbeddedBroker::start(PARTITIONS).unwrap();
    let bus = bus(&broker);
    let sink = start(SinkConfig::default(), &bus);
    broker.set_down(true).unwrap();
    sink.push(segment(1, 0, 1_000));
    let deadline = Instant::now();
    assert!(matches!(sink.finish(LIMIT, || Some(deadline)), Err(SinkError::Undelivered { records: 1, .. })));
}

#[test]
fn a_record_above_the_limit_of_librdkafka_becomes_a_gap() {
    let broker = EmbeddedBroker::start(PARTITIONS).unwrap();
    let mut bus = bus(&broker);
    bus.producer_properties.set("message.max.bytes", "2000");
    let sink = start(SinkConfig::default(), &bus);
    for (offset, bytes) in [(0, 1_000), (1_000, 5_000), (6_000, 1_000)] {
        sink.push(segment(1, offset, bytes));
    }
    let counts = sink.finish(LIMIT, NEVER).unwrap();
    assert_eq!(
        (counts.delivered.records, counts.delivered.bytes, counts.undelivered.bytes),
        (3, 2_000, 5_000)
    );
    let records = read(&bus);
    check_order(&records);
    let causes: Vec<_> = records.iter().map(|record| record.2.chunks[0].cause).collect();
    assert_eq!(causes, [ChunkCause::None, ChunkCause::Limit, ChunkCause::None]);
}

#[test]
fn heartbeats_go_to_their_topic_by_node() {
    let broker = EmbeddedBroker::start(PARTITIONS).unwrap();
    let bus = bus(&broker);
    let sink = start(SinkConfig::default(), &bus);
    let agent = Agent {
        agent_id: ByteString::from_static("agent-1"),
        node: Some(ByteString::from_static("node-1")),
        packets_read: 5,
        ..Agent::default()
    };
    sink.send_heartbeat(&agent).unwrap();
    sink.flush(LIMIT);
    let mut reader = Reader::topics(&bus, &[&bus.topic(Topic::Agents)], StartAt::Beginning).unwrap();
    let decoder = Decoder::<Agent>::new().unwrap();
    let read = reader.poll(LIMIT, |record| {
        (record.key().unwrap().to_vec(), decoder.decode(record.value().unwrap()).unwrap())
    });
    assert_eq!(read.unwrap().unwrap(), (b"node-1".to_vec(), agent));
    assert_eq!(sink.finish(LIMIT, NEVER).unwrap().delivered.records, 0);
}

/// Waits for a condition; the limit only ends a test that has failed.
fn wait_until(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < LIMIT, "the condition did not come");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
