//! Random traffic with a known truth: what comes out is the stream, except exactly for the gaps that are declared.

use crate::packet::{ACK, FIN, SYN};
use crate::testing::{Harness, Part, Random};

/// A segment to be sent: side, offset, acknowledged offset of the other side, length.
#[derive(Clone, Copy, Debug)]
struct Send {
    side: usize,
    at: usize,
    acknowledges: usize,
    length: usize,
}

/// A dialogue of random messages, cut into random segments.
fn dialogue(random: &mut Random, streams: &[Vec<u8>; 2]) -> Vec<Send> {
    let (mut sends, mut next, mut side) = (Vec::new(), [0, 0], 0);
    while next[0] < streams[0].len() || next[1] < streams[1].len() {
        let message = (1 + random.below(3_000)).min(streams[side].len() - next[side]);
        let end = next[side] + message;
        while next[side] < end {
            let length = (1 + random.below(700)).min(end - next[side]);
            sends.push(Send { side, at: next[side], acknowledges: next[1 - side], length });
            next[side] += length;
        }
        side = 1 - side;
    }
    sends
}

/// What the way to the capture does to the packets.
#[derive(Clone, Copy, Debug, Default)]
struct Trouble {
    /// Packets move by up to so many places.
    disorder: usize,
    /// Of a hundred packets, so many come twice, with other borders.
    repeated: usize,
    /// Of a hundred packets, so many never come.
    lost: usize,
}

fn disturb(random: &mut Random, sends: &[Send], trouble: Trouble) -> Vec<Send> {
    let mut arriving = Vec::new();
    for (position, send) in sends.iter().enumerate() {
        if random.below(100) >= trouble.lost {
            arriving.push((position + random.below(trouble.disorder + 1), *send));
        }
        if random.below(100) < trouble.repeated {
            let cut = random.below(send.length);
            let again = Send { at: send.at + cut, length: send.length - cut, ..*send };
            let back = random.below(send.at.min(300) + 1);
            let again = Send {
                at: again.at - back.min(again.at),
                length: again.length + back.min(again.at),
                ..again
            };
            arriving.push((position + random.below(trouble.disorder + 1), again));
        }
    }
    arriving.sort_by_key(|(position, _)| *position);
    arriving.into_iter().map(|(_, send)| send).collect()
}

fn play(seed: u64, trouble: Trouble, handshake: bool) -> (Harness, [Vec<u8>; 2]) {
    let mut random = Random::new(seed);
    let mut talk = Harness::new();
    talk.initial = [random.next() as u32, random.next() as u32];
    let streams = [0, 1].map(|_| {
        let length = 1 + random.below(20_000);
        random.bytes(length)
    });
    if handshake {
        talk.handshake();
    } else {
        talk.send(0, SYN, -1, 0, b"");
    }
    let sends = dialogue(&mut random, &streams);
    for send in disturb(&mut random, &sends, trouble) {
        let data = &streams[send.side][send.at..send.at + send.length];
        talk.send(send.side, ACK, send.at as i64, send.acknowledges as i64, data);
    }
    let ends = streams.each_ref().map(|stream| stream.len() as i64);
    talk.send(0, ACK | FIN, ends[0], ends[1], b"");
    talk.send(1, ACK | FIN, ends[1], ends[0] + 1, b"");
    talk.send(0, ACK, ends[0] + 1, ends[1] + 1, b"");
    talk.finish();
    (talk, streams)
}

/// The stream that the parts describe, with the truth in the place of the gaps; and the bytes missing.
fn overlay(parts: &[Part], truth: &[u8]) -> (Vec<u8>, usize) {
    let (mut whole, mut missing) = (Vec::new(), 0);
    for part in parts {
        match part {
            Part::Bytes(bytes) => whole.extend(bytes),
            Part::Gap(length) => {
                let end = (whole.len() + *length as usize).min(truth.len());
                missing += *length as usize;
                whole.extend(&truth[whole.len()..end]);
            }
        }
    }
    (whole, missing)
}

#[test]
fn disorder_and_repeats_lose_nothing() {
    for seed in 0..150 {
        let trouble = Trouble { disorder: (seed % 30) as usize, repeated: 20, lost: 0 };
        let (talk, streams) = play(seed, trouble, true);
        for side in [0, 1] {
            assert_eq!(talk.stream(side), [Part::Bytes(streams[side].clone())], "seed {seed} side {side}");
        }
        assert_eq!(talk.capture.stats().gaps.packets, 0, "seed {seed}");
    }
}

#[test]
fn loss_is_exactly_what_the_gaps_say() {
    for seed in 0..150 {
        let trouble = Trouble { disorder: 5, repeated: 10, lost: 1 + (seed % 20) as usize };
        let (talk, streams) = play(seed, trouble, seed % 3 != 0);
        let mut missing = 0;
        for side in [0, 1] {
            let (whole, gaps) = overlay(&talk.stream(side), &streams[side]);
            assert_eq!(whole, streams[side], "seed {seed} side {side}");
            missing += gaps as u64;
        }
        let stats = talk.capture.stats();
        let sent = streams.iter().map(|stream| stream.len() as u64).sum::<u64>();
        assert_eq!(stats.delivered.bytes + missing, sent, "seed {seed}");
    }
}

#[test]
fn the_same_packets_give_the_same_segments() {
    let trouble = Trouble { disorder: 9, repeated: 10, lost: 5 };
    for seed in 0..20 {
        assert_eq!(play(seed, trouble, true).0.segments, play(seed, trouble, true).0.segments);
    }
}
