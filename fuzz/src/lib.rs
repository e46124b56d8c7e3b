//! What the fuzz targets do.
//!
//! Each is a function of bytes that panics when something is wrong. `fuzz_targets/` hands them to libFuzzer, one
//! line each; `tests/corpus.rs` runs them over the committed inputs, so that `cargo test` keeps what was found.

mod director;

pub use director::director;
