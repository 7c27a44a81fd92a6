//! The bus: the one crate that talks to Kafka through librdkafka.
