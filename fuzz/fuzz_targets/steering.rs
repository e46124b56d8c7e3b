//! The kernel's steering program against the function.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| lvs_fuzz::steering(data));
