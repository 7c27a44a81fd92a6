//! The embedded broker: librdkafka's in-process cluster.
//!
//! It speaks Kafka's protocol on a port of 127.0.0.1, so other processes can use it, and keeps a few thousand records a
//! partition in memory. It is for the demonstration and for tests of plumbing. It proves nothing about transactions:
//! it stores no transactional offsets, shows aborted records, and fences nobody.

use std::sync::mpsc;
use std::thread::JoinHandle;

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;

use crate::{BusConfig, BusError};
use wirecall_schemas::topic::Topic;

/// The only broker of the cluster.
const BROKER: i32 = 1;

/// A broker inside this process; it ends when this is dropped.
pub struct EmbeddedBroker {
    bootstrap_servers: String,
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

/// The cluster is not to be moved between threads, so one thread owns it and takes orders.
enum Command {
    Create { topic: String, partitions: i32, done: mpsc::Sender<Result<(), KafkaError>> },
    Down { down: bool, done: mpsc::Sender<Result<(), KafkaError>> },
}

impl EmbeddedBroker {
    /// Starts a broker with all topics of the pipeline, `partitions` partitions where connections are carried.
    ///
    /// # Errors
    /// If librdkafka cannot make the cluster or a topic.
    pub fn start(partitions: i32) -> Result<Self, BusError> {
        let config = BusConfig { partitions, ..BusConfig::default() };
        let broker = Self::start_empty()?;
        for topic in Topic::ALL {
            broker.create_topic(&config.topic(topic), config.partitions_of(topic))?;
        }
        Ok(broker)
    }

    /// Starts a broker without topics.
    ///
    /// # Errors
    /// If librdkafka cannot make the cluster.
    pub fn start_empty() -> Result<Self, BusError> {
        let (commands, orders) = mpsc::channel();
        let (ready, started) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("embedded-broker".to_owned())
            .spawn(move || serve(&ready, &orders))
            .map_err(|cause| BusError::Resource { what: "the thread of the embedded broker", cause })?;
        let bootstrap_servers = started
            .recv()
            .unwrap_or(Err(KafkaError::Canceled))
            .map_err(|cause| BusError::client("starting the embedded broker", cause))?;
        Ok(Self { bootstrap_servers, commands: Some(commands), thread: Some(thread) })
    }

    /// What to give as `bootstrap_servers`.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// If it exists.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), BusError> {
        let topic = topic.to_owned();
        self.order(
            |done| Command::Create { topic, partitions, done },
            "creating a topic of the embedded broker",
        )
    }

    /// Makes the broker unreachable, or reachable again.
    ///
    /// # Errors
    /// If the broker's thread has ended.
    pub fn set_down(&self, down: bool) -> Result<(), BusError> {
        self.order(|done| Command::Down { down, done }, "taking the embedded broker down or up")
    }

    fn order(
        &self,
        command: impl FnOnce(mpsc::Sender<Result<(), KafkaError>>) -> Command,
        action: &'static str,
    ) -> Result<(), BusError> {
        let (done, outcome) = mpsc::channel();
        if let Some(commands) = &self.commands {
            // A broker whose thread has ended shows in the missing answer.
            let _ = commands.send(command(done));
        }
        outcome.recv().unwrap_or(Err(KafkaError::Canceled)).map_err(|cause| BusError::client(action, cause))
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(ready: &mpsc::Sender<Result<String, KafkaError>>, orders: &mpsc::Receiver<Command>) {
    let cluster = match MockCluster::new(BROKER) {
        Ok(cluster) => cluster,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let _ = ready.send(Ok(cluster.bootstrap_servers()));
    while let Ok(order) = orders.recv() {
        let (done, outcome) = match order {
            Command::Create { topic, partitions, done } => {
                (done, cluster.create_topic(&topic, partitions, 1))
            }
            Command::Down { down: true, done } => (done, cluster.broker_down(BROKER)),
            Command::Down { down: false, done } => (done, cluster.broker_up(BROKER)),
        };
        let _ = done.send(outcome);
    }
}
