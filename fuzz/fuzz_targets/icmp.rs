//! ICMP errors about packets of a connection.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| lvs_fuzz::icmp(data));
