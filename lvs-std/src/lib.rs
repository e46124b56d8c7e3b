//! The outside of the director: devices, workers, clock and seed.

mod clock;
pub mod device;
pub mod lab;
mod seed;
mod sys;
pub mod worker;

pub use clock::Clock;
pub use seed::random_seed;
