//! Every limit is reached once.

use wirecall_schemas::{ChunkCause, ChunkKind};

use crate::packet::{ACK, RST, SYN};
use crate::testing::{Harness, Part, bytes, ipv4, ipv4_part, sample_tcp};
use crate::{Limit, LinkType, Reason};

#[test]
fn limit_connections_evicts_the_least_useful() {
    let mut talk = Harness::limits(|limits| limits.connections = 3);
    talk.handshake();
    talk.send(0, ACK, 0, 0, b"keep me");
    for port in 0..20 {
        (talk.ports[0], talk.initial[0]) = (20_000 + port, u32::from(port));
        talk.send(0, SYN, -1, 0, b"");
    }
    assert_eq!((talk.capture.open_connections(), talk.capture.stats().limit(Limit::Connections)), (3, 18));
    assert!(talk.causes(ChunkKind::Close).iter().all(|cause| *cause == ChunkCause::Evicted));
    (talk.ports[0], talk.initial[0]) = (40_000, 1_000);
    talk.send(0, ACK, 7, 0, b", please");
    talk.finish();
    let kept = |segment: &wirecall_schemas::Segment| segment.client.port == 40_000;
    assert_eq!(talk.stream_of(0, kept), [bytes("keep me, please")]);
}

#[test]
fn limit_ended_connections_forgets_the_oldest() {
    let mut talk = Harness::limits(|limits| limits.ended_connections = 2);
    for port in 0..5 {
        (talk.ports[0], talk.initial[0]) = (20_000 + port, u32::from(port) * 100);
        talk.handshake();
        talk.send(1, RST, 0, 0, b"");
    }
    assert_eq!(talk.capture.stats().limit(Limit::EndedConnections), 3);
    // A straggler of a forgotten one begins a connection; one of a remembered one does not.
    talk.send(0, ACK, 0, 0, b"");
    assert_eq!(
        (talk.capture.open_connections(), talk.capture.stats().reason(Reason::AfterClose).packets),
        (0, 1)
    );
    (talk.ports[0], talk.initial[0]) = (20_000, 0);
    talk.send(0, ACK, 0, 0, b"");
    assert_eq!(talk.capture.open_connections(), 1);
}

#[test]
fn limit_reorder_bytes_declares_the_gap() {
    let mut talk = Harness::limits(|limits| limits.reorder_bytes = 1_000);
    talk.handshake();
    talk.send(0, ACK, 10, 0, &[1; 500]);
    talk.send(0, ACK, 510, 0, &[1; 600]);
    assert_eq!(talk.capture.stats().limit(Limit::ReorderBytes), 1);
    talk.finish();
    assert_eq!(talk.stream(0), [Part::Gap(10), Part::Bytes(vec![1; 1_100])]);
}

#[test]
fn limit_reorder_pieces_declares_the_gap() {
    let mut talk = Harness::limits(|limits| limits.reorder_pieces = 4);
    talk.handshake();
    for piece in 1..=5 {
        talk.send(0, ACK, piece * 2, 0, b"x");
    }
    assert_eq!(talk.capture.stats().limit(Limit::ReorderPieces), 1);
    talk.finish();
    assert_eq!(talk.causes(ChunkKind::Gap)[0], ChunkCause::Limit);
}

#[test]
fn limit_reorder_time_declares_the_gap() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(0, ACK, 5, 0, b"x");
    talk.wait(10_001_000);
    assert_eq!(talk.capture.stats().limit(Limit::ReorderTime), 1);
    talk.wait(30_000);
    assert_eq!(talk.stream(0), [Part::Gap(5), bytes("x")]);
}

#[test]
fn limit_held_bytes_sheds_fragments_then_reordered_then_runs() {
    let mut talk = Harness::limits(|limits| limits.held_bytes = 3_000);
    talk.handshake();
    talk.send(0, ACK, 0, 0, &[0; 1_000]);
    talk.frame(LinkType::RAW, &ipv4_part([[1; 4], [2; 4]], 17, 1, 0x2000, &[0; 800]));
    talk.send(0, ACK, 1_010, 0, &[0; 1_000]);
    assert_eq!(talk.capture.held_bytes(), 2_800);
    talk.send(0, ACK, 2_010, 0, &[0; 500]);
    assert_eq!(talk.capture.held_bytes(), 2_500);
    assert_eq!(talk.capture.stats().reason(Reason::FragmentLimit).packets, 1);
    assert_eq!(talk.capture.stats().limit(Limit::HeldBytes), 1);
    talk.send(0, ACK, 2_510, 0, &[0; 600]);
    assert!(talk.capture.held_bytes() <= 3_000);
    assert!(talk.capture.stats().peak_held_bytes >= 3_100);
    talk.finish();
    assert_eq!(talk.causes(ChunkKind::Gap), [ChunkCause::Limit]);
    assert_eq!(talk.stream(0), [Part::Bytes(vec![0; 1_000]), Part::Gap(10), Part::Bytes(vec![0; 2_100])]);
}

#[test]
fn limit_headers_is_counted() {
    let mut nested = ipv4(6, &sample_tcp());
    for _ in 0..30 {
        nested = ipv4(4, &nested);
    }
    let mut talk = Harness::new();
    talk.frame(LinkType::RAW, &nested);
    assert_eq!(talk.capture.stats().limit(Limit::Headers), 1);
    assert_eq!(talk.capture.stats().reason(Reason::NestingLimit).packets, 1);
}

#[test]
fn limit_fragment_datagrams_drops_the_oldest() {
    let mut talk = Harness::limits(|limits| limits.fragment_datagrams = 3);
    for id in 0..5 {
        talk.frame(LinkType::RAW, &ipv4_part([[1; 4], [2; 4]], 17, id, 0x2000, &[0; 8]));
    }
    assert_eq!(talk.capture.stats().limit(Limit::FragmentDatagrams), 2);
    assert_eq!(talk.capture.stats().reason(Reason::FragmentLimit).packets, 2);
    assert_eq!(talk.capture.held_bytes(), 24);
    talk.wait(31_000_000);
    assert_eq!(talk.capture.stats().reason(Reason::FragmentIncomplete).packets, 3);
    assert_eq!(talk.capture.held_bytes(), 0);
}

#[test]
fn limit_fragments_per_datagram_drops_the_datagram() {
    let mut talk = Harness::limits(|limits| limits.fragments_per_datagram = 3);
    for offset in 1..=4 {
        talk.frame(LinkType::RAW, &ipv4_part([[1; 4], [2; 4]], 17, 1, 0x2000 | offset, &[0; 8]));
    }
    assert_eq!(talk.capture.stats().limit(Limit::FragmentsPerDatagram), 1);
    assert_eq!(talk.capture.stats().reason(Reason::FragmentLimit).packets, 4);
    assert_eq!(talk.capture.held_bytes(), 0);
}

#[test]
fn limit_run_chunks_publishes_early() {
    let mut talk = Harness::limits(|limits| limits.run_chunks = 10);
    talk.time += 1;
    talk.handshake();
    for offset in 0..15 {
        talk.send(0, ACK, offset, 0, b"x");
    }
    assert_eq!(talk.capture.stats().limit(Limit::RunChunks), 1);
    assert_eq!(talk.segments[0].chunks.len(), 10);
}

#[test]
fn limit_recent_ids_forgets_the_oldest() {
    let mut talk = Harness::limits(|limits| limits.recent_ids = 2);
    for port in 0..4 {
        (talk.ports[0], talk.initial[0]) = (20_000 + port, u32::from(port));
        talk.handshake();
    }
    assert_eq!(talk.capture.stats().limit(Limit::RecentIds), 2);
}
