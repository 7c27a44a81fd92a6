//! Operations, not only bytes: a program of records in any order, with any offsets, against the dissector's promises.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use bytestring::ByteString;
use wirecall_schemas::{
    Call, CaptureMethod, Chunk, ChunkCause, ChunkKind, ConnectionId, ConnectionKey, Direction, Endpoint,
    Orientation, Segment, Timestamp, Transport, VantageKind,
};

use super::{Dissector, LogPosition};
use crate::limits::{Counter, Limits};
use crate::registry::Registry;

/// Fuzz entry: `bytes` is a program that writes records of a few connections with data out of `bytes` itself. Whatever
/// it writes, the dissector does not panic, holds no more than its limits allow, accounts for every byte, keeps call ids
/// distinct, lets nothing stay behind, and gives the same calls when asked again.
///
/// # Panics
/// When a promise is broken.
pub fn fuzz(registry: &Registry, bytes: &[u8]) {
    let first = run(registry, bytes);
    let again = run(registry, bytes);
    assert_eq!(first, again, "the same log gives the same calls");
    let mut ids: Vec<_> = first.iter().map(|call| call.call_id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), first.len(), "call ids are distinct");
}

fn limits() -> Limits {
    Limits {
        connections: 3,
        stream_bytes: 4_096,
        trial_bytes: 512,
        probe_bytes: 128,
        open_calls: 4,
        closed_remembered: 2,
        idle_micros: 2_000,
        ..Limits::default()
    }
}

fn run(registry: &Registry, bytes: &[u8]) -> Vec<Call> {
    let mut dissector = Dissector::new(registry.clone(), limits());
    let mut calls = Vec::new();
    let mut writer = Writer { program: bytes, delivered: 0, sequence: 0, ends: [[0; 2]; 5] };
    while let Some(segment) = writer.segment() {
        let position = LogPosition {
            topic: ByteString::from_static("segments"),
            partition: 0,
            offset: segment.sequence,
        };
        let refused = segment.check().is_err();
        let delivered: usize = segment.chunks_with_bytes().map(|(_, bytes)| bytes.len()).sum();
        assert_eq!(dissector.handle_segment(&segment, Some(&position)).is_err(), refused);
        writer.delivered += if refused { 0 } else { delivered };
        calls.extend(std::iter::from_fn(|| dissector.poll_call()));
        assert!(dissector.open_connections() <= limits().connections);
        assert!(dissector.held_bytes() <= 1 << 20, "held {} bytes", dissector.held_bytes());
    }
    dissector.finish();
    calls.extend(std::iter::from_fn(|| dissector.poll_call()));
    assert_eq!((dissector.held_bytes(), dissector.open_connections()), (0, 0), "nothing stays behind");
    let stats = dissector.stats();
    let counted = stats.sum(Counter::BytesDelivered) + stats.sum(Counter::BytesDuplicate);
    assert!(counted <= writer.delivered as u64, "no byte is counted twice");
    if stats.sum(Counter::SegmentsAfterClose) + stats.sum(Counter::ConnectionsClosed) == 0 {
        assert_eq!(counted, writer.delivered as u64, "no byte is forgotten");
    }
    calls
}

/// Writes records from a program: four bytes an instruction, and its data from the bytes behind it.
struct Writer<'p> {
    program: &'p [u8],
    delivered: usize,
    sequence: i64,
    ends: [[i64; 2]; 5],
}

impl Writer<'_> {
    fn segment(&mut self) -> Option<Segment> {
        let (head, rest) = self.program.split_at_checked(2)?;
        self.program = rest;
        let connection = usize::from(head[0] % 5);
        let mut segment = record(head[0], head[1], self.sequence);
        self.sequence += 1;
        let mut payload = Vec::new();
        for _ in 0..=head[1] % 4 {
            let Some((instruction, rest)) = self.program.split_at_checked(4) else { break };
            self.program = rest;
            let data = &rest[..rest.len().min(usize::from(instruction[2] % 64))];
            let chunk = self.chunk(connection, instruction, data.len());
            if chunk.kind == ChunkKind::Data {
                payload.extend_from_slice(data);
                self.program = &rest[data.len()..];
            }
            segment.chunks.push(chunk);
        }
        segment.payload = Bytes::from(payload);
        Some(segment)
    }

    fn chunk(&mut self, connection: usize, instruction: &[u8], length: usize) -> Chunk {
        let kinds = [ChunkKind::Open, ChunkKind::MidStream, ChunkKind::Close, ChunkKind::Gap];
        let kind = kinds.get(usize::from(instruction[0] >> 4)).copied().unwrap_or(ChunkKind::Data);
        let server = instruction[0] & 1 == 1;
        let end = &mut self.ends[connection][usize::from(server)];
        let offset = match instruction[1] % 32 {
            0 => -1,
            back @ 1..=3 => (*end - i64::from(back)).max(0),
            ahead @ 4..=5 => *end + i64::from(ahead),
            6 => i64::MAX - 5,
            _ => *end,
        };
        let length = if matches!(kind, ChunkKind::Data | ChunkKind::Gap) { length as i64 } else { 0 };
        if (0..1 << 40).contains(&offset) {
            *end = (*end).max(offset + length);
        }
        Chunk {
            direction: if server { Direction::ServerToClient } else { Direction::ClientToServer },
            kind,
            cause: if kind == ChunkKind::Close { ChunkCause::Fin } else { ChunkCause::None },
            offset,
            length,
            time: Timestamp::from_micros(
                1_700_000_000_000_000 + self.sequence * 100 + i64::from(instruction[3]),
            ),
        }
    }
}

fn record(connection: u8, flags: u8, sequence: i64) -> Segment {
    let end = |last, port| Endpoint { address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), port };
    let (client, server) = (end(1, 40_000), end(2, 7));
    let (client, server) = if flags & 0x80 == 0 { (client, server) } else { (server, client) };
    Segment {
        connection_id: ConnectionId::new([connection % 5; 16]),
        connection_key: ConnectionKey::new([0; 8]),
        transport: if connection.is_multiple_of(5) { Transport::Udp } else { Transport::Tcp },
        client,
        server,
        orientation: if flags & 0x40 == 0 { Orientation::Syn } else { Orientation::FirstPacket },
        vantage: VantageKind::Unknown,
        capture_method: CaptureMethod::Pcap,
        agent_id: ByteString::from_static("fuzz"),
        agent_epoch: 0,
        partition: 0,
        sequence,
        interface: None,
        process: None,
        chunks: Vec::new(),
        totals: None,
        payload: Bytes::new(),
    }
}
