//! One broker for all tests, numbers as records, and a worker that copies them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wirecall_bus::config::Properties;
use wirecall_bus::topics::{TopicSpec, prepare};
use wirecall_bus::{
    Assigned, BusConfig, BusError, Incoming, Metrics, Outbox, Outgoing, Pipeline, Producer, Reader, Release,
    Start, StartAt, TopicPartition, Transform,
};
use wirecall_schemas::topic::Topic;
use wirecall_test_support::kafka::KafkaCluster;
use wirecall_test_support::or_skip;

/// Of every user.
pub const PASSWORD: &str = "for the test";
const LIMIT: Duration = Duration::from_secs(90);

static CLUSTER: OnceLock<Option<KafkaCluster>> = OnceLock::new();

/// The broker that all share, or one for a test alone.
pub enum Broker {
    Shared(&'static KafkaCluster),
    Alone(Box<KafkaCluster>),
}

fn start() -> Option<KafkaCluster> {
    // `or_skip!` leaves the function it stands in, which the tests' `()` makes possible.
    fn into(cluster: &mut Option<KafkaCluster>) {
        let builder = KafkaCluster::builder().user("admin", PASSWORD).user("writer", PASSWORD).authorize();
        // Members of the newer group protocol hear of a rebalance with their heartbeat, whose distance the broker sets.
        let builder = builder
            .property("group.min.session.timeout.ms", "500")
            .property("group.consumer.min.heartbeat.interval.ms", "200")
            .property("group.consumer.heartbeat.interval.ms", "200");
        *cluster = Some(or_skip!(builder.start()));
    }
    let mut cluster = None;
    into(&mut cluster);
    cluster
}

/// The shared broker; `None` if there can be none here.
pub fn broker() -> Option<Broker> {
    // RUST_LOG shows what went on in a test that failed.
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    CLUSTER.get_or_init(start).as_ref().map(Broker::Shared)
}

impl Broker {
    /// The broker for one test alone.
    pub fn alone() -> Option<Self> {
        start().map(Box::new).map(Self::Alone)
    }

    fn cluster(&self) -> &KafkaCluster {
        match self {
            Self::Shared(cluster) => cluster,
            Self::Alone(cluster) => cluster,
        }
    }

    /// A configuration with topics and a group of its own.
    pub fn config(&self, name: &str) -> BusConfig {
        BusConfig {
            bootstrap_servers: self.cluster().bootstrap(),
            topic_prefix: format!("{name}."),
            partitions: 4,
            replication_factor: 1,
            group_id: name.to_owned(),
            instance_id: Some("one".to_owned()),
            commit_interval_ms: 50,
            transaction_timeout_ms: 10_000,
            consumer_properties: Properties::from([
                ("session.timeout.ms", "3000"),
                ("heartbeat.interval.ms", "300"),
            ]),
            ..BusConfig::default()
        }
    }

    /// The same, with its topics made.
    pub fn prepared(&self, name: &str) -> BusConfig {
        let config = self.config(name);
        self.prepare(&config);
        config
    }

    pub fn prepare(&self, config: &BusConfig) {
        prepare(config, &[Topic::Segments, Topic::Calls].map(|topic| TopicSpec::of(config, topic))).unwrap();
    }

    /// The same configuration through the listener that asks who is there.
    pub fn as_user(&self, config: &BusConfig, user: &str, password: &str) -> BusConfig {
        BusConfig {
            bootstrap_servers: self.cluster().sasl_bootstrap().unwrap(),
            properties: Properties::from([
                ("security.protocol", "SASL_PLAINTEXT"),
                ("sasl.mechanism", "PLAIN"),
                ("sasl.username", user),
                ("sasl.password", password),
            ]),
            ..config.clone()
        }
    }

    pub fn allow(&self, user: &str, operations: &[&str], resource: &[&str]) {
        self.cluster().allow(user, operations, resource).unwrap();
    }

    /// Sets `max.message.bytes` of a topic.
    pub fn limit_records(&self, topic: &str, bytes: usize) {
        let setting = format!("max.message.bytes={bytes}");
        let arguments =
            ["--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", &setting];
        self.cluster().tool("kafka.admin.ConfigCommand", &arguments).unwrap();
    }

    pub fn kill(&mut self) {
        match self {
            Self::Alone(cluster) => cluster.kill(1).unwrap(),
            Self::Shared(_) => panic!("others use the broker"),
        }
    }

    pub fn restart(&mut self) {
        match self {
            Self::Alone(cluster) => {
                cluster.restart(1).unwrap();
                cluster.wait_ready(LIMIT).unwrap();
            }
            Self::Shared(_) => panic!("others use the broker"),
        }
    }
}

/// Waits for a condition.
#[expect(clippy::disallowed_methods, reason = "the pace of looking at a condition")]
pub fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How often each number is there.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Numbers(BTreeMap<u64, usize>);

impl Numbers {
    pub fn each_once(range: Range<u64>) -> Self {
        Self(range.map(|number| (number, 1)).collect())
    }

    pub fn len(&self) -> usize {
        self.0.values().sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Sends numbers to the segments, spread over the partitions.
pub fn send_numbers(config: &BusConfig, range: Range<u64>) {
    let topic = config.topic(Topic::Segments);
    let producer =
        Producer::start(config, Arc::default(), |delivery| assert_eq!(delivery.outcome, Ok(()))).unwrap();
    for number in range {
        let value = number.to_be_bytes();
        let partition = i32::try_from(number % config.partitions as u64).unwrap();
        let record = Outgoing {
            topic: &topic,
            partition: Some(partition),
            key: &value,
            value: Some(&value),
            timestamp_ms: None,
        };
        producer.try_send(&record, 0).unwrap();
    }
    assert_eq!(producer.flush(LIMIT), 0);
}

/// Sends one value to the segments.
pub fn send(config: &BusConfig, value: &[u8]) {
    let topic = config.topic(Topic::Segments);
    send_record(
        config,
        &Outgoing { topic: &topic, partition: Some(0), key: b"", value: Some(value), timestamp_ms: None },
    );
}

pub fn send_record(config: &BusConfig, record: &Outgoing<'_>) {
    let producer =
        Producer::start(config, Arc::default(), |delivery| assert_eq!(delivery.outcome, Ok(()))).unwrap();
    producer.try_send(record, 0).unwrap();
    assert_eq!(producer.flush(LIMIT), 0);
}

/// The numbers in the calls that a `read_committed` reader sees.
pub fn read_numbers(config: &BusConfig) -> Numbers {
    let topic = config.topic(Topic::Calls);
    let mut numbers = Numbers::default();
    let mut reader = Reader::topics(config, &[&topic], StartAt::Beginning).unwrap();
    let complete = reader.read_to_end(StartAt::Beginning, LIMIT, |record| {
        let number = u64::from_be_bytes(record.value().unwrap().try_into().unwrap());
        *numbers.0.entry(number).or_default() += 1;
    });
    assert!(complete.unwrap());
    numbers
}

/// The number of records in the calls, those of aborted and open transactions included.
pub fn read_uncommitted(config: &BusConfig) -> Vec<i64> {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &config.bootstrap_servers)
        .set("group.id", "uncommitted")
        .set("isolation.level", "read_uncommitted")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..config.partitions {
        list.add_partition_offset(&config.topic(Topic::Calls), partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut offsets = Vec::new();
    let mut open = config.partitions;
    while open > 0 {
        match consumer.poll(LIMIT).unwrap() {
            Ok(message) => offsets.push(message.offset()),
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => open -= 1,
            Err(error) => panic!("{error}"),
        }
    }
    offsets
}

/// Sends a record on as it is.
pub fn copy(to: &str, record: &Incoming<'_>, out: &mut Outbox<'_>) -> Result<(), BusError> {
    out.send(&Outgoing {
        topic: to,
        partition: Some(record.partition()),
        key: record.key().unwrap_or_default(),
        value: record.value(),
        timestamp_ms: None,
    })
}

/// A process, so to say: a pipeline that copies numbers.
pub struct Worker {
    config: BusConfig,
    /// How the output is looked at: as a user of its own, where permissions are tested.
    reading: BusConfig,
    seen: usize,
    fail_at: Option<usize>,
    pause_at: Option<(usize, mpsc::Sender<()>, mpsc::Receiver<()>)>,
    goal: Option<usize>,
    total: Arc<AtomicUsize>,
    uncounted: usize,
    metrics: Arc<Metrics>,
    stop: Arc<AtomicBool>,
    held: Arc<AtomicUsize>,
    revoked: Arc<AtomicUsize>,
}

impl Worker {
    pub fn new(config: &BusConfig) -> Self {
        Self {
            config: config.clone(),
            reading: config.clone(),
            seen: 0,
            fail_at: None,
            pause_at: None,
            goal: None,
            total: Arc::default(),
            uncounted: 0,
            metrics: Arc::default(),
            stop: Arc::default(),
            held: Arc::default(),
            revoked: Arc::default(),
        }
    }

    pub fn named(mut self, instance: &str) -> Self {
        self.config.instance_id = Some(instance.to_owned());
        self
    }

    /// Looks at the output in this way.
    pub fn reading(mut self, config: &BusConfig) -> Self {
        self.reading = config.clone();
        self
    }

    /// Counts committed records there.
    pub fn counting(mut self, total: &Arc<AtomicUsize>) -> Self {
        self.total = Arc::clone(total);
        self
    }

    /// Fails at the record with this count, or soon after: in the middle of a transaction that has written something.
    pub fn fail_at(mut self, count: usize) -> Self {
        self.fail_at = Some(count);
        self
    }

    /// Says so and waits at the record with this count.
    pub fn pause_at(mut self, count: usize, entered: mpsc::Sender<()>, resumed: mpsc::Receiver<()>) -> Self {
        self.pause_at = Some((count, entered, resumed));
        self
    }

    /// Stops when a reader sees so many records.
    pub fn stop_when_output(mut self, goal: usize) -> Self {
        self.goal = Some(goal);
        self
    }

    pub fn run(mut self) -> Result<(), BusError> {
        let topics = [self.config.topic(Topic::Segments)];
        let mut pipeline = Pipeline::new(&self.config, &topics, Arc::clone(&self.metrics))?;
        let stop = Arc::clone(&self.stop);
        pipeline.run(&mut self, &|| stop.load(Ordering::Relaxed))
    }

    pub fn spawn(self) -> Running {
        let (stop, held, revoked) =
            (Arc::clone(&self.stop), Arc::clone(&self.held), Arc::clone(&self.revoked));
        let metrics = Arc::clone(&self.metrics);
        Running { stop, held, revoked, metrics, thread: std::thread::spawn(|| self.run()) }
    }
}

impl Transform for Worker {
    fn assigned(&mut self, _: &Assigned) -> Result<Start, BusError> {
        self.held.fetch_add(1, Ordering::Relaxed);
        Ok(Start::Committed)
    }

    fn revoked(&mut self, _: &TopicPartition, release: Release) {
        self.held.fetch_sub(1, Ordering::Relaxed);
        self.revoked.fetch_add(1, Ordering::Relaxed);
        if release == Release::Aborted {
            self.uncounted = 0;
        }
    }

    fn record(&mut self, record: &Incoming<'_>, out: &mut Outbox<'_>) -> Result<(), BusError> {
        self.seen += 1;
        if self.fail_at.is_some_and(|count| count <= self.seen) && self.uncounted > 0 {
            let committed = self.total.load(Ordering::Relaxed) as u64;
            wait("a delivery", || self.metrics.delivered.value() > committed);
            return Err(BusError::Transform("the test wants it".into()));
        }
        if let Some((_, entered, resumed)) = self.pause_at.take_if(|(count, ..)| *count == self.seen) {
            entered.send(()).unwrap();
            resumed.recv_timeout(LIMIT).unwrap();
        }
        self.uncounted += 1;
        copy(&self.config.topic(Topic::Calls), record, out)
    }

    fn committed(&mut self) {
        self.total.fetch_add(std::mem::take(&mut self.uncounted), Ordering::Relaxed);
    }

    fn idle(&mut self, _: &mut Outbox<'_>) -> Result<(), BusError> {
        // Not only after a commit: a reader may see it later, held up by another's open transaction.
        if self.goal.is_some_and(|goal| read_numbers(&self.reading).len() >= goal) {
            self.stop.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A worker in a thread.
pub struct Running {
    stop: Arc<AtomicBool>,
    held: Arc<AtomicUsize>,
    revoked: Arc<AtomicUsize>,
    pub metrics: Arc<Metrics>,
    thread: JoinHandle<Result<(), BusError>>,
}

impl Running {
    /// Waits until it holds at least so many partitions.
    pub fn wait_assigned(&self, partitions: usize) {
        wait("assigned partitions", || self.held.load(Ordering::Relaxed) >= partitions);
    }

    /// Waits until it has given up at least so many partitions.
    pub fn wait_revoked(&self, partitions: usize) {
        wait("revoked partitions", || self.revoked.load(Ordering::Relaxed) >= partitions);
    }

    pub fn stop(self) -> Result<(), BusError> {
        self.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    /// Waits for its end.
    pub fn join(self) -> Result<(), BusError> {
        self.thread.join().unwrap()
    }
}
