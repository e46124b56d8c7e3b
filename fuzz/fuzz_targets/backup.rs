//! A backup under sync messages, traffic and time.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| lvs_fuzz::backup(data));
