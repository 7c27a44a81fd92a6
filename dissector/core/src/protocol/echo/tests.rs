use wirecall_schemas::{Completeness, Transport};

use super::Echo;
use super::probe::probe;
use crate::Registry;
use crate::protocol::conformance::{Sample, Suite};
use crate::protocol::{Certainty, Opening, OpeningSide, Verdict};

fn verdict(client: &str, server: &str, mid_stream: bool) -> Verdict {
    let side = |text| OpeningSide { data: str::as_bytes(text), is_final: false };
    probe(&Opening { transport: Transport::Tcp, client: side(client), server: side(server), mid_stream })
}

const YES: Verdict = Verdict::Yes { swapped: false, certainty: Certainty::Likely };

#[test]
fn probe_compares_the_first_lines() {
    assert_eq!(verdict("hello\n", "hello\n", false), YES);
    assert_eq!(verdict("hello\nmore", "hello\n", false), YES);
    assert_eq!(verdict("hello\n", "hel", false), Verdict::NotYet);
    assert_eq!(verdict("hello\n", "help", false), Verdict::No);
    assert_eq!(verdict("ok\n", "ok\n", false), Verdict::No);
    assert_eq!(verdict("\x01\x02\x03\x04\n", "\x01\x02\x03\x04\n", false), Verdict::No);
    assert_eq!(verdict("GET / HTTP/1.1\r\n", "", false), Verdict::No);
}

#[test]
fn probe_finds_a_shared_line_mid_stream() {
    assert_eq!(verdict("llo\nworld\n", "ello\nworld\n", true), YES);
    assert_eq!(verdict("llo\nworld\n", "ello\nwor", true), Verdict::NotYet);
    assert_eq!(verdict("llo\nworld\nnext\n", "ello\nworld\nother\n", true), Verdict::No);
}

fn samples() -> Vec<Sample> {
    vec![
        Sample::tcp("one line", 7, &[b">hello, echo\r\n", b"<hello, echo\r\n"]),
        Sample::tcp(
            "three lines, two of them equal",
            7007,
            &[b">first\n", b"<first\n", b">second\n", b"<second\n", b">first\n", b"<first\n"],
        ),
        Sample::tcp(
            "pipelined",
            7,
            &[
                b">alpha line\nbeta line\n",
                b">gamma line\nunfinished",
                b"<alpha line\nbeta li",
                b"<ne\ngamma line\n",
            ],
        ),
        Sample::tcp("unanswered", 7, &[b">answered\n", b"<answered\n", b">unanswered\n"]),
    ]
}

#[test]
fn conforms() {
    let registry = Registry::empty().with(Echo);
    let calls = Suite { registry: &registry, tells_sides: false }.run(&samples());
    let targets: Vec<Vec<_>> = calls
        .iter()
        .map(|calls| calls.iter().map(|call| (call.target.as_deref().unwrap(), call.completeness)).collect())
        .collect();
    let matched = Completeness::Matched;
    assert_eq!(targets[0], [("hello, echo", matched)]);
    assert_eq!(targets[1], [("first", matched), ("second", matched), ("first", matched)]);
    assert_eq!(targets[2], [("alpha line", matched), ("beta line", matched), ("gamma line", matched)]);
    assert_eq!(targets[3], [("answered", matched), ("unanswered", Completeness::RequestOnly)]);
}
