//! What the tests share: a packet builder, two hosts that talk, and a small random generator.

use wirecall_schemas::{Chunk, ChunkCause, ChunkKind, ConnectionId, Segment, Timestamp};

use crate::packet::{ACK, SYN};
use crate::{Capture, CaptureConfig, Count, LinkType, Packet};

/// SplitMix64: enough to shuffle, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`, 0 if there is none.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// Bytes of several parts.
pub(crate) fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

pub(crate) fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    join(&[&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], &kind.to_be_bytes(), payload])
}

/// An IPv4 packet; `fragment` is the field of flags and offset.
pub(crate) fn ipv4_part(ends: [[u8; 4]; 2], protocol: u8, id: u16, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let total = (20 + payload.len()) as u16;
    let head = [0x45, 0];
    let tail = [64, protocol, 0, 0];
    join(&[
        &head,
        &total.to_be_bytes(),
        &id.to_be_bytes(),
        &fragment.to_be_bytes(),
        &tail,
        &ends[0],
        &ends[1],
        payload,
    ])
}

pub(crate) fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_part([[10, 0, 0, 1], [10, 0, 0, 2]], protocol, 0, 0, payload)
}

pub(crate) fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    let (mut source, mut destination) = ([0; 16], [0; 16]);
    (source[0], source[15], destination[0], destination[15]) = (0xfd, 1, 0xfd, 2);
    join(&[&[0x60, 0, 0, 0], &length, &[next, 64], &source, &destination, payload])
}

pub(crate) fn tcp(ports: [u16; 2], numbers: [u32; 2], flags: u8, options: &[u8], data: &[u8]) -> Vec<u8> {
    let offset = ((20 + options.len()) / 4) as u8;
    join(&[
        &ports[0].to_be_bytes(),
        &ports[1].to_be_bytes(),
        &numbers[0].to_be_bytes(),
        &numbers[1].to_be_bytes(),
        &[offset << 4, flags, 1, 0, 0, 0, 0, 0],
        options,
        data,
    ])
}

pub(crate) fn udp(ports: [u16; 2], data: &[u8]) -> Vec<u8> {
    let length = (8 + data.len()) as u16;
    join(&[&ports[0].to_be_bytes(), &ports[1].to_be_bytes(), &length.to_be_bytes(), &[0, 0], data])
}

/// The payload of every sample.
pub(crate) const SAMPLE: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// A TCP segment with [`SAMPLE`].
pub(crate) fn sample_tcp() -> Vec<u8> {
    tcp([40_000, 80], [1_001, 5_001], ACK, &[1, 1, 1, 0], SAMPLE)
}

/// One frame for each header and tunnel, all with the same TCP segment inside.
pub(crate) fn samples() -> Vec<(&'static str, LinkType, Vec<u8>)> {
    let plain = ipv4(6, &sample_tcp());
    let framed = ethernet(0x0800, &plain);
    let tunnel = |port: u16, header: &[u8]| {
        ethernet(0x0800, &ipv4(17, &udp([50_000, port], &join(&[header, &framed]))))
    };
    let extended = join(&[&[43, 0, 0, 0, 0, 0, 0, 0], &[6, 0, 0, 0, 0, 0, 0, 0], &sample_tcp()]);
    let snap: &[u8] = &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0];
    let wireless = join(&[&[0x88, 1], &[0; 22], &[0, 0], snap, &plain]);
    let pppoe = join(&[&[0x11, 0, 0, 1], &((plain.len() + 2) as u16).to_be_bytes(), &[0, 0x21], &plain]);
    let logged = (plain.len() as u16 + 4).to_le_bytes();
    vec![
        ("ethernet", LinkType::ETHERNET, framed.clone()),
        ("snap", LinkType::ETHERNET, join(&[&[0; 12], &[0, 70], snap, &plain])),
        ("vlan", LinkType::ETHERNET, ethernet(0x8100, &join(&[&[0, 5, 8, 0], &plain]))),
        ("qinq", LinkType::ETHERNET, ethernet(0x88a8, &join(&[&[0, 5, 0x81, 0, 0, 6, 8, 0], &plain]))),
        ("old qinq", LinkType::ETHERNET, ethernet(0x9100, &join(&[&[0, 5, 8, 0], &plain]))),
        ("backbone", LinkType::ETHERNET, ethernet(0x88e7, &join(&[&[0, 0, 0, 9], &framed]))),
        ("mpls", LinkType::ETHERNET, ethernet(0x8847, &join(&[&[0, 1, 0, 64, 0, 2, 1, 64], &plain]))),
        ("pseudowire", LinkType::ETHERNET, ethernet(0x8847, &join(&[&[0, 2, 1, 64, 0, 0, 0, 0], &framed]))),
        ("pppoe", LinkType::ETHERNET, ethernet(0x8864, &pppoe)),
        ("ipv6", LinkType::ETHERNET, ethernet(0x86dd, &ipv6(6, &sample_tcp()))),
        ("extensions", LinkType::ETHERNET, ethernet(0x86dd, &ipv6(0, &extended))),
        ("4in6", LinkType::ETHERNET, ethernet(0x86dd, &ipv6(4, &plain))),
        ("6in4", LinkType::ETHERNET, ethernet(0x0800, &ipv4(41, &ipv6(6, &sample_tcp())))),
        ("ipip", LinkType::ETHERNET, ethernet(0x0800, &ipv4(4, &plain))),
        ("gre", LinkType::ETHERNET, ethernet(0x0800, &ipv4(47, &join(&[&[0, 0, 8, 0], &plain])))),
        (
            "gre key",
            LinkType::ETHERNET,
            ethernet(0x0800, &ipv4(47, &join(&[&[0x30, 0, 0x65, 0x58, 0, 0, 0, 7, 0, 0, 0, 1], &framed]))),
        ),
        (
            "erspan 2",
            LinkType::ETHERNET,
            ethernet(0x0800, &ipv4(47, &join(&[&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1], &[0; 8], &framed]))),
        ),
        ("vxlan", LinkType::ETHERNET, tunnel(4789, &[8, 0, 0, 0, 0, 0, 7, 0])),
        ("geneve", LinkType::ETHERNET, tunnel(6081, &[1, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 0])),
        (
            "gtp",
            LinkType::RAW,
            ipv4(17, &udp([2152, 2152], &join(&[&[0x30, 255, 0, 60, 0, 0, 0, 7], &plain]))),
        ),
        ("cooked", LinkType::LINUX_SLL, join(&[&[0; 14], &[8, 0], &plain])),
        ("cooked 2", LinkType::LINUX_SLL2, join(&[&[8, 0], &[0; 18], &plain])),
        ("raw", LinkType::RAW, plain.clone()),
        ("raw ipv6", LinkType::IPV6, ipv6(6, &sample_tcp())),
        ("loopback", LinkType::NULL, join(&[&[2, 0, 0, 0], &plain])),
        ("loopback big endian", LinkType::LOOP, join(&[&[0, 0, 0, 30], &ipv6(6, &sample_tcp())])),
        ("ppp", LinkType::PPP, join(&[&[0xff, 3, 0, 0x21], &plain])),
        ("ppp compressed", LinkType::PPP, join(&[&[0x21], &plain])),
        ("cisco hdlc", LinkType::CISCO_HDLC, join(&[&[0x0f, 0, 8, 0], &plain])),
        ("802.11", LinkType::IEEE_802_11, wireless.clone()),
        ("radiotap", LinkType::RADIOTAP, join(&[&[0, 0, 9, 0, 2, 0, 0, 0, 0x10], &wireless, &[9, 9, 9, 9]])),
        (
            "nflog",
            LinkType::NFLOG,
            join(&[&[2, 0, 0, 1, 5, 0, 10, 0, 65, 0, 0, 0], &logged, &[9, 0], &plain]),
        ),
    ]
}

/// A part of a stream as the segments give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Bytes(Vec<u8>),
    Gap(i64),
}

/// Bytes as a part, for comparisons.
pub(crate) fn bytes(text: &str) -> Part {
    Part::Bytes(text.as_bytes().to_vec())
}

/// A client at 10.0.0.1:40000 and a server at 10.0.0.2:80, and the capture that watches them.
pub(crate) struct Harness {
    pub(crate) capture: Capture,
    pub(crate) segments: Vec<Segment>,
    /// Microseconds; each packet comes one millisecond after the one before.
    pub(crate) time: i64,
    pub(crate) initial: [u32; 2],
    pub(crate) ports: [u16; 2],
    pub(crate) hosts: [[u8; 4]; 2],
    pub(crate) vlan: Option<u16>,
    /// TSval of the client's SYN.
    pub(crate) timestamp: Option<u32>,
}

impl Harness {
    pub(crate) fn new() -> Self {
        Self::with(CaptureConfig::default())
    }

    pub(crate) fn with(config: CaptureConfig) -> Self {
        Self {
            capture: Capture::new(config),
            segments: Vec::new(),
            time: 1_700_000_000_000_000,
            initial: [1_000, 5_000],
            ports: [40_000, 80],
            hosts: [[10, 0, 0, 1], [10, 0, 0, 2]],
            vlan: None,
            timestamp: None,
        }
    }

    pub(crate) fn limits(change: impl FnOnce(&mut crate::Limits)) -> Self {
        let mut config = CaptureConfig::default();
        change(&mut config.limits);
        Self::with(config)
    }

    /// A frame of which only `captured` bytes were kept.
    pub(crate) fn cut_frame(&mut self, link_type: LinkType, frame: &[u8], captured: usize) {
        self.time += 1_000;
        self.capture.handle_packet(Packet {
            time: Timestamp::from_micros(self.time),
            link_type,
            data: &frame[..captured],
            original_length: frame.len() as u32,
            interface: None,
            vlan: self.vlan,
        });
        self.poll();
    }

    pub(crate) fn frame(&mut self, link_type: LinkType, frame: &[u8]) {
        self.cut_frame(link_type, frame, frame.len());
    }

    fn poll(&mut self) {
        while let Some(segment) = self.capture.poll_segment() {
            assert_eq!(segment.check(), Ok(()));
            self.segments.push(segment);
        }
        assert!(self.capture.stats().is_conserved(), "{:?}", self.capture.stats());
    }

    /// Time passes without packets.
    pub(crate) fn wait(&mut self, micros: i64) {
        self.time += micros;
        self.capture.handle_time(Timestamp::from_micros(self.time));
        self.poll();
    }

    /// The segment of one side; offsets count from the first byte after the SYN, so a SYN is at -1.
    pub(crate) fn segment(&self, side: usize, flags: u8, at: i64, acknowledges: i64, data: &[u8]) -> Vec<u8> {
        let number = |side: usize, offset: i64| self.initial[side].wrapping_add((offset + 1) as u32);
        let numbers = [number(side, at), if flags & ACK == 0 { 0 } else { number(1 - side, acknowledges) }];
        let ports = [self.ports[side], self.ports[1 - side]];
        let options = match self.timestamp {
            Some(value) if flags & SYN != 0 && side == 0 => {
                join(&[&[1, 1, 8, 10], &value.to_be_bytes(), &[0; 4]])
            }
            _ => Vec::new(),
        };
        let segment = tcp(ports, numbers, flags, &options, data);
        ipv4_part([self.hosts[side], self.hosts[1 - side]], 6, 0, 0, &segment)
    }

    /// Sends it; see [`Harness::segment`].
    pub(crate) fn send(&mut self, side: usize, flags: u8, at: i64, acknowledges: i64, data: &[u8]) {
        let frame = self.segment(side, flags, at, acknowledges, data);
        self.frame(LinkType::RAW, &frame);
    }

    pub(crate) fn handshake(&mut self) {
        self.send(0, SYN, -1, 0, b"");
        self.send(1, SYN | ACK, -1, 0, b"");
        self.send(0, ACK, 0, 0, b"");
    }

    /// Ends the capture and checks that everything is settled.
    pub(crate) fn finish(&mut self) {
        self.capture.finish(ChunkCause::EndOfCapture);
        self.poll();
        assert_eq!(self.capture.stats().held, Count::default());
        assert_eq!((self.capture.held_bytes(), self.capture.open_connections()), (0, 0));
    }

    /// Chunks of all segments, in order.
    pub(crate) fn chunks(&self) -> Vec<Chunk> {
        self.segments.iter().flat_map(|segment| segment.chunks.clone()).collect()
    }

    pub(crate) fn causes(&self, kind: ChunkKind) -> Vec<ChunkCause> {
        self.chunks().iter().filter(|chunk| chunk.kind == kind).map(|chunk| chunk.cause).collect()
    }

    /// The ids, each once, in the order of their first record.
    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        let mut ids = Vec::new();
        for segment in &self.segments {
            if !ids.contains(&segment.connection_id) {
                ids.push(segment.connection_id);
            }
        }
        ids
    }

    /// One direction of all that was captured, neighbours joined; checks that the offsets are without holes.
    pub(crate) fn stream(&self, side: usize) -> Vec<Part> {
        self.stream_of(side, |_| true)
    }

    pub(crate) fn stream_of(&self, side: usize, wanted: impl Fn(&Segment) -> bool) -> Vec<Part> {
        let (mut parts, mut next) = (Vec::new(), 0);
        for segment in self.segments.iter().filter(|segment| wanted(segment)) {
            for (chunk, data) in segment.chunks_with_bytes() {
                if chunk.direction != crate::reassembly::direction(side) {
                    continue;
                }
                match (chunk.kind, parts.last_mut()) {
                    (ChunkKind::Data, Some(Part::Bytes(bytes))) => bytes.extend_from_slice(&data),
                    (ChunkKind::Data, _) => parts.push(Part::Bytes(data.to_vec())),
                    (ChunkKind::Gap, Some(Part::Gap(length))) => *length += chunk.length,
                    (ChunkKind::Gap, _) => parts.push(Part::Gap(chunk.length)),
                    _ => continue,
                }
                assert_eq!(chunk.offset, next, "offsets have no holes");
                next += chunk.length;
            }
        }
        parts
    }
}
