//! The one reader for untrusted bytes.
//!
//! Every parser reads through [`Cursor`], so that a length that a peer declared is checked in one place and a message
//! that has not arrived whole is an ordinary value, [`CursorError::Short`], that says how many bytes would help.

use std::num::NonZeroUsize;

/// Reads a slice from front to back; never panics, never reads past the end, never allocates.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    used: usize,
}

/// What a [`Cursor`] could not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// The bytes end too early. On a stream this means "not yet".
    #[error("the bytes end {missing} bytes too early; wait for them or give the message up")]
    Short {
        /// How many more bytes would help.
        missing: NonZeroUsize,
    },
    /// A reader of a declared length was not read to its end.
    #[error("{left} bytes are left after the last field; the declared length is wrong")]
    Trailing {
        /// Unread bytes.
        left: usize,
    },
    /// A variable-length integer has more digits than its type holds.
    #[error("the variable-length integer does not fit 64 bits; the message is malformed")]
    VarintTooLong,
}

impl CursorError {
    /// True when more bytes could turn the error into a value.
    #[must_use]
    pub const fn can_continue(self) -> bool {
        matches!(self, Self::Short { .. })
    }
}

/// Most bytes of a LEB128 integer of 64 bits: 64 bits in groups of 7.
const VARINT_BYTES: usize = 10;

impl<'a> Cursor<'a> {
    /// A cursor at the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, used: 0 }
    }

    /// Bytes read so far, sub-readers included.
    #[must_use]
    pub const fn used(&self) -> usize {
        self.used
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.used
    }

    /// True when all bytes were read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// The bytes not read yet, without reading them.
    #[must_use]
    pub fn peek(&self) -> &'a [u8] {
        self.bytes.get(self.used..).unwrap_or_default()
    }

    /// Reads `count` bytes.
    ///
    /// # Errors
    /// [`CursorError::Short`] when fewer are left; nothing is read then.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], CursorError> {
        match self.peek().get(..count) {
            Some(taken) => {
                self.used += count;
                Ok(taken)
            }
            None => Err(self.short(count)),
        }
    }

    /// Reads a declared length as a reader of its own, so that a field cannot run over its frame's end.
    ///
    /// # Errors
    /// [`CursorError::Short`] when fewer bytes are left.
    pub fn sub(&mut self, count: usize) -> Result<Cursor<'a>, CursorError> {
        self.take(count).map(Cursor::new)
    }

    /// Reads an array.
    ///
    /// # Errors
    /// [`CursorError::Short`] when fewer bytes are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], CursorError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// Reads one byte.
    ///
    /// # Errors
    /// [`CursorError::Short`] at the end.
    pub fn u8(&mut self) -> Result<u8, CursorError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Reads a 16-bit integer in network order.
    ///
    /// # Errors
    /// [`CursorError::Short`] when fewer bytes are left.
    pub fn u16(&mut self) -> Result<u16, CursorError> {
        self.array().map(u16::from_be_bytes)
    }

    /// Reads a 24-bit integer in network order.
    ///
    /// # Errors
    /// [`CursorError::Short`] when fewer bytes are left.
    pub fn u24(&mut self) -> Result<u32, CursorError> {
        self.array().map(|[high, middle, low]| u32::from_be_bytes([0, high, middle, low]))
    }

    /// Reads a 32-bit integer in network order.
    ///
    /// # Errors
    /// [`CursorError::Short`] when fewer bytes are left.
    pub fn u32(&mut self) -> Result<u32, CursorError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Reads a 64-bit integer in network order.
    ///
    /// # Errors
    /// [`CursorError::Short`] when fewer bytes are left.
    pub fn u64(&mut self) -> Result<u64, CursorError> {
        self.array().map(u64::from_be_bytes)
    }

    /// Reads a 16-bit integer, least significant byte first.
    ///
    /// # Errors
    /// [`CursorError::Short`] when fewer bytes are left.
    pub fn u16_le(&mut self) -> Result<u16, CursorError> {
        self.array().map(u16::from_le_bytes)
    }

    /// Reads a 24-bit integer, least significant byte first.
    ///
    /// # Errors
    /// [`CursorError::Short`] when fewer bytes are left.
    pub fn u24_le(&mut self) -> Result<u32, CursorError> {
        self.array().map(|[low, middle, high]| u32::from_le_bytes([low, middle, high, 0]))
    }

    /// Reads a 32-bit integer, least significant byte first.
    ///
    /// # Errors
    /// [`CursorError::Short`] when fewer bytes are left.
    pub fn u32_le(&mut self) -> Result<u32, CursorError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Reads a 64-bit integer, least significant byte first.
    ///
    /// # Errors
    /// [`CursorError::Short`] when fewer bytes are left.
    pub fn u64_le(&mut self) -> Result<u64, CursorError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads an unsigned LEB128 integer, as Protocol Buffers, Kafka and MQTT send them.
    ///
    /// # Errors
    /// [`CursorError::Short`] when its last byte is not there; [`CursorError::VarintTooLong`] when it exceeds 64 bits.
    /// Nothing is read on an error.
    pub fn varint(&mut self) -> Result<u64, CursorError> {
        let mut value = 0_u64;
        for (index, byte) in self.peek().iter().take(VARINT_BYTES).enumerate() {
            let digit = u64::from(byte & 0x7f);
            // The tenth byte carries bit 63 alone.
            if index + 1 == VARINT_BYTES && digit > 1 {
                return Err(CursorError::VarintTooLong);
            }
            value |= digit << (7 * index);
            if byte & 0x80 == 0 {
                self.used += index + 1;
                return Ok(value);
            }
        }
        if self.remaining() < VARINT_BYTES {
            Err(self.short(self.remaining() + 1))
        } else {
            Err(CursorError::VarintTooLong)
        }
    }

    /// Reads all that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = self.peek();
        self.used = self.bytes.len();
        rest
    }

    /// Ends the reading of a declared length.
    ///
    /// # Errors
    /// [`CursorError::Trailing`] when bytes are left.
    pub fn finish(self) -> Result<(), CursorError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(CursorError::Trailing { left }),
        }
    }

    fn short(&self, wanted: usize) -> CursorError {
        let missing = wanted.saturating_sub(self.remaining());
        CursorError::Short { missing: NonZeroUsize::new(missing).unwrap_or(NonZeroUsize::MIN) }
    }
}

/// Fuzz entry: reads `bytes` by a program taken from their first half and asserts that no byte is read twice or lost.
///
/// # Panics
/// When the invariant does not hold.
pub fn fuzz(bytes: &[u8]) {
    let (program, input) = bytes.split_at(bytes.len() / 2);
    let mut cursor = Cursor::new(input);
    for &operation in program {
        let before = cursor.used();
        let outcome = match operation % 8 {
            0 => cursor.take(usize::from(operation)).map(<[u8]>::len),
            1 => cursor.u8().map(|_| 1),
            2 => cursor.u16().map(|_| 2),
            3 => cursor.u24_le().map(|_| 3),
            4 => cursor.u64().map(|_| 8),
            5 => cursor.sub(usize::from(operation / 8)).map(|sub| sub.remaining()),
            6 => cursor.varint().map(|_| cursor.used() - before),
            _ => cursor.array::<5>().map(|array| array.len()),
        };
        match outcome {
            Ok(count) => assert_eq!(cursor.used(), before + count, "what was read is what is counted"),
            Err(_) => assert_eq!(cursor.used(), before, "an error reads nothing"),
        }
        assert_eq!(cursor.used() + cursor.remaining(), input.len(), "no byte is lost");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(missing: usize) -> CursorError {
        CursorError::Short { missing: NonZeroUsize::new(missing).unwrap() }
    }

    #[test]
    fn reads_integers_of_both_orders() {
        let mut cursor = Cursor::new(&[1, 2, 3, 1, 2, 1, 2, 3, 4]);
        assert_eq!(cursor.u24(), Ok(0x01_02_03));
        assert_eq!(cursor.u16_le(), Ok(0x0201));
        assert_eq!(cursor.u32(), Ok(0x0102_0304));
        assert_eq!(cursor.finish(), Ok(()));
    }

    #[test]
    fn says_how_many_bytes_are_missing_and_reads_nothing() {
        let mut cursor = Cursor::new(b"abc");
        assert_eq!(cursor.take(5), Err(short(2)));
        assert_eq!(cursor.u64(), Err(short(5)));
        assert_eq!(cursor.rest(), b"abc");
        assert_eq!(cursor.u8(), Err(short(1)));
    }

    #[test]
    fn a_declared_length_is_a_fence() {
        let mut cursor = Cursor::new(b"\x02abc");
        let length = cursor.u8().unwrap();
        let mut inner = cursor.sub(usize::from(length)).unwrap();
        assert_eq!(inner.take(3), Err(short(1)));
        assert_eq!(inner.finish(), Err(CursorError::Trailing { left: 2 }));
        assert_eq!(cursor.rest(), b"c");
    }

    #[test]
    fn varint_holds_64_bits_and_no_more() {
        assert_eq!(Cursor::new(&[0xac, 0x02]).varint(), Ok(300));
        let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Cursor::new(&largest).varint(), Ok(u64::MAX));
        for length in 0..largest.len() {
            assert_eq!(Cursor::new(&largest[..length]).varint(), Err(short(1)), "{length}");
        }
        assert_eq!(Cursor::new(&[0xff; 10]).varint(), Err(CursorError::VarintTooLong));
        assert_eq!(Cursor::new(&[0x80; 11]).varint(), Err(CursorError::VarintTooLong));
    }

    #[test]
    fn fuzz_holds_on_every_byte_pattern() {
        for seed in 0..=255_u8 {
            let bytes: Vec<u8> =
                (0..96_u8).map(|index| index.wrapping_mul(seed).wrapping_add(seed)).collect();
            fuzz(&bytes);
        }
    }
}
