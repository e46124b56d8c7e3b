//! All targets in one binary, which links in a twentieth of the time: the environment variable `FUZZ_TARGET` names one.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<lvs_fuzz::Target> = LazyLock::new(|| {
    let wanted = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a fuzz target");
    let named = lvs_fuzz::TARGETS.iter().find(|(name, _)| *name == wanted);
    named.unwrap_or_else(|| panic!("there is no fuzz target {wanted}")).1
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
