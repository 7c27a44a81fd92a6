//! The configuration of the bus, and what it becomes: properties for librdkafka.
//!
//! Every librdkafka property can be given and is passed on as it is, except those that carry the promises of this
//! crate: a user who turned automatic commits on would lose records without a word. Secrets are masked wherever the
//! configuration is shown.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wirecall_schemas::topic::{DEFAULT_PARTITIONS, DEFAULT_PREFIX, Topic};

use crate::BusError;

/// What a secret is shown as.
pub const MASK: &str = "********";

/// Properties that the bus sets itself, each with what to do instead.
const RESERVED: [(&str, &str); 10] = [
    ("bootstrap.servers", "set bootstrap_servers"),
    ("metadata.broker.list", "set bootstrap_servers"),
    ("group.id", "set group_id"),
    ("group.protocol", "set group_protocol"),
    ("group.instance.id", "set instance_id and static_membership"),
    ("transactional.id", "set group_id and instance_id, of which it is made"),
    ("enable.auto.commit", "leave it out: offsets are committed with the outputs, in one transaction"),
    ("enable.auto.offset.store", "leave it out: offsets are committed with the outputs, in one transaction"),
    ("isolation.level", "leave it out: uncommitted records must stay invisible"),
    ("enable.idempotence", "leave it out: without it a retry doubles records"),
];

/// How the members of a group agree on partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupProtocol {
    /// The members agree among themselves, with the cooperative-sticky assignor. Works with every broker.
    #[default]
    Classic,
    /// The broker assigns (KIP-848). Needs brokers of version 4.0 or newer.
    Consumer,
}

/// How to reach Kafka and how to behave on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BusConfig {
    /// Brokers to ask first, `host:port`, separated by commas.
    pub bootstrap_servers: String,
    /// Prefix of the name of every topic.
    pub topic_prefix: String,
    /// Partitions of the topics that carry connections; existing topics must have as many.
    pub partitions: i32,
    /// Replicas of the topics that are created; -1 takes the broker's default.
    pub replication_factor: i32,
    /// Whether topics that are missing are created.
    pub create_topics: bool,
    /// Consumer group; each service has its own default.
    pub group_id: String,
    /// Group protocol.
    pub group_protocol: GroupProtocol,
    /// Name of this instance, stable over its restarts (the name of a StatefulSet's pod); the transactional id is made
    /// of it. Without one it is made of host and process: then a crashed instance's open transaction holds readers up
    /// until `transaction_timeout_ms` is over.
    pub instance_id: Option<String>,
    /// Whether `instance_id` is also the member's static name, so that a restart does not rebalance the group.
    pub static_membership: bool,
    /// Longest time between two commits, in milliseconds.
    pub commit_interval_ms: u64,
    /// Most input records in one transaction.
    pub max_records_per_transaction: usize,
    /// How long the broker keeps a transaction open without a word from us, in milliseconds.
    pub transaction_timeout_ms: u64,
    /// How long to wait for a broker, the topics and the transaction coordinator at start, in milliseconds.
    pub start_timeout_ms: u64,
    /// Distance of librdkafka's statistics, in milliseconds; 0 turns lag, queue and round-trip metrics off.
    pub statistics_interval_ms: u64,
    /// Further librdkafka properties, for consumers and producers.
    pub properties: Properties,
    /// Further librdkafka properties, for consumers only.
    pub consumer_properties: Properties,
    /// Further librdkafka properties, for producers only.
    pub producer_properties: Properties,
    /// The schema registry; without one, records carry their schema's fingerprint.
    pub registry: Option<RegistryConfig>,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self {
            bootstrap_servers: "localhost:9092".to_owned(),
            topic_prefix: DEFAULT_PREFIX.to_owned(),
            partitions: DEFAULT_PARTITIONS,
            replication_factor: -1,
            create_topics: true,
            group_id: String::new(),
            group_protocol: GroupProtocol::default(),
            instance_id: None,
            static_membership: false,
            commit_interval_ms: 200,
            max_records_per_transaction: 10_000,
            transaction_timeout_ms: 30_000,
            start_timeout_ms: 30_000,
            statistics_interval_ms: 15_000,
            properties: Properties::default(),
            consumer_properties: Properties::default(),
            producer_properties: Properties::default(),
            registry: None,
        }
    }
}

/// The schema registry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistryConfig {
    /// Base of its Confluent-compatible API, for example `https://registry:8081`.
    pub url: String,
    /// User name, if it wants one.
    pub username: Option<String>,
    /// Password of that user.
    pub password: Option<Secret>,
    /// How subjects are named.
    pub subject_strategy: SubjectStrategy,
    /// Whether schemas are registered. If not, they must be there.
    pub auto_register: bool,
    /// How long one request may take, in milliseconds.
    pub timeout_ms: u64,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            username: None,
            password: None,
            subject_strategy: SubjectStrategy::default(),
            auto_register: true,
            timeout_ms: 10_000,
        }
    }
}

/// How the registry's subjects are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectStrategy {
    /// `<topic>-value`.
    #[default]
    TopicName,
}

/// A text that is never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// A secret of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that has to send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// librdkafka properties. They are masked when shown or serialised, as far as they are secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// Sets a property.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// Names and values, secrets included.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Names and values, secrets masked.
    pub fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().map(|(name, value)| (name, masked(name, value)))
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Properties {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.shown()).finish()
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.shown())
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// A property as people write it: `true` and `5` are as good as `"true"` and `"5"`.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Value {
            Truth(bool),
            Number(i64),
            Text(String),
        }
        let values = BTreeMap::<String, Value>::deserialize(deserializer)?;
        let text = |value| match value {
            Value::Truth(truth) => truth.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Text(text) => text,
        };
        Ok(Self(values.into_iter().map(|(name, value)| (name, text(value))).collect()))
    }
}

/// The value, or the mask where the property holds a secret.
fn masked<'v>(name: &str, value: &'v str) -> &'v str {
    const SECRET: [&str; 6] =
        ["password", "secret", "ssl.key.pem", "sasl.oauthbearer.config", "assertion.private.key", "token"];
    // Where a secret lies or how it is fetched is not the secret.
    const PLACES: [&str; 3] = [".location", ".file", ".url"];
    let secret = SECRET.iter().any(|part| name.contains(part));
    let place = PLACES.iter().any(|end| name.ends_with(end));
    if secret && !place { MASK } else { value }
}

impl BusConfig {
    /// Full name of a topic.
    pub fn topic(&self, topic: Topic) -> String {
        topic.full_name(&self.topic_prefix)
    }

    /// Partitions that a topic must have.
    pub fn partitions_of(&self, topic: Topic) -> i32 {
        topic.partitions(self.partitions)
    }

    /// Checks what can be checked without a broker.
    ///
    /// # Errors
    /// [`BusError::Config`] names the key and the remedy.
    pub fn validate(&self) -> Result<(), BusError> {
        let refuse = |key: &str, remedy: &str| {
            Err(BusError::Config { key: key.to_owned(), remedy: remedy.to_owned() })
        };
        if self.bootstrap_servers.trim().is_empty() {
            return refuse("bootstrap_servers", "name at least one broker as host:port");
        }
        if self.partitions < 1 {
            return refuse("partitions", "it must be 1 or more");
        }
        if self.replication_factor == 0 || self.replication_factor < -1 {
            return refuse("replication_factor", "it must be 1 or more, or -1 for the broker's default");
        }
        if self.commit_interval_ms == 0 || self.commit_interval_ms >= self.transaction_timeout_ms {
            return refuse("commit_interval_ms", "it must be above 0 and below transaction_timeout_ms");
        }
        if self.max_records_per_transaction == 0 {
            return refuse("max_records_per_transaction", "it must be 1 or more");
        }
        if self.static_membership && self.instance_id.is_none() {
            return refuse("static_membership", "it needs an instance_id that is stable over restarts");
        }
        self.validate_registry()?;
        self.validate_properties()
    }

    fn validate_registry(&self) -> Result<(), BusError> {
        match &self.registry {
            Some(registry)
                if !registry.url.starts_with("http://") && !registry.url.starts_with("https://") =>
            {
                Err(BusError::Config {
                    key: "registry.url".to_owned(),
                    remedy:
                        "it must start with http:// or https://; leave out the registry to do without one"
                            .to_owned(),
                })
            }
            _ => Ok(()),
        }
    }

    fn validate_properties(&self) -> Result<(), BusError> {
        let all = [&self.properties, &self.consumer_properties, &self.producer_properties];
        for (name, _) in all.into_iter().flat_map(Properties::iter) {
            if let Some((_, remedy)) = RESERVED.iter().find(|(reserved, _)| *reserved == name) {
                return Err(BusError::Config {
                    key: format!("properties.{name}"),
                    remedy: (*remedy).to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Name of this instance: the configured one, or host and process.
    pub fn instance(&self) -> String {
        self.instance_id.clone().unwrap_or_else(|| {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            format!("{}-{}", host.trim(), std::process::id())
        })
    }

    /// The transactional id: of the group and of the instance, so that a restarted instance ends its predecessor's
    /// transaction at once.
    pub fn transactional_id(&self) -> String {
        format!("{}-{}", self.group_id, self.instance())
    }

    /// Longest time between two commits.
    pub fn commit_interval(&self) -> Duration {
        Duration::from_millis(self.commit_interval_ms)
    }

    /// Longest wait at start.
    pub fn start_timeout(&self) -> Duration {
        Duration::from_millis(self.start_timeout_ms)
    }

    /// Time after which the broker ends a silent transaction.
    pub fn transaction_timeout(&self) -> Duration {
        Duration::from_millis(self.transaction_timeout_ms)
    }

    /// Properties of a consumer that belongs to the group.
    pub(crate) fn group_consumer(&self) -> ClientConfig {
        let mut config = self.reader();
        config.set("group.id", &self.group_id);
        match self.group_protocol {
            GroupProtocol::Classic => {
                config.set("partition.assignment.strategy", "cooperative-sticky");
            }
            GroupProtocol::Consumer => {
                config.set("group.protocol", "consumer");
            }
        }
        if let (true, Some(instance)) = (self.static_membership, &self.instance_id) {
            config.set("group.instance.id", instance);
        }
        config.set("auto.offset.reset", "earliest");
        add(&mut config, &self.consumer_properties);
        config
    }

    /// Properties of a consumer without a group.
    pub(crate) fn reader(&self) -> ClientConfig {
        let mut config = self.base();
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "100")
            // For the process, not for each partition: queues are not split. The default back-off of a second would
            // stall a queue that is full for a moment.
            .set("queued.max.messages.kbytes", "65536")
            .set("fetch.queue.backoff.ms", "50");
        add(&mut config, &self.properties);
        add(&mut config, &self.consumer_properties);
        config
    }

    /// Properties of an idempotent producer.
    pub(crate) fn producer(&self) -> ClientConfig {
        let mut config = self.base();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "50")
            .set("compression.type", "lz4")
            .set("partitioner", "murmur2_random")
            .set("queue.buffering.max.kbytes", "131072");
        add(&mut config, &self.properties);
        add(&mut config, &self.producer_properties);
        config
    }

    /// Properties of a transactional producer.
    pub(crate) fn transactional_producer(&self) -> ClientConfig {
        let mut config = self.base();
        config
            .set("transactional.id", self.transactional_id())
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // A commit waits for the last batch, so a long linger would be paid at each commit.
            .set("linger.ms", "5")
            .set("compression.type", "lz4")
            .set("partitioner", "murmur2_random")
            .set("transaction.timeout.ms", self.transaction_timeout_ms.to_string())
            // A record that outlives its transaction could only be refused.
            .set("message.timeout.ms", self.transaction_timeout_ms.to_string());
        add(&mut config, &self.properties);
        add(&mut config, &self.producer_properties);
        config
    }

    fn base(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap_servers)
            .set("client.id", "wirecall")
            .set("statistics.interval.ms", self.statistics_interval_ms.to_string())
            // A topic made by a typing error would hide the error.
            .set("allow.auto.create.topics", "false")
            .set("socket.keepalive.enable", "true");
        config
    }

    /// The properties that librdkafka gets for a group's consumer and for its producer, secrets masked.
    pub fn effective_properties(&self) -> Vec<(&'static str, String, String)> {
        let of = |role: &'static str, config: &ClientConfig| {
            let mut list: Vec<_> = config
                .config_map()
                .iter()
                .map(|(name, value)| (role, (*name).to_owned(), masked(name, value).to_owned()))
                .collect();
            list.sort();
            list
        };
        [of("consumer", &self.group_consumer()), of("producer", &self.transactional_producer())].concat()
    }
}

fn add(config: &mut ClientConfig, properties: &Properties) {
    for (name, value) in properties.iter() {
        config.set(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_secrets() -> BusConfig {
        BusConfig {
            properties: Properties::from([
                ("sasl.username", "wirecall"),
                ("sasl.password", "hush-1"),
                ("ssl.key.password", "hush-2"),
                ("ssl.key.pem", "hush-3"),
                ("sasl.oauthbearer.client.secret", "hush-4"),
                ("ssl.key.location", "/etc/wirecall/key.pem"),
            ]),
            registry: Some(RegistryConfig {
                url: "https://registry".to_owned(),
                password: Some(Secret::new("hush-5")),
                ..RegistryConfig::default()
            }),
            ..BusConfig::default()
        }
    }

    #[test]
    fn no_secret_is_ever_shown() {
        let config = with_secrets();
        let shown = format!(
            "{config:?} {} {:?}",
            serde_json::to_string(&config).unwrap(),
            config.effective_properties()
        );
        assert!(!shown.contains("hush"), "{shown}");
        assert!(shown.contains("wirecall") && shown.contains("/etc/wirecall/key.pem"));
    }

    #[test]
    fn librdkafka_gets_the_secrets() {
        assert_eq!(with_secrets().group_consumer().get("sasl.password"), Some("hush-1"));
        assert_eq!(with_secrets().transactional_producer().get("ssl.key.password"), Some("hush-2"));
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = serde_json::from_str::<BusConfig>(r#"{"bootstrap_server": "x:1"}"#).unwrap_err();
        assert!(error.to_string().contains("bootstrap_server"), "{error}");
    }

    #[test]
    fn properties_may_be_written_without_quotes() {
        let config: BusConfig = serde_json::from_str(
            r#"{"producer_properties": {"linger.ms": 7, "socket.nagle.disable": true, "compression.type": "zstd"}}"#,
        )
        .unwrap();
        let producer = config.transactional_producer();
        assert_eq!(producer.get("linger.ms"), Some("7"));
        assert_eq!(producer.get("socket.nagle.disable"), Some("true"));
        assert_eq!(producer.get("compression.type"), Some("zstd"));
    }

    #[test]
    fn properties_that_carry_the_promises_cannot_be_overridden() {
        for (name, _) in RESERVED {
            let config =
                BusConfig { consumer_properties: Properties::from([(name, "x")]), ..BusConfig::default() };
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let wrong = [
            (BusConfig { bootstrap_servers: " ".to_owned(), ..BusConfig::default() }, "bootstrap_servers"),
            (BusConfig { partitions: 0, ..BusConfig::default() }, "partitions"),
            (BusConfig { replication_factor: 0, ..BusConfig::default() }, "replication_factor"),
            (BusConfig { commit_interval_ms: 30_000, ..BusConfig::default() }, "commit_interval_ms"),
            (
                BusConfig { max_records_per_transaction: 0, ..BusConfig::default() },
                "max_records_per_transaction",
            ),
            (BusConfig { static_membership: true, ..BusConfig::default() }, "static_membership"),
            (BusConfig { registry: Some(RegistryConfig::default()), ..BusConfig::default() }, "registry.url"),
        ];
        for (config, key) in wrong {
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(key), "{key}: {error}");
        }
        BusConfig::default().validate().unwrap();
    }

    #[test]
    fn the_transactional_id_is_made_of_group_and_instance() {
        let config = BusConfig {
            group_id: "dissector".to_owned(),
            instance_id: Some("pod-3".to_owned()),
            ..BusConfig::default()
        };
        assert_eq!(config.transactional_id(), "dissector-pod-3");
        assert_ne!(BusConfig::default().instance(), "-");
    }
}
