//! The dissector from its configuration to its exit code.

use std::sync::Arc;

use anyhow::Context;
use wirecall_bus::topics::{self, TopicSpec};
use wirecall_bus::{BusError, Category, Metrics, Pipeline};
use wirecall_schemas::topic::Topic;
use wirecall_service::config::{self, ConfigArguments, Settings};
use wirecall_service::drain::Shutdown;
use wirecall_service::exit::{Exit, WithExit};
use wirecall_service::health::{Health, HealthServer};
use wirecall_service::telemetry::{Service, Telemetry};

use crate::config::DissectorSettings;
use crate::dissection::Dissection;
use crate::metrics::{self, Board};

/// Reads segments from Kafka, and sends the calls in them back to it.
#[derive(Debug, clap::Parser)]
#[command(name = "wirecall-dissector", version)]
pub struct Arguments {
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigArguments,
}

/// Runs the dissector until a signal.
///
/// # Errors
/// What stopped it, with its exit code.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Some(settings) = config::load::<DissectorSettings>(&arguments.config)? else { return Ok(()) };
    let service = Service {
        name: DissectorSettings::SERVICE,
        version: env!("CARGO_PKG_VERSION"),
        instance: settings.kafka.instance(),
    };
    let telemetry = Telemetry::start(&settings.telemetry, &service).exit(Exit::Config)?;
    let shutdown = Shutdown::on_signals(settings.drain).context("the signal handlers cannot be set")?;
    run_with(&settings, &telemetry, &shutdown)
}

/// Runs the dissector with telemetry and signals of the caller's.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    settings: &DissectorSettings,
    telemetry: &Telemetry,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let health = Health::new(&settings.health);
    let ready = health.condition("consuming");
    let _server = HealthServer::start(&settings.health, health.clone(), telemetry.registry())
        .exit(Exit::Unavailable)?;
    let board = Arc::new(Board::default());
    metrics::register(telemetry.metrics(), &board);
    let bus_metrics = Arc::new(Metrics::default());
    bus_metrics.register(telemetry.metrics().meter(), DissectorSettings::SERVICE);
    let mut dissection = prepare(settings, &board)?;
    let mut pipeline = pipeline(settings, bus_metrics)?;
    ready.set(true);
    let outcome = pipeline.run(&mut dissection, &|| {
        health.beat();
        shutdown.is_requested()
    });
    ready.set(false);
    bus(outcome)
}

/// Topics first: that finds out whether the brokers can be reached at all.
fn prepare(settings: &DissectorSettings, board: &Arc<Board>) -> anyhow::Result<Dissection> {
    let config = settings.bus();
    let needed = [Topic::Segments, Topic::Calls, Topic::DeadLetters];
    bus(topics::prepare(&config, &needed.map(|topic| TopicSpec::of(&config, topic))))?;
    let registry = settings.dissection.registry().exit(Exit::Config)?;
    let (limits, records) = (settings.limits.core(), settings.dissection.connection_records());
    bus(Dissection::new(registry, limits, records, &config, Arc::clone(board)))
}

fn pipeline(settings: &DissectorSettings, metrics: Arc<Metrics>) -> anyhow::Result<Pipeline> {
    let config = settings.bus();
    bus(Pipeline::new(&config, &[config.topic(Topic::Segments)], metrics))
}

/// Attaches the exit code of an error of the bus.
fn bus<T>(outcome: Result<T, BusError>) -> anyhow::Result<T> {
    let exit = match outcome.as_ref().map_err(BusError::category) {
        Ok(_) => Exit::Ok,
        Err(Category::Data) => Exit::Data,
        Err(Category::Unavailable) => Exit::Unavailable,
        Err(Category::Software | Category::Fenced) => Exit::Software,
        Err(Category::Permission) => Exit::Permission,
        Err(Category::Configuration) => Exit::Config,
    };
    outcome.exit(exit)
}
