//! The capture agent: packets of one node in, segments out.

pub mod source;
