//! A program of stream operations against a model.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| wirecall_dissector_core::stream::fuzz::fuzz(data));
