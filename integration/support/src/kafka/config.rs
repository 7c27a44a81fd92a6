//! A broker's configuration file.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// What the cluster as a whole decides.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) extra: BTreeMap<String, String>,
    /// User name to password; a SASL listener exists if there are any.
    pub(crate) users: BTreeMap<String, String>,
    /// Whether users other than the super users need permission.
    pub(crate) authorize: bool,
}

/// The three ports of one node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) plain: u16,
    pub(crate) sasl: u16,
    pub(crate) controller: u16,
}

/// The user that may do everything through the SASL listener of a cluster with an authorizer.
pub(crate) const ADMINISTRATOR: &str = "admin";

/// The text of `server.properties` for the node at `index`, which is both broker and controller.
pub(crate) fn properties(index: usize, nodes: &[Ports], options: &Options, data: &Path) -> String {
    let mut all = node(index, nodes, data);
    all.extend(small_and_quick(nodes.len()));
    if !options.users.is_empty() {
        all.extend(sasl(nodes[index], options));
    }
    if options.authorize {
        all.extend(authorizer());
    }
    // Last, so that a test can override any of it.
    all.extend(options.extra.clone());
    all.into_iter().fold(String::new(), |mut text, (name, value)| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}={value}");
        text
    })
}

fn pairs<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn node(index: usize, nodes: &[Ports], data: &Path) -> BTreeMap<String, String> {
    let Ports { plain, controller, .. } = nodes[index];
    let voters: Vec<_> =
        (1..).zip(nodes).map(|(id, ports)| format!("{id}@127.0.0.1:{}", ports.controller)).collect();
    pairs([
        ("process.roles", "broker,controller".to_owned()),
        ("node.id", (index + 1).to_string()),
        ("listeners", format!("PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller}")),
        ("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{plain}")),
        ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned()),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("controller.quorum.voters", voters.join(",")),
        ("log.dirs", data.display().to_string()),
    ])
}

fn small_and_quick(nodes: usize) -> BTreeMap<String, String> {
    let in_sync = if nodes > 1 { "2" } else { "1" };
    pairs([
        // A test names its topics; one made by a typing error would hide the error.
        ("auto.create.topics.enable", "false".to_owned()),
        ("default.replication.factor", nodes.to_string()),
        ("min.insync.replicas", in_sync.to_owned()),
        ("offsets.topic.replication.factor", nodes.to_string()),
        ("transaction.state.log.replication.factor", nodes.to_string()),
        ("transaction.state.log.min.isr", in_sync.to_owned()),
        ("share.coordinator.state.topic.replication.factor", nodes.to_string()),
        ("share.coordinator.state.topic.min.isr", in_sync.to_owned()),
        // Fifty partitions each take seconds to make and to load on a small machine.
        ("offsets.topic.num.partitions", "4".to_owned()),
        ("transaction.state.log.num.partitions", "4".to_owned()),
        ("share.coordinator.state.topic.num.partitions", "1".to_owned()),
        ("group.initial.rebalance.delay.ms", "0".to_owned()),
        // A killed broker is replaced sooner, yet a busy machine does not lose a living one.
        ("broker.heartbeat.interval.ms", "1000".to_owned()),
        ("broker.session.timeout.ms", "6000".to_owned()),
        ("num.network.threads", "2".to_owned()),
        ("num.io.threads", "4".to_owned()),
        ("log.cleaner.dedupe.buffer.size", "16777216".to_owned()),
    ])
}

fn sasl(ports: Ports, options: &Options) -> BTreeMap<String, String> {
    let Ports { plain, sasl, controller } = ports;
    let users: String =
        options.users.iter().map(|(name, password)| format!(" user_{name}=\"{password}\"")).collect();
    pairs([
        (
            "listeners",
            format!(
                "PLAINTEXT://127.0.0.1:{plain},SASL_PLAINTEXT://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller}"
            ),
        ),
        ("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{plain},SASL_PLAINTEXT://127.0.0.1:{sasl}")),
        (
            "listener.security.protocol.map",
            "PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
        ),
        ("sasl.enabled.mechanisms", "PLAIN".to_owned()),
        (
            "listener.name.sasl_plaintext.plain.sasl.jaas.config",
            format!("org.apache.kafka.common.security.plain.PlainLoginModule required{users};"),
        ),
    ])
}

fn authorizer() -> BTreeMap<String, String> {
    pairs([
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned()),
        ("allow.everyone.if.no.acl.found", "false".to_owned()),
        // The brokers themselves come through the listener without names.
        ("super.users", format!("User:ANONYMOUS;User:{ADMINISTRATOR}")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [Ports; 1] = [Ports { plain: 1, sasl: 2, controller: 3 }];

    #[test]
    fn extra_properties_win() {
        let extra = [("message.max.bytes", "2000"), ("auto.create.topics.enable", "true")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let text = properties(0, &NODES, &Options { extra, ..Options::default() }, Path::new("/data"));
        assert!(text.contains("message.max.bytes=2000\n"));
        assert!(text.contains("auto.create.topics.enable=true\n"));
        assert!(!text.contains("auto.create.topics.enable=false"));
        assert!(!text.contains("SASL"));
    }

    #[test]
    fn users_open_the_sasl_listener() {
        let users = [("reader".to_owned(), "secret".to_owned())].into();
        let text = properties(0, &NODES, &Options { users, ..Options::default() }, Path::new("/data"));
        assert!(text.contains("SASL_PLAINTEXT://127.0.0.1:2"));
        assert!(text.contains("required user_reader=\"secret\";"));
        assert!(!text.contains("authorizer"));
    }
}
