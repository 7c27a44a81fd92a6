//! The filter that runs in the kernel, as a classic BPF program: what it drops never takes a place in the ring.
//!
//! It drops only what is certainly unwanted. A fragment without its header, a tunnel, an extension header: all pass,
//! and the core decides with the whole packet. Addresses are read relative to the network header, so the program is the
//! same for every link layer.
//!
//! ```text
//! loopback?  drop the outgoing copy of each packet
//! IPv4?      scratch ← addresses, ports;  excluded → drop;  not included → drop;  accept
//! IPv6?      the same
//! else       accept
//! ```

use std::net::{IpAddr, SocketAddr};

use libc::sock_filter;

/// Which packets the kernel may drop. Exclusion wins; an empty include list includes everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterRules {
    /// Endpoints that are left out, such as the Kafka brokers that the agent itself writes to.
    pub exclude_endpoints: Vec<SocketAddr>,
    /// Networks of which no end may be: address and prefix length.
    pub exclude_networks: Vec<(IpAddr, u8)>,
    /// Ports that no end may have.
    pub exclude_ports: Vec<u16>,
    /// Networks of which one end must be, if any are given.
    pub include_networks: Vec<(IpAddr, u8)>,
    /// Ports of which one end must have one, if any are given.
    pub include_ports: Vec<u16>,
}

/// A compiled filter.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// The instructions, at most [`MAXIMUM_INSTRUCTIONS`].
    pub(super) instructions: Vec<sock_filter>,
    /// False when the rules did not fit: the program then passes what they would drop.
    pub(super) complete: bool,
}

/// Most instructions that the kernel takes (`BPF_MAXINSNS`).
pub(super) const MAXIMUM_INSTRUCTIONS: usize = 4_096;

/// Scratch cells of the program.
const SOURCE: u32 = 0;
const DESTINATION: u32 = 1;
const SOURCE_PORT: u32 = 2;
const DESTINATION_PORT: u32 = 3;

/// In a port's cell: the packet shows none. No port has this number.
const NO_PORT: u32 = 0xffff_ffff;

/// Offsets that the kernel takes relative to the network header, and to what it knows beside the packet.
const NETWORK: u32 = libc::SKF_NET_OFF.cast_unsigned();
const PROTOCOL: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL).cast_unsigned();
const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
const HARDWARE_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_HATYPE).cast_unsigned();

/// `PACKET_OUTGOING` of `linux/if_packet.h`.
const OUTGOING: u32 = 4;

const ETHERTYPE_IPV4: u32 = 0x0800;
const ETHERTYPE_IPV6: u32 = 0x86dd;
const TCP: u32 = 6;
const UDP: u32 = 17;

/// UDP ports of tunnels whose content the core reads: VXLAN (IANA and Linux's old default) and GENEVE.
const TUNNEL_PORTS: [u32; 3] = [4_789, 8_472, 6_081];

/// Compiles the rules; `snapshot` is how many bytes of a packet the ring keeps.
pub(super) fn compile(rules: &FilterRules, snapshot: u32) -> Program {
    let instructions = assemble(rules, snapshot);
    if instructions.len() <= MAXIMUM_INSTRUCTIONS {
        return Program { instructions, complete: true };
    }
    Program { instructions: assemble(&FilterRules::default(), snapshot), complete: false }
}

fn assemble(rules: &FilterRules, snapshot: u32) -> Vec<sock_filter> {
    let (v4, v6) = (section_v4(rules, snapshot), section_v6(rules, snapshot));
    let mut code = Code(Vec::with_capacity(16 + v4.len() + v6.len()));
    // Every packet of the loopback is seen twice, going out and coming in.
    code.load(HARDWARE_TYPE);
    code.unless_equal(u32::from(libc::ARPHRD_LOOPBACK), 3);
    code.load(PACKET_TYPE);
    code.unless_equal(OUTGOING, 1);
    code.give(0);
    code.load(PROTOCOL);
    code.unless_equal(ETHERTYPE_IPV4, 1);
    // Behind this jump lie three instructions of the dispatch.
    code.jump(3);
    code.unless_equal(ETHERTYPE_IPV6, 1);
    code.jump(1 + v4.len());
    code.give(snapshot);
    code.0.extend(v4);
    code.0.extend(v6);
    code.0
}

fn section_v4(rules: &FilterRules, snapshot: u32) -> Vec<sock_filter> {
    let mut code = Code(Vec::new());
    code.no_ports();
    for (offset, cell) in [(12, SOURCE), (16, DESTINATION)] {
        code.load(NETWORK + offset);
        code.store(cell);
    }
    code.push(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, NETWORK + 9);
    code.branch(libc::BPF_JEQ, TCP, 1, 0);
    code.branch(libc::BPF_JEQ, UDP, 0, 7);
    // Only the first fragment has ports (RFC 791): any offset ends the search for them.
    code.push(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, NETWORK + 6);
    code.branch(libc::BPF_JSET, 0x1fff, 5, 0);
    code.push(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, NETWORK);
    code.ports(libc::BPF_IND, NETWORK);
    for endpoint in &rules.exclude_endpoints {
        if let IpAddr::V4(address) = endpoint.ip().to_canonical() {
            code.drop_endpoint(&[address.to_bits()], &V4_ENDS, endpoint.port());
        }
    }
    let networks = |list: &[(IpAddr, u8)]| -> Vec<Masked> { list.iter().filter_map(masked_v4).collect() };
    code.decide(
        rules,
        &networks(&rules.exclude_networks),
        &networks(&rules.include_networks),
        &V4_ENDS,
        snapshot,
    );
    code.0
}

fn section_v6(rules: &FilterRules, snapshot: u32) -> Vec<sock_filter> {
    let mut code = Code(Vec::new());
    code.no_ports();
    code.push(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, NETWORK + 6);
    code.branch(libc::BPF_JEQ, TCP, 1, 0);
    code.branch(libc::BPF_JEQ, UDP, 0, 4);
    code.ports(libc::BPF_ABS, NETWORK + 40);
    for endpoint in &rules.exclude_endpoints {
        if let IpAddr::V6(address) = endpoint.ip().to_canonical() {
            code.drop_endpoint(&words(address.to_bits()), &V6_ENDS, endpoint.port());
        }
    }
    let networks = |list: &[(IpAddr, u8)]| -> Vec<Masked> { list.iter().filter_map(masked_v6).collect() };
    code.decide(
        rules,
        &networks(&rules.exclude_networks),
        &networks(&rules.include_networks),
        &V6_ENDS,
        snapshot,
    );
    code.0
}

/// Where the words of an end's address are found.
enum Words {
    /// One word in a scratch cell.
    Cell(u32),
    /// Four words from this offset of the network header.
    Header(u32),
}

/// An end: its address, and the cell of its port.
type End = (Words, u32);

const V4_ENDS: [End; 2] = [(Words::Cell(SOURCE), SOURCE_PORT), (Words::Cell(DESTINATION), DESTINATION_PORT)];
const V6_ENDS: [End; 2] = [(Words::Header(8), SOURCE_PORT), (Words::Header(24), DESTINATION_PORT)];

/// The words of a network: position, mask and masked value; words that do not matter are left out.
type Masked = Vec<(usize, u32, u32)>;

fn masked_v4((address, prefix): &(IpAddr, u8)) -> Option<Masked> {
    let IpAddr::V4(address) = address else { return None };
    let mask = u32::MAX.checked_shl(32_u32.saturating_sub(u32::from(*prefix))).unwrap_or(0);
    Some(masked(&[address.to_bits()], &[mask]))
}

fn masked_v6((address, prefix): &(IpAddr, u8)) -> Option<Masked> {
    let IpAddr::V6(address) = address else { return None };
    let mask = u128::MAX.checked_shl(128_u32.saturating_sub(u32::from(*prefix))).unwrap_or(0);
    Some(masked(&words(address.to_bits()), &words(mask)))
}

fn masked(address: &[u32], mask: &[u32]) -> Masked {
    let words = address.iter().zip(mask).enumerate();
    words
        .filter(|(_, (_, mask))| **mask != 0)
        .map(|(index, (word, mask))| (index, *mask, word & mask))
        .collect()
}

/// The four words of an IPv6 address in network order.
fn words(address: u128) -> [u32; 4] {
    let bytes = address.to_be_bytes();
    std::array::from_fn(|index| bytes[4 * index..].first_chunk().map_or(0, |word| u32::from_be_bytes(*word)))
}

/// Instructions in the making. Jumps count the instructions they leap over.
struct Code(Vec<sock_filter>);

impl Code {
    fn push(&mut self, code: u32, k: u32) {
        self.0.push(instruction(code, 0, 0, k));
    }

    fn branch(&mut self, condition: u32, k: u32, when_true: u8, when_false: u8) {
        self.0.push(instruction(libc::BPF_JMP | condition | libc::BPF_K, when_true, when_false, k));
    }

    /// Leaps over `skipped` instructions unless the accumulator is `k`.
    fn unless_equal(&mut self, k: u32, skipped: u8) {
        self.branch(libc::BPF_JEQ, k, 0, skipped);
    }

    /// Unconditional, and so the only jump that is not limited to 255 instructions.
    fn jump(&mut self, skipped: usize) {
        self.push(libc::BPF_JMP | libc::BPF_JA, u32::try_from(skipped).unwrap_or(u32::MAX));
    }

    fn load(&mut self, offset: u32) {
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    }

    fn load_cell(&mut self, cell: u32) {
        self.push(libc::BPF_LD | libc::BPF_MEM, cell);
    }

    fn store(&mut self, cell: u32) {
        self.push(libc::BPF_ST, cell);
    }

    /// Ends the program: bytes to keep, or 0 to drop the packet.
    fn give(&mut self, bytes: u32) {
        self.push(libc::BPF_RET | libc::BPF_K, bytes);
    }

    fn no_ports(&mut self) {
        self.push(libc::BPF_LD | libc::BPF_IMM, NO_PORT);
        self.store(SOURCE_PORT);
        self.store(DESTINATION_PORT);
    }

    /// Four instructions.
    fn ports(&mut self, mode: u32, offset: u32) {
        for (position, cell) in [(0, SOURCE_PORT), (2, DESTINATION_PORT)] {
            self.push(libc::BPF_LD | libc::BPF_H | mode, offset + position);
            self.store(cell);
        }
    }

    fn load_word(&mut self, from: &Words, index: usize) {
        match from {
            Words::Cell(cell) => self.load_cell(*cell),
            Words::Header(offset) => self.load(NETWORK + offset + 4 * u32::try_from(index).unwrap_or(0)),
        }
    }

    /// Drops the packet if either end is the endpoint.
    fn drop_endpoint(&mut self, address: &[u32], ends: &[End], port: u16) {
        for (from, port_cell) in ends {
            // From behind the n-th comparison: the rest of the comparisons, the port's two, the return.
            let mut left = 2 * address.len() + 3;
            for (index, word) in address.iter().enumerate() {
                self.load_word(from, index);
                left -= 2;
                self.unless_equal(*word, u8::try_from(left).unwrap_or(u8::MAX));
            }
            self.load_cell(*port_cell);
            self.unless_equal(u32::from(port), 1);
            self.give(0);
        }
    }

    /// The tests of one network against one end; falls through when the address is in it, else leaps over `skipped`
    /// more instructions.
    fn test_network(&mut self, network: &Masked, from: &Words, skipped: usize) {
        let mut left = 3 * network.len() + skipped;
        for (index, mask, value) in network {
            self.load_word(from, *index);
            self.push(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, *mask);
            left -= 3;
            self.unless_equal(*value, u8::try_from(left).unwrap_or(u8::MAX));
        }
    }

    fn decide(
        &mut self,
        rules: &FilterRules,
        exclude: &[Masked],
        include: &[Masked],
        ends: &[End],
        snapshot: u32,
    ) {
        for (network, (from, _)) in pairs(exclude, ends) {
            self.test_network(network, from, 1);
            self.give(0);
        }
        for (port, (_, cell)) in pairs(&rules.exclude_ports, ends) {
            self.load_cell(*cell);
            self.unless_equal(u32::from(*port), 1);
            self.give(0);
        }
        if !rules.include_networks.is_empty() {
            self.require_network(include, ends);
        }
        if !rules.include_ports.is_empty() {
            self.require_port(&rules.include_ports, ends, snapshot);
        }
        self.give(snapshot);
    }

    /// Drops the packet unless one end is in one of the networks, all of this IP version.
    fn require_network(&mut self, networks: &[Masked], ends: &[End]) {
        let mut tests: Vec<_> = pairs(networks, ends).collect();
        tests.reverse();
        // Built from the end, so that each jump knows how far the end is.
        let mut tail: Vec<sock_filter> = vec![instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0)];
        for (network, (from, _)) in tests {
            let mut test = Self(Vec::new());
            test.test_network(network, from, 1);
            test.jump(tail.len());
            test.0.append(&mut tail);
            tail = test.0;
        }
        self.0.append(&mut tail);
    }

    /// Accepts packets that show no port, tunnels, and the ports; drops the rest.
    fn require_port(&mut self, ports: &[u16], ends: &[End], snapshot: u32) {
        let numbers = ports.iter().map(|port| u32::from(*port)).chain(TUNNEL_PORTS).chain([NO_PORT]);
        let numbers: Vec<u32> = numbers.collect();
        for (_, cell) in ends {
            self.load_cell(*cell);
            for number in &numbers {
                self.unless_equal(*number, 1);
                self.give(snapshot);
            }
        }
        self.give(0);
    }
}

fn pairs<'a, T>(items: &'a [T], ends: &'a [End]) -> impl Iterator<Item = (&'a T, &'a End)> {
    items.iter().flat_map(move |item| ends.iter().map(move |end| (item, end)))
}

/// Codes of classic BPF fit 16 bits.
fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap_or(0), jt, jf, k }
}

#[cfg(test)]
mod tests;
