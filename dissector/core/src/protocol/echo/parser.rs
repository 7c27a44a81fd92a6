//! Bytes to lines.

use bytestring::ByteString;
use wirecall_schemas::Message;

use super::message::Line;
use crate::output::MarkRange;
use crate::stream::{Found, Stream};

/// What stands next in a stream.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "moved once a line; a box would cost an allocation a line")]
pub enum Parsed {
    /// A whole line; its bytes were taken.
    Line(Line),
    /// The line has not arrived whole; nothing was taken.
    NotYet,
    /// Bytes are missing; the gap and the rest of a line before it were taken.
    Lost {
        /// How many bytes.
        bytes: u64,
    },
    /// More bytes than a line may have; they were taken.
    TooLong,
}

/// Reads the next line of at most `limit` bytes.
pub fn parse(stream: &mut Stream, limit: usize) -> Parsed {
    match stream.find(b"\n", limit) {
        Found::At(end) => Parsed::Line(take_line(stream, end + 1)),
        Found::Limit => {
            stream.consume(limit);
            Parsed::TooLong
        }
        Found::NotYet => lost(stream),
    }
}

/// Reads up to the next line's start; false when it is not here yet. For the rest of a line whose start was not seen.
pub fn skip_line(stream: &mut Stream) -> bool {
    match stream.find(b"\n", usize::MAX) {
        Found::At(end) => {
            stream.consume(end + 1);
            true
        }
        Found::NotYet | Found::Limit => {
            stream.consume(stream.available());
            false
        }
    }
}

fn take_line(stream: &mut Stream, length: usize) -> Line {
    let first = stream.mark();
    let bytes = stream.take(length);
    let last = stream.last_mark();
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let mut marks = MarkRange::default();
    marks.cover_some(first);
    marks.cover_some(last);
    Line {
        text: ByteString::from(String::from_utf8_lossy(text).into_owned()),
        message: Message {
            first_byte_time: first.map(|mark| mark.time),
            last_byte_time: last.map(|mark| mark.time),
            wire_bytes: i64::try_from(length).unwrap_or(i64::MAX),
            ..Message::default()
        },
        marks,
        resynchronised: false,
        missing_before: 0,
    }
}

fn lost(stream: &mut Stream) -> Parsed {
    if !stream.has_gap() {
        return Parsed::NotYet;
    }
    stream.consume(stream.available());
    stream.skip_gap().map_or(Parsed::NotYet, |gap| Parsed::Lost { bytes: gap.length })
}
