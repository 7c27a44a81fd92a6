//! Runs of chunks become segment records.
//!
//! A [`Channel`] is what a connection writes to: its head (ids, ends) and the run under way. [`Output`] owns what all
//! connections share: the sequence numbers per partition, the records that are ready, and the count of bytes held.

mod output;
mod sequence;

pub(crate) use output::{Channel, Head, Moment, Output, Run, signed};
