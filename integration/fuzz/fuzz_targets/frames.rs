//! Arbitrary frames through the capture core.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| wirecall_capture_core::fuzz::frames(data));
