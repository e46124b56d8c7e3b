//! The slow path: one packet at a time, whatever it is, and the connections that it opens.

pub(crate) mod decide;
pub(crate) mod open;
pub(crate) mod persist;
pub(crate) mod schedule;
mod server;
