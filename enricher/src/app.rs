//! The parts put together: read the configuration, prepare the topics, run the role, drain, end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use wirecall_bus::topics::{TopicSpec, prepare};
use wirecall_bus::{BusError, Category, Metrics as BusMetrics, Pipeline};
use wirecall_enricher_core::Enricher;
use wirecall_enricher_core::identity::history::History;
use wirecall_schemas::topic::Topic;
use wirecall_service::config::{self, ConfigArguments};
use wirecall_service::drain::Shutdown;
use wirecall_service::exit::{Exit, WithExit as _};
use wirecall_service::health::{Health, HealthServer};
use wirecall_service::telemetry::{Service, Telemetry};

use crate::config::{Config, IdentitySource, Role};
use crate::metrics::{EnricherMetrics, WatcherMetrics};
use crate::sink::identities::IdentityWriter;
use crate::source::file::load_file;
use crate::source::kafka::{Change, Feed, FeedError, read_history};
use crate::source::kubernetes::{Cluster, WatchError};
use crate::transform::EnrichTransform;

/// How long the last records of the history may take to be delivered.
const FLUSH: Duration = Duration::from_secs(10);

/// How often a quiet watcher says that it is alive and looks at its producer.
const BEAT: Duration = Duration::from_secs(1);

/// Turns calls into API events, or a cluster's objects into the identity history
#[derive(Debug, clap::Parser)]
#[command(name = "wirecall-enricher", version)]
pub struct Arguments {
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigArguments,
    /// What this process does; the same as --set role=ROLE
    #[arg(long, value_enum)]
    pub role: Option<Role>,
    /// Identities from this file; the same as --set identities.source=file with identities.file
    #[arg(long, value_name = "FILE")]
    pub identities: Option<PathBuf>,
}

/// Runs the program until it is asked to end.
///
/// # Errors
/// Whatever keeps it from its work, with the exit code attached.
pub fn run(mut arguments: Arguments) -> anyhow::Result<()> {
    if let Some(role) = arguments.role {
        let role = if role == Role::Both {
            "both"
        } else if role.watches() {
            "watcher"
        } else {
            "enricher"
        };
        arguments.config.set.push(format!("role={role}"));
    }
    if let Some(file) = &arguments.identities {
        arguments.config.set.push("identities.source=file".to_owned());
        arguments.config.set.push(format!("identities.file={}", file.display()));
    }
    let Some(config) = config::load::<Config>(&arguments.config)? else { return Ok(()) };
    let service =
        Service { name: "enricher", version: env!("CARGO_PKG_VERSION"), instance: config.kafka.instance() };
    let telemetry = Telemetry::start(&config.telemetry, &service)?;
    let shutdown = Shutdown::on_signals(config.drain).context("watch for signals")?;
    let health = Health::new(&config.health);
    let app = App::new(config, &telemetry, health.clone(), shutdown);
    let _server = HealthServer::start(&app.config.health, health, telemetry.registry())?;
    app.run()
}

/// The roles of one process and what they share.
struct App {
    config: Config,
    bus_metrics: Arc<BusMetrics>,
    enricher_metrics: EnricherMetrics,
    watcher_metrics: WatcherMetrics,
    health: Health,
    shutdown: Shutdown,
}

impl App {
    fn new(config: Config, telemetry: &Telemetry, health: Health, shutdown: Shutdown) -> Self {
        let metrics = telemetry.metrics();
        let bus_metrics = Arc::new(BusMetrics::default());
        bus_metrics.register(metrics.meter(), "enricher");
        Self {
            config,
            bus_metrics,
            enricher_metrics: EnricherMetrics::new(metrics),
            watcher_metrics: WatcherMetrics::new(metrics),
            health,
            shutdown,
        }
    }

    fn run(&self) -> anyhow::Result<()> {
        prepare(&self.config.kafka, &self.topics()).map_err(bus_error)?;
        match self.config.role {
            Role::Enricher => self.enrich(),
            Role::Watcher => self.watch(),
            Role::Both => self.both(),
        }
    }

    /// The topics that the role reads and writes.
    fn topics(&self) -> Vec<TopicSpec> {
        let config = &self.config.kafka;
        let mut specs = vec![TopicSpec::of(config, Topic::Identities)];
        if self.config.role.enriches() {
            let own = [Topic::Calls, Topic::ApiEvents, Topic::DeadLetters];
            specs.extend(own.map(|topic| TopicSpec::of(config, topic)));
            for route in &self.config.routes {
                // A further topic is a topic of events under another name.
                let spec = TopicSpec { name: route.topic.clone(), ..TopicSpec::of(config, Topic::ApiEvents) };
                if !specs.iter().any(|other| other.name == spec.name) {
                    specs.push(spec);
                }
            }
        }
        specs
    }

    /// Both roles; when one fails the other ends too.
    fn both(&self) -> anyhow::Result<()> {
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let outcome = self.watch();
                self.shutdown.request();
                outcome
            });
            let outcome = self.enrich();
            self.shutdown.request();
            let watched = watcher.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the watcher panicked")));
            outcome.and(watched)
        })
    }

    fn enrich(&self) -> anyhow::Result<()> {
        let ready = self.health.condition("identities_read");
        let mut enricher = Enricher::new(self.config.enrichment()).exit(Exit::Config)?;
        let feed = self.identities(&mut enricher)?;
        ready.set(true);
        self.enricher_metrics.take_over(&enricher);
        let known = enricher.index().map_or(0, wirecall_enricher_core::Index::len);
        tracing::info!(identities = known, source = ?self.config.identities.source, "enriching");
        let mut transform = EnrichTransform::new(
            &self.config.kafka,
            enricher,
            feed,
            self.enricher_metrics.clone(),
            self.health.clone(),
            self.shutdown.clone(),
        )
        .map_err(bus_error)?;
        let outcome = self.run_pipeline(&mut transform);
        self.shutdown.request();
        if let Some(feed) = transform.into_feed() {
            feed.join();
        }
        outcome
    }

    fn run_pipeline(&self, transform: &mut EnrichTransform) -> anyhow::Result<()> {
        let calls = self.config.kafka.topic(Topic::Calls);
        let metrics = Arc::clone(&self.bus_metrics);
        let mut pipeline = Pipeline::new(&self.config.kafka, &[calls], metrics).map_err(bus_error)?;
        pipeline.run(transform, &|| self.shutdown.is_requested()).map_err(bus_error)
    }

    /// Fills the index from the configured source.
    fn identities(&self, enricher: &mut Enricher) -> anyhow::Result<Option<Feed>> {
        let config = &self.config.identities;
        match (config.source, &config.file) {
            (IdentitySource::File, Some(path)) => {
                let index = enricher.index_mut();
                load_file(path, &config.annotations, |identity| index.apply(identity)).exit(Exit::Data)?;
                Ok(None)
            }
            (IdentitySource::Topic, _) => {
                let limit = Duration::from_secs(config.read_timeout_seconds);
                let index = enricher.index_mut();
                let metrics = &self.enricher_metrics;
                let take = |change: Change| {
                    metrics.identities_read.add(1);
                    if !change.apply(index) {
                        metrics.identities_undecodable.add(1);
                    }
                };
                Feed::start(&self.config.kafka, limit, &self.shutdown, take).map(Some).map_err(feed_error)
            }
            _ => Ok(None),
        }
    }

    fn watch(&self) -> anyhow::Result<()> {
        let ready = self.health.condition("cluster_listed");
        let limit = Duration::from_secs(self.config.identities.read_timeout_seconds);
        let mut history = History::new(self.config.watcher.annotations.clone());
        read_history(&self.config.kafka, limit, |change| {
            if let Change::Record(record) = change {
                history.handle_known(*record);
            }
        })
        .map_err(feed_error)?;
        let writer = IdentityWriter::new(&self.config.kafka, Arc::clone(&self.bus_metrics));
        let mut writer = writer.exit(Exit::Unavailable)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.follow_cluster(&mut history, &mut writer, &ready))?;
        writer.flush(FLUSH).exit(Exit::Unavailable)
    }

    async fn follow_cluster(
        &self,
        history: &mut History,
        writer: &mut IdentityWriter,
        ready: &wirecall_service::health::Condition,
    ) -> anyhow::Result<()> {
        let kubeconfig = self.config.watcher.kubeconfig.as_deref();
        let cluster = Cluster::connect(kubeconfig).await.map_err(watch_error)?;
        tracing::info!(known = history.len(), "watching the cluster");
        let mut changes = cluster.changes();
        loop {
            self.health.beat();
            tokio::select! {
                () = self.shutdown.requested() => return Ok(()),
                () = tokio::time::sleep(BEAT) => writer.check().exit(Exit::Unavailable)?,
                more = changes.next_into(history, &self.watcher_metrics) => {
                    if !more {
                        anyhow::bail!("the API server's watches ended");
                    }
                    while let Some(record) = history.poll_record() {
                        writer.write(&record).await.exit(Exit::Unavailable)?;
                        self.watcher_metrics.records.add(1);
                    }
                    ready.set(changes.all_listed());
                }
            }
        }
    }
}

/// The exit code of an error of the bus.
fn exit_of(error: &BusError) -> Exit {
    match error.category() {
        Category::Data => Exit::Data,
        Category::Unavailable | Category::Fenced => Exit::Unavailable,
        Category::Software => Exit::Software,
        Category::Permission => Exit::Permission,
        Category::Configuration => Exit::Config,
    }
}

fn bus_error(error: BusError) -> anyhow::Error {
    let exit = exit_of(&error);
    coded(error, exit)
}

fn feed_error(error: FeedError) -> anyhow::Error {
    let exit = match &error {
        FeedError::Bus(cause) => exit_of(cause),
        FeedError::Schema(_) => Exit::Software,
        FeedError::TooSlow { .. } | FeedError::Thread(_) => Exit::Unavailable,
    };
    coded(error, exit)
}

fn watch_error(error: WatchError) -> anyhow::Error {
    let exit = match &error {
        WatchError::Kubeconfig { .. } => Exit::Config,
        WatchError::Denied { .. } => Exit::Permission,
        WatchError::Unreachable { .. } => Exit::Unavailable,
    };
    coded(error, exit)
}

/// An error with its exit code.
fn coded(error: impl std::error::Error + Send + Sync + 'static, exit: Exit) -> anyhow::Error {
    let outcome: Result<std::convert::Infallible, _> = Err(error);
    match outcome.exit(exit) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}
