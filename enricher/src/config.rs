//! The configuration of the enricher and of the watcher, which are one program.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};
use wirecall_bus::{BusConfig, BusError};
use wirecall_enricher_core::glob::Glob;
use wirecall_enricher_core::redact::RedactionConfig;
use wirecall_enricher_core::route::RouteConfig;
use wirecall_enricher_core::{EnrichConfig, Enricher, IndexLimits};
use wirecall_service::config::{Invalid, Settings};
use wirecall_service::drain::DrainConfig;
use wirecall_service::health::HealthConfig;
use wirecall_service::telemetry::TelemetryConfig;

/// Everything that can be set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What this process does.
    pub role: Role,
    /// Kafka and the schema registry.
    #[serde(deserialize_with = "kafka_of_the_group")]
    pub kafka: BusConfig,
    /// Where the identity history comes from.
    pub identities: IdentitiesConfig,
    /// What is taken out of events.
    pub redaction: RedactionConfig,
    /// Further topics for events.
    pub routes: Vec<RouteConfig>,
    /// The watcher.
    pub watcher: WatcherConfig,
    /// Logs and metrics.
    pub telemetry: TelemetryConfig,
    /// Health and metrics over HTTP.
    pub health: HealthConfig,
    /// The way to an end.
    pub drain: DrainConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            role: Role::default(),
            kafka: BusConfig { group_id: GROUP.to_owned(), ..BusConfig::default() },
            identities: IdentitiesConfig::default(),
            redaction: RedactionConfig::default(),
            routes: Vec::new(),
            watcher: WatcherConfig::default(),
            telemetry: TelemetryConfig::default(),
            health: HealthConfig::default(),
            drain: DrainConfig::default(),
        }
    }
}

/// The consumer group unless another is set.
const GROUP: &str = "wirecall-enricher";

/// A section that sets anything is read with the bus' own defaults, which know no group.
fn kafka_of_the_group<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BusConfig, D::Error> {
    let mut config = BusConfig::deserialize(deserializer)?;
    if config.group_id.is_empty() {
        GROUP.clone_into(&mut config.group_id);
    }
    Ok(config)
}

/// What a process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Calls to API events.
    #[default]
    Enricher,
    /// The cluster's objects to the identity history. One per cluster.
    Watcher,
    /// Both, for one machine.
    Both,
}

impl Role {
    /// Whether calls are enriched.
    pub const fn enriches(self) -> bool {
        matches!(self, Self::Enricher | Self::Both)
    }

    /// Whether the cluster is watched.
    pub const fn watches(self) -> bool {
        matches!(self, Self::Watcher | Self::Both)
    }
}

/// The section `[identities]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentitiesConfig {
    /// Where they come from.
    pub source: IdentitySource,
    /// With `source = "file"`: the output of `kubectl get … -o json`.
    pub file: Option<PathBuf>,
    /// Names of annotations that events may carry, with `*` for any characters; none by default. For the source
    /// `topic` the watcher decides.
    pub annotations: Vec<Glob>,
    /// Longest time in seconds for reading the history at start.
    pub read_timeout_seconds: u64,
    /// Bounds of the history in memory.
    pub limits: IndexLimits,
}

impl Default for IdentitiesConfig {
    fn default() -> Self {
        Self {
            source: IdentitySource::default(),
            file: None,
            annotations: Vec::new(),
            read_timeout_seconds: 300,
            limits: IndexLimits::default(),
        }
    }
}

/// Where identities come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentitySource {
    /// The identities topic, which a watcher writes.
    #[default]
    Topic,
    /// A file.
    File,
    /// Nowhere: events carry addresses only.
    None,
}

/// The section `[watcher]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatcherConfig {
    /// The kubeconfig; without one the pod's service account, or what `kubectl` would use.
    pub kubeconfig: Option<PathBuf>,
    /// Names of annotations that the history may carry, with `*` for any characters; none by default.
    pub annotations: Vec<Glob>,
}

impl Config {
    /// What the core of the enricher takes.
    pub fn enrichment(&self) -> EnrichConfig {
        EnrichConfig {
            identity: self.identities.limits,
            redaction: self.redaction.clone(),
            routes: self.routes.clone(),
        }
    }
}

impl Settings for Config {
    const SERVICE: &'static str = "enricher";

    fn validate(&self) -> Result<(), Invalid> {
        self.telemetry.validate()?;
        self.kafka.validate().map_err(|error| match error {
            BusError::Config { key, remedy } => {
                Invalid::new(std::iter::once("kafka").chain(key.splitn(2, '.')), remedy)
            }
            other => Invalid::new(["kafka"], other),
        })?;
        if self.identities.source == IdentitySource::File && self.identities.file.is_none() {
            return Err(Invalid::new(["identities", "file"], "name the file, or choose another source"));
        }
        Enricher::new(self.enrichment()).map(drop).map_err(|error| {
            let key = match &error {
                wirecall_enricher_core::ConfigError::Redaction(_) => ["redaction", "rules"].as_slice(),
                wirecall_enricher_core::ConfigError::Route(_) => ["routes"].as_slice(),
            };
            Invalid::new(key.iter().copied(), chain(&error))
        })
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use wirecall_service::config::{ConfigArguments, load_from};

    use super::*;

    fn load(set: &[&str]) -> Result<Config, String> {
        let set = set.iter().map(ToString::to_string).collect();
        load_from::<Config>(&ConfigArguments { set, ..ConfigArguments::default() }, [])
            .map_err(|error| chain(&error))
    }

    #[test]
    fn the_defaults_are_usable() {
        let config = load(&[]).unwrap();
        assert_eq!((config.role, config.kafka.group_id.as_str()), (Role::Enricher, "wirecall-enricher"));
        assert!(config.redaction.defaults);
        assert_eq!(load(&["kafka.partitions=3"]).unwrap().kafka.group_id, "wirecall-enricher");
        assert_eq!(load(&["kafka.group_id=mine"]).unwrap().kafka.group_id, "mine");
    }

    #[test]
    fn rules_are_read() {
        let config = load(&[
            "role=watcher",
            "identities.annotations=team,*.example.com/owner",
            r#"redaction.rules=[{name="x",action="exclude",names=["x-*"]}]"#,
            r#"routes=[{name="shop",topic="wirecall.shop",condition="server.namespace == 'shop'"}]"#,
        ])
        .unwrap();
        assert!(config.role.watches() && !config.role.enriches());
        assert_eq!(config.identities.annotations.len(), 2);
        assert_eq!(config.routes[0].topic, "wirecall.shop");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (set, expected) in [
            ("role=reader", "role"),
            ("rolle=watcher", "rolle"),
            ("identities.source=file", "identities.file"),
            ("kafka.partitions=0", "kafka.partitions"),
            (r#"routes=[{name="shop",topic="t",condition="server.namespac =="}]"#, "\"shop\""),
            (r#"routes=[{name="shop",topic="t",condition="servr.namespace == 'x'"}]"#, "servr"),
            (r#"redaction.rules=[{name="",action="mask"}]"#, "has no name"),
        ] {
            let error = load(&[set]).unwrap_err();
            assert!(error.contains(expected), "{set}: {error}");
        }
    }
}
