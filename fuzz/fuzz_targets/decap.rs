//! Any frame for a real server's decapsulator.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| lvs_fuzz::decap(data));
