//! One refillable buffer over the input: the only memory that reading a capture takes, whatever its size.
//!
//! ```text
//!  0        start            end          capacity
//!  | handed out | not yet read |  free space  |
//! ```
//! Bytes move only when a record does not fit behind `start`: at most one partial record a refill.

use std::io::{self, Read};

use super::error::{Offset, PcapError};

/// Bytes the buffer has at first. One megabyte stays in a second-level cache and makes system calls rare.
const INITIAL_CAPACITY: usize = 1 << 20;

/// Most bytes that a single record may make the buffer grow to. Libpcap's own limit for a packet is 256 KiB; D-Bus and
/// USB captures carry more, and 16 MiB is a guess that leaves room for them without giving a liar much memory.
pub(super) const MAXIMUM_RECORD: u32 = 16 << 20;

/// The input behind its buffer.
pub(super) struct Window {
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Offset of `start` in the capture.
    consumed: u64,
    decompressed: bool,
}

impl Window {
    /// Starts at the input's first byte. `decompressed` says that the bytes are not those of the file itself.
    pub(super) fn new(input: Box<dyn Read + Send>, decompressed: bool) -> Self {
        Self { input, buffer: vec![0; INITIAL_CAPACITY], start: 0, end: 0, consumed: 0, decompressed }
    }

    /// Where the next byte lies.
    pub(super) const fn offset(&self) -> Offset {
        Offset { bytes: self.consumed, decompressed: self.decompressed }
    }

    /// Bytes that are in the buffer.
    pub(super) const fn available(&self) -> usize {
        self.end - self.start
    }

    /// The bytes in the buffer.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Makes sure that `length` bytes are in the buffer; false when the input ends before.
    ///
    /// # Errors
    /// When the input cannot be read.
    #[inline]
    pub(super) fn has(&mut self, length: usize) -> Result<bool, PcapError> {
        if self.available() >= length { Ok(true) } else { self.refill(length) }
    }

    /// Like [`Window::has`], for a record of which `length` bytes must be there: its end is an error.
    ///
    /// # Errors
    /// [`PcapError::Truncated`] at the end of the input, and when the input cannot be read.
    #[inline]
    pub(super) fn require(&mut self, length: usize) -> Result<(), PcapError> {
        if self.has(length)? {
            return Ok(());
        }
        Err(PcapError::Truncated {
            at: self.offset(),
            needed: length as u64,
            available: self.available() as u64,
        })
    }

    /// Moves past `length` bytes that are in the buffer.
    #[inline]
    pub(super) fn consume(&mut self, length: usize) {
        let length = length.min(self.available());
        self.start += length;
        self.consumed += length as u64;
    }

    /// Hands out `length` bytes after `before`, and moves past them and `after` more; all are in the buffer.
    #[inline]
    pub(super) fn take(&mut self, before: usize, length: usize, after: usize) -> &[u8] {
        let from = self.start + before;
        self.consume(before + length + after);
        &self.buffer[from..from + length]
    }

    /// Moves past `length` bytes without ever holding them together.
    ///
    /// # Errors
    /// [`PcapError::Truncated`] when the input ends before; `at` is where the skipping began.
    pub(super) fn skip(&mut self, length: u64) -> Result<(), PcapError> {
        let at = self.offset();
        let mut left = length;
        while left > 0 {
            if !self.has(1)? {
                return Err(PcapError::Truncated { at, needed: length, available: length - left });
            }
            let step = usize::try_from(left).unwrap_or(usize::MAX).min(self.available());
            self.consume(step);
            left -= step as u64;
        }
        Ok(())
    }

    #[cold]
    fn refill(&mut self, length: usize) -> Result<bool, PcapError> {
        if self.start + length > self.buffer.len() || self.start == self.end {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if length > self.buffer.len() {
            self.buffer.resize(length, 0);
        }
        while self.available() < length {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(self.read_error(cause)),
            }
        }
        Ok(true)
    }

    fn read_error(&self, cause: io::Error) -> PcapError {
        let mut at = self.offset();
        at.bytes += self.available() as u64;
        if self.decompressed && cause.kind() == io::ErrorKind::UnexpectedEof {
            return PcapError::CompressedTruncated { at };
        }
        PcapError::Read { at, cause }
    }
}
