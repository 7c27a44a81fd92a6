//! Client and server of a connection whose handshake was not seen.

use wirecall_schemas::Orientation;

/// Ports below are assigned to services and need a privilege to listen on (RFC 6335 section 6).
const FIRST_USER_PORT: u16 = 1024;
/// Linux hands out client ports from here on (`ip_local_port_range`); IANA's own range begins at 49152.
const FIRST_EPHEMERAL_PORT: u16 = 32_768;
/// Services above the system ports that clusters run, in the order of their numbers.
const KNOWN_SERVICES: [u16; 39] = [
    1080, 1433, 1521, 1812, 1813, 1883, 2181, 2379, 3000, 3128, 3260, 3268, 3306, 3868, 4317, 4318, 5000,
    5060, 5222, 5353, 5432, 5671, 5672, 6379, 6443, 7000, 8000, 8080, 8081, 8443, 8883, 8888, 9000, 9042,
    9090, 9092, 9200, 11211, 27017,
];

/// How much a port looks like a server's: 3 system, 2 known service, 1 below the ephemeral range, 0 ephemeral.
fn rank(port: u16) -> u8 {
    if port < FIRST_USER_PORT {
        3
    } else if KNOWN_SERVICES.binary_search(&port).is_ok() {
        2
    } else {
        u8::from(port < FIRST_EPHEMERAL_PORT)
    }
}

/// Whether the sender of the first packet is the client, and how that was decided.
pub(crate) fn guess(source_port: u16, destination_port: u16) -> (bool, Orientation) {
    match rank(source_port).cmp(&rank(destination_port)) {
        std::cmp::Ordering::Less => (true, Orientation::Port),
        std::cmp::Ordering::Greater => (false, Orientation::Port),
        std::cmp::Ordering::Equal => (true, Orientation::FirstPacket),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_sorted() {
        assert!(KNOWN_SERVICES.is_sorted());
    }

    #[test]
    fn the_better_known_port_is_the_server() {
        assert_eq!(guess(50_000, 80), (true, Orientation::Port));
        assert_eq!(guess(80, 50_000), (false, Orientation::Port));
        assert_eq!(guess(8080, 2_000), (false, Orientation::Port));
        assert_eq!(guess(53, 8080), (false, Orientation::Port));
        assert_eq!(guess(40_000, 12_345), (true, Orientation::Port));
        assert_eq!(guess(40_000, 50_000), (true, Orientation::FirstPacket));
        assert_eq!(guess(5353, 5353), (true, Orientation::FirstPacket));
    }
}
