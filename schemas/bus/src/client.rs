//! Making clients, and turning what librdkafka says into errors that name a place and a remedy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::Client;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;

use crate::BusError;
use crate::config::{BusConfig, Properties};
use crate::context::{ConsumerNotes, Heard};
use crate::error::is_authentication;
use crate::metrics::Metrics;

/// How long one question to a broker may take before what was heard meanwhile is looked at.
const QUESTION: Duration = Duration::from_millis(1_000);

/// Makes a client.
pub(crate) fn create<C, T: FromClientConfigAndContext<C>>(
    config: &ClientConfig,
    context: C,
    action: &'static str,
) -> Result<T, BusError>
where
    C: rdkafka::client::ClientContext,
{
    T::from_config_and_context(config, context).map_err(|error| match error {
        KafkaError::ClientConfig(_, cause, key, value) => {
            let shown = Properties::from([(key.as_str(), value.as_str())]);
            let value = shown.shown().map(|(_, value)| value).collect();
            BusError::Property { key, value, cause }
        }
        // librdkafka checks some properties against each other only when the client is made.
        KafkaError::ClientCreation(cause) => {
            BusError::Config { key: "the combination of librdkafka properties".to_owned(), remedy: cause }
        }
        cause => BusError::client(action, cause),
    })
}

/// A consumer without a group, for questions.
pub(crate) fn asker(config: &BusConfig) -> Result<BaseConsumer<ConsumerNotes>, BusError> {
    create(&config.reader(), ConsumerNotes::new(Arc::new(Metrics::default())), "making a kafka client")
}

/// Asks for metadata of one topic or of all until a broker answers, at most `limit`.
pub(crate) fn metadata(
    config: &BusConfig,
    consumer: &BaseConsumer<ConsumerNotes>,
    topic: Option<&str>,
    limit: Duration,
) -> Result<Metadata, BusError> {
    let deadline = Instant::now() + limit;
    loop {
        match consumer.fetch_metadata(topic, QUESTION.min(limit)) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => {
                // Errors of the client itself come with the events.
                let _ = consumer.poll(Duration::ZERO);
                let heard = consumer.context().notes.heard();
                if let Some(error) = refused(config, &error, &heard) {
                    return Err(error);
                }
                if Instant::now() >= deadline {
                    return Err(unreachable(config, limit, &error, &heard));
                }
            }
        }
    }
}

/// The error, if it says that our credentials are refused.
pub(crate) fn refused(config: &BusConfig, error: &KafkaError, heard: &Heard) -> Option<BusError> {
    let cause = match &heard.authentication {
        Some(reason) => reason.clone(),
        None if error.rdkafka_error_code().is_some_and(is_authentication) => error.to_string(),
        None => return None,
    };
    Some(BusError::Authentication { servers: config.bootstrap_servers.clone(), cause })
}

/// The error of having heard no broker.
pub(crate) fn unreachable(
    config: &BusConfig,
    waited: Duration,
    error: &KafkaError,
    heard: &Heard,
) -> BusError {
    BusError::Unreachable {
        servers: config.bootstrap_servers.clone(),
        waited,
        cause: heard.last.clone().unwrap_or_else(|| error.to_string()),
    }
}

/// The error, if it says that something is not allowed. The names are those that would be meant.
pub(crate) fn denied(
    code: RDKafkaErrorCode,
    topic: (&str, &'static str),
    group: &str,
    id: &str,
) -> Option<BusError> {
    let (resource, name, operation) = match code {
        RDKafkaErrorCode::TopicAuthorizationFailed => ("topic", topic.0, topic.1),
        RDKafkaErrorCode::GroupAuthorizationFailed => ("group", group, "read"),
        RDKafkaErrorCode::TransactionalIdAuthorizationFailed => ("transactional id", id, "write"),
        RDKafkaErrorCode::ClusterAuthorizationFailed => ("cluster", "kafka-cluster", "idempotent write"),
        _ => return None,
    };
    Some(BusError::Denied { resource, name: name.to_owned(), operation, cause: code.to_string() })
}

/// Fatal error of a client, if it has one.
pub(crate) fn fatal<C: rdkafka::client::ClientContext>(client: &Client<C>) -> Option<String> {
    client.fatal_error().map(|(code, reason)| format!("{code}: {reason}"))
}
