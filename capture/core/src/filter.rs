//! What the capture leaves out: the pipeline's own connections, and what the operator does not want.

use std::net::IpAddr;
use std::str::FromStr;

use hashbrown::HashSet;
use wirecall_schemas::Endpoint;

use crate::packet::Addresses;
use crate::stats::Reason;

/// Which packets are tracked. Exclusion wins; an empty include list includes everything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Endpoints to leave out, such as the Kafka brokers that the agent itself writes to.
    pub exclude_endpoints: HashSet<Endpoint>,
    /// Networks of which one end must be, if any are given.
    pub include_networks: Vec<Network>,
    /// Networks of which no end may be.
    pub exclude_networks: Vec<Network>,
    /// Ports of which one end must have one, if any are given.
    pub include_ports: Vec<u16>,
    /// Ports that no end may have.
    pub exclude_ports: Vec<u16>,
}

impl Filter {
    pub(crate) fn is_empty(&self) -> bool {
        self.exclude_endpoints.is_empty()
            && self.include_networks.is_empty()
            && self.exclude_networks.is_empty()
            && self.include_ports.is_empty()
            && self.exclude_ports.is_empty()
    }

    /// The reason to leave a packet out, if there is one.
    pub(crate) fn refuses(&self, addresses: &Addresses, ports: [u16; 2]) -> Option<Reason> {
        let ends = [
            Endpoint { address: ip_address(addresses.source, addresses.is_v6), port: ports[0] },
            Endpoint { address: ip_address(addresses.destination, addresses.is_v6), port: ports[1] },
        ];
        if ends.iter().any(|end| self.exclude_endpoints.contains(end)) {
            return Some(Reason::ExcludedEndpoint);
        }
        let network = |network: &Network| ends.iter().any(|end| network.contains(end.address));
        let port = |port: &u16| ports.contains(port);
        let excluded = self.exclude_ports.iter().any(port) || self.exclude_networks.iter().any(network);
        let included = (self.include_ports.is_empty() || self.include_ports.iter().any(port))
            && (self.include_networks.is_empty() || self.include_networks.iter().any(network));
        (excluded || !included).then_some(Reason::Filtered)
    }
}

/// The address of a header.
pub(crate) fn ip_address(address: u128, is_v6: bool) -> IpAddr {
    if is_v6 {
        IpAddr::V6(address.into())
    } else {
        IpAddr::V4(u32::try_from(address & u128::from(u32::MAX)).unwrap_or_default().into())
    }
}

/// An IP network in CIDR form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// From an address and the number of leading bits that count.
    ///
    /// # Errors
    /// When the prefix is longer than the address.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, NetworkError> {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if prefix > longest {
            return Err(NetworkError::Prefix { prefix, longest });
        }
        Ok(Self { address, prefix })
    }

    /// True when the address is in the network; never across IP versions.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differing = network.to_bits() ^ address.to_bits();
                differing.checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differing = network.to_bits() ^ address.to_bits();
                differing.checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address(text.to_owned()))?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| NetworkError::Address(text.to_owned()))?,
            None => longest,
        };
        Self::new(address, prefix)
    }
}

/// A network that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not an address with an optional prefix.
    #[error("filter: {0:?} is not a network; write it like 10.0.0.0/8 or fd00::/8")]
    Address(String),
    /// The prefix is longer than the address.
    #[error("filter: prefix /{prefix} is longer than the address; the longest is /{longest}")]
    Prefix {
        /// As given.
        prefix: u8,
        /// Bits of the address.
        longest: u8,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(source: [u8; 4], destination: [u8; 4]) -> Addresses {
        let number = |address| u128::from(u32::from_be_bytes(address));
        Addresses { source: number(source), destination: number(destination), is_v6: false }
    }

    #[test]
    fn networks_contain_what_they_say() {
        let network: Network = "10.1.0.0/16".parse().unwrap();
        assert!(network.contains("10.1.255.1".parse().unwrap()));
        assert!(!network.contains("10.2.0.1".parse().unwrap()));
        assert!(!network.contains("::1".parse().unwrap()));
        let everything: Network = "0.0.0.0/0".parse().unwrap();
        assert!(everything.contains("255.255.255.255".parse().unwrap()));
        let host: Network = "fd00::1".parse().unwrap();
        assert!(host.contains("fd00::1".parse().unwrap()) && !host.contains("fd00::2".parse().unwrap()));
    }

    #[test]
    fn wrong_networks_are_refused() {
        assert_eq!("10.0.0.0/33".parse::<Network>(), Err(NetworkError::Prefix { prefix: 33, longest: 32 }));
        for text in ["", "10.0.0/8", "10.0.0.0/x", "host/8"] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError::Address(text.to_owned())));
        }
    }

    #[test]
    fn the_agents_own_endpoint_has_its_own_reason() {
        let broker = Endpoint { address: "10.0.0.9".parse().unwrap(), port: 9092 };
        let filter = Filter { exclude_endpoints: [broker].into_iter().collect(), ..Filter::default() };
        let packet = addresses([10, 0, 0, 9], [10, 0, 0, 1]);
        assert_eq!(filter.refuses(&packet, [9092, 40_000]), Some(Reason::ExcludedEndpoint));
        assert_eq!(filter.refuses(&packet, [9093, 9092]), None);
        assert!(!filter.is_empty() && Filter::default().is_empty());
    }

    #[test]
    fn exclusion_wins_over_inclusion() {
        let filter = Filter {
            include_networks: vec!["10.0.0.0/8".parse().unwrap()],
            exclude_ports: vec![22],
            include_ports: vec![22, 80],
            ..Filter::default()
        };
        let inside = addresses([10, 0, 0, 1], [1, 1, 1, 1]);
        let outside = addresses([11, 0, 0, 1], [1, 1, 1, 1]);
        assert_eq!(filter.refuses(&inside, [80, 50_000]), None);
        assert_eq!(filter.refuses(&inside, [22, 80]), Some(Reason::Filtered));
        assert_eq!(filter.refuses(&inside, [443, 50_000]), Some(Reason::Filtered));
        assert_eq!(filter.refuses(&outside, [80, 50_000]), Some(Reason::Filtered));
    }
}
