//! TCP reassembly of both directions of a connection.
//!
//! ```text
//!            delivered            |  hole  |  buffered pieces
//! |-------------------------------|········|■■■■■|··|■■|
//!                                next              <= reorder_bytes
//! ```
//!
//! **Overlaps.** The first byte seen for an offset wins: once delivered it stays, and among buffered pieces the one
//! that came first keeps its bytes. Later copies are counted as duplicates, whatever they hold.
//!
//! **Holes.** A hole that the receiver has acknowledged, or whose receiver is not heard, waits for `reorder_time`: the
//! capture lost it or will bring it very soon. One that is not acknowledged waits for `retransmission_time`: the sender
//! will send it again. Either becomes a gap as soon as `reorder_bytes` lie behind it. Bytes that come later still fill a
//! gap that has not been published.
//!
//! **Causality.** Data that acknowledges bytes of the other side which were not captured yet is held until they come,
//! by the same bounds: an acknowledgement seen before its data is not a loss. A side that was not heard for the whole
//! wait is taken for absent (a one-sided capture): its bytes become gaps at once, and nobody waits for it again until
//! it is heard.

mod pair;
mod stream;
mod wait;
mod write;

pub(crate) use pair::{Context, Incoming, Pair, direction};
pub(crate) use stream::{Span, Stream};
