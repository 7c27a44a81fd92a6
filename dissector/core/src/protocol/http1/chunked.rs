//! The chunked transfer coding (RFC 9112 section 7.1), read piece by piece.

use memchr::memchr;

use super::findings::Rule;
use super::head::{HeadScan, parse_trailers};
use super::incoming::Incoming;
use super::limits::{CHUNK_LINE_BYTES, TRAILER_BYTES};
use super::message::{is_blank, trim_blanks};
use super::parser::Event;
use crate::limits::Limits;
use crate::stream::{Found, Front, Stream};

/// The place in a chunked body.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Chunked {
    /// At a chunk-size line.
    #[default]
    Size,
    /// In a chunk with this many bytes left.
    Data(u64),
    /// At the line end behind a chunk's data.
    DataEnd,
    /// At the first line of the trailer section.
    Trailers,
    /// Inside a trailer section that is not empty.
    TrailerFields(HeadScan),
}

/// What a step came to: go on, or tell the reader.
type Step = Result<(), Event>;

impl Chunked {
    /// Reads on until the body ends, breaks, or the bytes run out.
    pub(super) fn read(&mut self, stream: &mut Stream, message: &mut Incoming, limits: &Limits) -> Event {
        loop {
            let step = match self {
                Self::Size => self.size(stream, message),
                Self::Data(left) => match data(left, stream, message, limits) {
                    Ok(()) => {
                        *self = Self::DataEnd;
                        Ok(())
                    }
                    stop => stop,
                },
                Self::DataEnd => self.data_end(stream, message),
                Self::Trailers => self.trailers(stream, message),
                Self::TrailerFields(scan) => trailer_fields(scan, stream, message, limits),
            };
            if let Err(event) = step {
                return event;
            }
        }
    }

    fn size(&mut self, stream: &mut Stream, message: &mut Incoming) -> Step {
        let end = match stream.find(b"\n", CHUNK_LINE_BYTES) {
            Found::At(end) => end,
            Found::NotYet => return Err(wait_or_break(stream, message)),
            Found::Limit => return Err(break_with(Rule::ChunkLineTooLong, message)),
        };
        let line = &stream.contiguous(end + 1)[..end];
        let (line, bare) = strip_carriage_return(line);
        if bare {
            message.head.findings.add(Rule::BareLineFeed);
        }
        let Some(size) = chunk_size(line) else {
            message.head.findings.add_with(Rule::InvalidChunkSize, &String::from_utf8_lossy(line));
            return Err(break_with(Rule::InvalidChunkSize, message));
        };
        stream.consume(end + 1);
        *self = if size == 0 { Self::Trailers } else { Self::Data(size) };
        Ok(())
    }

    fn data_end(&mut self, stream: &mut Stream, message: &mut Incoming) -> Step {
        let length = match stream.contiguous(2) {
            [b'\r', b'\n', ..] => 2,
            [b'\n', ..] => {
                message.head.findings.add(Rule::BareLineFeed);
                1
            }
            [] | [b'\r'] => return Err(wait_or_break(stream, message)),
            _ => return Err(break_with(Rule::InvalidChunkEnd, message)),
        };
        stream.consume(length);
        *self = Self::Size;
        Ok(())
    }

    /// Most bodies have no trailers: the first line is empty.
    fn trailers(&mut self, stream: &mut Stream, message: &mut Incoming) -> Step {
        match stream.contiguous(2) {
            [b'\n', ..] => {
                message.head.findings.add(Rule::BareLineFeed);
                Err(end(1, stream, message))
            }
            [b'\r', b'\n', ..] => Err(end(2, stream, message)),
            [] | [b'\r'] => Err(wait_or_break(stream, message)),
            _ => {
                *self = Self::TrailerFields(HeadScan::default());
                Ok(())
            }
        }
    }
}

/// Reads data of a chunk. A gap that the chunk's size covers is a hole; a larger one hides chunk sizes.
fn data(left: &mut u64, stream: &mut Stream, message: &mut Incoming, limits: &Limits) -> Step {
    loop {
        *left -= message.body.read(stream, *left, limits);
        if *left == 0 {
            return Ok(());
        }
        match stream.front() {
            Front::Gap(gap) if gap.length <= *left => {
                stream.skip_gap();
                message.miss(gap.length, gap.length, limits);
                *left -= gap.length;
            }
            Front::Gap(_) => {
                // The rest of this chunk is missing; what else is cannot be told.
                message.miss(*left, 0, limits);
                return Err(Event::Broken { lost: true });
            }
            _ => return Err(Event::Wait),
        }
    }
}

fn trailer_fields(scan: &mut HeadScan, stream: &mut Stream, message: &mut Incoming, limits: &Limits) -> Step {
    let available = stream.available();
    let piece = stream.contiguous(available.min(TRAILER_BYTES));
    let within = &piece[..piece.len().min(TRAILER_BYTES)];
    let Some(length) = scan.find_end(within) else {
        if within.len() >= TRAILER_BYTES {
            return Err(break_with(Rule::TrailersTooLarge, message));
        }
        return Err(wait_or_break(stream, message));
    };
    message.trailers = parse_trailers(&within[..length], limits, &mut message.head.findings);
    Err(end(length, stream, message))
}

fn end(length: usize, stream: &mut Stream, message: &mut Incoming) -> Event {
    stream.consume(length);
    message.finish(stream, true);
    Event::End
}

/// More bytes will help, unless a gap is next.
fn wait_or_break(stream: &Stream, message: &mut Incoming) -> Event {
    if stream.is_cut() && !stream.is_ended() {
        message.body_affected = true;
        return Event::Broken { lost: true };
    }
    Event::Wait
}

fn break_with(rule: Rule, message: &mut Incoming) -> Event {
    message.head.findings.add(rule);
    Event::Broken { lost: false }
}

fn strip_carriage_return(line: &[u8]) -> (&[u8], bool) {
    match line.split_last() {
        Some((b'\r', rest)) => (rest, false),
        _ => (line, true),
    }
}

/// The size in a chunk-size line; none when it is not hexadecimal digits, or over 2^63, where records stop counting.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = memchr(b';', line).unwrap_or(line.len());
    let digits = trim_blanks(&line[..end]);
    // Blanks before the size are no part of the grammar; behind it some old servers pad with them.
    if digits.is_empty() || is_blank(line[0]) {
        return None;
    }
    digits.iter().try_fold(0_u64, |size, &digit| {
        let value = char::from(digit).to_digit(16)?;
        let size = size.checked_mul(16)? | u64::from(value);
        i64::try_from(size).is_ok().then_some(size)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (line, size) in [
            ("0", Some(0)),
            ("5", Some(5)),
            ("00000005", Some(5)),
            ("fF", Some(255)),
            ("5  ", Some(5)),
            ("5;a=b", Some(5)),
            ("5 ; a=\"b;c\"", Some(5)),
            ("7fffffffffffffff", Some(i64::MAX as u64)),
            ("00000000000000000000005", Some(5)),
            ("8000000000000000", None),
            ("10000000000000000", None),
            ("fffffffffffffffffffffffff", None),
            ("", None),
            (" 5", None),
            (";a", None),
            ("0x5", None),
            ("-5", None),
            ("+5", None),
            ("5 5", None),
            ("g", None),
            ("5\r", None),
        ] {
            assert_eq!(chunk_size(line.as_bytes()), size, "{line:?}");
        }
    }
}
