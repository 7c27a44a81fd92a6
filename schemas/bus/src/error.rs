//! What can go wrong on the bus. Each message names the broker, topic or key and what to do about it.

use std::error::Error;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use wirecall_schemas::{CodecError, SchemaError};

/// What a process should say by its exit code; the numbers are those of `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// The data cannot be processed.
    Data,
    /// A broker or registry cannot be reached.
    Unavailable,
    /// A defect, or a state that only a restart ends.
    Software,
    /// Somebody else took our place; a restart would only fight with them.
    Fenced,
    /// Credentials or permissions are missing.
    Permission,
    /// The configuration does not fit the world.
    Configuration,
}

impl Category {
    /// The exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Data => 65,
            Self::Unavailable => 69,
            Self::Software | Self::Fenced => 70,
            Self::Permission => 77,
            Self::Configuration => 78,
        }
    }
}

/// Anything that stops the bus.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// A configuration key has a value that cannot be used.
    #[error("{key} cannot be used: {remedy}")]
    Config {
        /// The key.
        key: String,
        /// What to do.
        remedy: String,
    },
    /// librdkafka refused a property.
    #[error("librdkafka refuses the property {key}={value}: {cause}; correct or remove it")]
    Property {
        /// Its name.
        key: String,
        /// Its value, masked if secret.
        value: String,
        /// What librdkafka says.
        cause: String,
    },
    /// No broker answered.
    #[error(
        "no broker of {servers} answered within {} s ({cause}); check bootstrap_servers, the network and security.protocol",
        waited.as_secs_f32()
    )]
    Unreachable {
        /// The configured brokers.
        servers: String,
        /// How long was waited.
        waited: Duration,
        /// The last thing heard.
        cause: String,
    },
    /// The broker does not accept who we are.
    #[error(
        "the brokers {servers} refuse our credentials ({cause}); check sasl.mechanism, sasl.username and sasl.password, or the TLS keys"
    )]
    Authentication {
        /// The configured brokers.
        servers: String,
        /// What the broker says.
        cause: String,
    },
    /// We are known, but not allowed.
    #[error(
        "not allowed to {operation} {resource} {name} ({cause}); grant this principal {operation} on {resource} {name}"
    )]
    Denied {
        /// `topic`, `group`, `transactional id` or `cluster`.
        resource: &'static str,
        /// Its name.
        name: String,
        /// What was tried.
        operation: &'static str,
        /// What the broker says.
        cause: String,
    },
    /// A topic does not exist.
    #[error(
        "the topic {topic} does not exist; create it with {partitions} partitions, or set create_topics = true"
    )]
    MissingTopic {
        /// The topic.
        topic: String,
        /// Partitions it should have.
        partitions: i32,
    },
    /// A topic could not be created.
    #[error(
        "the topic {topic} could not be created with {partitions} partitions: {cause}; create it by hand"
    )]
    TopicCreation {
        /// The topic.
        topic: String,
        /// Partitions it should get.
        partitions: i32,
        /// What the broker says.
        cause: String,
    },
    /// A topic has another number of partitions than wanted.
    #[error(
        "the topic {topic} has {found} partitions where {wanted} are wanted; set partitions = {found} in every service, or use another topic_prefix (adding partitions would move connections to others)"
    )]
    WrongPartitions {
        /// The topic.
        topic: String,
        /// Partitions it has.
        found: usize,
        /// Partitions it should have.
        wanted: i32,
    },
    /// A topic is compacted and should not be, or the other way round.
    #[error(
        "the topic {topic} has {property}={found} where {wanted} is wanted; change it with kafka-configs --alter --add-config {property}={wanted}"
    )]
    WrongTopicConfig {
        /// The topic.
        topic: String,
        /// The property.
        property: &'static str,
        /// Its value.
        found: String,
        /// The value it should have.
        wanted: &'static str,
    },
    /// A record is larger than allowed.
    #[error(
        "a record of {size} bytes for topic {topic} is too large ({cause}); raise message.max.bytes here and max.message.bytes of the topic, or lower what is kept of bodies"
    )]
    MessageTooLarge {
        /// The topic.
        topic: String,
        /// Bytes of key and value.
        size: usize,
        /// Who says so.
        cause: String,
    },
    /// A record could not be delivered and never will be.
    #[error("a record for topic {topic} cannot be delivered: {cause}")]
    Undeliverable {
        /// The topic.
        topic: String,
        /// What the broker says.
        cause: String,
    },
    /// Another process works under our name.
    #[error(
        "another process took over {id} ({cause}); this one stops. Give every instance its own instance_id if that was not meant"
    )]
    Fenced {
        /// Transactional id or group member.
        id: String,
        /// What the broker says.
        cause: String,
    },
    /// A transaction failed in a way that is dealt with by aborting it; a [`crate::Transform`] hands it on.
    #[error("the transaction cannot go on ({cause}); it is aborted and its records are read again")]
    Interrupted {
        /// What happened.
        cause: String,
    },
    /// Reading from the broker failed for good.
    #[error("reading {topics} from {servers} failed: {cause}")]
    Consumer {
        /// The topics.
        topics: String,
        /// The configured brokers.
        servers: String,
        /// What librdkafka says.
        cause: Box<KafkaError>,
    },
    /// A Kafka client failed in another way.
    #[error("{action} failed: {cause}")]
    Client {
        /// What was tried.
        action: &'static str,
        /// What librdkafka says.
        cause: Box<KafkaError>,
    },
    /// The registry cannot be reached.
    #[error("the schema registry {url} cannot be reached: {cause}; check registry.url and the network")]
    RegistryUnreachable {
        /// Its address.
        url: String,
        /// What was heard.
        cause: String,
    },
    /// The registry does not accept who we are.
    #[error(
        "the schema registry {url} refuses our credentials: {cause}; check registry.username and registry.password"
    )]
    RegistryDenied {
        /// Its address.
        url: String,
        /// What it says.
        cause: String,
    },
    /// The registry refuses a schema, or does not have it.
    #[error("the schema registry {url} refuses subject {subject}: {cause}; {remedy}")]
    RegistryRefused {
        /// Its address.
        url: String,
        /// The subject or schema id.
        subject: String,
        /// What it says.
        cause: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A record's schema is not usable.
    #[error("a schema cannot be used")]
    Schema(#[from] SchemaError),
    /// A record cannot be encoded.
    #[error("a record cannot be written")]
    Codec(#[from] CodecError),
    /// A thread or runtime could not be started.
    #[error("{what} could not be started: {cause}; check the limits on threads and memory")]
    Resource {
        /// What.
        what: &'static str,
        /// Why.
        cause: std::io::Error,
    },
    /// The transform failed.
    #[error("processing failed")]
    Transform(#[source] Box<dyn Error + Send + Sync>),
}

impl BusError {
    pub(crate) fn client(action: &'static str, cause: KafkaError) -> Self {
        Self::Client { action, cause: Box::new(cause) }
    }

    /// What kind of failure it is.
    pub const fn category(&self) -> Category {
        match self {
            Self::Config { .. }
            | Self::Property { .. }
            | Self::MissingTopic { .. }
            | Self::TopicCreation { .. }
            | Self::WrongPartitions { .. }
            | Self::WrongTopicConfig { .. }
            | Self::RegistryRefused { .. } => Category::Configuration,
            Self::Authentication { .. } | Self::Denied { .. } | Self::RegistryDenied { .. } => {
                Category::Permission
            }
            Self::Unreachable { .. } | Self::RegistryUnreachable { .. } => Category::Unavailable,
            Self::MessageTooLarge { .. } | Self::Undeliverable { .. } | Self::Codec(_) => Category::Data,
            Self::Fenced { .. } => Category::Fenced,
            Self::Interrupted { .. }
            | Self::Consumer { .. }
            | Self::Client { .. }
            | Self::Schema(_)
            | Self::Resource { .. }
            | Self::Transform(_) => Category::Software,
        }
    }

    /// The exit code of a process that stops because of this.
    pub const fn exit_code(&self) -> u8 {
        self.category().exit_code()
    }
}

/// Whether this code says that the broker does not know us.
pub(crate) const fn is_authentication(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed | RDKafkaErrorCode::SSL
    )
}

/// Whether this code says that somebody took our place.
pub(crate) const fn is_fenced(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::InvalidProducerEpoch
            | RDKafkaErrorCode::FencedInstanceId
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_have_the_exit_codes_of_sysexits() {
        let denied = BusError::Denied {
            resource: "topic",
            name: "wirecall.calls".to_owned(),
            operation: "write",
            cause: "no".to_owned(),
        };
        assert_eq!(denied.exit_code(), 77);
        assert!(denied.to_string().contains("grant this principal write on topic wirecall.calls"));
        let partitions = BusError::WrongPartitions { topic: "t".to_owned(), found: 3, wanted: 12 };
        assert_eq!(partitions.exit_code(), 78);
        assert!(partitions.to_string().contains("has 3 partitions where 12 are wanted"));
    }

    #[test]
    fn fencing_and_authentication_are_told_apart() {
        assert!(
            is_fenced(RDKafkaErrorCode::ProducerFenced)
                && !is_authentication(RDKafkaErrorCode::ProducerFenced)
        );
        assert!(
            is_authentication(RDKafkaErrorCode::Authentication)
                && !is_fenced(RDKafkaErrorCode::Authentication)
        );
    }
}
