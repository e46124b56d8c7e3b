//! A worker over devices in memory: what it forwards, what it is told, what it tells.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod allocations;
mod control;
mod exchange;
mod group;
mod metrics;
mod prebuild;
mod reload;
mod world;
