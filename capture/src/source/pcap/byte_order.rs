//! Numbers in the byte order of the machine that wrote a capture.

/// The byte order of a file or section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteOrder {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

impl ByteOrder {
    #[inline]
    pub(super) const fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    #[inline]
    pub(super) const fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    #[inline]
    pub(super) const fn u64(self, bytes: [u8; 8]) -> u64 {
        match self {
            Self::Little => u64::from_le_bytes(bytes),
            Self::Big => u64::from_be_bytes(bytes),
        }
    }

    /// The number at `offset`; 0 where the bytes are not there, which every caller has excluded.
    #[inline]
    pub(super) fn u16_at(self, bytes: &[u8], offset: usize) -> u16 {
        self.u16(array_at(bytes, offset).unwrap_or_default())
    }

    /// The number at `offset`; 0 where the bytes are not there, which every caller has excluded.
    #[inline]
    pub(super) fn u32_at(self, bytes: &[u8], offset: usize) -> u32 {
        self.u32(array_at(bytes, offset).unwrap_or_default())
    }
}

/// The `N` bytes at `offset`, where they are there.
#[inline]
pub(super) fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}
