//! Fuzz functions: hostile input in, invariants asserted. They run as ordinary tests, and under a fuzzer.
//!
//! Each panics when an invariant breaks, and does nothing else.

use hashbrown::HashMap;
use wirecall_schemas::{ChunkCause, ChunkKind, ConnectionId, Direction, Endpoint, Segment, Timestamp};

use crate::{Capture, CaptureConfig, Count, Limits, LinkType, Packet};

/// Small limits, so that short inputs reach them.
#[must_use]
pub fn small_limits() -> Limits {
    Limits {
        connections: 8,
        ended_connections: 3,
        held_bytes: 16 << 10,
        reorder_bytes: 4 << 10,
        reorder_pieces: 8,
        fragment_datagrams: 4,
        fragments_per_datagram: 8,
        run_chunks: 16,
        recent_ids: 8,
        ..Limits::default()
    }
}

/// What must hold for the segments of any input: records that add up, numbers without holes, streams without overlap.
#[derive(Debug, Default)]
pub struct Invariants {
    sequences: HashMap<i32, i64>,
    offsets: HashMap<(ConnectionId, Endpoint, Endpoint, Direction), i64>,
    data: u64,
}

impl Invariants {
    /// Takes everything that is ready.
    ///
    /// # Panics
    /// When an invariant is broken.
    pub fn drain(&mut self, capture: &mut Capture) {
        while let Some(segment) = capture.poll_segment() {
            self.check(&segment);
        }
        assert!(capture.stats().is_conserved(), "packets or bytes are lost: {:?}", capture.stats());
    }

    fn check(&mut self, segment: &Segment) {
        assert_eq!(segment.check(), Ok(()));
        assert!(!segment.chunks.is_empty(), "an empty record");
        let next = self.sequences.entry(segment.partition).or_default();
        assert_eq!(segment.sequence, *next, "a hole in the numbers of partition {}", segment.partition);
        *next += 1;
        let mut is_closed = false;
        for chunk in &segment.chunks {
            assert!(!is_closed, "a chunk behind the close");
            let stream = (segment.connection_id, segment.client, segment.server, chunk.direction);
            match chunk.kind {
                ChunkKind::Data | ChunkKind::Gap => {
                    assert!(chunk.length > 0, "an empty chunk");
                    let next = self.offsets.entry(stream).or_default();
                    // Starting over is for a second sighting of the connection through address translation.
                    assert!(chunk.offset == *next || chunk.offset == 0, "expected offset {next}: {chunk:?}");
                    *next = chunk.offset + chunk.length;
                    if chunk.kind == ChunkKind::Data {
                        self.data += chunk.length.unsigned_abs();
                    }
                }
                ChunkKind::Close => is_closed = true,
                _ => {}
            }
        }
        assert_eq!(is_closed, segment.totals.is_some(), "totals belong to the close");
    }

    /// Ends the capture and checks that nothing is left.
    ///
    /// # Panics
    /// When an invariant is broken.
    pub fn finish(mut self, mut capture: Capture) {
        capture.finish(ChunkCause::EndOfCapture);
        self.drain(&mut capture);
        assert_eq!(capture.stats().held, Count::default());
        assert_eq!((capture.held_bytes(), capture.open_connections()), (0, 0));
        assert_eq!(capture.stats().delivered.bytes, self.data, "delivered bytes are those in the segments");
    }
}

/// The bytes as frames: a link type, a cut, a length, then that many bytes.
///
/// # Panics
/// When an invariant is broken.
pub fn frames(mut input: &[u8]) {
    const LINKS: [LinkType; 15] = [
        LinkType::ETHERNET,
        LinkType::RAW,
        LinkType::LINUX_SLL,
        LinkType::LINUX_SLL2,
        LinkType::NULL,
        LinkType::LOOP,
        LinkType::PPP,
        LinkType::PPPOE,
        LinkType::CISCO_HDLC,
        LinkType::IEEE_802_11,
        LinkType::RADIOTAP,
        LinkType::NFLOG,
        LinkType::IPV6,
        LinkType::ETHERNET,
        LinkType(9_999),
    ];
    let config = CaptureConfig { limits: small_limits(), ..CaptureConfig::default() };
    let (mut capture, mut invariants) = (Capture::new(config), Invariants::default());
    let mut time = 0;
    while let [link, cut, length, rest @ ..] = input {
        let (data, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        input = rest;
        time += i64::from(*cut) * 10_000;
        capture.handle_packet(Packet {
            time: Timestamp::from_micros(time),
            link_type: LINKS[usize::from(*link) % LINKS.len()],
            data,
            original_length: u32::from(*length) + u32::from(cut & 3),
            interface: None,
            vlan: (cut & 64 != 0).then_some(u16::from(*cut)),
        });
        invariants.drain(&mut capture);
    }
    invariants.finish(capture);
}

/// The bytes as operations on a few connections: segments near and far, flags, cuts, time.
///
/// # Panics
/// When an invariant is broken.
pub fn operations(input: &[u8]) {
    let config = CaptureConfig { limits: small_limits(), ..CaptureConfig::default() };
    let limit = config.limits.held_bytes;
    let (mut capture, mut invariants) = (Capture::new(config), Invariants::default());
    let mut time = 0_i64;
    let mut numbers = [[1_000_u32, 5_000]; 4];
    for operation in input.chunks_exact(6) {
        let [which, flags, distance, acknowledged, length, delay] = *operation else { return };
        let (connection, side) = (usize::from(which & 3), usize::from(which >> 2 & 1));
        time += [0, 1_000, 30_000, 600_000, 20_000_000, -1_000, -50_000_000, 7][usize::from(delay & 7)];
        let own = numbers[connection][side];
        let distance = i32::from(distance.cast_signed()) * if which & 8 == 0 { 1 } else { 50 };
        let sequence = own.wrapping_add_signed(if which & 16 == 0 { 0 } else { distance });
        let peer = numbers[connection][1 - side].wrapping_add_signed(i32::from(acknowledged.cast_signed()));
        let payload = vec![flags; usize::from(length) * if which & 32 == 0 { 1 } else { 6 }];
        let frame = tcp_frame(connection, side, [sequence, peer], flags & 0x17, &payload);
        let captured = frame.len() - if delay & 8 == 0 { 0 } else { payload.len() / 2 };
        capture.handle_packet(Packet {
            time: Timestamp::from_micros(time),
            link_type: LinkType::RAW,
            data: &frame[..captured],
            original_length: u32::try_from(frame.len()).unwrap_or(u32::MAX),
            interface: None,
            vlan: None,
        });
        if which & 16 == 0 {
            let consumed = payload.len() + usize::from(flags & 1) + usize::from(flags >> 1 & 1);
            numbers[connection][side] = own.wrapping_add(u32::try_from(consumed).unwrap_or_default());
        }
        assert!(capture.held_bytes() <= limit, "over the limit of bytes held");
        assert!(capture.open_connections() <= 8, "over the limit of connections");
        invariants.drain(&mut capture);
    }
    invariants.finish(capture);
}

/// A raw IPv4 frame with a TCP segment.
fn tcp_frame(
    connection: usize,
    side: usize,
    [sequence, acknowledgement]: [u32; 2],
    flags: u8,
    data: &[u8],
) -> Vec<u8> {
    let total = u16::try_from(40 + data.len()).unwrap_or(u16::MAX);
    let port = 40_000 + u16::try_from(connection).unwrap_or_default();
    let (ports, hosts) = if side == 0 { ([port, 80], [1, 2]) } else { ([80, port], [2, 1]) };
    let mut frame = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, hosts[0], 10, 0, 0, hosts[1]];
    frame[2..4].copy_from_slice(&total.to_be_bytes());
    for port in ports {
        frame.extend(port.to_be_bytes());
    }
    frame.extend(sequence.to_be_bytes());
    frame.extend(acknowledgement.to_be_bytes());
    frame.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame.extend(data);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn operations_keep_the_invariants() {
        for seed in 0..400 {
            let mut random = Random::new(seed);
            let length = 6 * random.below(200);
            operations(&random.bytes(length));
        }
    }

    #[test]
    fn random_frames_keep_the_invariants() {
        for seed in 0..400 {
            let mut random = Random::new(seed);
            let length = random.below(2_000);
            frames(&random.bytes(length));
        }
    }

    #[test]
    fn damaged_frames_keep_the_invariants() {
        let samples = crate::testing::samples();
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut input = Vec::new();
            for _ in 0..random.below(20) {
                let (_, link, frame) = &samples[random.below(samples.len())];
                let mut frame = frame.clone();
                for _ in 0..random.below(4) {
                    let position = random.below(frame.len());
                    frame[position] = random.next() as u8;
                }
                let link = u8::from(*link == LinkType::RAW);
                input.extend([link, random.below(256) as u8, frame.len() as u8]);
                input.extend(frame);
            }
            frames(&input);
        }
    }

    /// Handshakes that carry bytes held them until an id came, which never did. Found by libFuzzer.
    #[test]
    fn a_handshake_that_carries_bytes_does_not_hold_them_for_ever() {
        let mut found = vec![16, 42, 34, 6];
        found.extend([210; 11]);
        found.push(144);
        found.extend([210; 9]);
        found.extend([224; 92]);
        found.extend([210, 210, 91, 2, 247, 16, 34, 6, 91, 247, 255]);
        operations(&found);
        for byte in [210_u8, 224, 0xe2, 0xf2] {
            operations(&[byte; 1_200]);
        }
    }
}
