//! A program of stream operations, held against the plainest possible model: a list of bytes and holes.

use std::collections::VecDeque;

use bytes::Bytes;
use wirecall_schemas::{ChunkCause, Timestamp};

use super::{Found, Front, Mark, Stream};

/// The truth: one entry a byte, `None` for a missing one, with the time its packet carried.
#[derive(Default)]
struct Model {
    bytes: VecDeque<(Option<u8>, i64)>,
    end: u64,
}

impl Model {
    fn run(&self) -> Vec<u8> {
        self.bytes.iter().map_while(|(byte, _)| *byte).collect()
    }

    fn drop(&mut self, count: usize) {
        self.bytes.drain(..count);
    }
}

/// Fuzz entry: `bytes` is a program of pushes, gaps, searches and takes; after each step the stream and the model agree.
///
/// # Panics
/// When they do not.
pub fn fuzz(bytes: &[u8]) {
    let mut stream = Stream::new();
    let mut model = Model::default();
    let mut time = 0;
    for step in bytes.chunks_exact(3) {
        time += 1;
        let (operation, count, extra) = (step[0] % 10, usize::from(step[1] % 48), u64::from(step[2]));
        match operation {
            0..=2 => push(&mut stream, &mut model, time, count, extra),
            3 => push_gap(&mut stream, &mut model, time, count as u64, extra),
            4 => contiguous(&mut stream, &model, count),
            5 => take(&mut stream, &mut model, count, extra),
            6 => {
                let dropped = stream.consume(count);
                assert_eq!(dropped, count.min(model.run().len()));
                model.drop(dropped);
            }
            7 => skip_gap(&mut stream, &mut model),
            8 => find(&mut stream, &model, count),
            _ => stream.settle(),
        }
        agree(&stream, &model);
    }
}

fn mark(time: i64) -> Mark {
    Mark { time: Timestamp::from_micros(time), sequence: time, log_offset: None }
}

fn push(stream: &mut Stream, model: &mut Model, time: i64, count: usize, extra: u64) {
    // Up to 7 bytes before the end (seen before) or 4 after it (a hole), else right at it.
    let offset = match extra % 16 {
        back @ 1..=7 => model.end.saturating_sub(back),
        ahead @ 8..=11 if model.end > 0 => model.end + ahead - 7,
        _ => model.end,
    };
    let data: Vec<u8> = (0..count as u64).map(|index| ((offset + index + extra) % 11) as u8).collect();
    for _ in model.end..offset {
        model.bytes.push_back((None, time));
    }
    let known = (model.end.max(offset) - offset) as usize;
    if model.end < offset {
        model.end = offset;
    }
    for byte in data.iter().skip(known) {
        model.bytes.push_back((Some(*byte), time));
        model.end += 1;
    }
    let pushed = stream.push(offset, Bytes::from(data), count * (1 + (extra as usize % 9)), mark(time));
    assert_eq!(pushed.duplicate, known.min(count));
}

fn push_gap(stream: &mut Stream, model: &mut Model, time: i64, length: u64, extra: u64) {
    let offset = model.end.saturating_sub(extra % 5);
    let fresh = (offset + length).saturating_sub(model.end);
    for _ in model.end..offset + length {
        model.bytes.push_back((None, time));
    }
    model.end = model.end.max(offset + length);
    assert_eq!(stream.push_gap(offset, length, ChunkCause::Loss, mark(time)).gap, fresh);
}

fn contiguous(stream: &mut Stream, model: &Model, want: usize) {
    let run = model.run();
    let slice = stream.contiguous(want);
    assert!(slice.len() >= want.min(run.len()), "as much as asked or as there is");
    assert_eq!(slice, &run[..slice.len()]);
}

fn take(stream: &mut Stream, model: &mut Model, count: usize, extra: u64) {
    let run = model.run();
    let taken = match extra % 3 {
        0 => stream.take(count),
        1 => stream.take_kept(count),
        _ => stream.take_front(count),
    };
    if extra % 3 != 2 {
        assert_eq!(taken.len(), count.min(run.len()));
    }
    assert_eq!(taken, run[..taken.len()]);
    model.drop(taken.len());
}

fn skip_gap(stream: &mut Stream, model: &mut Model) {
    let Some(gap) = stream.skip_gap() else { return };
    stream.restore_gap(gap);
    assert_eq!(stream.skip_gap(), Some(gap), "a gap can be put back");
    for _ in 0..gap.length {
        assert_eq!(model.bytes.pop_front().map(|(byte, _)| byte), Some(None), "a gap is missing bytes");
    }
}

fn find(stream: &mut Stream, model: &Model, limit: usize) {
    let pattern = [3_u8, 4];
    let run = model.run();
    let within = &run[..run.len().min(limit)];
    let truth = within.windows(2).position(|window| window == pattern);
    match stream.find(&pattern, limit) {
        Found::At(index) => assert_eq!(Some(index), truth),
        Found::NotYet => assert!(truth.is_none() && run.len() < limit),
        Found::Limit => assert!(truth.is_none() && run.len() >= limit),
    }
}

fn agree(stream: &Stream, model: &Model) {
    let run = model.run();
    assert_eq!(stream.available(), run.len());
    assert_eq!(stream.held_bytes(), model.bytes.iter().filter(|(byte, _)| byte.is_some()).count());
    assert_eq!(stream.end_position() - stream.position(), model.bytes.len() as u64);
    assert_eq!(stream.mark().map(|mark| mark.time.as_micros()), model.bytes.front().map(|(_, time)| *time));
    for ahead in [0, 1, run.len() / 2] {
        let time = stream.mark_at(ahead).map(|mark| mark.time.as_micros());
        assert_eq!(time, model.bytes.get(ahead).map(|(_, time)| *time), "mark of the byte {ahead} ahead");
    }
    match (stream.front(), model.bytes.front()) {
        (Front::Data(data), Some((Some(byte), _))) => assert_eq!(data.first(), Some(byte)),
        (Front::Gap(gap), Some((None, _))) => assert!(gap.length > 0),
        (Front::Empty, None) => {}
        (front, truth) => panic!("front is {front:?}, truth {truth:?}"),
    }
}
