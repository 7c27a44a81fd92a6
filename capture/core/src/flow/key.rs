//! The key of a flow: direction-neutral addresses and ports.

use wirecall_schemas::{Endpoint, Transport};

use crate::filter::ip_address;
use crate::packet::Addresses;

/// Both ends, the lower one first, so that the two directions have the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowKey {
    low: u128,
    high: u128,
    low_port: u16,
    high_port: u16,
    is_v6: bool,
    is_udp: bool,
    /// 0 for the first address space of the tuple; others when a second one collides with it
    /// (see [`super::table`]).
    space: u64,
}

impl std::hash::Hash for FlowKey {
    /// Three writes instead of seven: the hash is taken for every packet.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u128(self.low);
        state.write_u128(self.high);
        let kind = u64::from(self.is_v6) << 33 | u64::from(self.is_udp) << 32;
        state.write_u64(
            (u64::from(self.low_port) << 16 | u64::from(self.high_port) | kind) ^ self.space << 34,
        );
    }
}

/// A key and the side of it that sent the packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sighting {
    pub(crate) key: FlowKey,
    /// The sender is the lower end.
    pub(crate) from_low: bool,
}

impl FlowKey {
    /// The key of a packet.
    pub(crate) fn of(addresses: &Addresses, ports: [u16; 2], transport: Transport) -> Sighting {
        let source = (addresses.source, ports[0]);
        let destination = (addresses.destination, ports[1]);
        let from_low = source <= destination;
        let (low, high) = if from_low { (source, destination) } else { (destination, source) };
        let key = Self {
            low: low.0,
            high: high.0,
            low_port: low.1,
            high_port: high.1,
            is_v6: addresses.is_v6,
            is_udp: transport == Transport::Udp,
            space: 0,
        };
        Sighting { key, from_low }
    }

    /// The same tuple in another address space.
    pub(crate) fn in_space(mut self, domain: u32) -> Self {
        self.space = 1 << 32 | u64::from(domain);
        self
    }

    /// True when addresses, ports and protocol agree, whatever the address space.
    pub(crate) fn has_ends_of(&self, other: &Self) -> bool {
        Self { space: 0, ..*self } == Self { space: 0, ..*other }
    }

    /// True for a key made by [`FlowKey::in_space`].
    pub(crate) const fn is_alternate(&self) -> bool {
        self.space != 0
    }

    /// The lower end.
    pub(crate) fn low(&self) -> Endpoint {
        Endpoint { address: ip_address(self.low, self.is_v6), port: self.low_port }
    }

    /// The higher end.
    pub(crate) fn high(&self) -> Endpoint {
        Endpoint { address: ip_address(self.high, self.is_v6), port: self.high_port }
    }

    /// The tuple as bytes, for ids: the same on every host and in every version.
    pub(crate) fn stable_bytes(&self) -> [u8; 38] {
        let mut bytes = [0; 38];
        bytes[..16].copy_from_slice(&self.low.to_be_bytes());
        bytes[16..32].copy_from_slice(&self.high.to_be_bytes());
        bytes[32..34].copy_from_slice(&self.low_port.to_be_bytes());
        bytes[34..36].copy_from_slice(&self.high_port.to_be_bytes());
        bytes[36] = u8::from(self.is_v6);
        bytes[37] = u8::from(self.is_udp);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_have_one_key() {
        let there = Addresses { source: 1, destination: 2, is_v6: false };
        let back = Addresses { source: 2, destination: 1, is_v6: false };
        let first = FlowKey::of(&there, [9, 80], Transport::Tcp);
        let second = FlowKey::of(&back, [80, 9], Transport::Tcp);
        assert_eq!(first.key, second.key);
        assert!(first.from_low && !second.from_low);
        assert_ne!(first.key, FlowKey::of(&there, [9, 80], Transport::Udp).key);
        assert_ne!(first.key, first.key.in_space(0));
    }

    #[test]
    fn one_host_is_told_apart_by_ports() {
        let addresses = Addresses { source: 1, destination: 1, is_v6: false };
        let there = FlowKey::of(&addresses, [50_000, 80], Transport::Tcp);
        let back = FlowKey::of(&addresses, [80, 50_000], Transport::Tcp);
        assert_eq!(there.key, back.key);
        assert_ne!(there.from_low, back.from_low);
    }
}
