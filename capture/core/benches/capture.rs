//! Packets to segments: keep-alive JSON traffic of many connections, as gigabytes a second of one core.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use wirecall_capture_core::{Capture, CaptureConfig, LinkType, Packet};
use wirecall_schemas::{ChunkCause, Timestamp};

const CONNECTIONS: u32 = 64;
const CALLS: u32 = 100;
const FULL_SEGMENT: usize = 1_448;
/// Segments of an answer of about 6 KB.
const ANSWER_SEGMENTS: u32 = 4;
const REQUEST: &[u8] =
    b"GET /api/items?page=1 HTTP/1.1\r\nHost: items.shop.svc\r\nAccept: application/json\r\n\r\n";

/// One end of one connection, and what it has sent.
struct Sender {
    host: u8,
    ports: [u16; 2],
    sequence: u32,
}

/// An Ethernet frame with a TCP segment from `sender` to the other end.
fn frame(sender: &mut Sender, peer_sequence: u32, flags: u8, data: &[u8]) -> Vec<u8> {
    let total = u16::try_from(40 + data.len()).unwrap_or(u16::MAX);
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    frame.extend(total.to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, sender.host, 10, 0, 0, 3 - sender.host]);
    for port in sender.ports {
        frame.extend(port.to_be_bytes());
    }
    frame.extend(sender.sequence.to_be_bytes());
    frame.extend(peer_sequence.to_be_bytes());
    frame.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame.extend(data);
    let numbered = data.len() + usize::from(flags & 3 != 0);
    sender.sequence = sender.sequence.wrapping_add(u32::try_from(numbered).unwrap_or_default());
    frame
}

fn traffic() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut pairs: Vec<[Sender; 2]> = (0..CONNECTIONS)
        .map(|connection| {
            let port = 40_000 + u16::try_from(connection).unwrap_or_default();
            let sequence = connection.wrapping_mul(2_654_435_761);
            [
                Sender { host: 1, ports: [port, 80], sequence },
                Sender { host: 2, ports: [80, port], sequence: !sequence },
            ]
        })
        .collect();
    for [client, server] in &mut pairs {
        frames.push(frame(client, 0, 2, b""));
        frames.push(frame(server, client.sequence, 0x12, b""));
        frames.push(frame(client, server.sequence, 0x10, b""));
    }
    for _ in 0..CALLS {
        for [client, server] in &mut pairs {
            frames.push(frame(client, server.sequence, 0x18, REQUEST));
            for _ in 0..ANSWER_SEGMENTS {
                frames.push(frame(server, client.sequence, 0x10, &[b'x'; FULL_SEGMENT]));
            }
            frames.push(frame(client, server.sequence, 0x10, b""));
        }
    }
    frames
}

fn segments(frames: &[Vec<u8>]) -> u64 {
    let mut capture = Capture::new(CaptureConfig::default());
    for (number, frame) in (0..).zip(frames) {
        capture.handle_packet(Packet {
            time: Timestamp::from_micros(1_700_000_000_000_000 + number * 10),
            link_type: LinkType::ETHERNET,
            data: frame,
            original_length: u32::try_from(frame.len()).unwrap_or(u32::MAX),
            interface: None,
            vlan: None,
        });
        while let Some(segment) = capture.poll_segment() {
            black_box(segment);
        }
    }
    capture.finish(ChunkCause::EndOfCapture);
    while let Some(segment) = capture.poll_segment() {
        black_box(segment);
    }
    capture.stats().delivered.bytes
}

fn keep_alive(criterion: &mut Criterion) {
    let frames = traffic();
    let bytes = frames.iter().map(|frame| frame.len() as u64).sum();
    let mut group = criterion.benchmark_group("capture");
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function("keep_alive_json", |bencher| {
        bencher.iter_batched(|| (), |()| segments(&frames), BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, keep_alive);
criterion_main!(benches);
