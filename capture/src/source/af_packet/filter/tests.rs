//! Runs the program in an interpreter of classic BPF that knows what the kernel knows of a packet. A test against the
//! kernel itself is in `tests/af_packet.rs`.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

const SNAPSHOT: u32 = 262_144;

/// A packet from its network header on, and what the kernel knows beside it.
#[derive(Clone)]
struct Packet {
    network: Vec<u8>,
    protocol: u32,
    packet_type: u32,
    hardware_type: u32,
}

impl Packet {
    fn new(source: IpAddr, destination: IpAddr, transport: u8, ports: (u16, u16)) -> Self {
        let mut payload = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
        payload.resize(20, 0);
        let (network, protocol) = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                // With one option word, so that the header length matters.
                let mut header = vec![0x46, 0, 0, 44, 0, 0, 0, 0, 64, transport, 0, 0];
                header.extend(source.octets());
                header.extend(destination.octets());
                header.extend([1; 4]);
                (header, ETHERTYPE_IPV4)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut header = vec![0x60, 0, 0, 0, 0, 20, transport, 64];
                header.extend(source.octets());
                header.extend(destination.octets());
                (header, ETHERTYPE_IPV6)
            }
            _ => panic!("mixed versions"),
        };
        Self { network: [network, payload].concat(), protocol, packet_type: 0, hardware_type: 1 }
    }

    fn load(&self, offset: u32, length: usize) -> Option<u32> {
        match offset {
            PROTOCOL => return Some(self.protocol),
            PACKET_TYPE => return Some(self.packet_type),
            HARDWARE_TYPE => return Some(self.hardware_type),
            _ => {}
        }
        let start = usize::try_from(offset.checked_sub(NETWORK)?).ok()?;
        let bytes = self.network.get(start..start + length)?;
        Some(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }
}

/// What the kernel would keep of the packet: as `bpf_check_classic` demands, every jump stays inside and every program
/// ends in a return.
fn run(program: &[sock_filter], packet: &Packet) -> u32 {
    let (mut accumulator, mut index, mut cells) = (0_u32, 0_u32, [None::<u32>; 16]);
    let mut at = 0;
    loop {
        let step = program[at];
        at += 1;
        let (code, k) = (u32::from(step.code), step.k);
        let size = match code & 0x18 {
            libc::BPF_W => 4,
            libc::BPF_H => 2,
            _ => 1,
        };
        match (code & 7, code & 0xe0) {
            (libc::BPF_LD, libc::BPF_IMM) => accumulator = k,
            (libc::BPF_LD, libc::BPF_MEM) => accumulator = cells[k as usize].expect("cell was written"),
            (libc::BPF_LD, mode @ (libc::BPF_ABS | libc::BPF_IND)) => {
                let offset = if mode == libc::BPF_IND { k + index } else { k };
                let Some(value) = packet.load(offset, size) else { return 0 };
                accumulator = value;
            }
            (libc::BPF_LDX, libc::BPF_MSH) => {
                let Some(value) = packet.load(k, 1) else { return 0 };
                index = 4 * (value & 15);
            }
            (libc::BPF_ST, _) => cells[k as usize] = Some(accumulator),
            (libc::BPF_ALU, _) => {
                assert_eq!(code & 0xf0, libc::BPF_AND);
                accumulator &= k;
            }
            (libc::BPF_RET, _) => return k,
            (libc::BPF_JMP, _) => {
                at += match code & 0xf0 {
                    libc::BPF_JA => k as usize,
                    libc::BPF_JEQ => usize::from(if accumulator == k { step.jt } else { step.jf }),
                    libc::BPF_JSET => usize::from(if accumulator & k != 0 { step.jt } else { step.jf }),
                    other => panic!("jump {other:x}"),
                };
            }
            other => panic!("instruction {other:?}"),
        }
    }
}

fn passes(rules: &FilterRules, packet: &Packet) -> bool {
    let program = compile(rules, SNAPSHOT);
    assert!(program.complete);
    match run(&program.instructions, packet) {
        0 => false,
        kept => {
            assert_eq!(kept, SNAPSHOT);
            true
        }
    }
}

fn v4(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

fn v6(last: u16) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, last).into()
}

fn tcp(source: IpAddr, destination: IpAddr, ports: (u16, u16)) -> Packet {
    Packet::new(source, destination, 6, ports)
}

#[test]
fn without_rules_everything_passes() {
    let rules = FilterRules::default();
    assert!(passes(&rules, &tcp(v4(1), v4(2), (1, 2))));
    assert!(passes(&rules, &tcp(v6(1), v6(2), (1, 2))));
    let arp = Packet { network: vec![0; 28], protocol: 0x0806, packet_type: 1, hardware_type: 1 };
    assert!(passes(&rules, &arp));
}

#[test]
fn the_outgoing_copy_is_dropped_on_the_loopback_alone() {
    let mut packet = tcp(v4(1), v4(2), (1, 2));
    packet.packet_type = OUTGOING;
    assert!(passes(&FilterRules::default(), &packet));
    packet.hardware_type = u32::from(libc::ARPHRD_LOOPBACK);
    assert!(!passes(&FilterRules::default(), &packet));
    packet.packet_type = 0;
    assert!(passes(&FilterRules::default(), &packet));
}

#[test]
fn an_excluded_endpoint_is_an_address_and_a_port_in_either_direction() {
    for (broker, client, other) in [(v4(9), v4(1), v4(8)), (v6(9), v6(1), v6(8))] {
        let exclude_endpoints = vec![SocketAddr::new(other, 1), SocketAddr::new(broker, 9_092)];
        let rules = FilterRules { exclude_endpoints, ..FilterRules::default() };
        assert!(!passes(&rules, &tcp(client, broker, (5_000, 9_092))));
        assert!(!passes(&rules, &tcp(broker, client, (9_092, 5_000))));
        assert!(passes(&rules, &tcp(client, broker, (5_000, 9_093))));
        assert!(passes(&rules, &tcp(client, broker, (9_092, 5_000))));
        assert!(passes(&rules, &tcp(client, other, (5_000, 9_092))));
        assert!(!passes(&rules, &tcp(client, other, (5_000, 1))));
    }
}

#[test]
fn an_ipv4_endpoint_written_as_ipv6_means_the_same() {
    let mapped = Ipv4Addr::new(10, 0, 0, 9).to_ipv6_mapped();
    let exclude_endpoints = vec![SocketAddr::new(mapped.into(), 9_092)];
    let rules = FilterRules { exclude_endpoints, ..FilterRules::default() };
    assert!(!passes(&rules, &tcp(v4(1), v4(9), (5_000, 9_092))));
}

#[test]
fn networks_are_tested_by_their_prefix() {
    let network = |text: &str, prefix| (text.parse::<IpAddr>().unwrap(), prefix);
    let inside = [v4(200), v6(1)];
    let outside: [IpAddr; 2] = ["10.0.1.1".parse().unwrap(), "fd00:0:0:2::1".parse().unwrap()];
    for prefixes in [(25, 64), (24, 63), (0, 0)] {
        let networks = vec![network("10.0.0.129", prefixes.0), network("fd00:0:0:1::", prefixes.1)];
        let exclude = FilterRules { exclude_networks: networks.clone(), ..FilterRules::default() };
        let include = FilterRules { include_networks: networks, ..FilterRules::default() };
        for (inside, outside) in inside.into_iter().zip(outside) {
            for packet in [tcp(inside, outside, (1, 2)), tcp(outside, inside, (1, 2))] {
                assert!(!passes(&exclude, &packet));
                assert!(passes(&include, &packet));
            }
            let neither = prefixes.0 == 0;
            assert_eq!(passes(&exclude, &tcp(outside, outside, (1, 2))), !neither);
            assert_eq!(passes(&include, &tcp(outside, outside, (1, 2))), neither);
        }
    }
}

#[test]
fn networks_of_one_version_shut_out_the_other() {
    let rules = FilterRules { include_networks: vec![(v4(0), 8)], ..FilterRules::default() };
    assert!(passes(&rules, &tcp(v4(1), v4(2), (1, 2))));
    assert!(!passes(&rules, &tcp(v6(1), v6(2), (1, 2))));
}

#[test]
fn ports_are_included_and_excluded_at_either_end() {
    let include = FilterRules { include_ports: vec![80, 443], ..FilterRules::default() };
    let exclude = FilterRules { exclude_ports: vec![80, 443], ..FilterRules::default() };
    for (one, two) in [(v4(1), v4(2)), (v6(1), v6(2))] {
        for ports in [(5_000, 80), (443, 5_000)] {
            assert!(passes(&include, &tcp(one, two, ports)));
            assert!(!passes(&exclude, &tcp(one, two, ports)));
        }
        assert!(!passes(&include, &tcp(one, two, (5_000, 8_080))));
        assert!(passes(&exclude, &tcp(one, two, (5_000, 8_080))));
    }
}

#[test]
fn what_shows_no_port_is_left_to_the_core() {
    let rules = FilterRules { include_ports: vec![80], ..FilterRules::default() };
    let icmp = Packet::new(v4(1), v4(2), 1, (0, 0));
    let extension = Packet::new(v6(1), v6(2), 0, (0, 0));
    let vxlan = Packet::new(v4(1), v4(2), 17, (5_000, 4_789));
    let mut fragment = tcp(v4(1), v4(2), (9, 9));
    fragment.network[7] = 1;
    for packet in [icmp, extension, vxlan, fragment] {
        assert!(passes(&rules, &packet));
    }
    let mut first_fragment = tcp(v4(1), v4(2), (9, 9));
    first_fragment.network[6] = 0x20;
    assert!(!passes(&rules, &first_fragment));
}

#[test]
fn exclusion_wins() {
    let rules = FilterRules {
        exclude_endpoints: vec![SocketAddr::new(v4(9), 80)],
        include_ports: vec![80],
        include_networks: vec![(v4(0), 24)],
        ..FilterRules::default()
    };
    assert!(!passes(&rules, &tcp(v4(1), v4(9), (5_000, 80))));
    assert!(passes(&rules, &tcp(v4(1), v4(8), (5_000, 80))));
}

#[test]
fn hundreds_of_rules_still_jump_to_the_right_place() {
    let exclude_endpoints: Vec<_> = (0..60).map(|last| SocketAddr::new(v6(last), 9_092)).collect();
    let include_networks: Vec<_> = (0..100).map(|last| (v4(last), 32)).chain([(v6(0), 64)]).collect();
    let rules = FilterRules { exclude_endpoints, include_networks, ..FilterRules::default() };
    assert!(passes(&rules, &tcp(v4(99), v4(200), (1, 2))));
    assert!(!passes(&rules, &tcp(v4(100), v4(200), (1, 2))));
    assert!(!passes(&rules, &tcp(v6(59), v6(200), (9_092, 2))));
    assert!(passes(&rules, &tcp(v6(60), v6(200), (9_092, 2))));
}

#[test]
fn rules_beyond_the_kernels_limit_leave_the_decision_to_the_core() {
    let exclude_endpoints = (0..1_000).map(|last| SocketAddr::new(v4(9), last)).collect();
    let program = compile(&FilterRules { exclude_endpoints, ..FilterRules::default() }, SNAPSHOT);
    assert!(!program.complete);
    assert!(program.instructions.len() <= MAXIMUM_INSTRUCTIONS);
    assert_eq!(run(&program.instructions, &tcp(v4(1), v4(9), (5, 6))), SNAPSHOT);
}
