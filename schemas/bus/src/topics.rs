//! The topics as they must be: created where they are missing, checked where they exist.
//!
//! A topic with another number of partitions than its neighbours would tear connections apart, and a state topic that
//! is not compacted would forget; both are refused at start, by name and with the remedy. How long records are kept is
//! the operator's business: a difference is only logged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use wirecall_schemas::topic::{Retention, Topic};

use crate::BusError;
use crate::client::{asker, create, denied, metadata};
use crate::config::BusConfig;
use crate::context::ConsumerNotes;
use crate::metrics::Metrics;

/// How long the broker may take over a request of administration.
const ADMINISTRATION: Duration = Duration::from_secs(15);
/// Pause between looks at a topic that was just created.
const PAUSE: Duration = Duration::from_millis(50);

type Admin = AdminClient<ConsumerNotes>;

/// A topic as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Full name.
    pub name: String,
    /// Partitions.
    pub partitions: i32,
    /// What happens to old records.
    pub retention: Retention,
}

impl TopicSpec {
    /// One of the pipeline's topics, as the configuration wants it.
    pub fn of(config: &BusConfig, topic: Topic) -> Self {
        Self {
            name: config.topic(topic),
            partitions: config.partitions_of(topic),
            retention: topic.retention(),
        }
    }

    /// The value of `cleanup.policy`.
    const fn policy(&self) -> &'static str {
        match self.retention {
            Retention::Delete { .. } => "delete",
            Retention::Compact => "compact",
        }
    }
}

/// Makes sure that the topics are as they must be, and that the brokers can be reached at all. To be called first: it
/// waits for a broker, at most the configured start timeout.
///
/// # Errors
/// Unreachable brokers, refused credentials, a topic that is missing, cannot be created, or is not as it must be.
pub fn prepare(config: &BusConfig, specs: &[TopicSpec]) -> Result<(), BusError> {
    config.validate()?;
    let consumer = asker(config)?;
    let all = metadata(config, &consumer, None, config.start_timeout())?;
    let mut missing = Vec::new();
    for spec in specs {
        match partitions(config, &consumer, &all, spec)? {
            Some(found) => check_partitions(spec, found)?,
            None => missing.push(spec),
        }
    }
    if !missing.is_empty() {
        create_all(config, &consumer, &missing)?;
    }
    if is_embedded(config, &consumer) {
        tracing::info!("the embedded broker knows no topic configuration, so compaction is not checked");
        return Ok(());
    }
    let existing: Vec<_> = specs.iter().filter(|spec| !missing.contains(spec)).collect();
    check_configs(config, &existing)
}

/// librdkafka's in-process cluster leaves requests of administration unanswered; waiting for each would take its toll
/// on every start of the demonstration.
fn is_embedded(config: &BusConfig, consumer: &BaseConsumer<ConsumerNotes>) -> bool {
    let id = consumer.client().fetch_cluster_id(config.start_timeout());
    id.is_some_and(|id| id.starts_with("mockCluster"))
}

/// How many partitions the topic has; `None` if it does not exist. A topic that the list of all does not show may be
/// one that we are not allowed to see, so it is asked for by name.
fn partitions(
    config: &BusConfig,
    consumer: &BaseConsumer<ConsumerNotes>,
    all: &Metadata,
    spec: &TopicSpec,
) -> Result<Option<usize>, BusError> {
    let listed = all.topics().iter().find(|topic| topic.name() == spec.name);
    if let Some(topic) = listed.filter(|topic| topic.error().is_none()) {
        return Ok(Some(topic.partitions().len()));
    }
    let one = metadata(config, consumer, Some(&spec.name), config.start_timeout())?;
    let Some(topic) = one.topics().iter().find(|topic| topic.name() == spec.name) else { return Ok(None) };
    let code = topic.error().map(RDKafkaErrorCode::from);
    match code.and_then(|code| denied(code, (&spec.name, "describe"), "", "")) {
        Some(error) => Err(error),
        None if code.is_some() => Ok(None),
        None => Ok(Some(topic.partitions().len())),
    }
}

fn check_partitions(spec: &TopicSpec, found: usize) -> Result<(), BusError> {
    if i32::try_from(found) == Ok(spec.partitions) {
        return Ok(());
    }
    Err(BusError::WrongPartitions { topic: spec.name.clone(), found, wanted: spec.partitions })
}

fn create_all(
    config: &BusConfig,
    consumer: &BaseConsumer<ConsumerNotes>,
    missing: &[&TopicSpec],
) -> Result<(), BusError> {
    if !config.create_topics {
        let TopicSpec { name, partitions, .. } = missing[0].clone();
        return Err(BusError::MissingTopic { topic: name, partitions });
    }
    let retentions: Vec<_> = missing.iter().map(|spec| properties(spec)).collect();
    let topics: Vec<_> =
        missing.iter().zip(&retentions).map(|(spec, pairs)| new_topic(config, spec, pairs)).collect();
    let options =
        AdminOptions::new().operation_timeout(Some(ADMINISTRATION)).request_timeout(Some(ADMINISTRATION));
    let results = wait(admin(config)?.create_topics(&topics, &options))?;
    let results = results.map_err(|cause| creation_failed(missing[0], cause.to_string()))?;
    for (spec, result) in missing.iter().zip(results) {
        match result {
            Ok(_) => tracing::info!(topic = spec.name, partitions = spec.partitions, "topic created"),
            // Another instance was faster.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => {
                let denied = denied(code, (&spec.name, "create"), "", "");
                return Err(denied.unwrap_or_else(|| creation_failed(spec, code.to_string())));
            }
        }
        wait_for(config, consumer, spec)?;
    }
    Ok(())
}

fn creation_failed(spec: &TopicSpec, cause: String) -> BusError {
    BusError::TopicCreation { topic: spec.name.clone(), partitions: spec.partitions, cause }
}

/// The broker answers before every node knows the topic.
#[expect(clippy::disallowed_methods, reason = "the pace of looking at a condition")]
fn wait_for(
    config: &BusConfig,
    consumer: &BaseConsumer<ConsumerNotes>,
    spec: &TopicSpec,
) -> Result<(), BusError> {
    let deadline = Instant::now() + config.start_timeout();
    loop {
        let one = metadata(config, consumer, Some(&spec.name), config.start_timeout())?;
        let ready = one.topics().iter().find(|topic| topic.name() == spec.name && topic.error().is_none());
        match ready.filter(|topic| topic.partitions().iter().all(|partition| partition.leader() >= 0)) {
            Some(topic) if !topic.partitions().is_empty() => {
                return check_partitions(spec, topic.partitions().len());
            }
            _ if Instant::now() >= deadline => {
                return Err(creation_failed(spec, "it was created, but has no leader".to_owned()));
            }
            _ => std::thread::sleep(PAUSE),
        }
    }
}

fn properties(spec: &TopicSpec) -> Vec<(&'static str, String)> {
    let mut pairs = vec![("cleanup.policy", spec.policy().to_owned())];
    if let Retention::Delete { milliseconds } = spec.retention {
        pairs.push(("retention.ms", milliseconds.to_string()));
    }
    pairs
}

fn new_topic<'t>(
    config: &BusConfig,
    spec: &'t TopicSpec,
    pairs: &'t [(&'static str, String)],
) -> NewTopic<'t> {
    let replication = TopicReplication::Fixed(config.replication_factor);
    pairs.iter().fold(NewTopic::new(&spec.name, spec.partitions, replication), |topic, (name, value)| {
        topic.set(name, value)
    })
}

fn check_configs(config: &BusConfig, specs: &[&TopicSpec]) -> Result<(), BusError> {
    if specs.is_empty() {
        return Ok(());
    }
    let resources: Vec<_> = specs.iter().map(|spec| ResourceSpecifier::Topic(&spec.name)).collect();
    let options = AdminOptions::new().request_timeout(Some(ADMINISTRATION));
    let described = match wait(admin(config)?.describe_configs(&resources, &options))? {
        Ok(described) => described,
        Err(error) => {
            // Some compatible brokers do not answer this.
            tracing::info!(%error, "the topics' configuration cannot be read, so their compaction is not checked");
            return Ok(());
        }
    };
    for (spec, result) in specs.iter().zip(described) {
        match result {
            Ok(resource) => {
                let found: BTreeMap<_, _> = resource
                    .entries
                    .iter()
                    .filter_map(|entry| Some((entry.name.as_str(), entry.value.as_deref()?)))
                    .collect();
                check_config(spec, &found)?;
            }
            Err(error) => tracing::info!(
                topic = spec.name,
                %error,
                "the topic's configuration cannot be read, so its compaction is not checked"
            ),
        }
    }
    Ok(())
}

fn check_config(spec: &TopicSpec, found: &BTreeMap<&str, &str>) -> Result<(), BusError> {
    let policy = found.get("cleanup.policy").copied().unwrap_or_default();
    // A broker that says nothing is not held to it; `compact,delete` is both.
    if !policy.is_empty() && policy != spec.policy() {
        return Err(BusError::WrongTopicConfig {
            topic: spec.name.clone(),
            property: "cleanup.policy",
            found: policy.to_owned(),
            wanted: spec.policy(),
        });
    }
    if let Retention::Delete { milliseconds } = spec.retention {
        let kept = found.get("retention.ms").copied().unwrap_or_default();
        if !kept.is_empty() && kept != milliseconds.to_string() {
            tracing::info!(
                topic = spec.name,
                retention_ms = kept,
                default_ms = milliseconds,
                "the topic keeps records for another time than by default"
            );
        }
    }
    Ok(())
}

fn admin(config: &BusConfig) -> Result<Admin, BusError> {
    let notes = ConsumerNotes::new(Arc::new(Metrics::default()));
    create(&config.reader(), notes, "making a client for administration")
}

/// Administration is the only part of the client library that answers by futures.
fn wait<T>(future: impl Future<Output = Result<T, KafkaError>>) -> Result<Result<T, KafkaError>, BusError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|cause| BusError::Resource { what: "the runtime for administration", cause })?;
    Ok(runtime.block_on(future))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(topic: Topic) -> TopicSpec {
        TopicSpec::of(&BusConfig { partitions: 4, ..BusConfig::default() }, topic)
    }

    #[test]
    fn a_wrong_partition_count_names_topic_found_and_wanted() {
        let error = check_partitions(&spec(Topic::Calls), 3).unwrap_err();
        assert!(
            matches!(&error, BusError::WrongPartitions { topic, found: 3, wanted: 4 } if topic == "wirecall.calls")
        );
        check_partitions(&spec(Topic::Calls), 4).unwrap();
        check_partitions(&spec(Topic::DeadLetters), 1).unwrap();
    }

    #[test]
    fn state_must_be_compacted_and_streams_must_not() {
        let found = BTreeMap::from([("cleanup.policy", "delete")]);
        let error = check_config(&spec(Topic::DissectorState), &found).unwrap_err().to_string();
        assert!(error.contains("cleanup.policy=delete where compact is wanted"), "{error}");
        check_config(&spec(Topic::Segments), &found).unwrap();
        let found = BTreeMap::from([("cleanup.policy", "compact")]);
        assert!(check_config(&spec(Topic::Segments), &found).is_err());
        check_config(&spec(Topic::Identities), &found).unwrap();
        check_config(&spec(Topic::Identities), &BTreeMap::new()).unwrap();
    }
}
