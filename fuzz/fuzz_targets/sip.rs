//! Any bytes as a SIP message.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| lvs_fuzz::sip(data));
