//! Where a message ends: RFC 9112 section 6.3, steered by the request that a response answers.
//!
//! Disagreement about this is what request smuggling lives on. The reader goes the way the RFC tells a recipient, and
//! each oddity is a finding.

use bytestring::ByteString;

use super::findings::{Findings, Rule};
use super::message::Head;

/// How the end of a message's body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is no body.
    None,
    /// By Content-Length.
    Length(u64),
    /// By the chunked transfer coding.
    Chunked,
    /// By the end of the connection.
    Close,
    /// The message is the last of its protocol: what follows belongs to another.
    Tunnel,
    /// It cannot be told: the head is damaged, or its framing is faulty.
    Unknown,
}

impl Framing {
    /// The name that records carry.
    pub(super) const fn name(self) -> Option<ByteString> {
        Some(ByteString::from_static(match self {
            Self::None => "none",
            Self::Length(_) => "content_length",
            Self::Chunked => "chunked",
            Self::Close => "close",
            Self::Tunnel => "tunnel",
            Self::Unknown => return None,
        }))
    }
}

/// What a response answers, as far as that steers its framing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Asked {
    /// The request is not known, or its method does not matter.
    #[default]
    Plain,
    /// HEAD: the response has no body, whatever its fields say.
    Head,
    /// CONNECT: a successful response starts a tunnel.
    Connect,
}

impl Asked {
    /// Methods are case-sensitive (RFC 9110 section 9.1): `head` is not HEAD.
    pub(super) fn by(method: &str) -> Self {
        match method {
            "HEAD" => Self::Head,
            "CONNECT" => Self::Connect,
            _ => Self::Plain,
        }
    }
}

/// Framing of a request.
pub(super) fn of_request(head: &mut Head) -> Framing {
    match from_fields(head) {
        Fields::None => Framing::None,
        Fields::Chunked => Framing::Chunked,
        Fields::Length(length) => Framing::Length(length),
        // A server must answer 400 and close. Were the rest taken for a body, what a lenient server reads as further
        // requests would go unseen.
        Fields::Unreliable => Framing::Unknown,
        Fields::InvalidLength => Framing::None,
    }
}

/// Framing of a response with a status of 200 or more, or one that is no number.
pub(super) fn of_response(head: &mut Head, code: Option<u16>, asked: Asked) -> Framing {
    let fields = from_fields(head);
    match (code, asked) {
        (Some(101), _) => Framing::Tunnel,
        (Some(200..=299), Asked::Connect) => Framing::Tunnel,
        (Some(100..=199 | 204), _) => {
            if matches!(fields, Fields::Chunked | Fields::Unreliable | Fields::Length(1..)) {
                head.findings.add(Rule::LengthWithoutBody);
            }
            Framing::None
        }
        (Some(304), _) | (_, Asked::Head) => Framing::None,
        _ => match fields {
            Fields::Chunked => Framing::Chunked,
            Fields::Length(length) => Framing::Length(length),
            Fields::None | Fields::Unreliable | Fields::InvalidLength => Framing::Close,
        },
    }
}

/// What the fields alone say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fields {
    None,
    Chunked,
    Length(u64),
    /// Transfer-Encoding without chunked at its end.
    Unreliable,
    InvalidLength,
}

fn from_fields(head: &mut Head) -> Fields {
    let known = &head.known;
    if known.transfer_encodings.is_empty() && known.lengths.is_empty() {
        return Fields::None;
    }
    let length = content_length(&known.lengths, &mut head.findings);
    if known.transfer_encodings.is_empty() {
        return length;
    }
    if !known.lengths.is_empty() {
        head.findings.add(Rule::LengthAndTransferEncoding);
    }
    if head.is_http_1_0() {
        head.findings.add(Rule::TransferEncodingInHttp10);
    }
    transfer_encoding(&head.known.transfer_encodings, &mut head.findings)
}

fn content_length(lines: &[ByteString], findings: &mut Findings) -> Fields {
    let mut first = None;
    for value in lines.iter().flat_map(|line| line.split(',')) {
        let value = value.trim_matches([' ', '\t']);
        let Some(length) = decimal(value) else {
            findings.add_with(Rule::InvalidLength, value);
            return Fields::InvalidLength;
        };
        match first {
            None => first = Some(length),
            Some(first) if first == length => findings.add_with(Rule::RepeatedLength, value),
            Some(first) => findings.add_with(Rule::ConflictingLengths, &format!("{first}, {length}")),
        }
    }
    first.map_or(Fields::None, Fields::Length)
}

/// Digits and nothing else: signs, hexadecimal digits and white space inside are how lengths are hidden. The value is
/// kept below 2^63 because records count in signed integers.
fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let value: u64 = digits.then(|| text.parse().ok())??;
    i64::try_from(value).is_ok().then_some(value)
}

fn transfer_encoding(lines: &[ByteString], findings: &mut Findings) -> Fields {
    let mut chunked = 0;
    let mut last_is_chunked = false;
    for coding in lines.iter().flat_map(|line| line.split(',')) {
        let coding = coding.trim_matches([' ', '\t']);
        if coding.is_empty() {
            continue;
        }
        last_is_chunked = coding.eq_ignore_ascii_case("chunked");
        chunked += u32::from(last_is_chunked);
        let name = coding.split(';').next().unwrap_or_default().trim_end_matches([' ', '\t']);
        if !CODINGS.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            findings.add_with(Rule::ObfuscatedTransferEncoding, coding);
        }
    }
    if chunked > 1 {
        findings.add(Rule::ChunkedRepeated);
    }
    if last_is_chunked {
        return Fields::Chunked;
    }
    let text = lines.first().map(|line| &**line).unwrap_or_default();
    findings.add_with(Rule::ChunkedNotLast, text);
    Fields::Unreliable
}

/// The IANA registry of transfer codings (RFC 9112 section 7), and `identity`, which RFC 2616 had.
const CODINGS: &[&str] =
    &["chunked", "compress", "deflate", "gzip", "identity", "trailers", "x-compress", "x-gzip"];

#[cfg(test)]
mod tests {
    use super::super::head::{Side, parse_head};
    use super::*;
    use crate::limits::Limits;

    fn request(fields: &str) -> (Framing, Vec<&'static str>) {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut head = parse_head(text.as_bytes(), Side::Request, &Limits::default()).unwrap();
        (of_request(&mut head), codes(&head))
    }

    fn response(status: &str, fields: &str, asked: Asked) -> (Framing, Vec<&'static str>) {
        let text = format!("HTTP/1.1 {status}\r\n{fields}\r\n");
        let mut head = parse_head(text.as_bytes(), Side::Response, &Limits::default()).unwrap();
        let code = status[..3].parse().ok();
        (of_response(&mut head, code, asked), codes(&head))
    }

    fn codes(head: &Head) -> Vec<&'static str> {
        Rule::ALL.iter().filter(|rule| head.findings.has(**rule)).map(|rule| rule.code()).collect()
    }

    #[test]
    fn a_request_without_framing_fields_has_no_body() {
        assert_eq!(request(""), (Framing::None, vec![]));
    }

    #[test]
    fn the_request_and_the_status_decide_before_the_fields() {
        let length = "Content-Length: 5\r\n";
        assert_eq!(response("200 OK", length, Asked::Head), (Framing::None, vec![]));
        assert_eq!(response("304 Not Modified", length, Asked::Plain), (Framing::None, vec![]));
        assert_eq!(
            response("204 No Content", length, Asked::Plain),
            (Framing::None, vec!["http.length_without_body"])
        );
        assert_eq!(
            response("204 No Content", "Content-Length: 0\r\n", Asked::Plain),
            (Framing::None, vec![])
        );
        assert_eq!(response("101 Switching", "", Asked::Plain), (Framing::Tunnel, vec![]));
        assert_eq!(response("200 OK", length, Asked::Connect), (Framing::Tunnel, vec![]));
        assert_eq!(response("407 No", length, Asked::Connect), (Framing::Length(5), vec![]));
        assert_eq!(response("200 OK", "", Asked::Plain), (Framing::Close, vec![]));
    }

    #[test]
    fn lengths() {
        for (fields, framing, found) in [
            ("Content-Length: 5\r\n", Framing::Length(5), None),
            ("content-length:5\r\n", Framing::Length(5), None),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Framing::Length(5), Some("http.repeated_length")),
            ("Content-Length: 5, 5\r\n", Framing::Length(5), Some("http.repeated_length")),
            (
                "Content-Length: 5\r\nContent-Length: 6\r\n",
                Framing::Length(5),
                Some("http.conflicting_lengths"),
            ),
            ("Content-Length: 5,6\r\n", Framing::Length(5), Some("http.conflicting_lengths")),
            ("Content-Length: +5\r\n", Framing::None, Some("http.invalid_length")),
            ("Content-Length: -5\r\n", Framing::None, Some("http.invalid_length")),
            ("Content-Length: 0x5\r\n", Framing::None, Some("http.invalid_length")),
            ("Content-Length: 5 5\r\n", Framing::None, Some("http.invalid_length")),
            ("Content-Length:\r\n", Framing::None, Some("http.invalid_length")),
            ("Content-Length: 9223372036854775807\r\n", Framing::Length(i64::MAX as u64), None),
            ("Content-Length: 9223372036854775808\r\n", Framing::None, Some("http.invalid_length")),
            ("Content-Length: 99999999999999999999999\r\n", Framing::None, Some("http.invalid_length")),
        ] {
            assert_eq!(request(fields), (framing, found.into_iter().collect()), "{fields:?}");
        }
        assert_eq!(response("200 OK", "Content-Length: x\r\n", Asked::Plain).0, Framing::Close);
    }

    #[test]
    fn transfer_encodings() {
        for (fields, framing, found) in [
            ("Transfer-Encoding: chunked\r\n", Framing::Chunked, vec![]),
            ("transfer-encoding:\tCHUNKED \r\n", Framing::Chunked, vec![]),
            ("Transfer-Encoding: gzip, chunked\r\n", Framing::Chunked, vec![]),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Framing::Chunked, vec![]),
            (
                "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                Framing::Chunked,
                vec!["http.length_and_transfer_encoding"],
            ),
            ("Transfer-Encoding : chunked\r\n", Framing::Chunked, vec!["http.space_before_colon"]),
            ("Transfer-Encoding:\r\n chunked\r\n", Framing::Chunked, vec!["http.folded_framing_field"]),
            ("Transfer-Encoding: chunked, identity\r\n", Framing::Unknown, vec!["http.chunked_not_last"]),
            ("Transfer-Encoding: chunked, chunked\r\n", Framing::Chunked, vec!["http.chunked_repeated"]),
            (
                "Transfer-Encoding: xchunked\r\n",
                Framing::Unknown,
                vec!["http.chunked_not_last", "http.obfuscated_transfer_encoding"],
            ),
            (
                "Transfer-Encoding: \x0bchunked\r\n",
                Framing::Unknown,
                vec!["http.chunked_not_last", "http.obfuscated_transfer_encoding"],
            ),
            (
                "Transfer-Encoding: \"chunked\"\r\n",
                Framing::Unknown,
                vec!["http.chunked_not_last", "http.obfuscated_transfer_encoding"],
            ),
        ] {
            assert_eq!(request(fields), (framing, found), "{fields:?}");
        }
        let unreliable = response("200 OK", "Transfer-Encoding: xchunked\r\n", Asked::Plain);
        assert_eq!(unreliable.0, Framing::Close);
    }

    #[test]
    fn transfer_encoding_in_http_1_0_is_faulty() {
        let text = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut head = parse_head(text, Side::Request, &Limits::default()).unwrap();
        assert_eq!(of_request(&mut head), Framing::Chunked);
        assert!(head.findings.has(Rule::TransferEncodingInHttp10));
    }

    #[test]
    fn methods_are_case_sensitive() {
        assert_eq!(Asked::by("HEAD"), Asked::Head);
        assert_eq!(Asked::by("head"), Asked::Plain);
        assert_eq!(Asked::by("CONNECT"), Asked::Connect);
    }
}
