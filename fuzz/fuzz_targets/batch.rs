//! Batches of frames against the same frames one by one.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| lvs_fuzz::batch(data));
