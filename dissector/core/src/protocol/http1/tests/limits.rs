//! Each limit, reached.

use wirecall_schemas::{Call, Cause, Completeness, Decoding, Direction};

use super::conversation::{Conversation, Step, parse_file};
use super::registry;
use crate::{Counter, Dissector, Limits};

/// A conversation of these packets: `>` begins what the client sends, `<` what the server does.
pub(super) fn talk(packets: &[&str]) -> Conversation {
    let mut conversation = parse_file("limits", "talk").remove(0);
    for packet in packets {
        let direction =
            if packet.starts_with('>') { Direction::ClientToServer } else { Direction::ServerToClient };
        let time = 1_700_000_000_000_000 + 1_000 * conversation.steps.len() as i64;
        let bytes = packet.as_bytes()[1..].to_vec();
        conversation.steps.push(Step { direction, bytes, missing: 0, time });
    }
    conversation
}

fn play(packets: &[&str], limits: Limits) -> (Vec<Call>, Dissector) {
    let mut dissector = Dissector::new(registry(), limits);
    let calls = talk(packets).play_to(&mut dissector, |_| {});
    (calls, dissector)
}

fn has(call: &Call, code: &str) -> bool {
    call.findings.iter().any(|finding| finding.code == code)
}

const OK: &str = "<HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const NEXT: &str = ">GET /next HTTP/1.1\r\nHost: h\r\n\r\n";

#[test]
fn a_head_over_the_limit_is_cut_and_framed_all_the_same() {
    let limits = Limits { head_bytes: 1_000, ..Limits::default() };
    let padding = "X-Pad: abcdefgh\r\n".repeat(100);
    let request = format!(">POST /long HTTP/1.1\r\nHost: h\r\n{padding}Content-Length: 5\r\n\r\nhello");
    let (calls, dissector) = play(&[&request, OK, NEXT, OK], limits);
    assert_eq!(calls.len(), 2);
    assert!(has(&calls[0], "http.head_too_large"));
    assert_eq!(calls[0].request.as_ref().unwrap().body.as_ref().unwrap().size, Some(5));
    assert_eq!(calls[0].request.as_ref().unwrap().wire_bytes as usize, request.len() - 1);
    assert!(calls[0].request.as_ref().unwrap().headers.len() < 60);
    assert_eq!(calls[1].target.as_deref(), Some("/next"));
    assert_eq!(dissector.stats().sum(Counter::HeadsLimited), 1);
}

#[test]
fn a_target_over_the_limit_is_not_told() {
    let limits = Limits { head_bytes: 1_000, ..Limits::default() };
    let request = format!(">GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(2_000));
    let (calls, _) = play(&[&request, OK, NEXT, OK], limits);
    assert_eq!((calls[0].operation.as_deref(), &calls[0].target), (Some("GET"), &None));
    assert!(has(&calls[0], "http.head_too_large"));
    assert_eq!(calls[1].target.as_deref(), Some("/next"));
}

#[test]
fn a_body_over_the_limit_is_counted() {
    let limits = Limits { body_bytes: 10, ..Limits::default() };
    let response = format!("<HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", "b".repeat(100));
    let (calls, dissector) = play(&[NEXT, &response], limits);
    let body = calls[0].response.as_ref().unwrap().body.clone().unwrap();
    assert_eq!((body.size, body.truncated, body.content.unwrap().len()), (Some(100), true, 10));
    assert_eq!(dissector.stats().sum(Counter::BodiesTruncated), 1);
}

#[test]
fn a_decompression_bomb_stops_at_the_limit() {
    let limits = Limits { decoded_bytes: 4, ..Limits::default() };
    let mut conversation =
        talk(&[NEXT, "<HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 25\r\n\r\n"]);
    conversation.steps[1].bytes.extend_from_slice(
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcbH\xcd\xc9\xc9\x07\x00\x86\xa6\x106\x05\x00\x00\x00",
    );
    let mut dissector = Dissector::new(registry(), limits);
    let calls = conversation.play_to(&mut dissector, |_| {});
    let body = calls[0].response.as_ref().unwrap().body.clone().unwrap();
    assert_eq!((body.decoding, body.content.unwrap().len(), body.truncated), (Decoding::Limited, 4, true));
    assert!(has(&calls[0], "http.decompression_limit"));
    assert_eq!(dissector.stats().sum(Counter::DecodingsLimited), 1);
}

#[test]
fn chunk_lines_and_trailers_are_bounded() {
    let head = "<HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let line = format!("{head}3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(5_000));
    let (calls, _) = play(&[NEXT, &line], Limits::default());
    assert!(has(&calls[0], "http.chunk_line_too_long"));
    let trailers = format!("{head}0\r\n{}\r\n", "A: b\r\n".repeat(5_000));
    let (calls, _) = play(&[NEXT, &trailers], Limits::default());
    assert!(has(&calls[0], "http.trailers_too_large"));
}

#[test]
fn too_many_waiting_requests_let_the_oldest_go_and_stay_in_step() {
    let limits = Limits { open_calls: 3, ..Limits::default() };
    let requests: Vec<_> = (0..5).map(|index| format!(">GET /{index} HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
    let responses: Vec<_> =
        (0..5).map(|index| format!("<HTTP/1.1 20{index} N\r\nContent-Length: 0\r\n\r\n")).collect();
    let packets: Vec<_> = requests.iter().chain(&responses).map(String::as_str).collect();
    let (calls, dissector) = play(&packets, limits);
    let causes: Vec<_> = calls.iter().map(|call| (call.completeness, call.completeness_cause)).collect();
    let limited = Some(Cause::Limit);
    for half in [Completeness::RequestOnly, Completeness::ResponseOnly] {
        assert_eq!(causes.iter().filter(|cause| **cause == (half, limited)).count(), 2);
    }
    let matched: Vec<_> = calls
        .iter()
        .filter(|call| call.completeness == Completeness::Matched)
        .map(|call| format!("{} {}", call.target.as_ref().unwrap(), call.status.as_ref().unwrap()))
        .collect();
    assert_eq!(matched, ["/2 202", "/3 203", "/4 204"]);
    assert_eq!(dissector.stats().sum(Counter::OpenCallsLimited), 2);
}

#[test]
fn interim_responses_are_listed_up_to_the_limit() {
    let limits = Limits { interim_responses: 2, ..Limits::default() };
    let interim = format!("<{}", "HTTP/1.1 100 Continue\r\n\r\n".repeat(5));
    let (calls, dissector) = play(&[NEXT, &interim, OK], limits);
    assert_eq!(calls[0].http.as_ref().unwrap().interim_status_codes, [100, 100]);
    assert_eq!(calls[0].status.as_deref(), Some("200"));
    assert_eq!(dissector.stats().sum(Counter::ListsLimited), 3);
}

#[test]
fn responses_without_request_go_out_when_too_many_wait() {
    let response = OK.repeat(30).replace('<', "");
    let (calls, _) = play(&[&format!("<{response}")], Limits::default());
    assert_eq!(calls.len(), 30);
    assert!(calls.iter().all(|call| call.completeness == Completeness::ResponseOnly));
}

#[test]
fn bytes_behind_a_connect_without_answer_end_the_wait() {
    let connect = ">CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n";
    let flood = format!(">{}", "\0".repeat(70_000));
    let (calls, _) = play(&[connect, &flood], Limits::default());
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].completeness_cause, Some(Cause::Upgraded));
}

#[test]
fn parts_are_described_up_to_the_limit() {
    let limits = Limits { body_parts: 2, ..Limits::default() };
    let form = ">POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\n\
        Content-Length: 7\r\n\r\na&b&c&d";
    let (calls, dissector) = play(&[form, OK], limits);
    assert_eq!(calls[0].request.as_ref().unwrap().body.as_ref().unwrap().parts.len(), 2);
    assert!(has(&calls[0], "http.too_many_parts"));
    assert_eq!(dissector.stats().sum(Counter::ListsLimited), 1);
}
