//! The outside of the director: devices, workers, clock and seed.

mod sys;
