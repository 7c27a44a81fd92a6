//! Writers of capture files, byte by byte, so that the tests own every field.

pub mod capture_file;
