//! Helpers of the tests.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod capture_file;
pub mod traffic;
