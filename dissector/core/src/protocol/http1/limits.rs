//! Limits that only HTTP/1 has. Those that other protocols share are in [`crate::limits::Limits`]. Each bounds
//! something that a peer can grow, and has a test that reaches it.

/// Bytes of one chunk-size line with its extensions. A guess: extensions are hardly used.
pub(super) const CHUNK_LINE_BYTES: usize = 4 * 1024;

/// Bytes of one trailer section. A guess: trailers carry checksums and statuses.
pub(super) const TRAILER_BYTES: usize = 16 * 1024;

/// Bytes of a line that are looked at for a start line in a search. Common servers take 8 KiB of request line.
pub(super) const SEARCH_LINE_BYTES: usize = 8 * 1024;

/// Bytes of a field line that are looked at beyond the limit on a header section: enough for any framing field.
pub(super) const OVERFLOW_LINE_BYTES: usize = 256;

/// Content codings applied to one body. More than two are never seen in good faith.
pub(super) const CODINGS: usize = 4;

/// Responses that wait for a request that the capture may still deliver. A guess: more than one needs a reordering
/// of packets between the directions while the client pipelines.
pub(super) const WAITING_RESPONSES: usize = 8;

/// Requests beyond the limit on open calls of which only the method is remembered, so that their responses are still
/// told from those of later requests. One byte each.
pub(super) const FORGOTTEN_REQUESTS: usize = 64 * 1024;

/// Bytes that a client may send behind a request to change the protocol before the answer is known.
pub(super) const UNDECIDED_BYTES: usize = 64 * 1024;
