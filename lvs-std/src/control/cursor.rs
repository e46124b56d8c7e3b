//! A place in the connection table, at which a listing goes on.

use core::fmt;
use core::hash::{BuildHasher as _, Hasher as _};
use core::str::FromStr;
use std::hash::RandomState;

use lvs_core::conn::Connection;

/// A place in the connection table of a running director.
///
/// A listing is read page by page: each page ends with the cursor of the next one. Between two pages packets pass and
/// commands are carried out. A connection keeps its entry for as long as it lives, so one that lives throughout a
/// listing is in it exactly once; one that begins or ends meanwhile may be in it or not. A cursor is of one run of a
/// director: after a restart it is refused, since the table is another one.
///
/// As text it is three hexadecimal numbers: the run, the worker, and the entry of its table.
///
/// ```
/// use lvs_std::control::Cursor;
/// let cursor: Cursor = "5eed-1-200".parse()?;
/// assert_eq!(cursor.to_string(), "5eed-1-200");
/// assert!("5eed-1".parse::<Cursor>().is_err());
/// # Ok::<(), lvs_std::control::NoCursor>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// A number that no other run of a director has.
    run: u64,
    pub(super) worker: usize,
    pub(super) entry: u32,
}

/// A text that is no [`Cursor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoCursor;

impl Cursor {
    /// The beginning of a table that has just been made.
    pub(super) fn of_new_table() -> Self {
        Self { run: RandomState::new().build_hasher().finish(), worker: 0, entry: 0 }
    }

    /// Whether both are places in the same table.
    pub(super) const fn is_of(&self, other: &Self) -> bool {
        self.run == other.run
    }

    /// Another place in the same table.
    pub(super) const fn at(&self, worker: usize, entry: u32) -> Self {
        Self { run: self.run, worker, entry }
    }

    /// The place behind a connection of the page that begins at this one: where a listing goes on that ends within a
    /// page.
    #[must_use]
    pub const fn behind(&self, connection: &Connection) -> Self {
        Self { entry: connection.id.index().saturating_add(1), ..*self }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}-{:x}", self.run, self.worker, self.entry)
    }
}

impl FromStr for Cursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or(NoCursor);
        let (run, worker, entry) = (part()?, part()?, part()?);
        if parts.next().is_some() {
            return Err(NoCursor);
        }
        let run = u64::from_str_radix(run, 16).map_err(|_| NoCursor)?;
        let worker = usize::from_str_radix(worker, 16).map_err(|_| NoCursor)?;
        Ok(Self { run, worker, entry: u32::from_str_radix(entry, 16).map_err(|_| NoCursor)? })
    }
}

impl fmt::Display for NoCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no place in a connection table: begin the listing anew, without one")
    }
}

impl core::error::Error for NoCursor {}
