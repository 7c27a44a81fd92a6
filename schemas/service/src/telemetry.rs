//! Logs and metrics: one call at the start of a `main`, one at its end.
//!
//! Logs go to standard error, as text on a terminal and as one JSON object a line elsewhere. Metrics are OpenTelemetry
//! instruments, read by Prometheus from `/metrics` (see [`crate::health`]) and, if an endpoint is configured, pushed by
//! OTLP.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_otlp::{MetricExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Invalid, Secret, without_password};
use crate::metrics::Metrics;

/// The section `[telemetry]` of every service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Logs.
    pub log: LogConfig,
    /// Pushing metrics by OTLP; `/metrics` is there in any case.
    pub otlp: OtlpConfig,
}

impl TelemetryConfig {
    /// Checks what types cannot say; call it from the service's `validate`.
    ///
    /// # Errors
    ///
    /// A filter that cannot be read, or an address or interval that cannot be used.
    pub fn validate(&self) -> Result<(), Invalid> {
        if let Err(error) = EnvFilter::builder().parse(&self.log.filter) {
            return Err(Invalid::new(["telemetry", "log", "filter"], error));
        }
        let endpoint = self.otlp.endpoint.as_deref().unwrap_or("http://");
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            let rule = "give a whole address: http://collector:4318/v1/metrics, or with https://";
            return Err(Invalid::new(["telemetry", "otlp", "endpoint"], rule));
        }
        if self.otlp.interval_seconds == 0 {
            return Err(Invalid::new(["telemetry", "otlp", "interval_seconds"], "must be at least 1"));
        }
        Ok(())
    }
}

/// The section `[telemetry.log]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// What is logged, as `info` or `warn,wirecall_bus=debug`.
    pub filter: String,
    /// Form of a log line.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Auto }
    }
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Text for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The section `[telemetry.otlp]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpConfig {
    /// Full address for metrics, as `http://127.0.0.1:4318/v1/metrics`; without it nothing is pushed. For `https://` the
    /// system's certificate authorities are trusted, or those of the file that `SSL_CERT_FILE` names.
    pub endpoint: Option<String>,
    /// Seconds between two pushes.
    pub interval_seconds: u64,
    /// Headers of each push, as an API key.
    pub headers: BTreeMap<String, Secret>,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self { endpoint: None, interval_seconds: 30, headers: BTreeMap::new() }
    }
}

/// Which program this is, for logs and metrics.
#[derive(Clone, Debug)]
pub struct Service {
    /// Name as in [`crate::config::Settings::SERVICE`].
    pub name: &'static str,
    /// The program's version; `env!("CARGO_PKG_VERSION")`.
    pub version: &'static str,
    /// What tells this instance from others: pod or node name.
    pub instance: String,
}

/// Telemetry that cannot be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The log filter cannot be read.
    #[error("telemetry.log.filter cannot be read: write a level, or target=level between commas")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something else in this process already logs.
    #[error("logging was set up twice")]
    Subscriber(#[from] tracing_subscriber::util::TryInitError),
    /// The Prometheus exporter refused.
    #[error("the Prometheus exporter cannot be set up")]
    Prometheus(#[source] opentelemetry_sdk::error::OTelSdkError),
    /// The OTLP exporter refused.
    #[error("OTLP cannot be set up for {endpoint}: check telemetry.otlp")]
    Otlp {
        /// The configured endpoint, without a password.
        endpoint: String,
        /// What the exporter said.
        source: opentelemetry_otlp::ExporterBuildError,
    },
}

/// Logs and metrics of a running service. Dropping it pushes the last metrics.
#[derive(Debug)]
pub struct Telemetry {
    provider: SdkMeterProvider,
    registry: prometheus::Registry,
    metrics: Metrics,
}

impl Telemetry {
    /// Starts logging for the process, and metrics.
    ///
    /// # Errors
    ///
    /// A wrong filter, a second start of logging, or an exporter that refuses its configuration.
    pub fn start(config: &TelemetryConfig, service: &Service) -> Result<Self, TelemetryError> {
        start_logging(&config.log)?;
        Self::metrics_only(config, service)
    }

    /// Starts metrics alone, for programs that log elsewhere and for tests.
    ///
    /// # Errors
    ///
    /// An exporter that refuses its configuration.
    pub fn metrics_only(config: &TelemetryConfig, service: &Service) -> Result<Self, TelemetryError> {
        let registry = prometheus::Registry::new();
        // No unit suffixes: names are written with their unit. Counters get their `_total` here.
        let pull = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_units()
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .map_err(TelemetryError::Prometheus)?;
        let mut builder = SdkMeterProvider::builder().with_resource(resource(service)).with_reader(pull);
        if let Some(endpoint) = &config.otlp.endpoint {
            builder = builder.with_reader(push(endpoint, &config.otlp)?);
        }
        let provider = builder.build();
        let metrics = Metrics::new(provider.meter("wirecall"), service.name);
        metrics.build_info(service.version);
        crate::process::register(&metrics);
        Ok(Self { provider, registry, metrics })
    }

    /// Where instruments are made.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What `/metrics` serves.
    pub fn registry(&self) -> prometheus::Registry {
        self.registry.clone()
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        // A collector that is gone must not hold up the end of the program for long.
        if let Err(error) = self.provider.shutdown_with_timeout(Duration::from_secs(5)) {
            tracing::warn!(%error, "last metrics may not have been pushed");
        }
    }
}

fn start_logging(config: &LogConfig) -> Result<(), TelemetryError> {
    let filter = EnvFilter::builder().parse(&config.filter)?;
    let json = match config.format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let base = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json {
        base.json().flatten_event(true).with_current_span(false).finish().try_init()?;
    } else {
        base.with_ansi(std::io::stderr().is_terminal()).finish().try_init()?;
    }
    Ok(())
}

fn resource(service: &Service) -> Resource {
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.namespace", "wirecall"),
            KeyValue::new("service.name", format!("wirecall-{}", service.name)),
            KeyValue::new("service.version", service.version),
            KeyValue::new("service.instance.id", service.instance.clone()),
        ])
        .build()
}

fn push(endpoint: &str, config: &OtlpConfig) -> Result<PeriodicReader<MetricExporter>, TelemetryError> {
    let headers =
        config.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
    let exporter = MetricExporter::builder()
        .with_http()
        .with_endpoint(endpoint)
        .with_headers(headers)
        .with_timeout(Duration::from_secs(10))
        .build()
        .map_err(|source| TelemetryError::Otlp {
            endpoint: without_password(endpoint).unwrap_or_else(|| endpoint.to_owned()),
            source,
        })?;
    Ok(PeriodicReader::builder(exporter).with_interval(Duration::from_secs(config.interval_seconds)).build())
}
