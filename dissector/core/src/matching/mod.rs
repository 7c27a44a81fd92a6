//! Pairing answers with requests: by order where the protocol is strict, by key where it carries one.
//!
//! Both kinds are plain data, so that a session can write them into a checkpoint: what is open is visited in the order
//! it was asked ([`Ordered::iter`], [`Keyed::iter`]) and put back through the same calls that built it.

mod keyed;
mod ordered;

pub use keyed::{Keyed, Opened};
pub use ordered::{Answer, Ordered};
