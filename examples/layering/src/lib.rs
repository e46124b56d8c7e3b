//! Checks the layering of a crate's modules.
//!
//! Two rules, over everything that is compiled into a product (what is `cfg(test)` is left out):
//!
//! 1. **No circles.** The modules of one folder, each together with what is below it, use each other in one direction.
//!    A module and its own submodules count as one: `worker/idle.rs` may implement what `worker/mod.rs` declares.
//! 2. **No use that points up.** A crate may name layers from the lowest to the highest. A module in one of them uses
//!    no higher one, neither directly nor through modules that are not named. A module without a name may use
//!    everything but the highest layer, so a new module needs no entry unless it opens a new layer.
//!
//! A name is followed to the module that defines it: what a parent re-exports belongs to the child that declares it.
//! Uses inside macro calls are not seen, and neither are methods, whose types have been named somewhere else.

mod graph;
mod tree;

use core::fmt;
use std::path::{Path, PathBuf};

pub use graph::check;

/// A crate to check.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "tests write them down")]
pub struct Layers<'a> {
    /// The crate's folder, which has `src/lib.rs`.
    pub folder: &'a Path,
    /// Modules of its root from the lowest layer to the highest; those of one layer share an entry and do not use each
    /// other.
    pub layers: &'a [&'a [&'a str]],
}

/// A use that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing more to say")]
pub struct Violation {
    /// Which rule it breaks, and how.
    pub what: String,
    /// The uses that do so together, each with its place.
    pub uses: Vec<Use>,
}

/// A module's use of another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing more to say")]
pub struct Use {
    /// The file, and the line in it.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// The module in which it is written, such as `worker::idle`.
    pub from: String,
    /// The module that defines what is used.
    pub to: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        for Use { file, line, from, to } in &self.uses {
            write!(f, "\n  {}:{line}: {from} uses {to}", file.display())?;
        }
        Ok(())
    }
}

/// Why a crate cannot be checked.
#[derive(Debug)]
#[non_exhaustive]
pub enum CheckError {
    /// A file cannot be read.
    Read(PathBuf, std::io::Error),
    /// A file is no Rust.
    Parse(PathBuf, syn::Error),
    /// A layer is named that is no module.
    NoModule(String),
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Parse(path, error) => {
                write!(f, "{}:{}: {error}", path.display(), error.span().start().line)
            }
            Self::NoModule(name) => write!(f, "the list of layers names {name}, which is no module"),
        }
    }
}

impl core::error::Error for CheckError {}
