//! Apache Kafka in KRaft mode: one node or several, each broker and controller in one process.

mod config;
mod runtime;
mod wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use self::config::{ADMINISTRATOR, Options, Ports};
use self::runtime::Runtime;
use crate::process::{Process, run};
use crate::skip::say;
use crate::{cache, maven, ports, scratch};

/// The version that is fetched and run.
pub const VERSION: &str = "4.1.0";

/// Any 16 bytes in unpadded base64 serve: every cluster has its own folders and ports.
const CLUSTER_ID: &str = "d2lyZWNhbGwtdGVzdC0wMQ";

/// Four seconds on an idle machine; two busy cores may take much longer.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A running cluster on 127.0.0.1; its processes and its data go when it is dropped.
#[derive(Debug)]
pub struct KafkaCluster {
    // Declared before the folder, so that the processes are gone when it is removed.
    brokers: Vec<Broker>,
    options: Options,
    runtime: Runtime,
    _folder: TempDir,
}

#[derive(Debug)]
struct Broker {
    ports: Ports,
    properties: PathBuf,
    log: PathBuf,
    process: Process,
}

/// The choices before a cluster is started; made by [`KafkaCluster::builder`].
#[derive(Debug, Clone)]
pub struct KafkaBuilder {
    brokers: usize,
    options: Options,
}

/// Fetches Kafka and makes all that starting it needs, if that is not in the cache.
///
/// # Errors
///
/// If Java, Maven or Maven Central cannot be had.
pub fn prepare() -> Result<()> {
    Runtime::prepare().map(drop)
}

/// Fetches Kafka into the cache if it is not there, and gives its folder.
///
/// # Errors
///
/// If Java, Maven or Maven Central cannot be had.
pub fn fetch() -> Result<PathBuf> {
    cache::ensure("kafka", VERSION, |folder| {
        say(format_args!("wirecall: fetching Apache Kafka {VERSION} from Maven Central (54 MB)"));
        maven::copy_with_dependencies(
            &[
                ("org.apache.kafka", "kafka_2.13", VERSION),
                ("org.apache.kafka", "kafka-tools", VERSION),
                ("org.slf4j", "slf4j-simple", "1.7.36"),
            ],
            folder,
        )
    })
}

impl KafkaBuilder {
    /// The number of brokers (default 1). Every topic gets as many replicas by default.
    #[must_use]
    pub fn brokers(mut self, brokers: usize) -> Self {
        self.brokers = brokers;
        self
    }

    /// Sets a broker property on every broker, over the defaults of this module.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.options.extra.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Opens a second listener, SASL_PLAINTEXT with the mechanism PLAIN, which knows this user.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.options.users.insert(name.to_owned(), password.to_owned());
        self
    }

    /// Turns on the authorizer: through the SASL listener only the user `admin` may do anything, until
    /// [`KafkaCluster::allow`] says more. The listener without SASL stays open to everybody for set-up.
    #[must_use]
    pub fn authorize(mut self) -> Self {
        self.options.authorize = true;
        self
    }

    /// Starts the cluster and waits until every broker knows all of them.
    ///
    /// # Errors
    ///
    /// If Kafka cannot be fetched, or a broker does not become ready; with the tail of its log.
    pub fn start(self) -> Result<KafkaCluster> {
        let runtime = Runtime::prepare()?;
        self.start_on(&runtime.clone(), runtime)
    }

    fn start_on(self, tools: &Runtime, runtime: Runtime) -> Result<KafkaCluster> {
        ensure!(self.brokers > 0, "a cluster has at least one broker");
        let folder = scratch::folder("kafka")?;
        let nodes = (0..self.brokers).map(|_| free_ports()).collect::<Result<Vec<_>>>()?;
        let files: Vec<_> = (0..self.brokers)
            .map(|index| configure(folder.path(), index, &nodes, &self.options))
            .collect::<Result<_>>()?;
        format(tools, &files)?;
        let brokers = files
            .into_iter()
            .zip(nodes)
            .map(|(properties, ports)| Broker::start(&runtime, properties, ports))
            .collect::<Result<Vec<_>>>()?;
        let mut cluster = KafkaCluster { brokers, options: self.options, runtime, _folder: folder };
        cluster.wait_ready(START_LIMIT)?;
        Ok(cluster)
    }
}

impl KafkaCluster {
    /// Starts a cluster with the defaults: no SASL, no authorizer, topics are not made by being used.
    ///
    /// # Errors
    ///
    /// As [`KafkaBuilder::start`].
    pub fn start(brokers: usize) -> Result<Self> {
        Self::builder().brokers(brokers).start()
    }

    /// A cluster with choices.
    pub fn builder() -> KafkaBuilder {
        KafkaBuilder { brokers: 1, options: Options::default() }
    }

    /// `bootstrap.servers` of the listener without encryption and without names.
    pub fn bootstrap(&self) -> String {
        self.addresses(|ports| ports.plain)
    }

    /// `bootstrap.servers` of the SASL listener; none without [`KafkaBuilder::user`].
    pub fn sasl_bootstrap(&self) -> Option<String> {
        (!self.options.users.is_empty()).then(|| self.addresses(|ports| ports.sasl))
    }

    /// The process of the broker with this id (from 1), to freeze, signal or read its log.
    ///
    /// # Errors
    ///
    /// If there is no such broker.
    pub fn broker(&mut self, id: usize) -> Result<&mut Process> {
        Ok(&mut self.node(id)?.process)
    }

    /// Ends the broker with this id (from 1) by SIGKILL. Its data stays.
    ///
    /// # Errors
    ///
    /// If there is no such broker.
    pub fn kill(&mut self, id: usize) -> Result<()> {
        self.broker(id)?.kill9()
    }

    /// Starts a broker that has ended again, on its folder and its ports.
    ///
    /// Returns at once; [`wait_ready`](Self::wait_ready) waits.
    ///
    /// # Errors
    ///
    /// If the broker still runs.
    pub fn restart(&mut self, id: usize) -> Result<()> {
        let runtime = self.runtime.clone();
        let broker = self.node(id)?;
        if broker.process.is_running() {
            bail!("broker {id} still runs: kill it before it is started again");
        }
        broker.process = start_process(&runtime, &broker.properties, &broker.log)?;
        Ok(())
    }

    /// Waits until every running broker answers and knows exactly the running ones.
    ///
    /// # Errors
    ///
    /// If one ends, or `limit` passes; with the tail of its log.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        let mut running: Vec<_> = self
            .brokers
            .iter_mut()
            .filter_map(|broker| broker.process.is_running().then_some(broker))
            .collect();
        let expected = running.len();
        for broker in &mut running {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, broker.ports.plain));
            broker.process.wait_ready(&format!("knowing {expected} brokers"), limit, || {
                let known = wire::known_brokers(address)?;
                ensure!(known == expected, "{known} of {expected} brokers are known");
                Ok(true)
            })?;
        }
        Ok(())
    }

    /// Runs one of Kafka's command line tools by its class name (`org.apache.kafka.tools.TopicCommand`), with
    /// `--bootstrap-server` added, and gives what it printed.
    ///
    /// # Errors
    ///
    /// If it fails; with what it printed.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> Result<String> {
        run(self.tool_command(class)?.args(["--bootstrap-server", &self.bootstrap()]).args(arguments))
    }

    /// A command that will run a class of Kafka's, for tools that name the cluster in another way or read
    /// standard input; arguments can be added.
    ///
    /// # Errors
    ///
    /// If there is no Java.
    pub fn tool_command(&self, class: &str) -> Result<Command> {
        let mut command = self.runtime.command()?;
        // Without the virtual machine's own warnings, which go to standard output.
        command.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Xlog:disable", class]);
        Ok(command)
    }

    /// Lets a user do these operations (`Read`, `Write`, `Describe`, `Create`, …) on a resource, given as the
    /// command line tool spells it: `["--topic", "calls"]`, `["--group", "*"]`, `["--transactional-id", "*"]`, `["--cluster"]`.
    ///
    /// # Errors
    ///
    /// If the cluster has no authorizer or refuses.
    pub fn allow(&self, user: &str, operations: &[&str], resource: &[&str]) -> Result<()> {
        ensure!(self.options.authorize, "the cluster has no authorizer: add .authorize() to its builder");
        let principal = format!("User:{user}");
        let mut arguments = vec!["--add", "--allow-principal", &principal];
        for operation in operations {
            arguments.extend(["--operation", operation]);
        }
        arguments.extend(resource);
        self.tool("org.apache.kafka.tools.AclCommand", &arguments)?;
        Ok(())
    }

    /// The user that may do everything through the SASL listener of a cluster with an authorizer.
    pub fn administrator() -> &'static str {
        ADMINISTRATOR
    }

    fn addresses(&self, port: impl Fn(&Ports) -> u16) -> String {
        let all: Vec<_> =
            self.brokers.iter().map(|broker| format!("127.0.0.1:{}", port(&broker.ports))).collect();
        all.join(",")
    }

    fn node(&mut self, id: usize) -> Result<&mut Broker> {
        let count = self.brokers.len();
        id.checked_sub(1)
            .and_then(|index| self.brokers.get_mut(index))
            .with_context(|| format!("no broker {id}: the ids are 1 to {count}"))
    }
}

impl Broker {
    fn start(runtime: &Runtime, properties: PathBuf, ports: Ports) -> Result<Self> {
        let log = properties.with_extension("log");
        let process = start_process(runtime, &properties, &log)?;
        Ok(Self { ports, properties, log, process })
    }
}

fn free_ports() -> Result<Ports> {
    Ok(Ports { plain: ports::free()?, sasl: ports::free()?, controller: ports::free()? })
}

fn configure(folder: &Path, index: usize, nodes: &[Ports], options: &Options) -> Result<PathBuf> {
    let name = format!("broker-{}", index + 1);
    let text = config::properties(index, nodes, options, &folder.join(&name));
    let path = folder.join(name).with_extension("properties");
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// Writes each node's identity into its data folder, all nodes at the same time.
fn format(runtime: &Runtime, properties: &[PathBuf]) -> Result<()> {
    let running = properties
        .iter()
        .map(|file| {
            runtime
                .command()?
                .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
                .arg(file)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .context("start Kafka's storage tool")
        })
        .collect::<Result<Vec<Child>>>()?;
    for child in running {
        let output = child.wait_with_output().context("wait for Kafka's storage tool")?;
        if !output.status.success() {
            bail!("Kafka's storage tool refuses: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    Ok(())
}

fn start_process(runtime: &Runtime, properties: &Path, log: &Path) -> Result<Process> {
    let mut command = runtime.command()?;
    command.arg("kafka.Kafka").arg(properties);
    let name = properties.file_stem().unwrap_or_default().to_string_lossy();
    Process::start_disposable(&format!("kafka {name}"), command, log)
}
