//! `wirecall doctor`: what this machine can capture and reach, what not, and why.

use std::fs;
use std::io::{self, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use wirecall_service::exit::Exit;

/// Arguments of `wirecall doctor`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Kafka brokers to try, for example 127.0.0.1:9092
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    bootstrap: Vec<String>,

    /// Schema registry to try, for example http://127.0.0.1:8081
    #[arg(long, value_name = "URL")]
    registry: Option<String>,

    /// Print JSON lines instead of a table
    #[arg(long)]
    json: bool,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// It works.
    Ok,
    /// It works in part, or something optional is missing.
    Limited,
    /// It does not work.
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    detail: String,
    remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, detail: detail.into(), remedy: None }
    }

    fn limited(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Limited, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    fn failed(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Failed, detail: detail.into(), remedy: Some(remedy.into()) }
    }
}

/// Looks and prints. The exit code is 0 when nothing failed, 69 when something asked for is not there, 77 when a right
/// is missing.
///
/// # Errors
/// When the result cannot be printed.
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let mut checks =
        vec![capture_files(), kernel(), packet_sockets(), interfaces(), kernel_types(), memory()];
    checks.extend(arguments.bootstrap.iter().map(|broker| reach("kafka broker", broker)));
    checks.extend(arguments.registry.iter().map(|url| reach("schema registry", authority(url))));
    print(&checks, arguments.json).context("cannot print the result")?;
    let failed =
        |name: &str| checks.iter().any(|check| check.verdict == Verdict::Failed && check.name == name);
    Ok(match () {
        () if failed("kafka broker") || failed("schema registry") => Exit::Unavailable,
        () if failed("live capture") => Exit::Permission,
        () => Exit::Ok,
    })
}

fn capture_files() -> Check {
    Check::ok("capture files", "pcap, pcapng, gzip'd, standard input: need no right")
}

fn kernel() -> Check {
    let release = read("/proc/sys/kernel/osrelease");
    Check::ok("kernel", format!("Linux {}", release.as_deref().unwrap_or("of unknown release")))
}

/// Number of CAP_NET_RAW (linux/capability.h).
const CAP_NET_RAW: u32 = 13;

fn packet_sockets() -> Check {
    let name = "live capture";
    let Some(mask) = effective_capabilities() else {
        return Check::limited(name, "/proc/self/status tells no capabilities", "is /proc mounted?");
    };
    if mask >> CAP_NET_RAW & 1 == 0 {
        return Check::failed(
            name,
            "AF_PACKET sockets need CAP_NET_RAW, which this process does not have",
            "run as root, or add NET_RAW to the container's capabilities",
        );
    }
    Check::ok(name, "AF_PACKET sockets may be opened (CAP_NET_RAW)")
}

fn effective_capabilities() -> Option<u64> {
    let status = read("/proc/self/status")?;
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

fn interfaces() -> Check {
    let name = "interfaces";
    let Ok(entries) = fs::read_dir("/sys/class/net") else {
        return Check::limited(name, "/sys/class/net cannot be read", "is /sys mounted?");
    };
    let mut states: Vec<_> = entries
        .filter_map(Result::ok)
        .map(|entry| {
            let state = fs::read_to_string(entry.path().join("operstate")).unwrap_or_default();
            format!("{} ({})", entry.file_name().to_string_lossy(), state.trim())
        })
        .collect();
    states.sort();
    Check::ok(name, states.join(", "))
}

fn kernel_types() -> Check {
    let name = "kernel types (BTF)";
    if Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Check::ok(name, "/sys/kernel/btf/vmlinux is there");
    }
    Check::limited(
        name,
        "no /sys/kernel/btf/vmlinux: eBPF programs that adapt to the kernel cannot be loaded",
        "a kernel with CONFIG_DEBUG_INFO_BTF; packet capture works without",
    )
}

fn memory() -> Check {
    let name = "memory limit";
    let limit = read("/sys/fs/cgroup/memory.max").filter(|limit| limit != "max");
    match limit.and_then(|limit| limit.parse::<u64>().ok()) {
        Some(bytes) => Check::ok(name, format!("{} MiB for this cgroup", bytes >> 20)),
        None => Check::ok(name, "none for this cgroup"),
    }
}

/// Host and port of a URL; the scheme's port where none is given.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split_once('/').map_or(rest, |(authority, _)| authority)
}

fn reach(name: &'static str, address: &str) -> Check {
    /// A broker of the same cluster answers far sooner.
    const PATIENCE: Duration = Duration::from_secs(3);
    let resolved = match address.to_socket_addrs() {
        Ok(resolved) => resolved,
        Err(error) => {
            return Check::failed(
                name,
                format!("{address} is no address: {error}"),
                "give host:port that resolves",
            );
        }
    };
    let mut last = String::from("it resolves to nothing");
    for target in resolved {
        match TcpStream::connect_timeout(&target, PATIENCE) {
            Ok(_) => return Check::ok(name, format!("{address} accepts connections")),
            Err(error) => last = error.to_string(),
        }
    }
    Check::failed(
        name,
        format!("{address}: {last}"),
        "is it running, and does a network policy let this host through?",
    )
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn print(checks: &[Check], json: bool) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for check in checks {
        if json {
            serde_json::to_writer(&mut stdout, check)?;
            writeln!(stdout)?;
            continue;
        }
        let mark = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Limited => "limited",
            Verdict::Failed => "FAILED",
        };
        writeln!(stdout, "{mark:<8} {:<20} {}", check.name, check.detail)?;
        if let Some(remedy) = &check.remedy {
            writeln!(stdout, "{:<8} {:<20} -> {remedy}", "", "")?;
        }
    }
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_of_a_url() {
        assert_eq!(authority("http://127.0.0.1:8081/apis"), "127.0.0.1:8081");
        assert_eq!(authority("127.0.0.1:8081"), "127.0.0.1:8081");
    }

    #[test]
    fn a_closed_port_is_told_with_its_remedy() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        assert_eq!(reach("kafka broker", &address).verdict, Verdict::Ok);
        drop(listener);
        let check = reach("kafka broker", &address);
        assert_eq!(check.verdict, Verdict::Failed);
        assert!(check.remedy.is_some());
    }
}
