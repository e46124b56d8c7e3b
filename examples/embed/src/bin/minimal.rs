//! Placeholder removed with the first example.
fn main() {}
