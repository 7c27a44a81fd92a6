//! What the end-to-end tests share: a real Kafka, the services as processes, and the comparison with a replay.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use wirecall::follow::{Follow, Received};
use wirecall::offline::{self, Emit, Input, Offline, Options};
use wirecall::services::{Running, Service};
use wirecall_bus::config::RegistryConfig;
use wirecall_bus::{BusConfig, StartAt};
use wirecall_schemas::topic::Topic;
use wirecall_schemas::{ApiEvent, Record};
use wirecall_test_support::kafka::KafkaCluster;

/// How long anything may take before the test has failed.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Name of the agent in tests; a replay to compare with takes the same.
pub const AGENT: &str = "agent-under-test";

/// The broker that tests share which do not harm it.
pub fn kafka() -> anyhow::Result<&'static KafkaCluster> {
    static CLUSTER: OnceLock<Result<KafkaCluster, String>> = OnceLock::new();
    match CLUSTER.get_or_init(|| KafkaCluster::start(1).map_err(|error| format!("{error:#}"))) {
        Ok(cluster) => Ok(cluster),
        Err(error) => Err(anyhow::anyhow!("{error}")),
    }
}

/// One installation of Wirecall: a topic prefix of its own on a broker, and a folder for files.
pub struct Installation {
    pub folder: TempDir,
    pub bus: BusConfig,
}

impl Installation {
    pub fn new(bootstrap: &str, name: &str, partitions: i32) -> Self {
        let bus = BusConfig {
            bootstrap_servers: bootstrap.to_owned(),
            topic_prefix: format!("{name}-{}.", std::process::id()),
            partitions,
            ..BusConfig::default()
        };
        Self { folder: tempfile::tempdir().expect("a temporary folder"), bus }
    }

    pub fn with_registry(mut self, url: &str) -> Self {
        self.bus.registry = Some(RegistryConfig { url: url.to_owned(), ..RegistryConfig::default() });
        self
    }

    pub fn topic(&self, topic: Topic) -> String {
        topic.full_name(&self.bus.topic_prefix)
    }

    /// Starts a service; `sections` is its part of the configuration before `[kafka]`.
    pub fn start(&self, service: Service, name: &str, sections: &str) -> Running {
        let mut configuration = format!(
            "{sections}\n[health]\nlisten = \"127.0.0.1:0\"\n[kafka]\nbootstrap_servers = \"{}\"\ntopic_prefix = \"{}\"\n\
             partitions = {}\ncommit_interval_ms = 50\n",
            self.bus.bootstrap_servers, self.bus.topic_prefix, self.bus.partitions,
        );
        if service != Service::Capture {
            configuration.push_str(&format!(
                "group_id = \"{}{}\"\ninstance_id = \"{name}\"\n",
                self.bus.topic_prefix,
                service.program()
            ));
        }
        if let Some(registry) = &self.bus.registry {
            configuration.push_str(&format!("[kafka.registry]\nurl = \"{}\"\n", registry.url));
        }
        Running::start(service, name, &configuration, self.folder.path()).expect("the service starts")
    }

    pub fn start_dissectors(&self, count: usize) -> Vec<Running> {
        (0..count).map(|number| self.start(Service::Dissector, &format!("dissector-{number}"), "")).collect()
    }

    /// An enricher with identities from a file, or with none.
    pub fn start_enricher(&self, identities: Option<&Path>) -> Running {
        let section = identities.map_or_else(
            || "[identities]\nsource = \"none\"\n".to_owned(),
            |path| format!("[identities]\nsource = \"file\"\nfile = \"{}\"\n", path.display()),
        );
        self.start(Service::Enricher, "enricher", &section)
    }

    /// Starts an agent that plays capture files and ends.
    pub fn start_agent(&self, files: &[PathBuf], more: &str) -> Running {
        let list: Vec<_> = files.iter().map(|path| format!("\"{}\"", path.display())).collect();
        let sections = format!("[agent]\nid = \"{AGENT}\"\n[source]\nfiles = [{}]\n{more}", list.join(", "));
        self.start(Service::Capture, "capture", &sections)
    }

    pub fn play(&self, files: &[PathBuf]) {
        let mut agent = self.start_agent(files, "");
        let status = agent.wait(PATIENCE).expect("the agent ends");
        assert!(status.success(), "the agent ended with {status}:\n{}", agent.log_tail());
    }

    /// Waits until `enough` events are there, then reads on for a moment so that a surplus shows too.
    pub fn events(&self, enough: usize, services: &mut [Running]) -> Vec<ApiEvent> {
        self.records(Topic::ApiEvents, enough, services)
    }

    pub fn records<R: Record>(&self, topic: Topic, enough: usize, services: &mut [Running]) -> Vec<R> {
        /// A surplus record would have been written in the same transactions as the others, or the next.
        const QUIET: Duration = Duration::from_millis(1_500);
        let deadline = Instant::now() + PATIENCE;
        let mut follow = loop {
            match Follow::<R>::new(&self.bus, &self.topic(topic), StartAt::Beginning) {
                Ok(follow) => break follow,
                Err(error) if Instant::now() > deadline => panic!("{error:#}"),
                Err(_) => services.iter_mut().for_each(|service| service.check().expect("the service lives")),
            }
        };
        let mut records = Vec::new();
        loop {
            match follow.next(QUIET).expect("the broker answers") {
                Some(Received::Record(record)) => records.push(*record),
                Some(Received::Undecodable { error, .. }) => {
                    panic!("a record of {topic:?} is not readable: {error}")
                }
                None if records.len() >= enough => return records,
                None => {
                    for service in services.iter_mut() {
                        service.check().expect("the service lives");
                    }
                    if Instant::now() > deadline {
                        let logs: Vec<_> = services.iter().map(Running::log_tail).collect();
                        panic!(
                            "{} of {enough} records of {topic:?} came:\n{}",
                            records.len(),
                            logs.join("\n--\n")
                        );
                    }
                }
            }
        }
    }

    /// What `wirecall replay` makes of the same files.
    pub fn replay(&self, files: &[PathBuf], identities: Option<&Path>) -> Vec<ApiEvent> {
        let mut options = Options { identities: identities.map(Path::to_owned), ..Options::default() };
        options.capture.partitions = self.bus.partitions;
        options.capture.agent_id = AGENT.into();
        let mut offline = Offline::new(&options).expect("the options are usable");
        let mut events = Vec::new();
        let emit: &mut Emit<'_> = &mut |event| {
            events.push(event.clone());
            Ok(())
        };
        let input = Input { files, rounds: 1, speed: 0.0 };
        offline::play(&input, &mut offline, &mut |_, _| {}, emit).expect("the captures are whole");
        events
    }
}

/// Compares two sets of events field for field, but for the place in the log; order between connections is free.
pub fn assert_same(expected: Vec<ApiEvent>, found: Vec<ApiEvent>) {
    let by_id = |events: Vec<ApiEvent>| {
        let mut map: BTreeMap<(String, i64), Vec<serde_json::Value>> = BTreeMap::new();
        for mut event in events {
            offline::forget_log_position(&mut event);
            let key = (event.call_id.to_string(), event.index);
            map.entry(key).or_default().push(serde_json::to_value(&event).expect("JSON"));
        }
        map.into_values().flatten().collect::<Vec<_>>()
    };
    let (expected, found) = (by_id(expected), by_id(found));
    if let Some(difference) = wirecall::difference::of_events(&expected, &found) {
        panic!("{} events expected, {} found\n{difference}", expected.len(), found.len());
    }
}

/// The project's own sample.
pub fn sample() -> (PathBuf, PathBuf) {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/http1-shop");
    (case.join("input.pcap"), case.join("identities.json"))
}
