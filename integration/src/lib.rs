//! The parts of Wirecall together: the `wirecall` command line, and the whole pipeline as one function.

pub mod command;
pub mod filter;
pub mod offline;
pub mod output;
pub mod stats;
