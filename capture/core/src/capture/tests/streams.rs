//! Bytes out of order, twice, cut, missing, and the order between the two directions.

use wirecall_schemas::{ChunkCause, ChunkKind, Direction};

use crate::packet::{ACK, SYN};
use crate::testing::{Harness, Part, bytes, ethernet, ipv4_part, join, udp};
use crate::{LinkType, Reason};

#[test]
fn out_of_order_bytes_are_put_in_order() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(0, ACK, 6, 0, b"c");
    talk.send(0, ACK, 3, 0, b"bbb");
    talk.send(0, ACK, 0, 0, b"aaa");
    talk.finish();
    assert_eq!(talk.stream(0), [bytes("aaabbbc")]);
    assert_eq!(talk.segments.last().unwrap().totals.unwrap().out_of_order_packets, 2);
}

#[test]
fn the_first_byte_for_an_offset_wins() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(0, ACK, 0, 0, b"AAAA");
    talk.send(0, ACK, 2, 0, b"xxBB");
    talk.send(0, ACK, 8, 0, b"DD");
    talk.send(0, ACK, 6, 0, b"CCxxEE");
    assert_eq!(talk.capture.stats().reason(Reason::Duplicate).bytes, 4);
    talk.send(0, ACK, 0, 0, b"zzzz");
    talk.finish();
    assert_eq!(talk.stream(0), [bytes("AAAABBCCDDEE")]);
    assert_eq!(talk.segments.last().unwrap().totals.unwrap().retransmitted_packets, 1);
}

#[test]
fn sequence_numbers_wrap() {
    let mut talk = Harness::new();
    talk.initial = [u32::MAX - 3, u32::MAX];
    talk.handshake();
    talk.send(0, ACK, 4, 0, b"wrapped");
    talk.send(0, ACK, 0, 0, b"over");
    talk.send(1, ACK, 0, 11, b"ok");
    talk.finish();
    assert_eq!((talk.stream(0), talk.stream(1)), (vec![bytes("overwrapped")], vec![bytes("ok")]));
}

#[test]
fn keep_alive_and_window_probes_add_nothing() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(0, ACK, 0, 0, b"abc");
    talk.send(0, ACK, 2, 0, b"");
    talk.send(0, ACK, 2, 0, b"\0");
    // A probe of a closed window carries the next byte; it comes again when the window opens.
    talk.send(0, ACK, 3, 0, b"d");
    talk.send(1, ACK, 0, 3, b"");
    talk.send(0, ACK, 3, 0, b"def");
    talk.finish();
    assert_eq!(talk.stream(0), [bytes("abcdef")]);
    assert_eq!(talk.capture.stats().reason(Reason::Duplicate).bytes, 2);
}

#[test]
fn a_loss_that_the_receiver_acknowledged_is_a_gap_after_the_short_wait() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(1, ACK, 4, 0, b"after");
    talk.send(0, ACK, 0, 9, b"");
    talk.wait(499_000);
    assert_eq!(talk.stream(1), []);
    talk.wait(30_000);
    talk.wait(30_000);
    assert_eq!(talk.stream(1), [Part::Gap(4), bytes("after")]);
    assert_eq!(talk.causes(ChunkKind::Gap), [ChunkCause::Loss]);
}

#[test]
fn a_loss_in_the_network_waits_for_the_retransmission() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(1, ACK, 4, 0, b"after");
    talk.send(0, ACK, 0, 0, b"");
    talk.wait(3_000_000);
    talk.send(1, ACK, 0, 0, b"lost");
    talk.finish();
    assert_eq!((talk.stream(1), talk.capture.stats().gaps.packets), (vec![bytes("lostafter")], 0));
}

#[test]
fn late_bytes_fill_a_gap_that_is_not_published() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(1, ACK, 4, 0, b"after");
    talk.send(0, ACK, 0, 9, b"");
    talk.wait(510_000);
    assert_eq!(talk.capture.stats().gaps.packets, 1);
    talk.send(1, ACK, 1, 0, b"at");
    talk.wait(30_000);
    assert_eq!(talk.stream(1), [Part::Gap(1), bytes("at"), Part::Gap(1), bytes("after")]);
    talk.send(1, ACK, 0, 0, b"late");
    assert_eq!(talk.capture.stats().reason(Reason::Late).bytes, 2);
    assert_eq!(talk.capture.stats().reason(Reason::Duplicate).bytes, 2);
    assert_eq!(talk.capture.stats().gaps_filled, 1);
}

#[test]
fn an_answer_waits_for_the_request_that_it_acknowledges() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(1, ACK, 0, 3, b"answer");
    talk.send(0, ACK, 0, 0, b"ask");
    talk.finish();
    let order: Vec<_> = talk
        .chunks()
        .iter()
        .filter(|chunk| chunk.kind == ChunkKind::Data)
        .map(|chunk| chunk.direction)
        .collect();
    assert_eq!(order, [Direction::ClientToServer, Direction::ServerToClient]);
    assert_eq!(talk.capture.stats().gaps.packets, 0);
}

#[test]
fn an_answer_whose_request_was_lost_comes_behind_the_gap() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(1, ACK, 0, 3, b"answer");
    talk.wait(510_000);
    talk.finish();
    let order: Vec<_> = talk.chunks().iter().map(|chunk| chunk.kind).collect();
    assert_eq!(order, [ChunkKind::Open, ChunkKind::Gap, ChunkKind::Data, ChunkKind::Close]);
    assert_eq!((talk.stream(0), talk.stream(1)), (vec![Part::Gap(3)], vec![bytes("answer")]));
}

#[test]
fn a_one_sided_capture_waits_once() {
    let mut talk = Harness::new();
    talk.send(0, SYN, -1, 0, b"");
    talk.send(0, ACK, 0, 0, b"one");
    talk.send(0, ACK, 3, 50, b"two");
    talk.wait(501_000);
    talk.send(0, ACK, 6, 90, b"three");
    assert_eq!(talk.capture.held_bytes(), "twothree".len(), "in the run, not in the reorder buffer");
    assert_eq!(talk.capture.stats().held.packets, 0);
    talk.finish();
    assert_eq!((talk.stream(0), talk.stream(1)), (vec![bytes("onetwothree")], vec![Part::Gap(90)]));
}

#[test]
fn two_sides_that_wait_for_each_other_are_released() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(0, ACK, 4, 4, b"CCCC");
    talk.send(1, ACK, 4, 4, b"SSSS");
    talk.wait(11_000_000);
    talk.finish();
    assert_eq!(
        (talk.stream(0), talk.stream(1)),
        (vec![Part::Gap(4), bytes("CCCC")], vec![Part::Gap(4), bytes("SSSS")])
    );
}

#[test]
fn a_single_wild_number_does_not_cut_the_stream() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(0, ACK, 0, 0, b"good ");
    talk.send(0, ACK, 500_000_000, 0, b"evil");
    talk.send(0, ACK, 5, 0, b"stream");
    assert_eq!(talk.capture.stats().reason(Reason::OutOfWindow).bytes, 4);
    talk.finish();
    assert_eq!(talk.stream(0), [bytes("good stream")]);
}

#[test]
fn a_far_jump_that_goes_on_is_a_gap() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(0, ACK, 0, 0, b"before");
    talk.send(0, ACK, 50_000_000, 0, b"1234");
    talk.send(0, ACK, 50_000_004, 0, b"5678");
    talk.finish();
    assert_eq!(talk.stream(0), [bytes("before"), Part::Gap(49_999_998), bytes("5678")]);
}

#[test]
fn bytes_cut_by_the_capture_are_a_gap() {
    let mut talk = Harness::new();
    talk.handshake();
    let frame = talk.segment(0, ACK, 0, 0, b"0123456789");
    talk.cut_frame(LinkType::RAW, &frame, frame.len() - 6);
    talk.send(0, ACK, 10, 0, b"next");
    talk.finish();
    assert_eq!(talk.causes(ChunkKind::Gap), [ChunkCause::Snaplen]);
    assert_eq!(talk.stream(0), [bytes("0123"), Part::Gap(6), bytes("next")]);
}

#[test]
fn what_was_acknowledged_but_never_seen_is_a_gap_at_the_end() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(1, ACK, 0, 0, b"seen");
    talk.send(0, ACK, 0, 100, b"");
    talk.finish();
    assert_eq!(talk.stream(1), [bytes("seen"), Part::Gap(96)]);
}

#[test]
fn fragments_come_together_in_any_order() {
    let whole = udp([40_000, 53], &[b"0123456789abcdef".as_slice(); 4].concat());
    let ends = [[10, 0, 0, 1], [10, 0, 0, 2]];
    let part = |from: usize, to: usize| {
        let more = if to < whole.len() { 0x2000 } else { 0 };
        ethernet(0x0800, &ipv4_part(ends, 17, 9, more | (from / 8) as u16, &whole[from..to]))
    };
    let parts = [part(48, whole.len()), part(0, 24), part(0, 24), part(24, 48)];
    let mut talk = Harness::new();
    for frame in &parts {
        talk.frame(LinkType::ETHERNET, frame);
    }
    let stats = talk.capture.stats();
    assert_eq!((stats.delivered.packets, stats.reason(Reason::Duplicate).packets), (3, 1));
    talk.finish();
    assert_eq!(talk.stream(0), [Part::Bytes(whole[8..].to_vec())]);
}

#[test]
fn fragments_may_be_fragmented_again_by_a_tunnel() {
    let whole = udp([40_000, 53], b"0123456789abcdef0123456789abcdef");
    let (inner, outer) = ([[10, 0, 0, 1], [10, 0, 0, 2]], [[172, 16, 0, 1], [172, 16, 0, 2]]);
    let parts = [ipv4_part(inner, 17, 9, 0x2000, &whole[..24]), ipv4_part(inner, 17, 9, 3, &whole[24..])];
    let mut talk = Harness::new();
    for (id, part) in (0..).zip(&parts) {
        talk.frame(LinkType::RAW, &ipv4_part(outer, 4, id, 0x2000, &part[..16]));
        talk.frame(LinkType::RAW, &ipv4_part(outer, 4, id, 2, &part[16..]));
    }
    assert_eq!(talk.capture.stats().delivered.packets, 4);
    talk.finish();
    assert_eq!(talk.stream(0), [Part::Bytes(whole[8..].to_vec())]);
}

#[test]
fn overlapping_fragments_throw_the_datagram_away() {
    let ends = [[10, 0, 0, 1], [10, 0, 0, 2]];
    let mut talk = Harness::new();
    talk.frame(LinkType::RAW, &ipv4_part(ends, 17, 9, 0x2000, &[1; 24]));
    talk.frame(LinkType::RAW, &ipv4_part(ends, 17, 9, 0x0002, &[2; 16]));
    assert_eq!(talk.capture.stats().reason(Reason::FragmentOverlap).packets, 2);
    assert_eq!(talk.capture.held_bytes(), 0);
}

#[test]
fn a_tunnel_may_be_fragmented_outside() {
    let talk = Harness::new();
    let inner = ethernet(0x0800, &talk.segment(0, ACK, 0, 0, b"tunnelled"));
    let outer = udp([50_000, 4789], &join(&[&[8, 0, 0, 0, 0, 0, 7, 0], &inner]));
    let ends = [[172, 16, 0, 1], [172, 16, 0, 2]];
    let mut talk = Harness::new();
    talk.frame(LinkType::RAW, &ipv4_part(ends, 17, 3, 0x2000, &outer[..40]));
    talk.frame(LinkType::RAW, &ipv4_part(ends, 17, 3, 5, &outer[40..]));
    talk.finish();
    assert_eq!(talk.stream(0), [bytes("tunnelled")]);
}
