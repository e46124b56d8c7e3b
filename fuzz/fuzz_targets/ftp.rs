//! Any bytes as FTP's commands and replies.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| lvs_fuzz::ftp(data));
