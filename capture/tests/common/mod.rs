//! Helpers of the tests.

pub mod capture_file;
