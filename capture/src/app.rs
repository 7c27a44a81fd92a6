//! The agent from its configuration to its exit code.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context;
use wirecall_bus::{
    Category,
    topics::{self, TopicSpec},
};
use wirecall_capture_core::CaptureConfig;
use wirecall_schemas::{ByteString, CaptureMethod, Timestamp, VantageKind, topic::Topic};
use wirecall_service::{
    config::{self, ConfigArguments},
    drain::Shutdown,
    exit::{Exit, WithExit},
    health::{Health, HealthServer},
    telemetry::{Service, Telemetry},
};

use crate::{
    board::Board,
    config::CaptureSettings,
    exclusion,
    heartbeat::{Identity, heartbeat},
    metrics,
    sink::{Sink, SinkError},
    source::{
        af_packet::{AfPacket, AfPacketError},
        pcap::PcapError,
        playback::{FileError, Playback},
    },
    worker::{Live, Worker, WorkerError, now},
};

/// How often the main loop looks around.
const TURN: Duration = Duration::from_millis(100);

/// How long before the drain's deadline the sink gives up, so that there is time to say so: at the deadline itself the
/// process is ended from outside. At most a quarter of the drain.
const TIME_TO_TELL: Duration = Duration::from_secs(2);

/// Captures the packets of a node, or reads capture files, and sends what they carry to Kafka as segments.
#[derive(Debug, clap::Parser)]
#[command(name = "wirecall-capture", version)]
pub struct Arguments {
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigArguments,
}

/// Runs the agent: to the end of its files, or to a signal.
///
/// # Errors
/// What stopped it, with its exit code.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Some(settings) = config::load::<CaptureSettings>(&arguments.config)? else { return Ok(()) };
    let service =
        Service { name: "capture", version: env!("CARGO_PKG_VERSION"), instance: settings.agent.id() };
    let telemetry = Telemetry::start(&settings.telemetry, &service).exit(Exit::Config)?;
    let shutdown = Shutdown::on_signals(settings.drain).context("the signal handlers cannot be set")?;
    run_with(&settings, &telemetry, &shutdown)
}

/// Runs the agent with telemetry and signals of the caller's.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    settings: &CaptureSettings,
    telemetry: &Telemetry,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let health = Health::new(&settings.health);
    let ready = health.condition("capturing");
    let _server = HealthServer::start(&settings.health, health.clone(), telemetry.registry())
        .exit(Exit::Unavailable)?;
    let sink = start_sink(settings, telemetry)?;
    let crew = Crew::start(settings, &sink, shutdown)?;
    metrics::register(telemetry.metrics(), &crew.board, &sink);
    ready.set(true);
    let outcome = crew.watch(settings, &sink, shutdown, &health);
    ready.set(false);
    outcome
}

fn start_sink(settings: &CaptureSettings, telemetry: &Telemetry) -> anyhow::Result<Arc<Sink>> {
    let bus = &settings.kafka;
    let specs = [Topic::Segments, Topic::Agents].map(|topic| TopicSpec::of(bus, topic));
    sunk(topics::prepare(bus, &specs).map_err(SinkError::Bus))?;
    let bus_metrics = Arc::new(wirecall_bus::Metrics::default());
    bus_metrics.register(telemetry.metrics().meter(), "capture");
    Ok(Arc::new(sunk(Sink::start(settings.buffer.sink(), bus, bus_metrics))?))
}

/// The workers and what is known of them.
struct Crew {
    workers: Vec<JoinHandle<Result<(), WorkerError>>>,
    board: Arc<Board>,
    identity: Identity,
}

impl Crew {
    fn start(settings: &CaptureSettings, sink: &Arc<Sink>, shutdown: &Shutdown) -> anyhow::Result<Self> {
        if settings.source.files.is_empty() {
            Self::start_live(settings, sink, shutdown)
        } else {
            Self::start_files(settings, sink, shutdown)
        }
    }

    fn start_files(
        settings: &CaptureSettings,
        sink: &Arc<Sink>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        let board = Arc::new(Board::new(1));
        let identity = identity(settings, CaptureMethod::Pcap, 0, Vec::new());
        let source = &settings.source;
        let playback = Playback::new(source.files.clone(), source.loops, source.speed);
        let worker = worker(0, settings, &identity, &[], (sink, &board, shutdown));
        let workers = vec![spawn("reader".to_owned(), move || worker.run(playback))?];
        Ok(Self { workers, board, identity })
    }

    fn start_live(settings: &CaptureSettings, sink: &Arc<Sink>, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let servers = settings.kafka.bootstrap_servers.clone();
        let exclusions = exclusion::watch(servers, sink.producer(), shutdown.clone());
        let endpoints = exclusions.endpoints();
        let mut rings = Vec::new();
        for config in settings.source.live(&settings.filter.kernel(&endpoints)) {
            let lag = config.block_timeout * 2;
            let opened = worked(AfPacket::open(&config).map_err(WorkerError::Live))?;
            rings.extend(opened.into_iter().map(|ring| (config.interface.clone(), ring, lag)));
        }
        if rings.iter().any(|(_, ring, _)| !ring.filter_is_complete()) {
            tracing::warn!("the filter has too many rules for the kernel; the agent applies it by itself");
        }
        let mut interfaces: Vec<_> = rings.iter().map(|(name, ..)| ByteString::from(name.clone())).collect();
        interfaces.dedup();
        let identity = identity(settings, CaptureMethod::AfPacket, now().as_micros(), interfaces);
        let board = Arc::new(Board::new(rings.len()));
        let mut workers = Vec::new();
        for (number, (interface, ring, lag)) in rings.into_iter().enumerate() {
            let live = Live { filter: settings.filter.clone(), exclusions: Arc::clone(&exclusions), lag };
            let worker = Worker {
                live: Some(live),
                ..worker(number, settings, &identity, &endpoints, (sink, &board, shutdown))
            };
            workers.push(spawn(format!("{interface}-{number}"), move || worker.run(ring))?);
        }
        tracing::info!(interfaces = ?identity.interfaces, rings = workers.len(), "capturing");
        Ok(Self { workers, board, identity })
    }

    /// Waits for the workers, with heartbeats; then delivers what is left.
    fn watch(
        mut self,
        settings: &CaptureSettings,
        sink: &Sink,
        shutdown: &Shutdown,
        health: &Health,
    ) -> anyhow::Result<()> {
        let interval = Duration::from_secs(settings.agent.heartbeat_seconds);
        // However short the work is, its start is on the record.
        self.send_heartbeat(sink, false)?;
        let mut next_heartbeat = Instant::now() + interval;
        while self.workers.iter().any(|worker| !worker.is_finished()) {
            health.beat();
            if Instant::now() >= next_heartbeat {
                next_heartbeat += interval;
                self.send_heartbeat(sink, false)?;
            }
            let one_of_several = self.workers.len() > 1 && self.workers.iter().any(JoinHandle::is_finished);
            if one_of_several || !sink.is_working() {
                // One worker less, or nobody to send to: the rest ends too, and the reason is told below.
                shutdown.request();
            }
            self.wait_a_turn(shutdown);
        }
        let ended = self.join();
        let patience = Duration::from_secs(settings.drain.deadline_seconds);
        let time_to_tell = TIME_TO_TELL.min(patience / 4);
        let sent = sink.finish(patience, || {
            health.beat();
            shutdown.deadline().and_then(|deadline| deadline.checked_sub(time_to_tell))
        });
        self.send_heartbeat(sink, true)?;
        sink.flush(time_to_tell / 4);
        // A sink that failed stops the workers, so its reason is the first one.
        let counts = sunk(sent)?;
        tracing::info!(records = counts.delivered.records, bytes = counts.delivered.bytes, "all delivered");
        ended
    }

    /// Until something may have changed. A signal is noticed at once; the end of a worker within a turn.
    fn wait_a_turn(&self, shutdown: &Shutdown) {
        if shutdown.is_requested() {
            thread::park_timeout(TURN);
        } else {
            shutdown.wait(TURN);
        }
    }

    fn join(&mut self) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        for worker in self.workers.drain(..) {
            let ended = match worker.join() {
                Ok(ended) => worked(ended),
                Err(_panic) => {
                    Err(anyhow::anyhow!("a worker ended by a defect; please report it with the log"))
                }
            };
            outcome = outcome.and(ended);
        }
        outcome
    }

    fn send_heartbeat(&self, sink: &Sink, stopping: bool) -> anyhow::Result<()> {
        let time = match self.identity.capture_method {
            CaptureMethod::Pcap => {
                self.board.snapshots().iter().filter_map(|worker| worker.time).max().unwrap_or(now())
            }
            _ => now(),
        };
        self.heartbeat_at(sink, time, stopping)
    }

    fn heartbeat_at(&self, sink: &Sink, time: Timestamp, stopping: bool) -> anyhow::Result<()> {
        let counts = sink.counts();
        let agent = heartbeat(&self.identity, &self.board, &counts, sink.progress(), time, stopping);
        sunk(sink.send_heartbeat(&agent))
    }
}

fn identity(
    settings: &CaptureSettings,
    capture_method: CaptureMethod,
    agent_epoch: i64,
    interfaces: Vec<ByteString>,
) -> Identity {
    Identity {
        agent_id: settings.agent.id().into(),
        agent_epoch,
        node: settings.agent.node().into(),
        capture_method,
        interfaces,
    }
}

fn worker(
    number: usize,
    settings: &CaptureSettings,
    identity: &Identity,
    endpoints: &[std::net::SocketAddr],
    (sink, board, shutdown): (&Arc<Sink>, &Arc<Board>, &Shutdown),
) -> Worker {
    let config = CaptureConfig {
        agent_id: identity.agent_id.clone(),
        agent_epoch: identity.agent_epoch,
        partitions: settings.kafka.partitions,
        capture_method: identity.capture_method,
        vantage: VantageKind::Unknown,
        limits: settings.limits.core(),
        filter: settings.filter.core(endpoints),
        flush: settings.flush.core(),
    };
    let (sink, board, shutdown) = (Arc::clone(sink), Arc::clone(board), shutdown.clone());
    Worker { number, config, sink, board, shutdown, live: None }
}

fn spawn(
    name: String,
    work: impl FnOnce() -> Result<(), WorkerError> + Send + 'static,
) -> anyhow::Result<JoinHandle<Result<(), WorkerError>>> {
    thread::Builder::new().name(name).spawn(work).context("a worker's thread cannot be started")
}

/// Attaches the exit code of a sink's error.
fn sunk<T>(outcome: Result<T, SinkError>) -> anyhow::Result<T> {
    let exit = match &outcome {
        Ok(_) => Exit::Ok,
        Err(error) => match error.category() {
            Category::Data => Exit::Data,
            Category::Unavailable => Exit::Unavailable,
            Category::Software | Category::Fenced => Exit::Software,
            Category::Permission => Exit::Permission,
            Category::Configuration => Exit::Config,
        },
    };
    outcome.exit(exit)
}

/// Attaches the exit code of a worker's error.
fn worked<T>(outcome: Result<T, WorkerError>) -> anyhow::Result<T> {
    let exit = match &outcome {
        Ok(_) => Exit::Ok,
        // The operating system's answer is further down the chain, and has a code of its own.
        Err(WorkerError::File(FileError {
            cause: PcapError::Open { .. } | PcapError::Read { .. }, ..
        })) => {
            return outcome.map_err(Into::into);
        }
        Err(WorkerError::File(_)) => Exit::Data,
        Err(WorkerError::Interrupted { .. }) => Exit::Unavailable,
        Err(WorkerError::Live(AfPacketError::NotPermitted)) => Exit::Permission,
        Err(WorkerError::Live(AfPacketError::NoInterface { .. } | AfPacketError::InterfaceName { .. })) => {
            Exit::Config
        }
        Err(WorkerError::Live(_)) => Exit::Unavailable,
    };
    outcome.exit(exit)
}
