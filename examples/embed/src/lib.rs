//! Small programs that show how to embed the director: they are in `src/bin`.

/// The programs of the workspace's README are compiled, and all but the assembled director run, as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
mod readme {}
