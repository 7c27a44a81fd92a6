//! Recognises HTTP/1 in the first bytes of a connection, whatever the port.
//!
//! Many protocols talk in lines of text, some with HTTP's own words: RTSP, SIP and ICAP have its grammar with another
//! name, SSDP and some multicast protocols even its name. So nothing less than a request line or a status line with
//! `HTTP/1.x` counts, and the first byte that does not fit says no.

use memchr::memchr;

use super::head::Side;
use super::message::{is_blank, is_token, is_token_byte};
use super::resync;
use crate::protocol::{Certainty, Opening, OpeningSide, Verdict};

/// Longest method that is waited for; the longest registered one has 17 characters.
const METHOD_BYTES: usize = 32;

/// Bytes of a target behind a known method that are proof enough when its end is beyond the window.
const LONG_TARGET_BYTES: usize = 1024;

/// Empty lines before the first message that are waited through, in bytes.
const LEADING_BYTES: usize = 16;

/// What one direction says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    Yes,
    No,
    NotYet,
}

/// Judges the first bytes of both directions.
pub(super) fn probe(opening: &Opening<'_>) -> Verdict {
    for (opening, swapped) in [(*opening, false), (opening.swapped(), true)] {
        if judge(opening.client, Side::Request) == Judgement::Yes
            || judge(opening.server, Side::Response) == Judgement::Yes
        {
            return Verdict::Yes { swapped, certainty: Certainty::Certain };
        }
    }
    if opening.mid_stream {
        return probe_mid_stream(opening);
    }
    if is_simple_exchange(opening) {
        return Verdict::Yes { swapped: false, certainty: Certainty::Likely };
    }
    // A client may speak broken HTTP to a server that answers in HTTP; only text comes near enough for that.
    let answer_open = judge(opening.server, Side::Response) == Judgement::NotYet;
    let client_out = rules_out(opening.client) && !(is_text(opening.client.data) && answer_open);
    if client_out || rules_out(opening.server) || opening.is_final() {
        return Verdict::No;
    }
    Verdict::NotYet
}

/// True for a request of HTTP/0.9, which has no version, and an answer that is no status line. Other protocols of lines
/// have a GET too: what begins like a reply of Redis is none of a web server.
fn is_simple_exchange(opening: &Opening<'_>) -> bool {
    let line = &opening.client.data[..memchr(b'\n', opening.client.data).unwrap_or(0)];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let space = line.iter().position(|&byte| byte == b' ').unwrap_or(0);
    let (method, target) = line.split_at(space);
    let request = resync::is_known_method(method)
        && target.starts_with(b" /")
        && target[1..].iter().all(|byte| byte.is_ascii_graphic());
    let redis = matches!(opening.server.data.first(), None | Some(b'+' | b'-' | b':' | b'$' | b'*'));
    request && !redis && judge(opening.server, Side::Response) == Judgement::No
}

/// True for the beginning of a line of printable characters.
fn is_text(data: &[u8]) -> bool {
    let line = &data[..memchr(b'\n', data).unwrap_or(data.len())];
    line.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\r'))
}

/// True when a direction's bytes begin neither a request nor a response.
fn rules_out(side: OpeningSide<'_>) -> bool {
    judge(side, Side::Request) == Judgement::No && judge(side, Side::Response) == Judgement::No
}

/// Where the bytes may begin anywhere, a start line further on counts too, but proves less.
fn probe_mid_stream(opening: &Opening<'_>) -> Verdict {
    let found = |side: OpeningSide<'_>, sort: Side| {
        let end = side.data.iter().rposition(|&byte| byte == b'\n').unwrap_or(0);
        let mut lines = side.data[..end].split(|&byte| byte == b'\n');
        lines.any(|line| resync::find_start(line, sort, false).is_some())
    };
    for (opening, swapped) in [(*opening, false), (opening.swapped(), true)] {
        if found(opening.client, Side::Request) || found(opening.server, Side::Response) {
            return Verdict::Yes { swapped, certainty: Certainty::Likely };
        }
    }
    if opening.is_final() { Verdict::No } else { Verdict::NotYet }
}

fn judge(opening: OpeningSide<'_>, side: Side) -> Judgement {
    let empty = opening.data.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let judgement = match (empty, side) {
        (LEADING_BYTES.., _) => Judgement::No,
        (_, Side::Request) => judge_request(&opening.data[empty..]),
        (_, Side::Response) => judge_response(&opening.data[empty..]),
    };
    match judgement {
        Judgement::NotYet if opening.is_final && !opening.data.is_empty() => Judgement::No,
        judgement => judgement,
    }
}

fn judge_response(text: &[u8]) -> Judgement {
    const SHAPE: &[u8] = b"HTTP/1.d ddd";
    let fits =
        |(&byte, &shape): (&u8, &u8)| if shape == b'd' { byte.is_ascii_digit() } else { byte == shape };
    if !text.iter().zip(SHAPE).all(fits) {
        return Judgement::No;
    }
    match text.get(SHAPE.len()) {
        Some(b' ' | b'\r' | b'\n') => Judgement::Yes,
        Some(_) => Judgement::No,
        None => Judgement::NotYet,
    }
}

fn judge_request(text: &[u8]) -> Judgement {
    let end = text.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(text.len());
    let (method, rest) = text.split_at(end);
    if method.len() > METHOD_BYTES {
        return Judgement::No;
    }
    match rest {
        [] => Judgement::NotYet,
        [b' ', target @ ..] if is_token(method) => judge_target(method, target),
        _ => Judgement::No,
    }
}

/// Judges what follows the method: target, version, line end.
fn judge_target(method: &[u8], text: &[u8]) -> Judgement {
    let line = &text[..memchr(b'\n', text).unwrap_or(text.len())];
    let whole = line.len() < text.len();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = &line[line.iter().take_while(|&&byte| byte == b' ').count()..];
    let path = line.first() == Some(&b'/');
    // Text has no control characters, but attackers put them in a path; bytes over 127 are taken, since browsers of old
    // sent them.
    let attack = path && resync::is_known_method(method);
    if !attack && line.iter().any(|&byte| byte < b' ' || byte == 0x7f) {
        return Judgement::No;
    }
    // Attackers and sloppy clients leave blanks in a path; any other target with a blank in it is another protocol's.
    let version = if path {
        line.iter().rposition(|&byte| is_blank(byte))
    } else {
        line.iter().position(|&byte| is_blank(byte))
    };
    let (target, version) = version.map_or((line, None), |at| (&line[..at], Some(&line[at + 1..])));
    if line.first().is_some_and(|&byte| !is_target_start(byte)) {
        return Judgement::No;
    }
    match version {
        Some(version) if whole => judge_whole(method, target, version),
        None if whole => Judgement::No,
        Some(version) if !path && !is_version_start(version) => Judgement::No,
        _ if path && line.len() >= LONG_TARGET_BYTES && resync::is_known_method(method) => Judgement::Yes,
        _ => Judgement::NotYet,
    }
}

fn judge_whole(method: &[u8], target: &[u8], version: &[u8]) -> Judgement {
    let http = version.len() == b"HTTP/1.1".len() && is_version_start(version);
    // SSDP (UPnP device architecture 1.1): HTTP's grammar, another protocol.
    let ssdp = method == b"M-SEARCH" || (method == b"NOTIFY" && target == b"*");
    if http && !ssdp && !target.is_empty() { Judgement::Yes } else { Judgement::No }
}

/// True for the beginning of `HTTP/1.` and a digit.
fn is_version_start(text: &[u8]) -> bool {
    const NAME: &[u8] = b"HTTP/1.";
    match text.strip_prefix(NAME) {
        Some(minor) => minor.len() <= 1 && minor.iter().all(u8::is_ascii_digit),
        None => NAME.starts_with(text),
    }
}

/// A target begins with a slash, a star, a scheme, a host or an IPv6 address.
const fn is_target_start(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'/' | b'*' | b'[' | b'_' | b'%' | b'.' | b'?')
        || byte > 127
}

#[cfg(test)]
mod tests {
    use wirecall_schemas::Transport;

    use super::*;

    fn opening<'o>(client: &'o [u8], server: &'o [u8]) -> Opening<'o> {
        let side = |data| OpeningSide { data, is_final: false };
        Opening { transport: Transport::Tcp, client: side(client), server: side(server), mid_stream: false }
    }

    fn client(text: &str) -> Verdict {
        probe(&opening(text.as_bytes(), b""))
    }

    const YES: Verdict = Verdict::Yes { swapped: false, certainty: Certainty::Certain };
    const SWAPPED: Verdict = Verdict::Yes { swapped: true, certainty: Certainty::Certain };

    #[test]
    fn request_lines_are_http() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.0\n",
            "get /x HTTP/1.1\r\n",
            "FROBNICATE /x HTTP/1.1\r\n",
            "GET http://h/ HTTP/1.1\r\n",
            "GET    /x HTTP/1.1\r\n",
            "GET /\0x HTTP/1.1\r\n",
            "CONNECT h:443 HTTP/1.1\r\n",
            "CONNECT [::1]:443 HTTP/1.1\r\n",
            "OPTIONS * HTTP/1.1\r\n",
            "GET /?id=1' or 1=1 HTTP/1.1\r\n",
            "\r\nGET / HTTP/1.1\r\n",
            "NOTIFY /event HTTP/1.1\r\n",
        ] {
            assert_eq!(client(line), YES, "{line:?}");
        }
    }

    #[test]
    fn every_prefix_of_a_request_line_is_not_yet() {
        let line = "GET /a/b?c=d HTTP/1.1\r\n";
        for length in 0..line.len() {
            assert_eq!(client(&line[..length]), Verdict::NotYet, "{:?}", &line[..length]);
        }
    }

    #[test]
    fn every_prefix_of_a_status_line_is_not_yet() {
        let line = b"HTTP/1.1 200 OK\r\n";
        for length in 0..13 {
            assert_eq!(probe(&opening(b"", &line[..length])), Verdict::NotYet, "{length}");
        }
        assert_eq!(probe(&opening(b"", &line[..13])), YES);
    }

    #[test]
    fn other_protocols_are_ruled_out_at_their_first_odd_byte() {
        for (text, at) in [
            ("GET /x\r\n", 8),
            ("OPTIONS rtsp://h RTSP/1.0\r\n", 18),
            ("INVITE sip:a@b SIP/2.0\r\n", 16),
            ("REQMOD icap://h/x ICAP/1.0\r\n", 19),
            ("PING\r\n", 5),
            ("*1\r\n$4\r\n", 3),
            ("get key\r\n", 9),
            ("set key 0 0 5\r\n", 9),
            ("NICK foo\r\n", 10),
            ("USER anonymous\r\n", 16),
            ("EHLO mail.example\r\n", 19),
            ("220 ftp ready\r\n", 9),
            ("SSH-2.0-OpenSSH\r\n", 16),
            ("PRI * HTTP/2.0\r\n", 12),
            ("M-SEARCH * HTTP/1.1\r\n", 21),
            ("NOTIFY * HTTP/1.1\r\n", 19),
            ("GET / HTTP/1.10\r\n", 17),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", 12),
        ] {
            for length in 0..text.len() {
                let text = &text.as_bytes()[..length];
                let expected = if length < at { Judgement::NotYet } else { Judgement::No };
                let side = OpeningSide { data: text, is_final: false };
                assert_eq!(judge(side, Side::Request), expected, "{text:?}");
                // A server that answers in HTTP could still be one; any other first byte settles it.
                assert_eq!(probe(&opening(text, b"")), Verdict::NotYet, "{text:?}");
                if length >= at {
                    assert_eq!(probe(&opening(text, b"+")), Verdict::No, "{text:?}");
                    assert_eq!(probe(&opening(text, b"HTTP/1.1 400 ")), YES, "{text:?}");
                }
            }
        }
    }

    #[test]
    fn binary_bytes_are_ruled_out_at_once() {
        assert_eq!(probe(&opening(b"\x16", b"")), Verdict::No);
        assert_eq!(probe(&opening(b"", b"\x00")), Verdict::No);
        assert_eq!(probe(&opening(b"", b"220 ftp ready\r\n")), Verdict::No);
    }

    #[test]
    fn a_simple_request_may_be_answered_by_a_page() {
        let likely = Verdict::Yes { swapped: false, certainty: Certainty::Likely };
        assert_eq!(probe(&opening(b"GET /x\r\n", b"<html>")), likely);
        assert_eq!(probe(&opening(b"GET /x\r\n", b"HTTP/1.0 ")), Verdict::NotYet);
        for (request, answer) in [
            ("GET / HTTP/1.\n", "<html>"),
            ("FETCH /x\r\n", "<html>"),
            ("GET x\r\n", "<html>"),
            ("GET /x\r\n", "$-1\r\n"),
        ] {
            assert_eq!(
                probe(&opening(request.as_bytes(), answer.as_bytes())),
                Verdict::No,
                "{request} {answer}"
            );
        }
    }

    #[test]
    fn a_response_alone_is_http_and_tells_who_is_who() {
        let response = b"HTTP/1.1 200 OK\r\n";
        assert_eq!(probe(&opening(b"", response)), YES);
        assert_eq!(probe(&opening(response, b"")), SWAPPED);
        assert_eq!(probe(&opening(response, b"GET / HTTP/1.1\r\n")), SWAPPED);
        assert_eq!(probe(&opening(b"\x16\x03", b"HTTP/1.1 400 Bad Request\r\n")), YES);
    }

    #[test]
    fn a_very_long_target_is_enough() {
        let text = format!("GET /{}", "a".repeat(LONG_TARGET_BYTES));
        assert_eq!(client(&text), YES);
        assert_eq!(client(&format!("SET /{}", "a".repeat(LONG_TARGET_BYTES))), Verdict::NotYet);
    }

    #[test]
    fn the_end_of_the_window_decides() {
        let side = OpeningSide { data: b"GET /x", is_final: true };
        let silent = OpeningSide { data: b"", is_final: true };
        let opening = Opening { transport: Transport::Tcp, client: side, server: silent, mid_stream: false };
        assert_eq!(probe(&opening), Verdict::No);
    }

    #[test]
    fn joined_late_a_start_line_further_on_is_likely() {
        let client = OpeningSide { data: b"rest of a body\nGET / HTTP/1.1\r\n", is_final: false };
        let server = OpeningSide::default();
        let opening = Opening { transport: Transport::Tcp, client, server, mid_stream: true };
        assert_eq!(probe(&opening), Verdict::Yes { swapped: false, certainty: Certainty::Likely });
        let nothing = Opening { client: OpeningSide { data: b"rest\n", is_final: false }, ..opening };
        assert_eq!(probe(&nothing), Verdict::NotYet);
    }
}
