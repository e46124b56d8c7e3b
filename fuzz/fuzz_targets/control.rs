//! Any datagrams from a client of the control socket.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| lvs_fuzz::control(data));
