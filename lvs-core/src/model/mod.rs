//! Values: what goes in, what comes out, and what both are made of. Nothing here knows a table or a director, so
//! every other module may use all of it.

pub(crate) mod budget;
pub(crate) mod config;
pub(crate) mod counters;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod flow;
pub(crate) mod id;
pub(crate) mod key;
pub(crate) mod listing;
pub(crate) mod meter;
pub(crate) mod method;
pub(crate) mod news;
pub(crate) mod packet;
pub(crate) mod persistence;
pub(crate) mod reason;
pub(crate) mod rng;
pub(crate) mod seed;
#[cfg(feature = "serde")]
pub(crate) mod serial;
pub(crate) mod server;
pub(crate) mod standing;
pub(crate) mod state;
pub(crate) mod sync_entry;
pub(crate) mod text;
pub(crate) mod tick;
pub(crate) mod traffic;
pub(crate) mod verdict;
