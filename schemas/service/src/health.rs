//! `/healthz`, `/readyz` and `/metrics` over HTTP, on a thread of its own so that a busy or hung main loop cannot
//! hold up the answer that says so.

use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus::{Encoder as _, TextEncoder};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::oneshot;

/// The section `[health]` of every service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Seconds without a beat of the main loop after which `/healthz` says 503.
    pub stall_seconds: u64,
    /// File that gets the bound address when the server is up, for scripts that asked for port 0.
    pub port_file: Option<PathBuf>,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([0, 0, 0, 0], 9464)), stall_seconds: 60, port_file: None }
    }
}

/// A health server that cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HealthError {
    /// The address cannot be bound.
    #[error("health.listen {address} cannot be bound: free the port, or choose another (0 takes a free one)")]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file with the bound address cannot be written.
    #[error("health.port_file {path} cannot be written", path = path.display())]
    PortFile {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// No thread or no event loop.
    #[error("the health server cannot be started")]
    Start(#[source] io::Error),
}

/// What the service says about itself; clones share one state.
#[derive(Clone, Debug)]
pub struct Health {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    /// Milliseconds from `started` to the last beat.
    last_beat: AtomicU64,
    stall: Duration,
    conditions: Mutex<Vec<Condition>>,
}

/// Something that must hold before the service is ready. It does not hold until it is set.
#[derive(Clone, Debug)]
pub struct Condition {
    name: &'static str,
    holds: Arc<AtomicBool>,
}

impl Condition {
    /// Says whether it holds.
    pub fn set(&self, holds: bool) {
        if self.holds.swap(holds, Ordering::AcqRel) != holds {
            tracing::info!(condition = self.name, holds, "readiness changed");
        }
    }

    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.holds.load(Ordering::Acquire)
    }
}

impl Health {
    /// A service that has just started: alive, and ready as soon as its conditions hold.
    pub fn new(config: &HealthConfig) -> Self {
        let shared = Shared {
            started: Instant::now(),
            last_beat: AtomicU64::new(0),
            stall: Duration::from_secs(config.stall_seconds),
            conditions: Mutex::new(Vec::new()),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Says that the main loop goes round. Cheap enough for every turn.
    pub fn beat(&self) {
        let passed = u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shared.last_beat.fetch_max(passed, Ordering::Relaxed);
    }

    /// Adds a condition of readiness, as `kafka_assigned` or `identities_read`.
    pub fn condition(&self, name: &'static str) -> Condition {
        let condition = Condition { name, holds: Arc::default() };
        self.conditions().push(condition.clone());
        condition
    }

    /// Time since the last beat.
    pub fn since_beat(&self) -> Duration {
        let last = Duration::from_millis(self.shared.last_beat.load(Ordering::Relaxed));
        self.shared.started.elapsed().saturating_sub(last)
    }

    /// Whether the main loop beat lately.
    pub fn is_alive(&self) -> bool {
        self.since_beat() <= self.shared.stall
    }

    /// Whether every condition holds.
    pub fn is_ready(&self) -> bool {
        self.conditions().iter().all(Condition::holds)
    }

    fn conditions(&self) -> std::sync::MutexGuard<'_, Vec<Condition>> {
        self.shared.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running HTTP server; dropping it stops it.
#[derive(Debug)]
pub struct HealthServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl HealthServer {
    /// Binds and serves.
    ///
    /// # Errors
    ///
    /// An address that cannot be bound, a port file that cannot be written, no thread.
    pub fn start(
        config: &HealthConfig,
        health: Health,
        registry: prometheus::Registry,
    ) -> Result<Self, HealthError> {
        let bind = |source| HealthError::Bind { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(HealthError::Start)?;
        let (stop, stopped) = oneshot::channel();
        let router = router(health, registry);
        let thread = std::thread::Builder::new()
            .name("health".to_owned())
            .spawn(move || {
                if let Err(error) = runtime.block_on(serve(listener, router, stopped)) {
                    tracing::error!(%error, "health server ended");
                }
            })
            .map_err(HealthError::Start)?;
        let server = Self { address, stop: Some(stop), thread: Some(thread) };
        if let Some(path) = &config.port_file {
            write_whole(path, &format!("{address}\n"))
                .map_err(|source| HealthError::PortFile { path: path.clone(), source })?;
        }
        tracing::info!(%address, "health and metrics are served");
        Ok(server)
    }

    /// The bound address, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HealthServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The receiver is gone only if the server has ended already.
            let _ended = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Writes a file so that a reader sees nothing or all of it.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    std::fs::write(&unfinished, text)?;
    std::fs::rename(&unfinished, path)
}

async fn serve(listener: TcpListener, router: Router, stopped: oneshot::Receiver<()>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let server = axum::serve(listener, router).into_future();
    // Not the graceful way: a scraper that keeps its connection open must not hold up the end of the service.
    tokio::select! {
        ended = server => ended,
        _ = stopped => Ok(()),
    }
}

#[derive(Clone)]
struct Served {
    health: Health,
    registry: prometheus::Registry,
}

fn router(health: Health, registry: prometheus::Registry) -> Router {
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Served { health, registry })
}

async fn alive(State(served): State<Served>) -> (StatusCode, String) {
    let quiet = served.health.since_beat().as_secs();
    if served.health.is_alive() {
        (StatusCode::OK, format!("alive: the main loop beat {quiet} s ago\n"))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("stalled: the main loop has not beaten for {quiet} s\n"))
    }
}

async fn ready(State(served): State<Served>) -> (StatusCode, String) {
    let mut text = String::new();
    let mut all = true;
    for condition in served.health.conditions().iter() {
        let holds = condition.holds();
        all &= holds;
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{} {}", if holds { "ok  " } else { "wait" }, condition.name);
    }
    let status = if all { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{}\n{text}", if all { "ready" } else { "not ready" }))
}

async fn metrics(State(served): State<Served>) -> impl IntoResponse {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&served.registry.gather(), &mut text) {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
