//! What a peer can do to memory and time: nothing that grows faster than what it sends.

use super::conversation::Step;
use super::limits::talk;
use super::registry;
use crate::{Dissector, Limits};

const NEXT: &str = ">GET /next HTTP/1.1\r\nHost: h\r\n\r\n";

/// Plays packets and gives the peak of held bytes and the calls.
fn peak(packets: &[&str]) -> (usize, usize) {
    let mut dissector = Dissector::new(registry(), Limits::default());
    let mut peak = 0;
    let calls = talk(packets).play_to(&mut dissector, |dissector| peak = peak.max(dissector.held_bytes()));
    (peak, calls.len())
}

#[test]
fn empty_lines_are_not_kept() {
    let lines = format!(">{}", "\r\n".repeat(100_000));
    let (peak, calls) = peak(&[NEXT, &lines, NEXT]);
    assert_eq!(calls, 2);
    assert!(peak < 16 * 1024, "{peak}");
}

#[test]
fn a_head_of_a_megabyte_is_kept_up_to_its_limit() {
    let mut packets = vec![">GET / HTTP/1.1\r\n".to_owned()];
    packets.extend((0..1_000).map(|_| format!(">{}", "X: y-and-more-of-that\r\n".repeat(45))));
    packets.push(">\r\n".to_owned());
    let packets: Vec<_> = packets.iter().map(String::as_str).collect();
    let (peak, calls) = peak(&packets);
    assert_eq!(calls, 1);
    assert!(peak < 512 * 1024, "{peak}");
}

#[test]
fn tiny_chunks_are_kept_as_one_body() {
    let head = "<HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = format!("<{}0\r\n\r\n", "1\r\nx\r\n".repeat(200_000));
    let (peak, calls) = peak(&[NEXT, head, &chunks]);
    assert_eq!(calls, 1);
    assert!(peak < 256 * 1024, "{peak}");
}

#[test]
fn a_megabyte_byte_by_byte_takes_linear_work() {
    // Quadratic work on 100,000 packets would take minutes, and the test runner would show it.
    let body = "b".repeat(60_000);
    let conversation = talk(&[
        &format!(
            ">POST / HTTP/1.1\r\nHost: h\r\nX: {}\r\nContent-Length: 60000\r\n\r\n{body}",
            "h".repeat(40_000)
        ),
        "<HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ]);
    let mut dissector = Dissector::new(registry(), Limits::default());
    let calls = conversation.split(1).play_to(&mut dissector, |_| {});
    assert_eq!(calls[0].request.as_ref().unwrap().body.as_ref().unwrap().size, Some(60_000));
}

#[test]
fn start_lines_that_come_to_nothing_are_tried_once() {
    // Each line is a candidate, and each trial would read all lines behind it.
    let fakes = format!("<{}", "A: HTTP/1.1 200 OK\r\n".repeat(20_000));
    let mut conversation = talk(&[NEXT, &fakes, "<HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"]);
    let gap = Step { bytes: Vec::new(), missing: 10, ..conversation.steps[1].clone() };
    conversation.steps.insert(1, gap);
    let mut dissector = Dissector::new(registry(), Limits::default());
    let calls = conversation.play_to(&mut dissector, |_| {});
    assert!(!calls.is_empty());
}
