//! The wirecall command line, end-to-end tests and benchmarks.
