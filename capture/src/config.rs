//! The agent's configuration.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use wirecall_bus::BusConfig;
use wirecall_capture_core::{Filter, FlushConfig, Limits, Network};
use wirecall_schemas::Endpoint;
use wirecall_service::{
    config::{Invalid, Settings},
    drain::DrainConfig,
    health::HealthConfig,
    telemetry::TelemetryConfig,
};

use crate::{
    sink::SinkConfig,
    source::af_packet::{ANY, AfPacketConfig, FilterRules},
};

/// Everything that can be configured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaptureSettings {
    /// Who this agent is.
    pub agent: AgentSettings,
    /// Where packets come from.
    pub source: SourceSettings,
    /// Which packets are left out.
    pub filter: FilterSettings,
    /// Bounds of what is tracked and held.
    pub limits: LimitSettings,
    /// When runs of a connection become records.
    pub flush: FlushSettings,
    /// What waits while Kafka is slow.
    pub buffer: BufferSettings,
    /// Kafka and the schema registry.
    pub kafka: BusConfig,
    /// Logs and metrics.
    pub telemetry: TelemetryConfig,
    /// Health and metrics over HTTP.
    pub health: HealthConfig,
    /// The end.
    pub drain: DrainConfig,
}

/// The section `[agent]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentSettings {
    /// Name stamped on every segment; by default `node`.
    pub id: Option<String>,
    /// Node it runs on; by default the host's name.
    pub node: Option<String>,
    /// Seconds between two heartbeats.
    pub heartbeat_seconds: u64,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self { id: None, node: None, heartbeat_seconds: 10 }
    }
}

impl AgentSettings {
    /// The node's name.
    #[must_use]
    pub fn node(&self) -> String {
        self.node.clone().unwrap_or_else(|| {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            if name.trim().is_empty() { "unnamed".to_owned() } else { name.trim().to_owned() }
        })
    }

    /// The agent's name.
    #[must_use]
    pub fn id(&self) -> String {
        self.id.clone().unwrap_or_else(|| self.node())
    }
}

/// The section `[source]`: files, or else interfaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceSettings {
    /// Capture files, read one after another as parts of one capture; `-` is standard input.
    pub files: Vec<PathBuf>,
    /// Speed of reading files as a multiple of the original timing; 0 is flat out.
    pub speed: f64,
    /// How often the files are played.
    pub loops: u32,
    /// Interfaces to capture on; `any` is all of them. Without files and interfaces it is `any`.
    pub interfaces: Vec<String>,
    /// Rings, and threads, for each interface; connections are spread over them.
    pub rings: u16,
    /// Bytes of each ring.
    pub ring_bytes: usize,
    /// Milliseconds after which the kernel hands over what it has.
    pub block_timeout_ms: u64,
    /// Bytes kept of each packet.
    pub snapshot_bytes: u32,
    /// Whether to receive packets for other machines too.
    pub promiscuous: bool,
}

impl Default for SourceSettings {
    fn default() -> Self {
        let live = AfPacketConfig::default();
        Self {
            files: Vec::new(),
            speed: 0.0,
            loops: 1,
            interfaces: Vec::new(),
            rings: live.rings,
            ring_bytes: live.ring_bytes,
            block_timeout_ms: 20,
            snapshot_bytes: live.snapshot,
            promiscuous: live.promiscuous,
        }
    }
}

impl SourceSettings {
    /// How to capture on each interface; none if files are read.
    #[must_use]
    pub fn live(&self, filter: &FilterRules) -> Vec<AfPacketConfig> {
        if !self.files.is_empty() {
            return Vec::new();
        }
        let any = [ANY.to_owned()];
        let interfaces = if self.interfaces.is_empty() { &any[..] } else { &self.interfaces };
        let config = |interface: &String| AfPacketConfig {
            interface: interface.clone(),
            rings: self.rings,
            ring_bytes: self.ring_bytes,
            block_timeout: Duration::from_millis(self.block_timeout_ms),
            snapshot: self.snapshot_bytes,
            promiscuous: self.promiscuous,
            filter: filter.clone(),
        };
        interfaces.iter().map(config).collect()
    }
}

/// The section `[filter]`. Exclusion wins; an empty include list includes everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilterSettings {
    /// Endpoints to leave out, as `10.0.0.1:9092`. The agent's own brokers are left out of a live capture by themselves.
    pub exclude_endpoints: Vec<SocketAddr>,
    /// Networks of which no end may be, as `10.0.0.0/8`.
    pub exclude_networks: Vec<String>,
    /// Ports that no end may have.
    pub exclude_ports: Vec<u16>,
    /// Networks of which one end must be.
    pub include_networks: Vec<String>,
    /// Ports of which one end must have one.
    pub include_ports: Vec<u16>,
}

impl FilterSettings {
    /// The core's filter, with these endpoints left out too.
    #[must_use]
    pub fn core(&self, endpoints: &[SocketAddr]) -> Filter {
        let networks = |list: &[String]| list.iter().filter_map(|text| text.parse().ok()).collect();
        let all = self.exclude_endpoints.iter().chain(endpoints);
        let endpoint = |at: &SocketAddr| Endpoint { address: at.ip().to_canonical(), port: at.port() };
        Filter {
            exclude_endpoints: all.map(endpoint).collect(),
            include_networks: networks(&self.include_networks),
            exclude_networks: networks(&self.exclude_networks),
            include_ports: self.include_ports.clone(),
            exclude_ports: self.exclude_ports.clone(),
        }
    }

    /// The kernel's filter, with these endpoints left out too.
    #[must_use]
    pub fn kernel(&self, endpoints: &[SocketAddr]) -> FilterRules {
        let networks = |list: &[String]| list.iter().filter_map(|text| network(text)).collect();
        FilterRules {
            exclude_endpoints: self.exclude_endpoints.iter().chain(endpoints).copied().collect(),
            exclude_networks: networks(&self.exclude_networks),
            exclude_ports: self.exclude_ports.clone(),
            include_networks: networks(&self.include_networks),
            include_ports: self.include_ports.clone(),
        }
    }

    fn validate(&self) -> Result<(), Invalid> {
        for (key, list) in
            [("exclude_networks", &self.exclude_networks), ("include_networks", &self.include_networks)]
        {
            for text in list {
                text.parse::<Network>().map_err(|error| Invalid::new(["filter", key], error))?;
            }
        }
        Ok(())
    }
}

/// Address and prefix length of a network that [`FilterSettings::validate`] has accepted.
fn network(text: &str) -> Option<(std::net::IpAddr, u8)> {
    let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
    let address: std::net::IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    Some((address, if prefix.is_empty() { longest } else { prefix.parse().ok()? }))
}

/// The section `[limits]`; each is explained at [`Limits`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Connections and UDP flows tracked at once, by each worker.
    pub connections: usize,
    /// Bytes held in all by each worker.
    pub held_bytes: usize,
    /// Bytes that a direction buffers ahead of a hole.
    pub reorder_bytes: usize,
    /// Milliseconds that a hole may wait.
    pub reorder_ms: u64,
    /// Seconds of silence after which a TCP connection is closed.
    pub tcp_idle_seconds: u64,
    /// Seconds of silence after which a UDP flow is closed.
    pub udp_idle_seconds: u64,
}

impl Default for LimitSettings {
    fn default() -> Self {
        let limits = Limits::default();
        let number = |micros: i64, unit: i64| u64::try_from(micros / unit).unwrap_or(0);
        Self {
            connections: limits.connections,
            held_bytes: limits.held_bytes,
            reorder_bytes: limits.reorder_bytes,
            reorder_ms: number(limits.reorder_time, 1_000),
            tcp_idle_seconds: number(limits.tcp_idle_time, 1_000_000),
            udp_idle_seconds: number(limits.udp_idle_time, 1_000_000),
        }
    }
}

impl LimitSettings {
    /// The core's limits.
    #[must_use]
    pub fn core(&self) -> Limits {
        let micros = |number: u64, unit: i64| i64::try_from(number).unwrap_or(i64::MAX).saturating_mul(unit);
        Limits {
            connections: self.connections,
            held_bytes: self.held_bytes,
            reorder_bytes: self.reorder_bytes,
            reorder_time: micros(self.reorder_ms, 1_000),
            tcp_idle_time: micros(self.tcp_idle_seconds, 1_000_000),
            udp_idle_time: micros(self.udp_idle_seconds, 1_000_000),
            ..Limits::default()
        }
    }
}

/// The section `[flush]`: a run becomes a record at the first of these, or at the connection's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlushSettings {
    /// Bytes of a run.
    pub bytes: usize,
    /// Milliseconds of capture time.
    pub time_ms: u64,
}

impl Default for FlushSettings {
    fn default() -> Self {
        Self { bytes: FlushConfig::default().bytes, time_ms: 20 }
    }
}

impl FlushSettings {
    /// The core's setting.
    #[must_use]
    pub fn core(&self) -> FlushConfig {
        let time = i64::try_from(self.time_ms).unwrap_or(i64::MAX).saturating_mul(1_000);
        FlushConfig { bytes: self.bytes, time }
    }
}

/// The section `[buffer]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BufferSettings {
    /// Bytes of segments that wait while Kafka is slow or gone. When they are reached, a live capture drops the bytes of
    /// new runs, each as a gap; reading a file waits.
    pub bytes: usize,
    /// Bytes handed to librdkafka and not yet confirmed. Below `queue.buffering.max.kbytes`.
    pub window_bytes: usize,
}

impl Default for BufferSettings {
    fn default() -> Self {
        let SinkConfig { buffer_bytes, window_bytes } = SinkConfig::default();
        Self { bytes: buffer_bytes, window_bytes }
    }
}

impl BufferSettings {
    /// The sink's setting.
    #[must_use]
    pub const fn sink(&self) -> SinkConfig {
        SinkConfig { buffer_bytes: self.bytes, window_bytes: self.window_bytes }
    }
}

impl Settings for CaptureSettings {
    const SERVICE: &'static str = "capture";

    fn validate(&self) -> Result<(), Invalid> {
        let source = &self.source;
        if !source.files.is_empty() && !source.interfaces.is_empty() {
            return Err(Invalid::new(["source", "interfaces"], "give files or interfaces, not both"));
        }
        if !source.speed.is_finite() || source.speed < 0.0 {
            return Err(Invalid::new(["source", "speed"], "must be 0 (flat out) or a positive number"));
        }
        for (key, zero) in [
            ("loops", source.loops == 0),
            ("rings", source.rings == 0),
            ("block_timeout_ms", source.block_timeout_ms == 0),
            ("snapshot_bytes", source.snapshot_bytes == 0),
        ] {
            if zero {
                return Err(Invalid::new(["source", key], "must be at least 1"));
            }
        }
        if source.loops > 1 && source.files.iter().any(|file| file.as_os_str() == "-") {
            return Err(Invalid::new(["source", "loops"], "standard input can be read only once"));
        }
        if !(1..=86_400).contains(&self.agent.heartbeat_seconds) {
            return Err(Invalid::new(["agent", "heartbeat_seconds"], "must be between 1 and 86400"));
        }
        if self.flush.bytes == 0 || self.flush.bytes > FlushConfig::LARGEST_BYTES {
            let rule = format!("must be between 1 and {}", FlushConfig::LARGEST_BYTES);
            return Err(Invalid::new(["flush", "bytes"], rule));
        }
        self.filter.validate()?;
        self.telemetry.validate()?;
        self.kafka.validate().map_err(|error| Invalid::new(["kafka"], error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_capture_on_all_interfaces() {
        let settings = CaptureSettings::default();
        assert!(settings.validate().is_ok());
        let live = settings.source.live(&FilterRules::default());
        assert_eq!(live.iter().map(|config| config.interface.as_str()).collect::<Vec<_>>(), [ANY]);
        assert_eq!(settings.limits.core(), Limits::default());
        assert_eq!(settings.flush.core(), FlushConfig::default());
    }

    #[test]
    fn with_files_nothing_is_captured_live() {
        let source = SourceSettings { files: vec!["a.pcap".into()], ..SourceSettings::default() };
        assert!(source.live(&FilterRules::default()).is_empty());
    }

    #[test]
    fn core_and_kernel_get_the_same_rules() {
        let filter = FilterSettings {
            exclude_endpoints: vec!["[::ffff:10.0.0.1]:1".parse().unwrap()],
            include_networks: vec!["10.0.0.0/8".to_owned(), "fd00::1".to_owned()],
            exclude_ports: vec![22],
            ..FilterSettings::default()
        };
        assert!(filter.validate().is_ok());
        let more = ["10.0.0.2:2".parse().unwrap()];
        let (core, kernel) = (filter.core(&more), filter.kernel(&more));
        let endpoint = |text: &str| {
            let address: SocketAddr = text.parse().unwrap();
            Endpoint { address: address.ip(), port: address.port() }
        };
        assert!(core.exclude_endpoints.contains(&endpoint("10.0.0.1:1")));
        assert!(core.exclude_endpoints.contains(&endpoint("10.0.0.2:2")));
        assert_eq!(kernel.exclude_endpoints.len(), 2);
        assert_eq!(core.include_networks.len(), 2);
        let networks = [("10.0.0.0".parse().unwrap(), 8), ("fd00::1".parse().unwrap(), 128)];
        assert_eq!(kernel.include_networks, networks);
        assert_eq!((core.exclude_ports, kernel.exclude_ports), (vec![22], vec![22]));
    }
}
