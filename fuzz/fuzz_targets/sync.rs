//! Any bytes as a sync message.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| lvs_fuzz::sync(data));
