//! The cursor that all header readers share: what is left of the frame, and what the capture did not keep of it.
//!
//! ```text
//! |<------------- captured -------------->|<--- beyond --->|
//! | headers taken | rest (bounded by IP)  | cut by snaplen |
//! ```

use crate::stats::Reason;

/// A frame under the reader's hands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk<'p> {
    /// Captured bytes that no header has taken yet.
    rest: &'p [u8],
    /// Bytes that follow `rest` on the wire but were cut by the capture.
    beyond: usize,
    /// Captured bytes after the end that the IP header declares: Ethernet padding and trailers.
    padding: usize,
    /// Tells overlapping address spaces apart: made of VLAN and tunnel ids, 0 without any.
    domain: u32,
    /// Headers that may still be opened: a bound on nesting, since tunnels can be nested without end.
    headers_left: u8,
}

impl<'p> Walk<'p> {
    /// Begins at the first captured byte; `original_length` is the frame's length on the wire.
    pub(crate) fn new(data: &'p [u8], original_length: usize, domain: u32, headers: u8) -> Self {
        let beyond = original_length.saturating_sub(data.len());
        Self { rest: data, beyond, padding: 0, domain, headers_left: headers }
    }

    /// Takes one header of the nesting budget.
    pub(crate) const fn descend(&mut self) -> Result<(), Reason> {
        match self.headers_left.checked_sub(1) {
            Some(left) => {
                self.headers_left = left;
                Ok(())
            }
            None => Err(Reason::NestingLimit),
        }
    }

    /// Takes `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<&'p [u8; N], Reason> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => Err(self.short(N)),
        }
    }

    /// Takes `length` bytes.
    pub(crate) fn take(&mut self, length: usize) -> Result<&'p [u8], Reason> {
        match self.rest.split_at_checked(length) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => Err(self.short(length)),
        }
    }

    /// Looks at `N` bytes and leaves them.
    pub(crate) fn peek<const N: usize>(&self) -> Option<&'p [u8; N]> {
        self.rest.first_chunk::<N>()
    }

    /// Takes a big-endian 16-bit number.
    pub(crate) fn u16(&mut self) -> Result<u16, Reason> {
        self.array::<2>().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// The reason for a header that does not fit: cut by the capture, or impossible on the wire as well.
    const fn short(&self, wanted: usize) -> Reason {
        if wanted <= self.rest.len() + self.beyond { Reason::Truncated } else { Reason::Malformed }
    }

    /// Bounds what follows to `length` bytes, as a header declares it. The rest of the frame is padding.
    ///
    /// A length that reaches beyond the captured bytes means that the capture cut them, even where its own record says
    /// otherwise: editors of capture files shorten frames without saying so. The bytes that are there are used, and the
    /// rest is missing.
    pub(crate) fn limit(&mut self, length: usize) {
        match self.rest.split_at_checked(length) {
            Some((rest, padding)) => {
                self.rest = rest;
                self.padding += padding.len();
                self.beyond = 0;
            }
            None => self.beyond = length - self.rest.len(),
        }
    }

    /// Drops trailing bytes that belong to a link layer, such as a frame check sequence.
    pub(crate) fn drop_trailer(&mut self, length: usize) {
        if self.beyond == 0 && self.rest.len() >= length {
            let end = self.rest.len() - length;
            self.rest = &self.rest[..end];
            self.padding += length;
        }
    }

    /// Folds an id of a VLAN or tunnel into the address space.
    pub(crate) const fn enter_domain(&mut self, kind: u32, id: u32) {
        let mixed = (self.domain ^ (id | kind << 24)).wrapping_mul(0x9e37_79b1);
        // Zero means "none", so no id may lead back to it.
        self.domain = if mixed == 0 { 1 } else { mixed };
    }

    /// What no header has taken yet.
    pub(crate) const fn rest(&self) -> &'p [u8] {
        self.rest
    }

    /// Bytes cut by the capture after [`Walk::rest`].
    pub(crate) const fn beyond(&self) -> usize {
        self.beyond
    }

    /// Length of the rest on the wire.
    pub(crate) const fn wire_length(&self) -> usize {
        self.rest.len() + self.beyond
    }

    /// Padding bytes met so far.
    pub(crate) const fn padding(&self) -> usize {
        self.padding
    }

    /// The address space.
    pub(crate) const fn domain(&self) -> u32 {
        self.domain
    }

    /// Headers that may still be opened.
    pub(crate) const fn headers_left(&self) -> u8 {
        self.headers_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_frame_is_truncated_only_if_the_wire_had_more() {
        assert_eq!(Walk::new(&[1], 4, 0, 1).array::<4>(), Err(Reason::Truncated));
        assert_eq!(Walk::new(&[1], 3, 0, 1).array::<4>(), Err(Reason::Malformed));
        assert_eq!(Walk::new(&[1, 2], 2, 0, 1).take(2), Ok(&[1, 2][..]));
    }

    #[test]
    fn the_limit_turns_the_tail_into_padding() {
        let mut walk = Walk::new(&[1, 2, 3, 4], 4, 0, 1);
        walk.limit(3);
        assert_eq!((walk.rest(), walk.padding(), walk.beyond()), (&[1, 2, 3][..], 1, 0));
    }

    #[test]
    fn the_limit_keeps_what_the_capture_cut() {
        let mut walk = Walk::new(&[1, 2], 10, 0, 1);
        walk.limit(5);
        assert_eq!((walk.beyond(), walk.wire_length()), (3, 5));
    }

    #[test]
    fn the_limit_believes_the_header_over_the_record() {
        let mut walk = Walk::new(&[1, 2], 2, 0, 1);
        walk.limit(5);
        assert_eq!((walk.rest(), walk.beyond()), (&[1, 2][..], 3));
    }

    #[test]
    fn nesting_ends() {
        let mut walk = Walk::new(&[], 0, 0, 1);
        assert_eq!(walk.descend(), Ok(()));
        assert_eq!(walk.descend(), Err(Reason::NestingLimit));
    }

    #[test]
    fn domains_differ_by_kind_and_id() {
        let domain = |kind, id| {
            let mut walk = Walk::new(&[], 0, 0, 1);
            walk.enter_domain(kind, id);
            walk.domain()
        };
        assert_ne!(domain(1, 5), domain(2, 5));
        assert_ne!(domain(1, 5), domain(1, 6));
        assert_ne!(domain(0, 0), 0);
    }
}
