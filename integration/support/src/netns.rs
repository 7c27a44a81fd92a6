//! Two network namespaces joined by a veth pair: a client's machine and a server's machine with a wire between.
//!
//! Packets really cross a link layer there, with the super-segments and unset checksums that offloading makes, and
//! nothing of the host's own traffic is in sight.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::install;
use crate::process::run;
use crate::scratch;
use crate::skip::Unavailable;

/// Begins the names of all namespaces made here; the maker's process id follows.
const PREFIX: &str = "wirecall-";

/// The name of the veth interface inside each namespace.
pub const INTERFACE: &str = "veth0";

/// One end of the wire.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
}

/// A client's and a server's namespace, removed on drop. End what runs inside first.
#[derive(Debug)]
pub struct NamespacePair {
    /// The end that tests put clients in.
    pub client: Namespace,
    /// The end that tests put servers in.
    pub server: Namespace,
}

/// The choices before the namespaces are made; made by [`NamespacePair::builder`].
#[derive(Debug, Clone, Copy)]
pub struct NamespacePairBuilder {
    mtu: u32,
    offloads: bool,
}

impl NamespacePairBuilder {
    /// Sets the largest packet of the link in bytes (default 1500; at least 1280, which IPv6 needs).
    #[must_use]
    pub fn mtu(mut self, bytes: u32) -> Self {
        self.mtu = bytes;
        self
    }

    /// Turns off segmentation and checksum offloads on both ends: packets on the wire are then as a real wire
    /// carries them. By default they stay on, as between two pods.
    #[must_use]
    pub fn without_offloads(mut self) -> Self {
        self.offloads = false;
        self
    }

    /// Makes the namespaces and brings the link up.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] without the rights to make namespaces; other errors if a step fails.
    pub fn create(self) -> Result<NamespacePair> {
        check_rights()?;
        static SWEEP: Once = Once::new();
        SWEEP.call_once(sweep);
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let end = |role: &str, host: u8| Namespace {
            name: format!("{PREFIX}{}-{number}-{role}", std::process::id()),
            ipv4: Ipv4Addr::new(10, 87, 0, host),
            ipv6: Ipv6Addr::new(0xfd00, 0x87, 0, 0, 0, 0, 0, u16::from(host)),
        };
        // Made first, so that dropping it cleans up whatever step fails below.
        let pair = NamespacePair { client: end("client", 1), server: end("server", 2) };
        for namespace in [&pair.client, &pair.server] {
            ip(&["netns", "add", &namespace.name])?;
        }
        let mtu = self.mtu.to_string();
        ip(&["link", "add", INTERFACE, "mtu", &mtu, "netns", &pair.client.name, "type", "veth"]
            .into_iter()
            .chain(["peer", "name", INTERFACE, "mtu", &mtu, "netns", &pair.server.name])
            .collect::<Vec<_>>())?;
        for namespace in [&pair.client, &pair.server] {
            namespace.bring_up(self.offloads)?;
        }
        Ok(pair)
    }
}

impl NamespacePair {
    /// Two namespaces, 1500 bytes, offloads as the kernel has them.
    ///
    /// # Errors
    ///
    /// As [`NamespacePairBuilder::create`].
    pub fn create() -> Result<Self> {
        Self::builder().create()
    }

    /// Namespaces with choices.
    pub fn builder() -> NamespacePairBuilder {
        NamespacePairBuilder { mtu: 1500, offloads: true }
    }
}

impl Namespace {
    /// The name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address in 10.87.0.0/24. Every pair has the same two: they never meet.
    pub fn ipv4(&self) -> Ipv4Addr {
        self.ipv4
    }

    /// The address in fd00:87::/64.
    pub fn ipv6(&self) -> Ipv6Addr {
        self.ipv6
    }

    /// The namespace as a file, to enter it or to name it to a program.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// A command that will run inside; more arguments can be added.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let ip = install::find("ip").unwrap_or_else(|| PathBuf::from("ip"));
        let mut command = Command::new(ip);
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a command inside to its end and gives its standard output.
    ///
    /// # Errors
    ///
    /// If it cannot be started or fails; with what it wrote.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run(self.command(program).args(arguments))
    }

    fn bring_up(&self, offloads: bool) -> Result<()> {
        if !offloads {
            let ethtool = install::tool("ethtool", "ethtool")?;
            let switches = ["tso", "gso", "gro", "tx", "rx"].iter().flat_map(|name| [*name, "off"]);
            run(self.command(ethtool).args(["-K", INTERFACE]).args(switches))?;
        }
        let inside = |arguments: &[&str]| ip(&[&["-n", self.name.as_str()], arguments].concat());
        inside(&["address", "add", &format!("{}/24", self.ipv4), "dev", INTERFACE])?;
        // Without the search for duplicates, which takes a second and cannot find any.
        inside(&["address", "add", &format!("{}/64", self.ipv6), "dev", INTERFACE, "nodad"])?;
        inside(&["link", "set", "lo", "up"])?;
        inside(&["link", "set", INTERFACE, "up"])
    }
}

impl Drop for NamespacePair {
    fn drop(&mut self) {
        for namespace in [&self.client, &self.server] {
            // It may not have been made. The veth pair goes with the first of them.
            let _ = ip(&["netns", "delete", &namespace.name]);
        }
    }
}

fn check_rights() -> Result<()> {
    install::tool("ip", "iproute2")?;
    if install::is_root() {
        return Ok(());
    }
    Err(Unavailable::error("network namespaces need root: run the tests as root"))
}

fn ip(arguments: &[&str]) -> Result<()> {
    run(Command::new(install::tool("ip", "iproute2")?).args(arguments))
        .context("set up a network namespace")?;
    Ok(())
}

/// Removes the namespaces of test processes that ended without dropping them.
fn sweep() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse().ok());
        if owner.is_some_and(|process_id: u32| !scratch::is_alive(process_id)) {
            // Another process may sweep the same one.
            let _ = ip(&["netns", "delete", &name]);
        }
    }
}
