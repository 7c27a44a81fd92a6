//! What time does: runs are published, idle connections end, clocks step.

use wirecall_schemas::{ChunkCause, ChunkKind};

use crate::packet::{ACK, FIN, SYN};
use crate::testing::{Harness, bytes};
use crate::{CaptureConfig, FlushConfig, Reason};

#[test]
fn a_run_is_published_when_it_is_old_enough() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.wait(20_000);
    talk.segments.clear();
    talk.send(0, ACK, 0, 0, b"abc");
    talk.wait(19_000);
    assert!(talk.segments.is_empty());
    talk.wait(1_000);
    assert_eq!(talk.stream(0), [bytes("abc")]);
    assert_eq!(talk.capture.held_bytes(), 0);
}

#[test]
fn a_run_is_published_when_it_is_full() {
    let config =
        CaptureConfig { flush: FlushConfig { bytes: 1_000, time: 20_000 }, ..CaptureConfig::default() };
    let mut talk = Harness::with(config);
    talk.handshake();
    talk.send(0, ACK, 0, 0, &[1; 700]);
    assert!(talk.segments.is_empty());
    talk.send(0, ACK, 700, 0, &[2; 700]);
    assert_eq!(talk.segments[0].payload.len(), 700);
    // One packet may be larger than a record.
    talk.send(0, ACK, 1_400, 0, &[3; 2_500]);
    talk.finish();
    assert!(talk.segments.iter().all(|segment| segment.payload.len() <= 1_000));
    assert_eq!(talk.segments.iter().map(|segment| segment.payload.len()).sum::<usize>(), 3_900);
}

#[test]
fn an_idle_connection_is_closed_at_its_time() {
    let mut talk = Harness::limits(|limits| limits.tcp_idle_time = 5_000_000);
    talk.handshake();
    talk.wait(4_900_000);
    assert_eq!(talk.capture.open_connections(), 1);
    talk.send(0, ACK, 0, 0, b"still here");
    talk.wait(4_900_000);
    assert_eq!(talk.capture.open_connections(), 1);
    talk.wait(200_000);
    assert_eq!((talk.capture.open_connections(), talk.causes(ChunkKind::Close)), (0, vec![ChunkCause::Idle]));
}

#[test]
fn a_handshake_that_nobody_answers_is_closed_sooner() {
    let mut talk = Harness::limits(|limits| limits.handshake_time = 1_000_000);
    talk.send(0, SYN, -1, 0, b"");
    talk.wait(1_200_000);
    assert_eq!(talk.causes(ChunkKind::Close), [ChunkCause::Idle]);
    assert_eq!(talk.ids().len(), 1);
}

#[test]
fn stragglers_of_an_ended_connection_do_not_begin_a_new_one() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(0, ACK | FIN, 0, 0, b"");
    talk.send(1, ACK | FIN, 0, 1, b"");
    talk.wait(5_000_000);
    talk.send(1, ACK | FIN, 0, 1, b"");
    assert_eq!(talk.capture.stats().reason(Reason::AfterClose).packets, 1);
    talk.wait(61_000_000);
    talk.send(0, ACK, 1, 1, b"x");
    talk.finish();
    assert_eq!(talk.causes(ChunkKind::MidStream).len(), 1);
}

#[test]
fn a_step_back_of_the_clock_stops_no_timer() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.wait(20_000);
    talk.segments.clear();
    talk.time -= 3_600_000_000;
    talk.send(0, ACK, 0, 0, b"after the step");
    talk.wait(20_000);
    assert_eq!(talk.segments.len(), 1);
    assert_eq!(talk.segments[0].chunks[0].time.as_micros(), talk.time - 20_000);
}

#[test]
fn the_ends_of_time_break_nothing() {
    let mut talk = Harness::new();
    for (offset, time) in (0..).zip([i64::MIN, i64::MAX - 1_000, 0, -1, i64::MAX - 1_000, i64::MIN]) {
        talk.time = time;
        talk.send(0, ACK, offset, 0, b"x");
    }
    talk.finish();
    assert_eq!(talk.capture.stats().delivered.packets, 6);
}

#[test]
fn sequence_numbers_have_no_holes() {
    let mut talk = Harness::new();
    for port in 0..200 {
        (talk.ports[0], talk.initial[0]) = (20_000 + port, u32::from(port) * 977);
        talk.handshake();
        talk.send(0, ACK, 0, 0, b"x");
    }
    talk.finish();
    let mut next = [0; 12];
    for segment in &talk.segments {
        let expected = &mut next[segment.partition as usize];
        assert_eq!(segment.sequence, *expected);
        *expected += 1;
    }
    assert!(next.iter().all(|count| *count > 0), "the keys spread over all partitions");
}
