//! Reads a header section: a start line and fields, as slices of one copy.
//!
//! Written by hand because a passive reader has to take what some endpoint might take: folded lines, bare line feeds,
//! blanks before a colon, unknown methods. Each liberty is a finding. The work is done on byte ranges first, in the
//! copy, so that folds and stray carriage returns can be overwritten in place (RFC 9112 sections 2.2 and 5.2 tell a
//! recipient to replace them by spaces); then the ranges become text.

use bytestring::ByteString;
use memchr::memchr;
use smallvec::SmallVec;
use wirecall_schemas::Header;

use super::findings::{Findings, Rule};
use super::message::{
    Head, Known, RequestLine, StartLine, StatusLine, is_blank, is_framing_field, is_token, trim_blanks,
};
use super::names;
use crate::limits::Limits;

/// Which of the two start lines is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The client's stream.
    Request,
    /// The server's stream.
    Response,
}

/// Finds the end of a header section in a buffer that grows, without looking at a byte twice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeadScan {
    scanned: usize,
    line_start: usize,
}

impl HeadScan {
    /// Length of the header section at the start of `bytes`, its empty line included; none while it is not there.
    ///
    /// `bytes` must begin with a line that is not empty, and grow only at its end from call to call.
    pub(super) fn find_end(&mut self, bytes: &[u8]) -> Option<usize> {
        while let Some(offset) = memchr(b'\n', bytes.get(self.scanned..)?) {
            let line_end = self.scanned + offset;
            let empty = is_empty_line(&bytes[self.line_start..line_end]);
            self.scanned = line_end + 1;
            self.line_start = self.scanned;
            if empty {
                return Some(self.scanned);
            }
        }
        self.scanned = bytes.len();
        None
    }
}

/// True for a line without its line feed that has no more than the carriage return.
pub(super) const fn is_empty_line(line: &[u8]) -> bool {
    matches!(line, [] | [b'\r'])
}

/// Reads a header section. One that is cut short is read as far as it goes: a last line without its end is left out,
/// but for a start line, of which the words that are complete are told.
///
/// Returns none when the first line is no start line of that side.
pub(super) fn parse_head(bytes: &[u8], side: Side, limits: &Limits) -> Option<Head> {
    let mut walk = Walk::new(bytes, limits.header_fields);
    let (line, whole) = walk.start_line();
    let start = match side {
        Side::Request => request_line(&walk.bytes, line, whole, &mut walk.findings)?,
        Side::Response => status_line(&walk.bytes, line, whole, &mut walk.findings)?,
    };
    walk.fields();
    Some(walk.into_head(start))
}

/// Reads the fields of a trailer section.
pub(super) fn parse_trailers(bytes: &[u8], limits: &Limits, findings: &mut Findings) -> Vec<Header> {
    let mut walk = Walk::new(bytes, limits.header_fields);
    walk.fields();
    findings.append(&mut walk.findings);
    let (text, shift) = text_of(walk.bytes, &mut walk.spans, &mut []);
    debug_assert!(shift.is_empty());
    let headers = headers_of(&text, &walk.spans);
    if headers.iter().any(|header| is_framing_field(header.name.as_bytes())) {
        findings.add(Rule::FramingFieldInTrailer);
    }
    headers
}

/// A range of the copied bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: usize,
    end: usize,
}

impl Span {
    const fn is_empty(self) -> bool {
        self.start >= self.end
    }

    fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// The span of `part`, which lies inside `whole`, whose first byte is at `self.start`.
    fn part(self, whole: &[u8], part: &[u8]) -> Self {
        let offset = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
        Self { start: self.start + offset, end: self.start + offset + part.len() }
    }
}

#[derive(Clone, Copy, Debug)]
struct FieldSpan {
    name: Span,
    value: Span,
}

/// A start line as ranges.
#[derive(Clone, Copy, Debug)]
enum StartSpan {
    Request { method: Span, target: Option<Span>, version: Option<Span> },
    Response { version: Span, status: Span, reason: Span },
}

/// Walks the lines of a header section.
struct Walk {
    bytes: Vec<u8>,
    position: usize,
    spans: SmallVec<[FieldSpan; 24]>,
    field_limit: usize,
    /// True when the last line was a field, so that a line of blanks and text continues it.
    can_fold: bool,
    findings: Findings,
    first_malformed: Option<usize>,
}

impl Walk {
    fn new(bytes: &[u8], field_limit: usize) -> Self {
        let mut findings = Findings::default();
        if memchr(0, bytes).is_some() {
            findings.add(Rule::NulByte);
        }
        Self {
            bytes: bytes.to_vec(),
            position: 0,
            spans: SmallVec::new(),
            field_limit,
            can_fold: false,
            findings,
            first_malformed: None,
        }
    }

    /// The first line, and whether its end was there.
    fn start_line(&mut self) -> (Span, bool) {
        match self.next_line() {
            Some(line) => (line, true),
            None => (Span { start: 0, end: self.bytes.len() }, false),
        }
    }

    /// The next line without its end; none when the end is not there. Stray carriage returns become spaces.
    fn next_line(&mut self) -> Option<Span> {
        let start = self.position;
        let line = self.bytes.get_mut(start..)?;
        let length = memchr(b'\n', line)?;
        self.position = start + length + 1;
        let carriage_return = length > 0 && line[length - 1] == b'\r';
        if !carriage_return {
            self.findings.add(Rule::BareLineFeed);
        }
        let line = &mut line[..length - usize::from(carriage_return)];
        let end = start + line.len();
        if memchr(b'\r', line).is_some() {
            self.findings.add(Rule::BareCarriageReturn);
            line.iter_mut().filter(|byte| **byte == b'\r').for_each(|byte| *byte = b' ');
        }
        Some(Span { start, end })
    }

    /// Reads fields up to the empty line or the end of the bytes.
    fn fields(&mut self) {
        while let Some(line) = self.next_line() {
            if line.is_empty() {
                return;
            }
            if is_blank(self.bytes[line.start]) {
                self.fold(line);
            } else {
                self.field(line);
            }
        }
    }

    fn field(&mut self, line: Span) {
        let bytes = line.of(&self.bytes);
        self.can_fold = false;
        let Some(colon) = memchr(b':', bytes).filter(|&colon| colon > 0) else {
            self.findings.add_with(Rule::MalformedField, &String::from_utf8_lossy(bytes));
            self.first_malformed.get_or_insert(line.start);
            return;
        };
        let name = trim_blanks(&bytes[..colon]);
        if name.len() != colon {
            self.findings.add(Rule::SpaceBeforeColon);
        }
        if !is_token(name) {
            self.findings.add_with(Rule::MalformedField, &String::from_utf8_lossy(bytes));
            self.first_malformed.get_or_insert(line.start);
        }
        let value = trim_blanks(&bytes[colon + 1..]);
        let span = FieldSpan { name: line.part(bytes, name), value: line.part(bytes, value) };
        self.push(span);
    }

    /// Keeps a field; beyond the limit only what tells where the message ends.
    fn push(&mut self, span: FieldSpan) {
        if self.spans.len() >= self.field_limit {
            self.findings.add(Rule::TooManyFields);
            let bounded = self.spans.len() < 2 * self.field_limit;
            if !(bounded && is_framing_field(span.name.of(&self.bytes))) {
                return;
            }
        }
        self.spans.push(span);
        self.can_fold = true;
    }

    /// Continues the last field: the line end and the blanks between become spaces (RFC 9112 section 5.2).
    fn fold(&mut self, line: Span) {
        let bytes = line.of(&self.bytes);
        let content = line.part(bytes, trim_blanks(bytes));
        let Some(last) = self.spans.last_mut().filter(|_| self.can_fold) else {
            self.findings.add(Rule::SpaceBeforeFirstField);
            self.first_malformed.get_or_insert(line.start);
            return;
        };
        let framing = is_framing_field(last.name.of(&self.bytes));
        self.findings.add(if framing { Rule::FoldedFramingField } else { Rule::FoldedField });
        if content.is_empty() {
            return;
        }
        if last.value.is_empty() {
            last.value = content;
            return;
        }
        if let Some(between) = self.bytes.get_mut(last.value.end..content.start) {
            between.fill(b' ');
        }
        last.value.end = content.end;
    }

    fn into_head(mut self, start: StartSpan) -> Head {
        let mut words = start.words();
        let (text, words) = text_of(self.bytes, &mut self.spans, &mut words);
        let fields = headers_of(&text, &self.spans);
        let mut known = Known::default();
        for header in &fields {
            known.note(&header.name, &header.value);
        }
        Head {
            start: start.into_line(&text, &words),
            fields,
            known,
            findings: self.findings,
            first_malformed: self.first_malformed,
            text_bytes: text.len(),
        }
    }
}

impl StartSpan {
    /// The words in the order of [`StartSpan::into_line`]; an empty range stands for none.
    fn words(self) -> [Span; 3] {
        match self {
            Self::Request { method, target, version } => {
                [method, target.unwrap_or_default(), version.unwrap_or_default()]
            }
            Self::Response { version, status, reason } => [version, status, reason],
        }
    }

    fn into_line(self, text: &ByteString, words: &[Span]) -> StartLine {
        let word = |index: usize| slice(text, words.get(index).copied().unwrap_or_default());
        match self {
            Self::Request { target, version, .. } => StartLine::Request(RequestLine {
                method: word(0),
                target: target.map(|_| word(1)),
                version: version.map(|_| word(2)),
            }),
            Self::Response { reason, .. } => {
                let status = word(1);
                let code = three_digits(status.as_bytes());
                let reason = (!reason.is_empty()).then(|| word(2));
                StartLine::Response(StatusLine { version: word(0), status, code, reason })
            }
        }
    }
}

fn three_digits(status: &[u8]) -> Option<u16> {
    match status {
        [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
            Some(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
        }
        _ => None,
    }
}

/// Splits a request line into its words. `whole` is false when its end was not seen: then a word counts only when
/// something follows it.
fn request_line(bytes: &[u8], line: Span, whole: bool, findings: &mut Findings) -> Option<StartSpan> {
    let text = line.of(bytes);
    let trimmed = trim_start(text);
    let (method, rest) = split_word(trimmed);
    if !is_token(method) || (!whole && rest.is_empty()) {
        return None;
    }
    let span = |part: &[u8]| line.part(text, part);
    let after = trim_blanks(rest);
    if !whole {
        return Some(partial_request_line(span(method), after, span));
    }
    let (target, version) = split_version(after);
    if version.is_none() && !is_plausible_target(target) {
        return None;
    }
    let odd_space = text.len() != trimmed.len()
        || rest.len() != after.len() + 1
        || version.is_some_and(|version| target.len() + 1 + "HTTP/".len() + version.len() != after.len());
    if odd_space {
        findings.add(Rule::StartLineSpace);
    }
    if target.iter().any(|&byte| is_blank(byte)) {
        findings.add(Rule::SpaceInTarget);
    }
    match version {
        None => findings.add(Rule::NoVersion),
        Some(version) => check_version(after, version, findings),
    }
    Some(StartSpan::Request {
        method: span(method),
        target: (!target.is_empty()).then(|| span(target)),
        version: version.map(span),
    })
}

/// What is known of a request line that breaks off: the target only if the beginning of a version follows it, since it
/// may hold blanks.
fn partial_request_line(method: Span, after: &[u8], span: impl Fn(&[u8]) -> Span) -> StartSpan {
    let (target, rest) = split_word(after);
    let version = trim_blanks(rest);
    let begins = version.iter().zip(b"HTTP/").all(|(byte, expected)| byte == expected);
    let target = (!version.is_empty() && begins).then(|| span(target));
    StartSpan::Request { method, target, version: None }
}

/// Splits `HTTP/x.y` off the end of a request line; the version comes back without `HTTP/`.
fn split_version(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let start = text.iter().rposition(|&byte| is_blank(byte)).map_or(0, |blank| blank + 1);
    match strip_http(&text[start..]) {
        Some(version) => (trim_blanks(&text[..start]), Some(version)),
        None => (text, None),
    }
}

fn strip_http(word: &[u8]) -> Option<&[u8]> {
    let (name, version) = word.split_at_checked("HTTP/".len())?;
    name.eq_ignore_ascii_case(b"HTTP/").then_some(version)
}

/// A version is a finding unless it is spelt as the two that this reader implements.
fn check_version(line: &[u8], version: &[u8], findings: &mut Findings) {
    let exact = matches!(version, b"1.0" | b"1.1") && memchr::memmem::find(line, b"HTTP/").is_some();
    if !exact {
        findings.add_with(Rule::UnusualVersion, &String::from_utf8_lossy(version));
    }
}

/// True for a target that a request line without a version may have; anything else is not HTTP.
fn is_plausible_target(target: &[u8]) -> bool {
    target.starts_with(b"/") || target == b"*" || memchr::memmem::find(target, b"://").is_some()
}

/// Splits a status line into its words.
fn status_line(bytes: &[u8], line: Span, whole: bool, findings: &mut Findings) -> Option<StartSpan> {
    let text = line.of(bytes);
    let trimmed = trim_start(text);
    let (protocol, rest) = split_word(trimmed);
    let version = strip_http(protocol)?;
    let after = trim_start(rest);
    let (status, reason) = split_word(after);
    // A number that breaks off may be only the beginning of the status.
    if !whole && reason.is_empty() {
        return None;
    }
    if text.len() != trimmed.len() || rest.len() != after.len() + 1 {
        findings.add(Rule::StartLineSpace);
    }
    check_version(protocol, version, findings);
    if three_digits(status).is_none() {
        findings.add_with(Rule::InvalidStatus, &String::from_utf8_lossy(status));
    }
    let span = |part: &[u8]| line.part(text, part);
    let reason = if whole { trim_blanks(reason) } else { &[] };
    let reason = if reason.is_empty() { Span::default() } else { span(reason) };
    Some(StartSpan::Response { version: span(version), status: span(status), reason })
}

fn trim_start(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&byte| !is_blank(byte)).unwrap_or(text.len());
    &text[start..]
}

/// The first word and what follows it, blanks included.
fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|&byte| is_blank(byte)).unwrap_or(text.len()))
}

/// Makes text of the bytes. Bytes that are not UTF-8 are rewritten span by span, each span as UTF-8 where it is that
/// and as ISO 8859-1 where not, and the spans then point into the new text.
fn text_of<const N: usize>(
    bytes: Vec<u8>,
    fields: &mut [FieldSpan],
    words: &mut [Span; N],
) -> (ByteString, [Span; N]) {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return (ByteString::from(text), *words),
        Err(error) => error.into_bytes(),
    };
    let mut text = String::with_capacity(bytes.len() * 2);
    let mut rewrite = |span: &mut Span| {
        let start = text.len();
        match std::str::from_utf8(span.of(&bytes)) {
            Ok(part) => text.push_str(part),
            Err(_) => text.extend(span.of(&bytes).iter().map(|&byte| char::from(byte))),
        }
        *span = Span { start, end: text.len() };
    };
    words.iter_mut().for_each(&mut rewrite);
    for field in fields {
        rewrite(&mut field.name);
        rewrite(&mut field.value);
    }
    (ByteString::from(text), *words)
}

fn headers_of(text: &ByteString, spans: &[FieldSpan]) -> Vec<Header> {
    spans
        .iter()
        .map(|span| Header { name: name_slice(text, span.name), value: slice(text, span.value) })
        .collect()
}

/// A slice of the copy. Spans end beside ASCII bytes, so they never cut a character.
fn slice(text: &ByteString, span: Span) -> ByteString {
    text.get(span.start..span.end).map(|part| text.slice_ref(part)).unwrap_or_default()
}

/// As [`slice`], but common names are shared by all heads.
fn name_slice(text: &ByteString, span: Span) -> ByteString {
    let name = text.get(span.start..span.end).unwrap_or_default();
    names::common(name).unwrap_or_else(|| text.slice_ref(name))
}

#[cfg(test)]
mod tests;
