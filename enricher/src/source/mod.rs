//! Where identities and calls come from.

pub mod file;
