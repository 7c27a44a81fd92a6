//! What a header section says, as slices of one copy of it.

use bytestring::ByteString;
use smallvec::SmallVec;
use wirecall_schemas::Header;

use super::findings::Findings;

/// The first line of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StartLine {
    /// A request line.
    Request(RequestLine),
    /// A status line.
    Response(StatusLine),
    /// None: a response as in HTTP/0.9.
    Absent,
}

/// A request line (RFC 9112 section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestLine {
    /// The method as sent.
    pub(super) method: ByteString,
    /// The target as sent; none when the stream breaks off before its end.
    pub(super) target: Option<ByteString>,
    /// The version without `HTTP/`; none when none was sent or seen.
    pub(super) version: Option<ByteString>,
}

/// A status line (RFC 9112 section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StatusLine {
    /// The version without `HTTP/`.
    pub(super) version: ByteString,
    /// The status as sent.
    pub(super) status: ByteString,
    /// The status as a number, where it is three digits.
    pub(super) code: Option<u16>,
    /// The reason phrase; none when it is empty.
    pub(super) reason: Option<ByteString>,
}

/// A header section.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// The first line.
    pub(super) start: StartLine,
    /// The fields in the order sent.
    pub(super) fields: Vec<Header>,
    /// The fields that steer the reader.
    pub(super) known: Known,
    /// The rules it broke.
    pub(super) findings: Findings,
    /// Offset of the first line that is no field; none when all are.
    pub(super) first_malformed: Option<usize>,
    /// Bytes of the copy that the slices share.
    pub(super) text_bytes: usize,
}

impl Head {
    /// The head of a response that has none.
    pub(super) fn absent() -> Self {
        Self {
            start: StartLine::Absent,
            fields: Vec::new(),
            known: Known::default(),
            findings: Findings::default(),
            first_malformed: None,
            text_bytes: 0,
        }
    }

    /// The request line, if it is that.
    pub(super) const fn request_line(&self) -> Option<&RequestLine> {
        match &self.start {
            StartLine::Request(line) => Some(line),
            StartLine::Response(_) | StartLine::Absent => None,
        }
    }

    /// The status line, if it is that.
    pub(super) const fn status_line(&self) -> Option<&StatusLine> {
        match &self.start {
            StartLine::Response(line) => Some(line),
            StartLine::Request(_) | StartLine::Absent => None,
        }
    }

    /// The status as a number, where it is three digits.
    pub(super) fn status_code(&self) -> Option<u16> {
        self.status_line().and_then(|line| line.code)
    }

    /// True for a message that says HTTP/1.0 or less, which the rules of persistence and framing treat apart.
    pub(super) fn is_http_1_0(&self) -> bool {
        let version = match &self.start {
            StartLine::Request(line) => line.version.as_deref(),
            StartLine::Response(line) => Some(&*line.version),
            StartLine::Absent => None,
        };
        version.is_none_or(|version| version == "1.0" || version.starts_with('0'))
    }
}

/// Values of the fields that steer the reader, so that none is searched for twice.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Host, the first.
    pub(super) host: Option<ByteString>,
    /// True when there was more than one.
    pub(super) host_repeated: bool,
    /// User-Agent.
    pub(super) user_agent: Option<ByteString>,
    /// Content-Type.
    pub(super) content_type: Option<ByteString>,
    /// Content-Encoding, every line of it.
    pub(super) content_encoding: SmallVec<[ByteString; 1]>,
    /// Upgrade.
    pub(super) upgrade: Option<ByteString>,
    /// Content-Length, every line of it up to [`FRAMING_FIELDS`].
    pub(super) lengths: SmallVec<[ByteString; 1]>,
    /// Transfer-Encoding, every line of it up to [`FRAMING_FIELDS`].
    pub(super) transfer_encodings: SmallVec<[ByteString; 1]>,
    /// True when a field may carry trace context.
    pub(super) has_trace: bool,
}

/// Lines of one framing field that are looked at; nobody sends more than two but to confuse.
pub(super) const FRAMING_FIELDS: usize = 16;

impl Known {
    /// Notes a field if it is one of them.
    pub(super) fn note(&mut self, name: &str, value: &ByteString) {
        // The length decides before any letter is compared: most fields are none of these.
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            2 if is("b3") => self.has_trace = true,
            4 if is("host") => {
                self.host_repeated = self.host.is_some();
                self.host.get_or_insert_with(|| value.clone());
            }
            7 if is("upgrade") => set(&mut self.upgrade, value),
            10 if is("user-agent") => set(&mut self.user_agent, value),
            11 if is("traceparent") => self.has_trace = true,
            12 if is("content-type") => set(&mut self.content_type, value),
            12 if is("x-b3-traceid") => self.has_trace = true,
            14 if is("content-length") => push(&mut self.lengths, value),
            16 if is("content-encoding") => push(&mut self.content_encoding, value),
            17 if is("transfer-encoding") => push(&mut self.transfer_encodings, value),
            _ => {}
        }
    }
}

fn set(slot: &mut Option<ByteString>, value: &ByteString) {
    slot.get_or_insert_with(|| value.clone());
}

fn push(list: &mut SmallVec<[ByteString; 1]>, value: &ByteString) {
    if list.len() < FRAMING_FIELDS {
        list.push(value.clone());
    }
}

/// True for a field that tells where a message ends.
pub(super) const fn is_framing_field(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"transfer-encoding")
}

/// True for the characters of a token (RFC 9110 section 5.6.2): methods and field names are tokens.
pub(super) const fn is_token_byte(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
}

/// [`is_token_byte`] for every byte: each byte of every field name is looked up.
const TOKEN_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = is_token_byte(byte as u8);
        byte += 1;
    }
    table
};

/// True when `bytes` are a token.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| TOKEN_BYTES[usize::from(byte)])
}

/// True for the white space inside a line (RFC 9110 section 5.6.3).
pub(super) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// `bytes` without blanks at both ends.
pub(super) fn trim_blanks(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|&byte| !is_blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|&byte| !is_blank(byte)).map_or(start, |last| last + 1);
    &bytes[start..end]
}
