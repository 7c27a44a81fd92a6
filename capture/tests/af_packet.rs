//! Live capture against the real kernel, in network namespaces: what is sent is what is read.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use wirecall_capture::source::{
    Batch, LinkType, Packet, Source,
    af_packet::{ANY, AfPacket, AfPacketConfig, AfPacketError, FilterRules},
};
use wirecall_test_support::{
    netns::{INTERFACE, Namespace, NamespacePair},
    or_skip, skip,
};

/// Ends the wait of a test that would fail anyway.
const LIMIT: Duration = Duration::from_secs(20);

/// The payload that ends a capture.
const END: &[u8] = b"the end of the capture";

/// A packet as the tests look at it.
#[derive(Clone, Debug)]
struct Seen {
    link_type: LinkType,
    vlan: Option<u16>,
    interface: String,
    time: i64,
    original_length: u32,
    data: Vec<u8>,
}

impl Seen {
    fn new(packet: &Packet<'_>) -> Self {
        Self {
            link_type: packet.link_type,
            vlan: packet.vlan,
            interface: packet.interface.map(ToString::to_string).unwrap_or_default(),
            time: packet.time.as_micros(),
            original_length: packet.original_length,
            data: packet.data.to_vec(),
        }
    }

    /// Protocol, ports and payload of an untagged Ethernet frame with a plain IP header.
    fn transport(&self) -> Option<(u8, u16, u16, &[u8])> {
        assert_eq!(self.link_type, LinkType::ETHERNET);
        let packet = &self.data[14..];
        let (protocol, length, transport) = match packet[0] >> 4 {
            4 => (packet[9], usize::from(u16::from_be_bytes([packet[2], packet[3]])), &packet[20..]),
            6 => (packet[6], 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])), &packet[40..]),
            _ => return None,
        };
        let transport = &transport[..transport.len().min(length - (packet.len() - transport.len()))];
        let header = match protocol {
            6 => usize::from(transport[12] >> 4) * 4,
            17 => 8,
            _ => return None,
        };
        let port = |offset| u16::from_be_bytes([transport[offset], transport[offset + 1]]);
        Some((protocol, port(0), port(2), &transport[header..]))
    }

    fn is_end(&self) -> bool {
        self.data.ends_with(END)
    }
}

/// Runs on a thread of its own inside a namespace.
fn inside<T: Send + 'static>(
    namespace: &Namespace,
    work: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let file = File::open(namespace.path()).unwrap();
    thread::spawn(move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        work()
    })
}

/// Opens the rings inside the namespace, so that traffic can begin when this returns.
fn open(namespace: &Namespace, config: AfPacketConfig) -> Vec<AfPacket> {
    inside(namespace, move || AfPacket::open(&config).unwrap()).join().unwrap()
}

/// With seconds before a reader that the machine lets wait loses anything.
fn on(interface: &str) -> AfPacketConfig {
    let block_timeout = Duration::from_millis(100);
    AfPacketConfig { interface: interface.to_owned(), block_timeout, ..AfPacketConfig::default() }
}

/// A ring that is being read on a thread, up to the end mark. Unread, even little traffic would use up the ring: the
/// kernel closes a block at each timeout.
struct Reading(thread::JoinHandle<(Vec<Seen>, AfPacket)>);

impl Reading {
    fn start(namespace: &Namespace, ring: AfPacket) -> Self {
        Self::start_until(namespace, ring, Seen::is_end)
    }

    fn start_until(
        namespace: &Namespace,
        mut ring: AfPacket,
        mut last: impl FnMut(&Seen) -> bool + Send + 'static,
    ) -> Self {
        Self(inside(namespace, move || {
            let seen = read_until(&mut ring, &mut last);
            let counts = ring.kernel_counts().unwrap();
            assert_eq!(counts.drops, 0);
            assert!(counts.packets >= seen.len() as u64);
            (seen, ring)
        }))
    }

    /// What was read, and the ring for more.
    fn end(self) -> (Vec<Seen>, AfPacket) {
        self.0.join().unwrap()
    }
}

fn read_until(ring: &mut AfPacket, last: &mut dyn FnMut(&Seen) -> bool) -> Vec<Seen> {
    let (mut seen, mut ended, deadline) = (Vec::new(), false, Instant::now() + LIMIT);
    while !ended {
        assert!(Instant::now() < deadline, "the last packet did not come; {} did", seen.len());
        ring.read_batch(Duration::from_millis(100), &mut |packet| {
            let packet = Seen::new(&packet);
            ended |= last(&packet);
            seen.push(packet);
        })
        .unwrap();
    }
    seen
}

/// A server that answers each connection with what it received, on the given ports.
fn echo(namespace: &Namespace, address: IpAddr, ports: &'static [u16]) {
    let (ready, wait) = mpsc::channel();
    inside(namespace, move || {
        let listeners = ports.iter().map(|port| TcpListener::bind((address, *port)).unwrap());
        for listener in listeners.collect::<Vec<_>>() {
            thread::spawn(move || {
                while let Ok((mut stream, _)) = listener.accept() {
                    let mut bytes = Vec::new();
                    stream.read_to_end(&mut bytes).unwrap();
                    stream.write_all(&bytes).unwrap();
                }
            });
        }
        ready.send(()).unwrap();
    });
    wait.recv().unwrap();
}

/// Sends bytes to an echo server from inside the namespace and checks the answer.
fn converse(namespace: &Namespace, address: IpAddr, port: u16, bytes: usize) {
    inside(namespace, move || {
        let mut stream = TcpStream::connect((address, port)).unwrap();
        let sent: Vec<u8> = (0..bytes).map(|index| (index % 251) as u8).collect();
        stream.write_all(&sent).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert_eq!(received, sent);
    })
    .join()
    .unwrap();
}

/// Sends datagrams, then the end mark.
fn send_datagrams(namespace: &Namespace, to: SocketAddr, count: u32) {
    inside(namespace, move || {
        let unspecified: IpAddr = if to.is_ipv4() { "0.0.0.0" } else { "::" }.parse().unwrap();
        let socket = UdpSocket::bind((unspecified, 0)).unwrap();
        for number in 0..count {
            socket.send_to(&number.to_be_bytes(), to).unwrap();
        }
        socket.send_to(END, to).unwrap();
    })
    .join()
    .unwrap();
}

/// Keeps a port open inside the namespace, so that datagrams to it are not answered with errors.
fn sink(namespace: &Namespace, address: IpAddr, port: u16) -> UdpSocket {
    inside(namespace, move || UdpSocket::bind((address, port)).unwrap()).join().unwrap()
}

/// Stream bytes from and to the server's port.
fn stream_bytes(seen: &[Seen], port: u16) -> (usize, usize) {
    let total = |from_server: bool| {
        let payloads =
            seen.iter().filter_map(Seen::transport).filter(|(protocol, source, destination, _)| {
                *protocol == 6 && if from_server { *source == port } else { *destination == port }
            });
        payloads.map(|(.., payload)| payload.len()).sum()
    };
    (total(false), total(true))
}

#[test]
fn what_crosses_a_veth_is_read_whole() {
    let pair = or_skip!(NamespacePair::create());
    for address in [IpAddr::from(pair.server.ipv4()), pair.server.ipv6().into()] {
        // At the sender's end: what leaves there can still be lost in the receiver's queue.
        let reading = Reading::start(&pair.client, open(&pair.client, on(INTERFACE)).remove(0));
        let _sink = sink(&pair.server, address, 700);
        echo(&pair.server, address, &[80]);
        converse(&pair.client, address, 80, 300_000);
        send_datagrams(&pair.client, SocketAddr::new(address, 700), 5_000);
        let (seen, _) = reading.end();

        let numbers: Vec<u32> = seen
            .iter()
            .filter_map(Seen::transport)
            .filter(|(protocol, _, destination, payload)| {
                *protocol == 17 && *destination == 700 && payload.len() == 4
            })
            .map(|(.., payload)| u32::from_be_bytes(payload.try_into().unwrap()))
            .collect();
        assert_eq!(numbers, (0..5_000).collect::<Vec<_>>());
        let (to_server, from_server) = stream_bytes(&seen, 80);
        assert!(to_server >= 300_000 && from_server >= 300_000, "{to_server} and {from_server} bytes");
        assert!(seen.iter().all(|packet| packet.interface == INTERFACE));
        assert!(seen.iter().all(|packet| packet.original_length as usize == packet.data.len()));
        assert!(seen.windows(2).all(|pair| pair[0].time <= pair[1].time));
    }
}

#[test]
fn the_kernel_leaves_out_what_the_filter_excludes() {
    let pair = or_skip!(NamespacePair::create());
    for address in [IpAddr::from(pair.server.ipv4()), pair.server.ipv6().into()] {
        let exclude = |port| FilterRules {
            exclude_endpoints: vec![SocketAddr::new(address, port)],
            ..FilterRules::default()
        };
        let ring = open(&pair.server, AfPacketConfig { filter: exclude(9_092), ..on(INTERFACE) }).remove(0);
        let reading = Reading::start(&pair.server, ring);
        let _sink = sink(&pair.server, address, 700);
        echo(&pair.server, address, &[9_092, 8_080]);
        converse(&pair.client, address, 9_092, 10_000);
        converse(&pair.client, address, 8_080, 10_000);
        send_datagrams(&pair.client, SocketAddr::new(address, 700), 0);
        let (seen, mut ring) = reading.end();
        assert_eq!(stream_bytes(&seen, 9_092), (0, 0));
        assert_eq!(stream_bytes(&seen, 8_080), (10_000, 10_000));

        // Replaced while it runs.
        ring.set_filter(exclude(8_080)).unwrap();
        assert!(ring.filter_is_complete());
        let reading = Reading::start(&pair.server, ring);
        converse(&pair.client, address, 9_092, 10_000);
        converse(&pair.client, address, 8_080, 10_000);
        send_datagrams(&pair.client, SocketAddr::new(address, 700), 0);
        let (seen, _) = reading.end();
        assert_eq!(stream_bytes(&seen, 9_092), (10_000, 10_000));
        assert_eq!(stream_bytes(&seen, 8_080), (0, 0));
    }
}

#[test]
fn every_kind_of_rule_is_a_program_that_the_kernel_accepts() {
    let pair = or_skip!(NamespacePair::create());
    let (server, client) = (IpAddr::from(pair.server.ipv4()), IpAddr::from(pair.client.ipv4()));
    let filter = FilterRules {
        exclude_endpoints: vec![SocketAddr::new(server, 81), "[fd00::9]:9092".parse().unwrap()],
        exclude_networks: vec![("192.0.2.0".parse().unwrap(), 24), ("2001:db8::".parse().unwrap(), 33)],
        exclude_ports: vec![82],
        include_networks: vec![(client, 32), ("fd00::".parse().unwrap(), 8)],
        include_ports: vec![80, 81, 82, 700],
    };
    let ring = open(&pair.server, AfPacketConfig { filter, ..on(INTERFACE) }).remove(0);
    let reading = Reading::start(&pair.server, ring);
    let _sink = sink(&pair.server, server, 700);
    echo(&pair.server, server, &[80, 81, 82, 83]);
    for port in [80, 81, 82, 83] {
        converse(&pair.client, server, port, 1_000);
    }
    send_datagrams(&pair.client, SocketAddr::new(server, 700), 0);
    let (seen, _) = reading.end();
    let bytes = [80, 81, 82, 83].map(|port| stream_bytes(&seen, port).0);
    assert_eq!(bytes, [1_000, 0, 0, 0]);
}

/// Counts the conversations of a ring on a thread, until `done` and nothing is left; each must be whole.
fn count_connections(mut ring: AfPacket, done: Arc<AtomicBool>) -> thread::JoinHandle<usize> {
    thread::spawn(move || {
        let mut bytes = HashMap::<u16, [usize; 2]>::new();
        loop {
            let last = done.load(Ordering::Acquire);
            let batch = ring.read_batch(Duration::from_millis(100), &mut |packet| {
                if let Some((6, source, destination, payload)) = Seen::new(&packet).transport() {
                    let (client, way) = if source == 80 { (destination, 1) } else { (source, 0) };
                    bytes.entry(client).or_default()[way] += payload.len();
                }
            });
            if batch.unwrap() == Batch::Idle && last {
                break;
            }
        }
        assert!(bytes.values().all(|bytes| *bytes == [1_000, 1_000]), "{bytes:?}");
        bytes.len()
    })
}

#[test]
fn both_directions_of_a_connection_meet_in_one_of_several_rings() {
    let pair = or_skip!(NamespacePair::create());
    let address = IpAddr::from(pair.server.ipv4());
    let rings = open(&pair.server, AfPacketConfig { rings: 2, ..on(INTERFACE) });
    assert_eq!(rings.len(), 2);
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = rings.into_iter().map(|ring| count_connections(ring, Arc::clone(&done))).collect();
    echo(&pair.server, address, &[80]);
    for _ in 0..40 {
        converse(&pair.client, address, 80, 1_000);
    }
    done.store(true, Ordering::Release);
    let connections: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    assert_eq!(connections[0] + connections[1], 40);
    assert!(connections.iter().all(|count| *count > 0), "{connections:?}");
}

#[test]
fn a_packet_on_the_loopback_is_read_once() {
    let pair = or_skip!(NamespacePair::create());
    let address: IpAddr = "127.0.0.1".parse().unwrap();
    let _sink = sink(&pair.client, address, 700);
    for interface in ["lo", ANY] {
        let reading = Reading::start(&pair.client, open(&pair.client, on(interface)).remove(0));
        send_datagrams(&pair.client, SocketAddr::new(address, 700), 100);
        let (seen, _) = reading.end();
        assert_eq!(seen.iter().filter(|packet| packet.interface == "lo").count(), 101);
    }
}

#[test]
fn any_names_the_interface_of_each_packet() {
    let pair = or_skip!(NamespacePair::create());
    let mut ends = 0;
    let reading = Reading::start_until(&pair.server, open(&pair.server, on(ANY)).remove(0), move |packet| {
        ends += usize::from(packet.is_end());
        ends == 2
    });
    let (loopback, veth): (IpAddr, IpAddr) = ("127.0.0.1".parse().unwrap(), pair.server.ipv4().into());
    let (_one, _other) = (sink(&pair.server, loopback, 700), sink(&pair.server, veth, 700));
    send_datagrams(&pair.server, SocketAddr::new(loopback, 700), 3);
    send_datagrams(&pair.client, SocketAddr::new(veth, 700), 3);
    let (seen, _) = reading.end();
    let names: std::collections::BTreeSet<_> = seen.iter().map(|packet| packet.interface.as_str()).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["lo", INTERFACE]);
}

/// Sends an Ethernet frame with a VLAN tag as it is, which the kernels of both ends take for one of a tagged network.
const SEND_TAGGED: &str = "
import socket
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(('veth0', 0))
header = bytes.fromhex('ffffffffffff' '020000000001' '8100' '6005' '88b5')
wire.send(header + b'the end of the capture')
";

#[test]
fn a_tag_that_the_kernel_took_off_is_told() {
    let pair = or_skip!(NamespacePair::create());
    let reading = Reading::start(&pair.server, open(&pair.server, on(INTERFACE)).remove(0));
    if let Err(error) = pair.client.run("python3", &["-c", SEND_TAGGED]) {
        skip!("no frame can be sent by hand: {error:#}");
    }
    let (seen, _) = reading.end();
    let last = seen.iter().find(|packet| packet.is_end()).unwrap();
    assert_eq!(last.vlan, Some(5));
    assert_eq!(last.data[12..14], [0x88, 0xb5]);
}

#[test]
fn a_packet_is_cut_at_the_snapshot_length() {
    let pair = or_skip!(NamespacePair::create());
    let mut ring = open(&pair.server, AfPacketConfig { snapshot: 50, ..on(INTERFACE) }).remove(0);
    let address = IpAddr::from(pair.server.ipv4());
    let _sink = sink(&pair.server, address, 700);
    send_datagrams(&pair.client, SocketAddr::new(address, 700), 0);
    let whole = 14 + 20 + 8 + END.len();
    let seen = read_until(&mut ring, &mut |packet| packet.original_length as usize == whole);
    assert_eq!(seen.last().unwrap().data.len(), 50);
}

/// Nobody reads while more comes than the ring holds: the kernel drops, and says how much.
#[test]
fn what_the_kernel_drops_is_counted() {
    let pair = or_skip!(NamespacePair::create());
    let address = IpAddr::from(pair.server.ipv4());
    let mut ring = open(&pair.client, AfPacketConfig { ring_bytes: 0, ..on(INTERFACE) }).remove(0);
    let _sink = sink(&pair.server, address, 700);
    inside(&pair.client, move || {
        let socket = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
        for _ in 0..4_000 {
            socket.send_to(&[0; 1_400], (address, 700)).unwrap();
        }
    })
    .join()
    .unwrap();
    let mut read = 0;
    while let Batch::Packets(packets) = ring.read_batch(Duration::from_millis(200), &mut |_| {}).unwrap() {
        read += packets as u64;
    }
    let counts = ring.kernel_counts().unwrap();
    assert!(counts.drops > 1_000, "{counts:?}");
    assert_eq!(ring.lost_packets().unwrap(), counts.drops);
    assert_eq!(read + counts.drops, counts.packets);
}

#[test]
fn capture_goes_on_after_the_interface_was_down() {
    let pair = or_skip!(NamespacePair::create());
    let mut ring = open(&pair.server, on(INTERFACE)).remove(0);
    let address = IpAddr::from(pair.server.ipv4());
    let _sink = sink(&pair.server, address, 700);
    send_datagrams(&pair.client, SocketAddr::new(address, 700), 0);
    read_until(&mut ring, &mut Seen::is_end);

    pair.server.run("ip", &["link", "set", INTERFACE, "down"]).unwrap();
    // What was on its way still comes; then it is quiet, which is no error.
    while ring.read_batch(Duration::from_millis(50), &mut |_| {}).unwrap() != Batch::Idle {}
    pair.server.run("ip", &["link", "set", INTERFACE, "up"]).unwrap();
    send_datagrams(&pair.client, SocketAddr::new(address, 700), 0);
    read_until(&mut ring, &mut Seen::is_end);
}

#[test]
fn what_cannot_be_captured_on_is_named() {
    let open = |interface: &str| AfPacket::open(&on(interface)).err().unwrap();
    assert!(matches!(open("no-such"), AfPacketError::NoInterface { interface } if interface == "no-such"));
    assert!(matches!(open("a-name-of-more-than-fifteen"), AfPacketError::InterfaceName { .. }));
    assert!(matches!(open("nul\0"), AfPacketError::InterfaceName { .. }));
}
