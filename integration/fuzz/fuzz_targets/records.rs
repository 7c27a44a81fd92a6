//! Arbitrary segment records through the dissector with all its protocols.
#![no_main]
use wirecall_dissector_core::Registry;
libfuzzer_sys::fuzz_target!(|data: &[u8]| wirecall_dissector_core::dissector::fuzz::fuzz(&Registry::known(), data));
