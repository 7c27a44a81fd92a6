//! Finds the next plausible start of a message after bytes were lost, or in a stream that was joined late.
//!
//! This is the search; the trial is the parser's: a candidate is believed only when a whole header section without a
//! malformed line follows it. A body may contain what looks like a start line, so the search is strict where the
//! parser is lenient.

use memchr::memmem;

use super::head::Side;
use super::message::{is_blank, is_token};

/// Methods of the IANA registry that servers are sent (RFC 9110, 4918, 5789, 3253, …), and PURGE, which caches take.
const METHODS: &[&str] = &[
    "GET",
    "POST",
    "PUT",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "PATCH",
    "CONNECT",
    "TRACE",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "SEARCH",
    "REPORT",
    "MKCALENDAR",
    "ACL",
    "CHECKOUT",
    "MERGE",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "PURGE",
    "QUERY",
];

/// True for a method that is registered or common.
pub(super) fn is_known_method(method: &[u8]) -> bool {
    METHODS.iter().any(|known| known.as_bytes() == method)
}

/// True for a method that is known, or spelt as methods are.
pub(super) fn is_plausible_method(method: &[u8]) -> bool {
    is_known_method(method)
        || (2..=24).contains(&method.len())
            && method.iter().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'))
}

/// Offset of a start line inside a line without its line feed; none when there is none.
///
/// `line_start_known` is false when the first byte may lie inside a line: then `ET / HTTP/1.1` is not a method ET.
pub(super) fn find_start(line: &[u8], side: Side, line_start_known: bool) -> Option<usize> {
    match side {
        Side::Request => find_request_line(line.strip_suffix(b"\r").unwrap_or(line), line_start_known),
        Side::Response => memmem::find_iter(line, b"HTTP/1.").find(|&start| is_status_line(&line[start..])),
    }
}

/// True for `HTTP/1.x NNN`, followed by a blank or nothing.
fn is_status_line(text: &[u8]) -> bool {
    match text.split_at_checked("HTTP/1.".len()) {
        Some((b"HTTP/1.", [minor, blank, a, b, c, rest @ ..])) => {
            let digits = [minor, a, b, c].iter().all(|byte| byte.is_ascii_digit());
            digits && is_blank(*blank) && matches!(rest.first(), None | Some(b' ' | b'\t' | b'\r'))
        }
        _ => false,
    }
}

/// Bytes that tell a status line.
pub(super) const STATUS_LINE_BYTES: usize = "HTTP/1.1 200 ".len();

/// Whether the bytes begin with a status line; none while there are too few to tell.
pub(super) fn is_at_status_line(bytes: &[u8]) -> Option<bool> {
    const START: &[u8] = b"HTTP/1.";
    let length = bytes.len().min(START.len());
    if bytes[..length] != START[..length] {
        return Some(false);
    }
    bytes.get(..STATUS_LINE_BYTES).map(is_status_line)
}

/// Reads backwards from the version: target, then method. What stands before the method may be the end of a body.
fn find_request_line(line: &[u8], line_start_known: bool) -> Option<usize> {
    let (rest, version) = line.split_at_checked(line.len().checked_sub(" HTTP/1.1".len())?)?;
    if !(version.starts_with(b" HTTP/1.") && version[version.len() - 1].is_ascii_digit()) {
        return None;
    }
    let target_start = rest.iter().rposition(|&byte| is_blank(byte))? + 1;
    let (before, target) = (&rest[..target_start - 1], &rest[target_start..]);
    let word_start = before.iter().rposition(|&byte| !is_token(&[byte])).map_or(0, |index| index + 1);
    let word = &before[word_start..];
    let method_start = if word_start == 0 && line_start_known && is_plausible_method(word) {
        0
    } else {
        // The longest known method that the word ends with: `}1POST` ends a body and starts a request.
        let method = METHODS
            .iter()
            .filter(|known| word.ends_with(known.as_bytes()))
            .max_by_key(|known| known.len())?;
        before.len() - method.len()
    };
    is_searched_target(target, &before[method_start..]).then_some(method_start)
}

fn is_searched_target(target: &[u8], method: &[u8]) -> bool {
    match target.first() {
        Some(b'/') => true,
        Some(b'*') => target.len() == 1,
        Some(_) => method == b"CONNECT" || memmem::find(target, b"://").is_some(),
        None => false,
    }
}

/// True while the first bytes of a message can still become a start line of that side, by the parser's lenient rules.
pub(super) fn could_start(bytes: &[u8], side: Side) -> bool {
    let start = bytes.iter().position(|&byte| !is_blank(byte)).unwrap_or(bytes.len());
    let text = &bytes[start..];
    match side {
        Side::Response => {
            let length = text.len().min("HTTP/".len());
            text[..length].eq_ignore_ascii_case(&b"HTTP/"[..length])
        }
        Side::Request => {
            let end = text.iter().take(MOST_METHOD_BYTES).position(|&byte| is_blank(byte));
            let word = &text[..end.unwrap_or_else(|| text.len().min(MOST_METHOD_BYTES))];
            let long = end.is_none() && text.len() >= MOST_METHOD_BYTES;
            !long && (is_token(word) || (word.is_empty() && end.is_none()))
        }
    }
}

/// Longest method that is waited for. The longest registered one has 17 characters.
const MOST_METHOD_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str, known: bool) -> Option<usize> {
        find_start(line.as_bytes(), Side::Request, known)
    }

    fn response(line: &str) -> Option<usize> {
        find_start(line.as_bytes(), Side::Response, true)
    }

    #[test]
    fn request_lines() {
        assert_eq!(request("GET / HTTP/1.1\r", true), Some(0));
        assert_eq!(request("GET / HTTP/1.0", false), Some(0));
        assert_eq!(request("{\"a\":1}POST /x?y HTTP/1.1\r", true), Some(7));
        assert_eq!(request("a=1POST /x HTTP/1.1\r", true), Some(3));
        assert_eq!(request("FROBNICATE /x HTTP/1.1", true), Some(0));
        assert_eq!(request("CONNECT host:443 HTTP/1.1", true), Some(0));
        assert_eq!(request("OPTIONS * HTTP/1.1", true), Some(0));
        assert_eq!(request("GET http://h/ HTTP/1.1", true), Some(0));
    }

    #[test]
    fn what_is_no_request_line() {
        for line in
            ["", "GET /", "GET HTTP/1.1", " HTTP/1.1", "get /x HTTP/1.1", "GET x HTTP/1.1", "GET / HTTP/2.0"]
        {
            assert_eq!(request(line, true), None, "{line}");
        }
    }

    #[test]
    fn half_a_method_is_not_a_method() {
        assert_eq!(request("ET / HTTP/1.1", false), None);
        assert_eq!(request("ROBNICATE / HTTP/1.1", false), None);
        assert_eq!(request("ET / HTTP/1.1", true), Some(0));
    }

    #[test]
    fn status_lines() {
        assert_eq!(response("HTTP/1.1 200 OK\r"), Some(0));
        assert_eq!(response("HTTP/1.0 404"), Some(0));
        assert_eq!(response("</html>HTTP/1.1 200 OK"), Some(7));
        assert_eq!(response("HTTP/1.1 x HTTP/1.1 200\r"), Some(11));
        for line in ["", "HTTP/1.1", "HTTP/1.1 20", "HTTP/1.1 2000", "HTTP/2.0 200 OK", "GET / HTTP/1.1"] {
            assert_eq!(response(line), None, "{line}");
        }
    }

    #[test]
    fn first_bytes_rule_out_early() {
        assert!(could_start(b"", Side::Request));
        assert!(could_start(b"G", Side::Request));
        assert!(could_start(b"GET \xff", Side::Request));
        assert!(!could_start(b"\x16\x03", Side::Request));
        assert!(!could_start(&[b'a'; 64], Side::Request));
        assert!(could_start(b" htt", Side::Response));
        assert!(!could_start(b"HTTq", Side::Response));
    }
}
