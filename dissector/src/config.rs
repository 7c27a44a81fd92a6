//! The dissector's configuration.

use serde::{Deserialize, Serialize};
use wirecall_bus::BusConfig;
use wirecall_dissector_core::{ConnectionRecords, Limits, Registry};
use wirecall_service::config::{Invalid, Settings};
use wirecall_service::drain::DrainConfig;
use wirecall_service::health::HealthConfig;
use wirecall_service::telemetry::TelemetryConfig;

/// The consumer group unless configured otherwise.
pub const DEFAULT_GROUP: &str = "wirecall-dissector";

/// Everything that can be configured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DissectorSettings {
    /// What is dissected.
    pub dissection: DissectionSettings,
    /// Bounds of what is held and kept.
    pub limits: LimitSettings,
    /// Kafka and the schema registry. Without a `group_id` it is [`DEFAULT_GROUP`].
    pub kafka: BusConfig,
    /// Logs and metrics.
    pub telemetry: TelemetryConfig,
    /// Health and metrics over HTTP.
    pub health: HealthConfig,
    /// The end.
    pub drain: DrainConfig,
}

/// The section `[dissection]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DissectionSettings {
    /// Protocols that are looked for; empty for all there are.
    pub protocols: Vec<String>,
    /// Which connections yield a record of their own.
    pub connection_records: ConnectionRecordsSetting,
}

/// Which connections yield a record of protocol `tcp` or `udp` at their close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionRecordsSetting {
    /// All.
    All,
    /// Those that no protocol claimed.
    #[default]
    Undissected,
    /// None.
    None,
}

/// A protocol that there is none of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no protocol {name}; there are: {known}")]
pub struct UnknownProtocol {
    name: String,
    known: String,
}

impl DissectionSettings {
    /// The protocols.
    ///
    /// # Errors
    /// A name that no protocol has.
    pub fn registry(&self) -> Result<Registry, UnknownProtocol> {
        let all = Registry::default();
        if self.protocols.is_empty() {
            return Ok(all);
        }
        let known = all.names().collect::<Vec<_>>().join(", ");
        let names: Vec<_> = self.protocols.iter().map(String::as_str).collect();
        all.only(&names).map_err(|name| UnknownProtocol { name: name.to_owned(), known })
    }

    /// The core's setting.
    #[must_use]
    pub const fn connection_records(&self) -> ConnectionRecords {
        match self.connection_records {
            ConnectionRecordsSetting::All => ConnectionRecords::All,
            ConnectionRecordsSetting::Undissected => ConnectionRecords::Undissected,
            ConnectionRecordsSetting::None => ConnectionRecords::None,
        }
    }
}

/// The section `[limits]`, for each partition; each is explained at [`Limits`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Connections open at once.
    pub connections: usize,
    /// Unconsumed bytes of each direction.
    pub stream_bytes: usize,
    /// Seconds of capture time after which a silent connection is closed.
    pub idle_seconds: u64,
    /// Requests of a connection that wait for their answers.
    pub open_calls: usize,
    /// Bytes of a message's head.
    pub head_bytes: usize,
    /// Fields of a header section.
    pub header_fields: usize,
    /// Bytes of a body that are kept.
    pub body_bytes: usize,
    /// Bytes that a kept body may decode to.
    pub decoded_bytes: usize,
    /// Decoded bytes per encoded byte.
    pub decoding_ratio: usize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            connections: limits.connections,
            stream_bytes: limits.stream_bytes,
            idle_seconds: u64::try_from(limits.idle_micros / 1_000_000).unwrap_or(0),
            open_calls: limits.open_calls,
            head_bytes: limits.head_bytes,
            header_fields: limits.header_fields,
            body_bytes: limits.body_bytes,
            decoded_bytes: limits.decoded_bytes,
            decoding_ratio: limits.decoding_ratio,
        }
    }
}

impl LimitSettings {
    /// The core's limits.
    #[must_use]
    pub fn core(&self) -> Limits {
        Limits {
            connections: self.connections,
            stream_bytes: self.stream_bytes,
            idle_micros: i64::try_from(self.idle_seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000),
            open_calls: self.open_calls,
            head_bytes: self.head_bytes,
            header_fields: self.header_fields,
            body_bytes: self.body_bytes,
            decoded_bytes: self.decoded_bytes,
            decoding_ratio: self.decoding_ratio,
            ..Limits::default()
        }
    }

    fn validate(&self) -> Result<(), Invalid> {
        let zero = [
            ("connections", self.connections == 0),
            ("stream_bytes", self.stream_bytes == 0),
            ("idle_seconds", self.idle_seconds == 0),
            ("open_calls", self.open_calls == 0),
            ("head_bytes", self.head_bytes == 0),
            ("header_fields", self.header_fields == 0),
            ("decoding_ratio", self.decoding_ratio == 0),
        ];
        match zero.into_iter().find(|(_, zero)| *zero) {
            Some((key, _)) => Err(Invalid::new(["limits", key], "must be at least 1")),
            None => Ok(()),
        }
    }
}

impl DissectorSettings {
    /// The bus's part, with the service's own group.
    #[must_use]
    pub fn bus(&self) -> BusConfig {
        let mut bus = self.kafka.clone();
        if bus.group_id.is_empty() {
            DEFAULT_GROUP.clone_into(&mut bus.group_id);
        }
        bus
    }
}

impl Settings for DissectorSettings {
    const SERVICE: &'static str = "dissector";

    fn validate(&self) -> Result<(), Invalid> {
        let registry = self.dissection.registry();
        registry.map_err(|error| Invalid::new(["dissection", "protocols"], error))?;
        self.limits.validate()?;
        self.telemetry.validate()?;
        self.kafka.validate().map_err(|error| Invalid::new(["kafka"], error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_cores() {
        assert_eq!(LimitSettings::default().core(), Limits::default());
        DissectorSettings::default().validate().unwrap();
        assert_eq!(DissectorSettings::default().bus().group_id, DEFAULT_GROUP);
    }

    #[test]
    fn an_unknown_protocol_is_named_with_those_there_are() {
        let dissection =
            DissectionSettings { protocols: vec!["gopher".to_owned()], ..DissectionSettings::default() };
        let error = dissection.registry().unwrap_err().to_string();
        assert!(error.contains("gopher") && error.contains("http"), "{error}");
    }

    #[test]
    fn limits_of_nothing_are_refused_by_name() {
        let limits = LimitSettings { head_bytes: 0, ..LimitSettings::default() };
        let error = DissectorSettings { limits, ..DissectorSettings::default() }.validate().unwrap_err();
        assert!(format!("{error:?}").contains("head_bytes"), "{error:?}");
    }
}
