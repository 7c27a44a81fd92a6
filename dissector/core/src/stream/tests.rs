use bytes::Bytes;
use wirecall_schemas::{ChunkCause, Timestamp};

use super::*;

fn mark(time: i64) -> Mark {
    Mark { time: Timestamp::from_micros(time), sequence: time, log_offset: Some(time) }
}

fn stream_of(pieces: &[&'static str]) -> Stream {
    let mut stream = Stream::new();
    for (index, piece) in pieces.iter().enumerate() {
        let offset = stream.end_position();
        stream.push(offset, Bytes::from_static(piece.as_bytes()), piece.len(), mark(index as i64));
    }
    stream
}

#[test]
fn operations_agree_with_the_model() {
    let mut state = 1_u64;
    for _ in 0..400 {
        let program: Vec<u8> = (0..240)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as u8
            })
            .collect();
        fuzz::fuzz(&program);
    }
}

#[test]
fn a_slice_in_one_piece_is_not_copied() {
    let record = Bytes::from(vec![7; 1000]);
    let mut stream = Stream::new();
    stream.push(0, record.slice(..600), 1000, mark(0));
    let taken = stream.take(500);
    assert_eq!(taken.as_ptr(), record.as_ptr());
}

#[test]
fn a_small_kept_slice_does_not_pin_its_record() {
    let record = Bytes::from(vec![7; 1000]);
    let mut stream = Stream::new();
    stream.push(0, record.slice(..900), 1000, mark(0));
    let small = stream.take_kept(100);
    assert_ne!(small.as_ptr(), record.as_ptr(), "a tenth of the record is copied");
    assert_eq!(stream.take_kept(700).as_ptr(), record[100..].as_ptr(), "most of it is shared");
    stream.settle();
    assert_eq!(stream.held_bytes(), 100);
    drop(stream.take(0));
    assert_ne!(stream.contiguous(1).as_ptr(), record[800..].as_ptr(), "what is left over was copied too");
}

#[test]
fn merging_keeps_the_time_of_each_byte() {
    let mut stream = stream_of(&["GET ", "/ HT", "TP/1.1"]);
    assert_eq!(stream.contiguous(10), b"GET / HTTP");
    assert_eq!(stream.mark_at(3).unwrap().time, Timestamp::from_micros(0));
    assert_eq!(stream.mark_at(4).unwrap().time, Timestamp::from_micros(1));
    assert_eq!(stream.take(9), "GET / HTT");
    assert_eq!(stream.last_mark().unwrap().time, Timestamp::from_micros(2));
}

#[test]
fn bytes_that_trickle_in_are_merged_once() {
    let mut stream = Stream::new();
    let byte = Bytes::from_static(b"x");
    let mut moved = 0_usize;
    let mut address = std::ptr::null();
    for index in 0..100_000_u64 {
        stream.push(index, byte.clone(), 1, mark(0));
        assert_eq!(stream.find(b"\r\n", 1 << 20), Found::NotYet);
        let merged = stream.contiguous(usize::MAX);
        if merged.as_ptr() != address {
            moved += merged.len();
            address = merged.as_ptr();
        }
    }
    assert!(moved < 400_000, "the growing buffer moved {moved} bytes for 100000");
}

#[test]
fn a_hole_between_pushes_becomes_a_gap() {
    let mut stream = stream_of(&["abc"]);
    let pushed = stream.push(5, Bytes::from_static(b"fgh"), 3, mark(9));
    assert_eq!(pushed.hole, 2);
    assert_eq!(stream.take(10), "abc");
    assert_eq!(stream.front(), Front::Gap(Gap { length: 2, cause: ChunkCause::Loss, mark: mark(9) }));
    stream.skip_gap();
    assert_eq!(stream.take(10), "fgh");
    assert_eq!(stream.front(), Front::Empty);
    stream.finish();
    assert_eq!(stream.front(), Front::End);
}

#[test]
fn bytes_delivered_twice_are_cut() {
    let mut stream = stream_of(&["abcdef"]);
    assert_eq!(stream.push(2, Bytes::from_static(b"cde"), 3, mark(1)).duplicate, 3);
    assert_eq!(stream.push(4, Bytes::from_static(b"efgh"), 4, mark(1)).duplicate, 2);
    assert_eq!(stream.take(20), "abcdefgh");
}

#[test]
fn the_first_push_sets_the_start() {
    let mut stream = Stream::new();
    assert_eq!(stream.push(1000, Bytes::from_static(b"abc"), 3, mark(1)).hole, 0);
    assert_eq!((stream.position(), stream.end_position()), (1000, 1003));
}

#[test]
fn a_wanted_count_delays_the_call_but_no_gap() {
    let mut stream = stream_of(&["abc"]);
    stream.set_wanted(5);
    assert!(!stream.is_ready());
    stream.push_gap(3, 1, ChunkCause::Loss, mark(1));
    assert!(stream.is_ready());
}

#[test]
fn shedding_turns_the_oldest_bytes_into_a_gap() {
    let mut stream = stream_of(&["abcd", "efgh", "ijkl"]);
    assert_eq!(stream.shed(5), 8);
    assert_eq!(stream.front(), Front::Gap(Gap { length: 8, cause: ChunkCause::Limit, mark: mark(0) }));
    stream.skip_gap();
    assert_eq!(stream.mark(), Some(mark(2)));
    assert_eq!(stream.take(9), "ijkl");
}

#[test]
fn datagrams_stay_apart() {
    let mut stream = Stream::of_datagrams();
    stream.push(0, Bytes::from_static(b"one"), 3, mark(0));
    stream.push(3, Bytes::new(), 0, mark(1));
    stream.push(3, Bytes::from_static(b"two"), 3, mark(2));
    stream.push_gap(6, 4, ChunkCause::Snaplen, mark(2));
    stream.push(10, Bytes::from_static(b"three"), 5, mark(3));
    assert_eq!(stream.contiguous(100), b"one");
    let taken: Vec<_> = std::iter::from_fn(|| stream.take_datagram()).collect();
    let parts: Vec<_> = taken
        .iter()
        .map(|datagram| (&datagram.data[..], datagram.missing, datagram.mark.time.as_micros()))
        .collect();
    assert_eq!(parts, [(&b"one"[..], 0, 0), (b"", 0, 1), (b"two", 4, 2), (b"three", 0, 3)]);
    assert_eq!((stream.position(), stream.held_bytes()), (15, 0));
}

#[test]
fn a_datagram_read_byte_by_byte_ends_with_its_last_byte() {
    let mut stream = Stream::of_datagrams();
    stream.push(0, Bytes::from_static(b"ab"), 2, mark(0));
    stream.push(2, Bytes::from_static(b"c"), 1, mark(1));
    assert_eq!(stream.consume(9), 2);
    assert_eq!(stream.mark(), Some(mark(1)));
    assert_eq!(stream.take(9), "c");
    assert!(stream.is_empty());
}

#[test]
fn a_quiet_stream_keeps_no_queue() {
    let mut stream = stream_of(&["abc"]);
    stream.consume(3);
    stream.settle();
    assert_eq!((stream.items.capacity(), stream.marks.capacity()), (0, 0));
    assert!(size_of::<Streams>() <= 416, "{}", size_of::<Streams>());
}
