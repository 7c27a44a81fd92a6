//! Random conversations, cut, mutated and holed at random, with what must hold whatever they are.

use bytes::Bytes;
use wirecall_schemas::{Call, Completeness, Direction};

use super::conversation::{Conversation, Step, parse_file};
use super::{FILES, registry};
use crate::{Dissector, Limits};

/// A small generator (xorshift64*), so that a failure names a seed that repeats it.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

/// Limits small enough that random input reaches them.
fn small_limits() -> Limits {
    Limits { head_bytes: 512, header_fields: 8, body_bytes: 64, open_calls: 4, ..Limits::default() }
}

/// Plays a conversation and checks what holds for any input.
fn play(conversation: &Conversation, limits: &Limits) -> Vec<Call> {
    let mut dissector = Dissector::new(registry(), limits.clone());
    let bytes: usize = conversation.steps.iter().map(|step| step.bytes.len()).sum();
    // What is held is bounded by what came, and by a fixed amount for each message of which parts are kept.
    let bound = 4 * bytes + 64 * 1024;
    let calls = conversation.play_to(&mut dissector, |dissector| {
        assert!(dissector.held_bytes() <= bound, "{}: {} held", conversation.name, dissector.held_bytes());
    });
    for call in &calls {
        let half = call.completeness != Completeness::Matched;
        assert_eq!(half, call.completeness_cause.is_some(), "{}", conversation.name);
        let http = call.http.as_ref().unwrap();
        assert_eq!(call.operation, http.request_method, "{}", conversation.name);
        assert!(call.request.is_some() || call.operation.is_none(), "{}", conversation.name);
        assert!(call.response.is_some() || call.status.is_none(), "{}", conversation.name);
        for message in call.request.iter().chain(&call.response) {
            assert!(message.first_byte_time.is_some(), "{}", conversation.name);
            assert!(message.last_byte_time >= message.first_byte_time || message.last_byte_time.is_none());
            assert!(message.wire_bytes as usize <= bytes, "{}", conversation.name);
            let kept: usize =
                message.body.iter().filter_map(|body| body.content.as_ref()).map(|blob| blob.len()).sum();
            assert!(kept <= limits.decoded_bytes.max(limits.body_bytes), "{}", conversation.name);
        }
    }
    calls
}

fn mutate(conversation: &Conversation, random: &mut Random) -> Conversation {
    let mut mutated = conversation.split(1 + random.below(200));
    for step in &mut mutated.steps {
        if step.bytes.is_empty() {
            continue;
        }
        if random.chance(6) {
            let at = random.below(step.bytes.len());
            step.bytes[at] = b"\r\n\0: HTTP/1.0\xff,;"[random.below(16)];
        }
        if random.chance(12) {
            step.bytes.truncate(random.below(step.bytes.len()) + 1);
        }
        if random.chance(12) {
            step.missing = 1 + random.below(60);
            step.bytes.clear();
        }
        if random.chance(20) {
            step.direction = step.direction.reverse();
        }
    }
    mutated.joined |= random.chance(8);
    mutated
}

#[test]
fn mutated_conversations_break_nothing() {
    let conversations: Vec<_> = FILES.iter().flat_map(|(topic, text)| parse_file(topic, text)).collect();
    let limits = [Limits::default(), small_limits()];
    for seed in 0..1_500 {
        let mut random = Random::new(seed);
        let mut conversation = mutate(&conversations[random.below(conversations.len())], &mut random);
        conversation.name += &format!(" (seed {seed})");
        play(&conversation, &limits[random.below(2)]);
    }
}

#[test]
fn random_bytes_behind_a_start_line_break_nothing() {
    const WORDS: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"Content-Length: ",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n",
        b"\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"99999999999999999999",
        b"A: b\r\n",
        b" folded\r\n",
        b"\0\xff",
        b"7",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"CONNECT h:1 HTTP/1.1\r\n",
        b"Upgrade: h2c\r\n",
        b"HEAD / HTTP/1.0\r\n",
        b"HTTP/1.1 101 S\r\n",
    ];
    for seed in 0..1_500 {
        let mut random = Random::new(seed);
        let mut conversation = parse_file("fuzz", &format!("words (seed {seed})")).remove(0);
        for index in 0..1 + random.below(30) {
            let direction =
                if random.chance(2) { Direction::ClientToServer } else { Direction::ServerToClient };
            let mut bytes = Vec::new();
            if index == 0 {
                bytes.extend_from_slice(WORDS[usize::from(direction == Direction::ServerToClient)]);
            }
            for _ in 0..random.below(8) {
                bytes.extend_from_slice(WORDS[random.below(WORDS.len())]);
            }
            let missing = if random.chance(10) { 1 + random.below(50) } else { 0 };
            if missing > 0 {
                bytes.clear();
            }
            let time = conversation.steps.last().map_or(1_700_000_000_000_000, |step| step.time + 1);
            if missing > 0 || !bytes.is_empty() {
                conversation.steps.push(Step { direction, bytes, missing, time });
            }
        }
        play(&conversation, &small_limits());
    }
}

/// Valid traffic of a client that takes turns, numbered so that a wrong pair shows.
fn numbered(count: usize, random: &mut Random) -> Conversation {
    let mut conversation = parse_file("fuzz", "numbered").remove(0);
    let mut time = 1_700_000_000_000_000;
    for number in 0..count {
        let body = "x".repeat(random.below(300));
        let request = match random.below(3) {
            0 => format!("GET /{number} HTTP/1.1\r\nHost: h\r\n\r\n"),
            1 => {
                format!("POST /{number} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            }
            _ => format!("HEAD /{number} HTTP/1.1\r\nHost: h\r\n\r\n"),
        };
        let status = format!("HTTP/1.1 {} N\r\n", 200 + number);
        let response = match random.below(3) {
            _ if request.starts_with("HEAD") => format!("{status}Content-Length: 77\r\n\r\n"),
            0 => format!("{status}Content-Length: {}\r\n\r\n{body}", body.len()),
            1 => format!(
                "{status}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}x\r\n0\r\n\r\n",
                body.len() + 1
            ),
            _ => format!("{status}Content-Length: 0\r\n\r\n"),
        };
        for (direction, text) in [(Direction::ClientToServer, request), (Direction::ServerToClient, response)]
        {
            conversation.steps.push(Step { direction, bytes: text.into_bytes(), missing: 0, time });
            time += 1_000;
        }
    }
    conversation
}

#[test]
fn traffic_that_takes_turns_is_never_paired_wrongly() {
    let mut pairs = 0;
    for seed in 0..600 {
        let mut random = Random::new(seed);
        let mut conversation = numbered(12, &mut random).split(1 + random.below(500));
        conversation.name += &format!(" (seed {seed})");
        let losses = random.below(4);
        for _ in 0..losses {
            let at = random.below(conversation.steps.len());
            let step = &mut conversation.steps[at];
            step.missing += step.bytes.len();
            step.bytes.clear();
        }
        for call in play(&conversation, &Limits::default()) {
            let (Some(target), Some(status)) = (&call.target, &call.status) else { continue };
            let number: usize = target[1..].parse().unwrap();
            assert_eq!(**status, (200 + number).to_string(), "{}", conversation.name);
            pairs += 1;
        }
        assert!(losses > 0 || pairs > 0);
    }
    assert!(pairs > 600 * 8, "most pairs survive a few losses: {pairs}");
}

#[test]
fn whole_traffic_gives_every_pair() {
    for seed in 0..50 {
        let mut random = Random::new(seed);
        let conversation = numbered(20, &mut random).split(1 + random.below(700));
        let calls = play(&conversation, &Limits::default());
        assert!(calls.iter().all(|call| call.completeness == Completeness::Matched), "seed {seed}");
        assert_eq!(calls.len(), 20, "seed {seed}");
        let bodies = calls.iter().filter_map(|call| call.response.as_ref()?.body.as_ref());
        let sized = bodies.filter(|body| body.size.is_some_and(|size| size as usize == content(body).len()));
        assert!(sized.count() > 0, "seed {seed}");
    }
}

fn content(body: &wirecall_schemas::Body) -> Bytes {
    body.content.as_ref().map_or_else(Bytes::new, |blob| blob.as_bytes().clone())
}
