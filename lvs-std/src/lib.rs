//! The outside of the director: devices, workers, clock and seed.

pub mod device;
pub mod lab;
mod sys;
