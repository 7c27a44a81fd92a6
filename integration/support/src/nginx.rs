//! A real nginx whose own access log says what was asked and answered: the truth that a capture is held against.
//!
//! | path | what |
//! |---|---|
//! | `/200.json`, `/2000.json`, `/6000.json`, `/64000.json`, `/1000000.json` | static JSON of that many bytes |
//! | `/gzip/…`, `/chunked/…`, `/close/…` | the same files: compressed and chunked; chunked; closing the connection |
//! | `/echo` | answers any method with the request's body |
//! | `/request` | answers any method with a JSON description of the request |
//! | `/empty`, `/moved`, `/broken`, anything else | 204, 301 to `/200.json`, 500, 404 |

use std::fs::Permissions;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use tempfile::TempDir;

use crate::netns::Namespace;
use crate::process::{Process, wait_for};
use crate::{install, ports, scratch};

/// The sizes of the static files, in bytes; the file of size N is `/N.json`.
pub const FILE_SIZES: [usize; 5] = [200, 2_000, 6_000, 64_000, 1_000_000];

const CONFIGURATION: &str = include_str!("nginx.conf");
const START_LIMIT: Duration = Duration::from_secs(30);
/// In a namespace of its own the usual port is free.
const HTTP: u16 = 80;

/// A running nginx, ended when it is dropped.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    hosts: Vec<IpAddr>,
    port: u16,
    folder: TempDir,
}

/// One line of the access log: one request that nginx has answered.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct AccessRecord {
    /// When the response was complete, seconds since the epoch with milliseconds.
    pub time: f64,
    /// The number of the connection, from when nginx started.
    pub connection: u64,
    /// Which request of its connection it was, from 1.
    pub connection_requests: u64,
    /// The client's address.
    pub client: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// The method as sent; empty if the request line could not be read.
    pub method: String,
    /// The request target as sent.
    pub target: String,
    /// `HTTP/1.1` or `HTTP/1.0`
    pub protocol: String,
    /// The Host header, empty if absent.
    pub host: String,
    /// The status code as sent; 499 if the client left first.
    pub status: u16,
    /// Bytes of the request with its headers and body.
    pub request_bytes: u64,
    /// Bytes of the response with its headers and chunk framing.
    pub response_bytes: u64,
    /// Bytes of the response's body as sent, compressed if it was, without headers.
    pub body_bytes: u64,
}

impl Nginx {
    /// Starts nginx on 127.0.0.1 and a free port.
    ///
    /// # Errors
    ///
    /// If nginx cannot be installed or does not become ready; with the tail of its log.
    pub fn start() -> Result<Self> {
        let program = install::tool("nginx", "nginx")?;
        Self::launch(Command::new(program), vec![IpAddr::from([127, 0, 0, 1])], ports::free()?)
    }

    /// Starts nginx in a network namespace, on its IPv4 and IPv6 address and port 80.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_in(namespace: &Namespace) -> Result<Self> {
        let program = install::tool("nginx", "nginx")?;
        Self::launch(namespace.command(program), vec![namespace.ipv4().into(), namespace.ipv6().into()], HTTP)
    }

    fn launch(mut command: Command, hosts: Vec<IpAddr>, port: u16) -> Result<Self> {
        let folder = scratch::folder("nginx")?;
        // The worker of a master that runs as root runs as nobody, and must read the files.
        open_to_all(folder.path())?;
        write_files(&folder.path().join("files"))?;
        let configuration = folder.path().join("nginx.conf");
        std::fs::write(&configuration, configure(folder.path(), &hosts, port)).context("write nginx.conf")?;
        command.args(["-e", "stderr", "-p"]).arg(folder.path()).arg("-c").arg(configuration);
        // Not disposable: a killed master leaves its worker behind, which would go on listening.
        let mut process = Process::start("nginx", command, &folder.path().join("nginx.log"))?;
        // Its own word: a test connection would be in the truth that the capture is held against.
        let log = process.log().to_owned();
        process.wait_ready("starting its worker", START_LIMIT, || {
            Ok(std::fs::read_to_string(&log)?.contains("start worker process "))
        })?;
        Ok(Self { process, hosts, port, folder })
    }

    /// The base of the URLs, without a slash at the end: IPv4.
    pub fn url(&self) -> String {
        base(self.hosts[0], self.port)
    }

    /// The base of the URLs over IPv6; none on loopback.
    pub fn url_ipv6(&self) -> Option<String> {
        self.hosts.iter().find(|host| host.is_ipv6()).map(|host| base(*host, self.port))
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder that is served; files put there can be asked for.
    pub fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    /// The process, to freeze it or read its error log.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The requests answered so far, in the order in which their responses were complete.
    ///
    /// # Errors
    ///
    /// If the log cannot be read or has a line that is not as configured.
    pub fn access_log(&self) -> Result<Vec<AccessRecord>> {
        let path = self.folder.path().join("access.log");
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        // The last line may be half written.
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        complete
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("access log line {line:?}")))
            .collect()
    }

    /// Waits until at least `count` requests are in the access log, which nginx writes just after it has sent the
    /// response, and gives all.
    ///
    /// # Errors
    ///
    /// If `limit` passes.
    pub fn wait_for_requests(&self, count: usize, limit: Duration) -> Result<Vec<AccessRecord>> {
        let mut records = Vec::new();
        wait_for(&format!("logging {count} requests"), limit, || {
            records = self.access_log()?;
            Ok(records.len() >= count)
        })?;
        Ok(records)
    }
}

fn base(host: IpAddr, port: u16) -> String {
    let host = if host.is_ipv6() { format!("[{host}]") } else { host.to_string() };
    if port == HTTP { format!("http://{host}") } else { format!("http://{host}:{port}") }
}

fn configure(folder: &Path, hosts: &[IpAddr], port: u16) -> String {
    let listen: Vec<_> = hosts
        .iter()
        .map(|host| match host {
            IpAddr::V4(host) => format!("        listen {host}:{port};"),
            IpAddr::V6(host) => format!("        listen [{host}]:{port};"),
        })
        .collect();
    CONFIGURATION.replace("@FOLDER@", &folder.display().to_string()).replace("@LISTEN@", &listen.join("\n"))
}

fn write_files(folder: &Path) -> Result<()> {
    std::fs::create_dir(folder).with_context(|| format!("make {}", folder.display()))?;
    open_to_all(folder)?;
    for size in FILE_SIZES {
        let path = folder.join(format!("{size}.json"));
        std::fs::write(&path, document(size)).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn open_to_all(folder: &Path) -> Result<()> {
    std::fs::set_permissions(folder, Permissions::from_mode(0o755))
        .with_context(|| format!("set the permissions of {}", folder.display()))
}

/// A JSON document of exactly `size` bytes that compresses about as real ones do.
fn document(size: usize) -> String {
    const END: &str = "],\"padding\":\"\"}";
    let mut text = String::from("{\"items\":[");
    for id in 0_u64.. {
        let mixed = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let comma = if id == 0 { "" } else { "," };
        let item = format!("{comma}{{\"id\":{id},\"name\":\"item {mixed:x}\",\"stock\":{}}}", mixed % 1000);
        if text.len() + item.len() + END.len() > size {
            break;
        }
        text.push_str(&item);
    }
    let padding = size.saturating_sub(text.len() + END.len());
    text.push_str("],\"padding\":\"");
    text.extend(std::iter::repeat_n('.', padding));
    text.push_str("\"}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_json_of_exactly_their_size() {
        for size in FILE_SIZES {
            let text = document(size);
            assert_eq!(text.len(), size);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert!(!value["items"].as_array().unwrap().is_empty());
        }
    }
}
