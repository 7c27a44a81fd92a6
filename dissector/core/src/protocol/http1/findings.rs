//! The rules of HTTP that a message can break, each with a stable code.
//!
//! A passive reader cannot refuse a message: it reads on the way RFC 9112 tells a recipient to, and reports what was
//! odd. Most of these are the raw material of request smuggling, where two recipients disagree about where a message
//! ends; to whom that matters, the code is what to search for.

use bytestring::ByteString;
use wirecall_schemas::Finding;

macro_rules! rules {
    ($($(#[doc = $doc:literal])* $name:ident => $code:literal,)*) => {
        /// One rule, or one limit of this reader.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum Rule {
            $($(#[doc = $doc])* $name,)*
        }

        impl Rule {
            /// Every rule, in the order of the table.
            #[cfg(test)]
            pub(super) const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable code that findings carry.
            pub(super) const fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }
        }
    };
}

rules! {
    /// Content-Length beside Transfer-Encoding: the latter wins (RFC 9112 section 6.3).
    LengthAndTransferEncoding => "http.length_and_transfer_encoding",
    /// Content-Length values that differ; the first is used (RFC 9112 section 6.3).
    ConflictingLengths => "http.conflicting_lengths",
    /// Content-Length sent more than once with the same value (RFC 9110 section 8.6).
    RepeatedLength => "http.repeated_length",
    /// Content-Length that is not a number of decimal digits, or too large to count.
    InvalidLength => "http.invalid_length",
    /// Transfer-Encoding whose last coding is not chunked (RFC 9112 section 6.3).
    ChunkedNotLast => "http.chunked_not_last",
    /// The chunked coding applied more than once (RFC 9112 section 6.1).
    ChunkedRepeated => "http.chunked_repeated",
    /// Transfer-Encoding that resembles chunked but is not, or names no registered coding.
    ObfuscatedTransferEncoding => "http.obfuscated_transfer_encoding",
    /// Transfer-Encoding in an HTTP/1.0 message: its framing is faulty (RFC 9112 section 6.1).
    TransferEncodingInHttp10 => "http.transfer_encoding_in_http_1_0",
    /// Content-Length or Transfer-Encoding in a 1xx or 204 response (RFC 9110 section 8.6, RFC 9112 section 6.1).
    LengthWithoutBody => "http.length_without_body",
    /// White space between a field name and the colon (RFC 9112 section 5.1).
    SpaceBeforeColon => "http.space_before_colon",
    /// A field continued on a further line (obs-fold, RFC 9112 section 5.2).
    FoldedField => "http.folded_field",
    /// A folded Content-Length or Transfer-Encoding.
    FoldedFramingField => "http.folded_framing_field",
    /// A carriage return that no line feed follows (RFC 9112 section 2.2).
    BareCarriageReturn => "http.bare_cr",
    /// A line that ends without a carriage return (RFC 9112 section 2.2).
    BareLineFeed => "http.bare_lf",
    /// A NUL byte in a header section (RFC 9110 section 5.5).
    NulByte => "http.nul_byte",
    /// A line that begins with white space before the first field (RFC 9112 section 2.2); it is skipped.
    SpaceBeforeFirstField => "http.space_before_first_field",
    /// A line of a header section that is no field; it is skipped.
    MalformedField => "http.malformed_field",
    /// More than one empty line before a message (RFC 9112 section 2.2).
    LeadingEmptyLines => "http.leading_empty_lines",
    /// White space in a start line where one space belongs (RFC 9112 section 3).
    StartLineSpace => "http.start_line_space",
    /// White space inside a request target (RFC 9112 section 3.2).
    SpaceInTarget => "http.space_in_target",
    /// A request line without a version, as in HTTP/0.9.
    NoVersion => "http.no_version",
    /// A version other than HTTP/1.0 and HTTP/1.1.
    UnusualVersion => "http.unusual_version",
    /// A status code that is not three digits.
    InvalidStatus => "http.invalid_status",
    /// A response without a status line, as in HTTP/0.9; all that follows is its body.
    NoStatusLine => "http.no_status_line",
    /// An HTTP/1.1 request without Host (RFC 9112 section 3.2).
    MissingHost => "http.missing_host",
    /// Host sent more than once (RFC 9112 section 3.2).
    RepeatedHost => "http.repeated_host",
    /// Bytes that are no message where a message should start; they are skipped.
    UnexpectedBytes => "http.unexpected_bytes",
    /// The stream ended inside a header section.
    IncompleteHead => "http.incomplete_head",
    /// The stream ended inside a body whose end is told by a length or by chunks.
    IncompleteBody => "http.incomplete_body",
    /// A header section over the limit on its bytes; the fields beyond are not kept.
    HeadTooLarge => "http.head_too_large",
    /// More header or trailer fields than the limit; those beyond are not kept.
    TooManyFields => "http.too_many_fields",
    /// A chunk size that is no hexadecimal number or too large to count (RFC 9112 section 7.1).
    InvalidChunkSize => "http.invalid_chunk_size",
    /// A chunk-size line over the limit: extensions are a known way to exhaust a recipient (RFC 9112 section 7.1.1).
    ChunkLineTooLong => "http.chunk_line_too_long",
    /// Chunk data that no line end follows (RFC 9112 section 7.1).
    InvalidChunkEnd => "http.invalid_chunk_end",
    /// A trailer section over the limit on its bytes.
    TrailersTooLarge => "http.trailers_too_large",
    /// A field in the trailer section that may not be sent there (RFC 9110 section 6.5.1).
    FramingFieldInTrailer => "http.framing_field_in_trailer",
    /// Decompression stopped at the limit on output or ratio.
    DecompressionLimit => "http.decompression_limit",
    /// More content codings than the limit; the content stays as transferred.
    TooManyCodings => "http.too_many_codings",
    /// More parts of a multipart body or fields of a form than the limit; those beyond are not described.
    TooManyParts => "http.too_many_parts",
    /// A response that could belong to several requests because bytes are missing; it was paired with none.
    AmbiguousPairing => "http.ambiguous_pairing",
}

/// Characters kept of a value that a finding quotes: enough to judge it, and no way to fill a record.
const DETAIL_CHARACTERS: usize = 128;

/// The rules one message broke, each at most once, so that a peer cannot make the list grow.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    seen: u64,
    list: Vec<(Rule, Option<ByteString>)>,
}

impl Findings {
    /// Records a broken rule.
    pub(super) fn add(&mut self, rule: Rule) {
        if self.mark(rule) {
            self.list.push((rule, None));
        }
    }

    /// Records a broken rule with the text that broke it, shortened.
    pub(super) fn add_with(&mut self, rule: Rule, detail: &str) {
        if self.mark(rule) {
            let text: String = detail.chars().take(DETAIL_CHARACTERS).collect();
            self.list.push((rule, Some(ByteString::from(text))));
        }
    }

    /// Takes over the findings of `other`.
    pub(super) fn append(&mut self, other: &mut Self) {
        for (rule, detail) in other.list.drain(..) {
            if self.mark(rule) {
                self.list.push((rule, detail));
            }
        }
        other.seen = 0;
    }

    /// True when the rule was broken.
    pub(super) const fn has(&self, rule: Rule) -> bool {
        self.seen & (1 << rule as u8) != 0
    }

    /// The findings as records carry them, in the order found.
    pub(super) fn into_records(self) -> impl Iterator<Item = Finding> {
        self.list
            .into_iter()
            .map(|(rule, detail)| Finding { code: ByteString::from_static(rule.code()), detail })
    }

    /// Marks a rule; true when it was not marked before.
    const fn mark(&mut self, rule: Rule) -> bool {
        let new = !self.has(rule);
        self.seen |= 1 << rule as u8;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_fit_the_set() {
        let mut codes: Vec<_> = Rule::ALL.iter().map(|rule| rule.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Rule::ALL.len());
        assert!(Rule::ALL.len() <= 64);
        assert!(codes.iter().all(|code| code.starts_with("http.")));
    }

    #[test]
    fn a_rule_is_reported_once_with_its_first_detail() {
        let mut findings = Findings::default();
        findings.add_with(Rule::InvalidLength, &"x".repeat(1000));
        findings.add_with(Rule::InvalidLength, "again");
        findings.add(Rule::BareLineFeed);
        let mut more = Findings::default();
        more.add(Rule::BareLineFeed);
        more.add(Rule::NulByte);
        findings.append(&mut more);
        let records: Vec<_> = findings.into_records().collect();
        let codes: Vec<_> = records.iter().map(|finding| &*finding.code).collect();
        assert_eq!(codes, ["http.invalid_length", "http.bare_lf", "http.nul_byte"]);
        assert_eq!(records[0].detail.as_ref().unwrap().len(), DETAIL_CHARACTERS);
    }
}
