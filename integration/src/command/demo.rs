//! `wirecall demo`: the three services as separate processes, an embedded broker, sample or live traffic, and the API
//! events as they arrive. Ends by itself.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use tempfile::TempDir;
use wirecall_bus::{BusConfig, EmbeddedBroker, StartAt};
use wirecall_schemas::topic::{DEFAULT_PREFIX, Topic};
use wirecall_schemas::{ApiEvent, CallId};
use wirecall_service::drain::{DrainConfig, Shutdown};
use wirecall_service::exit::{Exit, WithExit as _};

use crate::follow::{Follow, Received};
use crate::offline::{self, Options};
use crate::output::{self, Colour, EventWriter, Format};
use crate::services::{Running, Service};

/// The sample traffic, carried by the program itself so that the demo runs from anywhere.
const SAMPLE: &[u8] = include_bytes!("../../cases/http1-shop/input.pcap");
/// Who had which address in it.
const SAMPLE_IDENTITIES: &[u8] = include_bytes!("../../cases/http1-shop/identities.json");
/// Few partitions: the demo has one instance of each service.
const PARTITIONS: i32 = 4;
/// How long the services may take for the sample traffic before something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// Arguments of `wirecall demo`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Capture this interface instead of playing the sample traffic (needs root); on lo, a little traffic is made
    #[arg(long, value_name = "INTERFACE")]
    live: Option<String>,

    /// How long to capture live
    #[arg(long, default_value_t = 30)]
    seconds: u64,

    /// Print JSON lines instead of a table
    #[arg(long)]
    json: bool,

    /// Keep the configuration files and logs of the services
    #[arg(long)]
    keep: bool,
}

/// Runs the demo.
///
/// # Errors
/// A service that cannot be started or ends, events that do not come; with the end of the logs.
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::on_signals(DrainConfig::default()).context("cannot watch for signals")?;
    let mut folder = TempDir::with_prefix("wirecall-demo-").context("cannot make a temporary folder")?;
    folder.disable_cleanup(arguments.keep);
    let stage = Stage::set(folder.path())?;
    say(&format!(
        "embedded broker at {}; configuration and logs in {}",
        stage.bootstrap,
        folder.path().display()
    ));
    let mut screen = Screen::new(arguments.json)?;
    match &arguments.live {
        Some(interface) => {
            live(&stage, interface, Duration::from_secs(arguments.seconds), &shutdown, &mut screen)?
        }
        None => sample(&stage, &shutdown, &mut screen)?,
    }
    Ok(Exit::Ok)
}

/// What stands before the services start: the broker and the files.
struct Stage {
    folder: PathBuf,
    bootstrap: String,
    bus: BusConfig,
    identities: PathBuf,
    capture: PathBuf,
    /// Alive as long as the demo.
    _broker: EmbeddedBroker,
}

impl Stage {
    fn set(folder: &Path) -> anyhow::Result<Self> {
        let broker = EmbeddedBroker::start(PARTITIONS).map_err(crate::exit_of_bus)?;
        let bootstrap = broker.bootstrap_servers().to_owned();
        let (capture, identities) = (folder.join("sample.pcap"), folder.join("identities.json"));
        for (path, bytes) in [(&capture, SAMPLE), (&identities, SAMPLE_IDENTITIES)] {
            std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let bus = BusConfig {
            bootstrap_servers: bootstrap.clone(),
            partitions: PARTITIONS,
            ..BusConfig::default()
        };
        Ok(Self { folder: folder.to_owned(), bootstrap, bus, identities, capture, _broker: broker })
    }

    /// The `[kafka]` section of every service.
    fn kafka(&self) -> String {
        format!(
            "[kafka]\nbootstrap_servers = \"{}\"\npartitions = {PARTITIONS}\ncommit_interval_ms = 100\n",
            self.bootstrap
        )
    }

    fn start(&self, service: Service, name: &str, sections: &str) -> anyhow::Result<Running> {
        let health = "[health]\nlisten = \"127.0.0.1:0\"\n";
        Running::start(service, name, &format!("{sections}\n{}\n{health}", self.kafka()), &self.folder)
    }

    fn start_consumers(&self) -> anyhow::Result<Vec<Running>> {
        let identities =
            format!("[identities]\nsource = \"file\"\nfile = \"{}\"\n", self.identities.display());
        Ok(vec![
            self.start(Service::Dissector, "dissector", "")?,
            self.start(Service::Enricher, "enricher", &identities)?,
        ])
    }

    fn follow(&self) -> anyhow::Result<Follow<ApiEvent>> {
        Follow::new(&self.bus, &Topic::ApiEvents.full_name(DEFAULT_PREFIX), StartAt::Beginning)
    }
}

/// Where events are shown.
struct Screen {
    writer: Box<dyn EventWriter>,
    shown: u64,
    by_protocol: BTreeMap<String, u64>,
}

impl Screen {
    fn new(json: bool) -> anyhow::Result<Self> {
        let colour = if io::stdout().is_terminal() { Colour::On } else { Colour::Off };
        let format = if json { Format::Jsonl } else { Format::Table };
        let writer = output::writer(format, colour, io::stdout())?;
        Ok(Self { writer, shown: 0, by_protocol: BTreeMap::new() })
    }

    fn show(&mut self, event: &ApiEvent) -> anyhow::Result<()> {
        self.writer.write(event)?;
        self.shown += 1;
        *self.by_protocol.entry(event.protocol.to_string()).or_default() += 1;
        Ok(())
    }

    fn summary(&self) -> String {
        let protocols: Vec<_> =
            self.by_protocol.iter().map(|(protocol, count)| format!("{count} {protocol}")).collect();
        format!("{} API events ({})", self.shown, protocols.join(", "))
    }
}

/// Diagnostics go to standard error, so that the events alone can be piped on.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "demo: {text}");
}

/// Plays the sample traffic; done when every call that `wirecall replay` finds in it has arrived.
fn sample(stage: &Stage, shutdown: &Shutdown, screen: &mut Screen) -> anyhow::Result<()> {
    let mut expected = expected(stage)?;
    say(&format!("playing the sample traffic: {} API events are to come", expected.len()));
    let mut services = stage.start_consumers()?;
    let source = format!("[agent]\nid = \"demo\"\n[source]\nfiles = [\"{}\"]\n", stage.capture.display());
    let mut capture = stage.start(Service::Capture, "capture", &source)?;
    let mut follow = stage.follow()?;
    let mut equal = 0;
    let total = expected.len();
    let deadline = Instant::now() + PATIENCE;
    while !expected.is_empty() && !shutdown.is_requested() {
        match next(&mut follow, &mut services)? {
            Some(event) => {
                screen.show(&event)?;
                if let Some(offline) = expected.remove(&event.call_id) {
                    equal += usize::from(is_same(&offline, &event));
                }
            }
            None if Instant::now() > deadline => return Err(late(&services, &capture, expected.len())),
            None => {}
        }
    }
    if shutdown.is_requested() {
        bail!("interrupted");
    }
    let status = capture.wait(PATIENCE)?;
    if !status.success() {
        bail!("the capture agent ended with {status}:\n{}", capture.log_tail());
    }
    stop(services)?;
    say(&format!("{}; {equal} of {total} equal to `wirecall replay` in every field", screen.summary()));
    if equal != total {
        return Err(anyhow::anyhow!("events of the services and of `wirecall replay` differ"))
            .exit(Exit::Software);
    }
    say("next: wirecall replay FILE.pcap            API events of your own capture");
    say("      wirecall demo --live lo              live traffic of this machine (root)");
    say("      wirecall tail --bootstrap HOST:PORT  follow a cluster's api-events topic");
    say("      deploy/helm/wirecall                 the Helm chart");
    Ok(())
}

/// What the offline pipeline makes of the sample.
fn expected(stage: &Stage) -> anyhow::Result<BTreeMap<CallId, ApiEvent>> {
    let mut options = Options { identities: Some(stage.identities.clone()), ..Options::default() };
    options.capture.partitions = PARTITIONS;
    options.capture.agent_id = "demo".into();
    let mut events = BTreeMap::new();
    offline::replay(&stage.capture, &options, |event| {
        events.insert(event.call_id, event.clone());
        Ok(())
    })?;
    Ok(events)
}

/// Equal but for the place in the log, which a file does not have.
fn is_same(offline: &ApiEvent, event: &ApiEvent) -> bool {
    let mut event = event.clone();
    offline::forget_log_position(&mut event);
    let mut offline = offline.clone();
    offline::forget_log_position(&mut offline);
    offline == event
}

/// Captures an interface for a while.
fn live(
    stage: &Stage,
    interface: &str,
    time: Duration,
    shutdown: &Shutdown,
    screen: &mut Screen,
) -> anyhow::Result<()> {
    let mut services = stage.start_consumers()?;
    let source = format!("[agent]\nid = \"demo\"\n[source]\ninterfaces = [\"{interface}\"]\n");
    services.push(stage.start(Service::Capture, "capture", &source)?);
    say(&format!("capturing {interface} for {} s; Ctrl-C ends", time.as_secs()));
    let traffic = (interface == "lo").then(Traffic::start).transpose()?;
    let mut follow = stage.follow()?;
    let deadline = Instant::now() + time;
    while Instant::now() < deadline && !shutdown.is_requested() {
        if let Some(event) = next(&mut follow, &mut services)? {
            screen.show(&event)?;
        }
    }
    drop(traffic);
    let capture = services.pop();
    stop(capture.into_iter().collect())?;
    // What the agent closed at its end still has to come through.
    let rest = Instant::now() + Duration::from_secs(3);
    while Instant::now() < rest {
        if let Some(event) = next(&mut follow, &mut services)? {
            screen.show(&event)?;
        }
    }
    stop(services)?;
    say(&screen.summary());
    Ok(())
}

/// The next event; fails when a service has died.
fn next(follow: &mut Follow<ApiEvent>, services: &mut [Running]) -> anyhow::Result<Option<ApiEvent>> {
    /// Short enough to notice a dead service and Ctrl-C.
    const LIMIT: Duration = Duration::from_millis(200);
    for service in services {
        service.check()?;
    }
    match follow.next(LIMIT)? {
        None => Ok(None),
        Some(Received::Record(event)) => Ok(Some(*event)),
        Some(Received::Undecodable { partition, offset, error }) => {
            bail!("the record at partition {partition}, offset {offset} is no API event: {error}")
        }
    }
}

fn late(services: &[Running], capture: &Running, missing: usize) -> anyhow::Error {
    let mut text = format!("{missing} events did not come within {} s", PATIENCE.as_secs());
    for service in services.iter().chain([capture]) {
        text.push_str("\n--\n");
        text.push_str(&service.log_tail());
    }
    anyhow::anyhow!(text)
}

fn stop(services: Vec<Running>) -> anyhow::Result<()> {
    for mut service in services {
        let status = service.terminate(PATIENCE)?;
        if !status.success() {
            bail!("a service ended with {status}:\n{}", service.log_tail());
        }
    }
    Ok(())
}

/// A tiny HTTP server and its client on the loopback interface, a call each second, so that a quiet machine shows
/// something.
struct Traffic {
    stop: Arc<AtomicBool>,
    client: Option<std::thread::JoinHandle<()>>,
}

impl Traffic {
    fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on the loopback interface")?;
        let address = listener.local_addr().context("cannot tell the port")?;
        say(&format!("making a call a second to a small server at {address}"));
        let stop = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&stop);
        let client = std::thread::Builder::new()
            .name("demo-traffic".to_owned())
            .spawn(move || {
                let mut number = 0_u32;
                while !ending.load(Ordering::Relaxed) {
                    // A failed call is traffic too; the next one follows.
                    let _ = exchange(&listener, &address, number);
                    number += 1;
                    std::thread::park_timeout(Duration::from_secs(1));
                }
            })
            .context("cannot start a thread")?;
        Ok(Self { stop, client: Some(client) })
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(client) = self.client.take() {
            client.thread().unpark();
            let _ = client.join();
        }
    }
}

/// One call, both ends in one thread: the kernel's socket buffers hold the few bytes.
fn exchange(listener: &TcpListener, address: &std::net::SocketAddr, number: u32) -> io::Result<()> {
    use std::io::Read as _;
    let mut client = TcpStream::connect(address)?;
    let (mut server, _) = listener.accept()?;
    client.set_read_timeout(Some(Duration::from_secs(2)))?;
    server.set_read_timeout(Some(Duration::from_secs(2)))?;
    let request = format!("GET /demo/{number} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes())?;
    let mut buffer = [0; 1024];
    let _ = server.read(&mut buffer)?;
    let body = format!("{{\"number\":{number}}}");
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
    server.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
    drop(server);
    while client.read(&mut buffer)? > 0 {}
    Ok(())
}
