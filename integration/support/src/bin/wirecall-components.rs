//! Fetches the components that tests and demonstrations use, or starts one and holds it until Ctrl-C.
//!
//! Standard output gets what a script needs to connect, one `name=value` a line; the rest goes to standard error.

use std::io::Write;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use wirecall_test_support::install;
use wirecall_test_support::kafka::{self, KafkaCluster};
use wirecall_test_support::kubernetes::{self, Kubernetes};
use wirecall_test_support::registry::{self, Registry};

#[derive(Parser)]
#[command(about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Component,
}

#[derive(Subcommand)]
enum Component {
    /// Start Apache Kafka on 127.0.0.1 until Ctrl-C
    Kafka {
        /// How many brokers
        #[arg(long, default_value_t = 1)]
        brokers: usize,
    },
    /// Start a schema registry on 127.0.0.1 until Ctrl-C
    Registry,
    /// Start a kube-apiserver with etcd on 127.0.0.1 until Ctrl-C
    Kubernetes,
    /// Fetch, build and install everything that the tests use, and start nothing
    AllFetch,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Component::Kafka { brokers } => {
            let cluster = KafkaCluster::start(brokers)?;
            hold(&[("bootstrap", cluster.bootstrap())])
        }
        Component::Registry => {
            let registry = Registry::start()?;
            hold(&[("url", registry.url())])
        }
        Component::Kubernetes => {
            let cluster = Kubernetes::start()?;
            hold(&[("url", cluster.url()), ("kubeconfig", cluster.kubeconfig_path().display().to_string())])
        }
        Component::AllFetch => fetch_all(),
    }
}

fn fetch_all() -> Result<()> {
    for (program, package) in [
        ("curl", "curl"),
        ("openssl", "openssl"),
        ("ip", "iproute2"),
        ("ethtool", "ethtool"),
        ("nginx", "nginx"),
        ("etcd", "etcd-server"),
    ] {
        install::tool(program, package)?;
    }
    kafka::prepare()?;
    registry::fetch()?;
    kubernetes::fetch()?;
    Ok(())
}

/// Prints the addresses and waits for Ctrl-C or SIGTERM; returning drops, and so ends, the component.
fn hold(addresses: &[(&str, String)]) -> Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).context("listen for Ctrl-C")?;
    let mut output = std::io::stdout().lock();
    for (name, value) in addresses {
        writeln!(output, "{name}={value}").context("print the address")?;
    }
    output.flush().context("print the address")?;
    signals.forever().next();
    Ok(())
}
