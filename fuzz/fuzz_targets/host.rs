//! Any frames for the director as a host.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| lvs_fuzz::host_on_the_wire(data));
