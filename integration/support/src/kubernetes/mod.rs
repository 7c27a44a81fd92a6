//! A kube-apiserver with etcd: the real API with real resource versions and watches, and no nodes.
//!
//! Without kubelets and controllers nothing happens by itself, and that is the point: a test makes exactly the
//! history of pods, addresses, owners and nodes that it wants, by writing the status as a kubelet would.

mod build;
mod client;
mod pod;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tempfile::TempDir;

pub use self::build::{VERSION, fetch};
pub use self::client::Client;
pub use self::pod::Pod;
use crate::http::Request;
use crate::process::{Process, run};
use crate::{install, ports, scratch};

const START_LIMIT: Duration = Duration::from_secs(180);

/// Member of `system:masters`: may do everything.
const ADMINISTRATOR_TOKEN: &str = "administrator-of-a-test";
/// A user without any role: is known and may do nothing.
const STRANGER_TOKEN: &str = "stranger-in-a-test";

/// A running kube-apiserver and its etcd on 127.0.0.1, both ended when it is dropped.
#[derive(Debug)]
pub struct Kubernetes {
    // Ended in this order, and before the folder is removed.
    server: Process,
    _etcd: Process,
    etcd_port: u16,
    port: u16,
    client: Client,
    folder: TempDir,
}

impl Kubernetes {
    /// Starts etcd and kube-apiserver and waits until the API is ready.
    ///
    /// # Errors
    ///
    /// If the components cannot be had or do not become ready; with the tail of the log.
    pub fn start() -> Result<Self> {
        let program = fetch()?;
        let folder = scratch::folder("kubernetes")?;
        let (etcd, etcd_port) = start_etcd(folder.path())?;
        write_keys(folder.path())?;
        let port = ports::free()?;
        let server = start_server(&program, folder.path(), etcd_port, port)?;
        let client = Client::new(port, ADMINISTRATOR_TOKEN, &certificates(folder.path()));
        let mut cluster = Self { server, _etcd: etcd, etcd_port, port, client, folder };
        cluster.wait_ready()?;
        cluster.write_kubeconfig("administrator", ADMINISTRATOR_TOKEN)?;
        cluster.write_kubeconfig("stranger", STRANGER_TOKEN)?;
        Ok(cluster)
    }

    /// A kubeconfig whose user may do everything.
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.folder.path().join("administrator.kubeconfig")
    }

    /// A kubeconfig whose user is known and has no role: every request is answered 403.
    pub fn stranger_kubeconfig_path(&self) -> PathBuf {
        self.folder.path().join("stranger.kubeconfig")
    }

    /// The base of the API's URLs, `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Requests to the API, as a user who may do everything.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Makes a namespace.
    ///
    /// # Errors
    ///
    /// If the API refuses.
    pub fn create_namespace(&self, name: &str) -> Result<()> {
        self.client.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))?;
        Ok(())
    }

    /// The kube-apiserver's process, to kill or freeze it or read its log.
    pub fn server(&mut self) -> &mut Process {
        &mut self.server
    }

    /// Ends kube-apiserver by SIGKILL if it runs, starts it again on the same port and data, and waits until it is
    /// ready. Watches break off, as in an upgrade of a control plane.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn restart_server(&mut self) -> Result<()> {
        self.server.kill9()?;
        self.server = start_server(&fetch()?, self.folder.path(), self.etcd_port, self.port)?;
        self.wait_ready()
    }

    /// Makes etcd forget all that is older than now. After [`restart_server`](Self::restart_server), which empties
    /// the server's own memory of recent changes, a watch from an older resource version is answered "too old".
    ///
    /// # Errors
    ///
    /// If etcd refuses.
    pub fn forget_history(&self) -> Result<()> {
        let status = self.etcd("maintenance/status", "{}")?;
        let revision = status["header"]["revision"].as_str().context("etcd tells no revision")?;
        self.etcd("kv/compaction", &json!({"revision": revision, "physical": true}).to_string())?;
        Ok(())
    }

    fn etcd(&self, path: &str, body: &str) -> Result<serde_json::Value> {
        let url = format!("http://127.0.0.1:{}/v3/{path}", self.etcd_port);
        Request::new("POST", &url).body("application/json", body).send()?.json().with_context(|| url.clone())
    }

    fn wait_ready(&mut self) -> Result<()> {
        let client = &self.client;
        self.server.wait_ready("being ready", START_LIMIT, || {
            // The namespace is made by the server itself, a moment after it says that it is ready.
            Ok(client.get("/readyz")?.is_success() && client.get("/api/v1/namespaces/default")?.is_success())
        })
    }

    fn write_kubeconfig(&self, user: &str, token: &str) -> Result<()> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {
                "server": self.url(),
                "certificate-authority": certificates(self.folder.path()),
            }}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            "current-context": "test",
        });
        let path = self.folder.path().join(user).with_extension("kubeconfig");
        // JSON is YAML too.
        std::fs::write(&path, config.to_string()).with_context(|| format!("write {}", path.display()))
    }
}

/// The server's own certificate and that of the authority it made for itself, written by it when it starts.
fn certificates(folder: &Path) -> PathBuf {
    folder.join("certificates/apiserver.crt")
}

fn start_etcd(folder: &Path) -> Result<(Process, u16)> {
    let (port, peer_port) = (ports::free()?, ports::free()?);
    let url = format!("http://127.0.0.1:{port}");
    let peers = format!("http://127.0.0.1:{peer_port}");
    let mut command = Command::new(install::tool("etcd", "etcd-server")?);
    command
        .arg("--data-dir")
        .arg(folder.join("etcd"))
        .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
        .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
        .args(["--initial-cluster", &format!("default={peers}")])
        // The data dies with the test: no need to wait for the disk.
        .arg("--unsafe-no-fsync");
    let mut etcd = Process::start_disposable("etcd", command, &folder.join("etcd.log"))?;
    let health = format!("{url}/health");
    etcd.wait_ready("being healthy", START_LIMIT, || Ok(Request::new("GET", &health).send()?.is_success()))?;
    Ok((etcd, port))
}

/// The key for service account tokens, and the users.
fn write_keys(folder: &Path) -> Result<()> {
    run(Command::new(install::tool("openssl", "openssl")?)
        .args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"])
        .arg(folder.join("accounts.key")))?;
    let tokens =
        format!("{ADMINISTRATOR_TOKEN},administrator,1,\"system:masters\"\n{STRANGER_TOKEN},stranger,2\n");
    std::fs::write(folder.join("tokens.csv"), tokens).context("write tokens.csv")
}

fn start_server(program: &Path, folder: &Path, etcd_port: u16, port: u16) -> Result<Process> {
    let path = |name: &str| folder.join(name).display().to_string();
    let mut command = Command::new(program);
    command.args([
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        format!("--secure-port={port}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        // The lease on its own endpoint would be refused for a loopback address; nobody needs it.
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--cert-dir={}", path("certificates")),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", path("accounts.key")),
        format!("--service-account-signing-key-file={}", path("accounts.key")),
        "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/108".to_owned(),
        format!("--token-auth-file={}", path("tokens.csv")),
        "--authorization-mode=RBAC".to_owned(),
        // No controller makes the accounts and the node that these would ask for.
        "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition".to_owned(),
        "--profiling=false".to_owned(),
    ]);
    Process::start_disposable("kube-apiserver", command, &folder.join("kube-apiserver.log"))
}
