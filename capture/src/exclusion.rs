//! The agent's own Kafka connections, which must never be captured: each captured record would become another record.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use wirecall_bus::Producer;
use wirecall_service::drain::Shutdown;

/// How often the brokers are looked up: they move, and names get other addresses.
const REFRESH: Duration = Duration::from_secs(60);

/// The endpoints to leave out, and how often they have changed.
#[derive(Debug, Default)]
pub(crate) struct Exclusions {
    endpoints: Mutex<Vec<SocketAddr>>,
    version: AtomicU64,
}

impl Exclusions {
    /// Counts changes; a reader that saw another number asks for the endpoints.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The endpoints, sorted.
    pub(crate) fn endpoints(&self) -> Vec<SocketAddr> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks everything up. Addresses that were known stay: connections to them may still be open.
    fn refresh(&self, bootstrap_servers: &str, brokers: &[(String, u16)]) {
        let mut found = self.endpoints();
        let known = found.len();
        found.extend(bootstrap_servers.split(',').flat_map(resolve_text));
        found.extend(brokers.iter().flat_map(|(host, port)| resolve(host, *port)));
        found.sort_unstable();
        found.dedup();
        if found.len() != known {
            tracing::info!(endpoints = ?found, "the agent's own brokers are left out of the capture");
            *self.endpoints.lock().unwrap_or_else(PoisonError::into_inner) = found;
            self.version.fetch_add(1, Ordering::Release);
        }
    }
}

/// `host:port`, also with a protocol before it as librdkafka allows.
fn resolve_text(server: &str) -> Vec<SocketAddr> {
    let server = server.trim();
    let address = server.split_once("://").map_or(server, |(_, address)| address);
    match address.rsplit_once(':') {
        Some((host, port)) => resolve(host.trim_matches(['[', ']']), port.parse().unwrap_or(9_092)),
        None => resolve(address, 9_092),
    }
}

fn resolve(host: &str, port: u16) -> Vec<SocketAddr> {
    match (host, port).to_socket_addrs() {
        Ok(found) => found.map(|found| SocketAddr::new(found.ip().to_canonical(), port)).collect(),
        Err(error) => {
            tracing::warn!(host, %error, "a broker's name has no address, so its traffic may be captured");
            Vec::new()
        }
    }
}

/// Finds the brokers now, and again from time to time on a thread of its own.
pub(crate) fn watch(
    bootstrap_servers: String,
    producer: Arc<Producer>,
    shutdown: Shutdown,
) -> Arc<Exclusions> {
    let exclusions = Arc::new(Exclusions::default());
    let look = {
        let exclusions = Arc::clone(&exclusions);
        move || match producer.brokers() {
            Ok(brokers) => exclusions.refresh(&bootstrap_servers, &brokers),
            Err(error) => {
                tracing::warn!(%error, "the brokers cannot be asked for their addresses");
                exclusions.refresh(&bootstrap_servers, &[]);
            }
        }
    };
    look();
    // Not joined: a look-up of names may hang for longer than the drain may take.
    let watcher = thread::Builder::new().name("brokers".to_owned()).spawn(move || {
        while !shutdown.wait(REFRESH) {
            look();
        }
    });
    if let Err(error) = watcher {
        tracing::warn!(%error, "no thread to follow changes of the brokers' addresses");
    }
    exclusions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_written_in_several_ways() {
        let one = |text: &str| resolve_text(text).first().map(ToString::to_string);
        assert_eq!(one("127.0.0.1:9093").unwrap(), "127.0.0.1:9093");
        assert_eq!(one(" SASL_SSL://127.0.0.1:9094 ").unwrap(), "127.0.0.1:9094");
        assert_eq!(one("127.0.0.1").unwrap(), "127.0.0.1:9092");
        assert_eq!(one("[::1]:9095").unwrap(), "[::1]:9095");
        assert_eq!(one("no-such-host.invalid:1"), None);
    }

    #[test]
    fn addresses_gather_and_a_change_is_counted_once() {
        let exclusions = Exclusions::default();
        exclusions.refresh("127.0.0.1:1,127.0.0.2:2", &[("127.0.0.3".to_owned(), 3)]);
        assert_eq!((exclusions.version(), exclusions.endpoints().len()), (1, 3));
        exclusions.refresh("127.0.0.2:2", &[("127.0.0.1".to_owned(), 1)]);
        assert_eq!((exclusions.version(), exclusions.endpoints().len()), (1, 3));
        exclusions.refresh("127.0.0.4:4", &[]);
        assert_eq!((exclusions.version(), exclusions.endpoints().len()), (2, 4));
    }
}
