//! The connection table: fixed capacity, keyed hashes, one cache line per connection.

pub(crate) mod deferred_inserts;
pub(crate) mod expiry;
#[cfg(feature = "alloc")]
pub(crate) mod extract;
pub(crate) mod family;
pub(crate) mod fast_key;
pub(crate) mod hashing;
pub(crate) mod index;
pub(crate) mod key;
pub(crate) mod slot;
pub(crate) mod table;
