//! The smallest service: what a `main` looks like on this crate. It waits to be told to end.
//!
//! `cargo run -p wirecall-service --example smallest -- --set health.listen=127.0.0.1:0`

use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wirecall_service::config::{self, ConfigArguments, Invalid, Settings};
use wirecall_service::drain::{DrainConfig, Shutdown};
use wirecall_service::exit::{self, Exit, WithExit as _};
use wirecall_service::health::{Health, HealthConfig, HealthServer};
use wirecall_service::telemetry::{Service, Telemetry, TelemetryConfig};

#[derive(clap::Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    health: HealthConfig,
    telemetry: TelemetryConfig,
    drain: DrainConfig,
    /// Never ends its drain, to show the deadline.
    hang: bool,
}

impl Settings for Config {
    const SERVICE: &'static str = "smallest";

    fn validate(&self) -> Result<(), Invalid> {
        self.telemetry.validate()
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Some(config) = config::load::<Config>(&arguments.config)? else { return Ok(()) };
    let service = Service {
        name: Config::SERVICE,
        version: env!("CARGO_PKG_VERSION"),
        instance: std::process::id().to_string(),
    };
    let telemetry = Telemetry::start(&config.telemetry, &service)?;
    let shutdown = Shutdown::on_signals(config.drain)?;
    let health = Health::new(&config.health);
    let running = health.condition("running");
    let _server =
        HealthServer::start(&config.health, health.clone(), telemetry.registry()).exit(Exit::Unavailable)?;
    let turns = telemetry.metrics().counter("loop_turns_total", "Turns of the main loop.");
    running.set(true);
    while config.hang || !shutdown.is_requested() {
        health.beat();
        turns.add(1);
        shutdown.wait(Duration::from_millis(if shutdown.is_requested() { 0 } else { 100 }));
        std::thread::yield_now();
    }
    Ok(())
}

fn main() -> ExitCode {
    exit::run(run)
}
