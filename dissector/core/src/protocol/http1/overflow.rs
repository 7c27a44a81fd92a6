//! A header section over the limit: what is beyond is not kept, but still read for the fields that tell where the
//! message ends. Otherwise one long cookie would cost the rest of the connection, and padding would hide a request.

use memchr::memchr;

use super::head::is_empty_line;
use super::incoming::Incoming;
use super::limits::OVERFLOW_LINE_BYTES;
use super::message::{is_framing_field, trim_blanks};
use crate::stream::{Front, Stream};

/// The rest of a head, line by line.
#[derive(Debug)]
pub(super) struct Overflow {
    message: Box<Incoming>,
    /// The beginning of the current line.
    line: Vec<u8>,
    /// The line does not count: it is over its limit, or its start is missing.
    ignored: bool,
}

impl Overflow {
    /// The rest of the head of `message`. `ignored` is true when it begins inside a line.
    pub(super) const fn new(message: Box<Incoming>, ignored: bool) -> Self {
        Self { message, line: Vec::new(), ignored }
    }

    /// Bytes of memory held.
    pub(super) fn held_bytes(&self) -> usize {
        self.message.held_bytes() + self.line.capacity()
    }

    /// The message, with what was found.
    pub(super) fn into_message(self) -> Box<Incoming> {
        self.message
    }

    /// Reads on; true when the head has ended.
    pub(super) fn read(&mut self, stream: &mut Stream) -> bool {
        while let Front::Data(piece) = stream.front() {
            let end = memchr(b'\n', piece);
            let part = &piece[..end.unwrap_or(piece.len())];
            let consumed = part.len() + usize::from(end.is_some());
            self.add(part);
            let ended = end.is_some() && self.end_line();
            stream.consume(consumed);
            self.message.note_progress(stream);
            if ended {
                return true;
            }
        }
        false
    }

    /// Adds to the current line.
    fn add(&mut self, part: &[u8]) {
        let room = OVERFLOW_LINE_BYTES - self.line.len();
        self.ignored |= part.len() > room;
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    /// Ends the current line; true when it was the empty one.
    fn end_line(&mut self) -> bool {
        let ignored = std::mem::take(&mut self.ignored);
        let line = std::mem::take(&mut self.line);
        if ignored {
            return false;
        }
        if is_empty_line(&line) {
            return true;
        }
        if let Some(colon) = memchr(b':', &line) {
            let name = trim_blanks(&line[..colon]);
            let value = trim_blanks(line[colon + 1..].trim_ascii_end());
            if is_framing_field(name) {
                let name = String::from_utf8_lossy(name);
                self.message.head.known.note(&name, &String::from_utf8_lossy(value).into_owned().into());
            }
        }
        false
    }
}
