//! Two network namespaces joined by a veth pair: a client's machine and a server's machine with a wire between.
//!
//! Packets really cross a link layer there, with the super-segments and unset checksums that offloading makes, and
//! nothing of the host's own traffic is in sight. For a program that must stay in the host's namespace the wire can
//! lead through a bridge there, as pods of one node are joined.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::install;
use crate::process::run;
use crate::scratch;
use crate::skip::Unavailable;

/// Begins the names of all namespaces made here; the maker's process id follows.
const PREFIX: &str = "wirecall-";

/// Begins the names of the interfaces made in the host's namespace, which has room for 15 letters.
const HOST_PREFIX: &str = "wc-";

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
    bridge: Option<Bridge>,
}

/// The wire's way through the host's namespace.
#[derive(Debug)]
struct Bridge {
    name: String,
    client_port: String,
    server_port: String,
}

/// The choices before the namespaces are made; made by [`NamespacePair::builder`].
#[derive(Debug, Clone, Copy)]
pub struct NamespacePairBuilder {
    mtu: u32,
    offloads: bool,
    bridged: bool,
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

    /// Joins the namespaces by a bridge in the namespace of the caller, where all that crosses
    /// [`NamespacePair::host_interface`] can be captured.
    #[must_use]
    pub fn bridged(mut self) -> Self {
        self.bridged = true;
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
        let bridge = self.bridged.then(|| Bridge::named(number));
        // Made first, so that dropping it cleans up whatever step fails below.
        let pair = NamespacePair { client: end("client", 1), server: end("server", 2), bridge };
        for namespace in [&pair.client, &pair.server] {
            ip(&["netns", "add", &namespace.name])?;
        }
        let mtu = self.mtu.to_string();
        match &pair.bridge {
            None => add_link(&pair.client, &mtu, &[INTERFACE, "mtu", &mtu, "netns", &pair.server.name])?,
            Some(bridge) => bridge.join(&pair, &mtu)?,
        }
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
        NamespacePairBuilder { mtu: 1500, offloads: true, bridged: false }
    }

    /// The interface in the caller's namespace that everything between client and server crosses, each packet once:
    /// the client's port of the bridge. None unless [bridged](NamespacePairBuilder::bridged).
    pub fn host_interface(&self) -> Option<&str> {
        self.bridge.as_ref().map(|bridge| bridge.client_port.as_str())
    }
}

impl Bridge {
    fn named(number: u32) -> Self {
        let name = format!("{HOST_PREFIX}{}-{number}", std::process::id());
        Self { client_port: format!("{name}c"), server_port: format!("{name}s"), name }
    }

    fn join(&self, pair: &NamespacePair, mtu: &str) -> Result<()> {
        // Without addresses of its own the host takes no part in what crosses the bridge.
        let up = |name: &str| ip(&["link", "set", name, "addrgenmode", "none", "up"]);
        ip(&["link", "add", &self.name, "type", "bridge"])?;
        up(&self.name)?;
        for (namespace, port) in [(&pair.client, &self.client_port), (&pair.server, &self.server_port)] {
            add_link(namespace, mtu, &[port, "mtu", mtu])?;
            ip(&["link", "set", port, "master", &self.name])?;
            up(port)?;
        }
        Ok(())
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

    /// Runs `work` on a thread inside: sockets that it makes belong to the namespace for as long as they live.
    ///
    /// # Errors
    ///
    /// If the namespace cannot be entered, or as `work` says.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = self.path();
        let file = std::fs::File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let enter = || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("enter {}", path.display()))?;
            work()
        };
        let joined = std::thread::scope(|scope| scope.spawn(enter).join());
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
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
        // The kernel takes its time to remove the interfaces of a namespace that is gone, so these go first.
        for name in self.bridge.iter().flat_map(|it| [&it.client_port, &it.server_port, &it.name]) {
            let _ = ip(&["link", "delete", name]);
        }
        for namespace in [&self.client, &self.server] {
            // It may not have been made. The veth pair goes with the first of them.
            let _ = ip(&["netns", "delete", &namespace.name]);
        }
    }
}

/// A veth interface in the namespace, and its other end as described.
fn add_link(namespace: &Namespace, mtu: &str, peer: &[&str]) -> Result<()> {
    let own =
        ["link", "add", INTERFACE, "mtu", mtu, "netns", &namespace.name, "type", "veth", "peer", "name"];
    ip(&[&own, peer].concat())
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

/// Removes the namespaces and bridges of test processes that ended without dropping them.
fn sweep() {
    sweep_names("/run/netns", PREFIX, &["netns", "delete"]);
    sweep_names("/sys/class/net", HOST_PREFIX, &["link", "delete"]);
}

fn sweep_names(folder: &str, prefix: &str, delete: &[&str]) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(prefix).and_then(|rest| rest.split('-').next()?.parse().ok());
        if owner.is_some_and(|process_id: u32| !scratch::is_alive(process_id)) {
            // Another process may sweep the same one.
            let _ = ip(&[delete, &[name.as_str()]].concat());
        }
    }
}
