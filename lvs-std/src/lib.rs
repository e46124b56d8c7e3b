//! The outside of the director: devices, workers, clock and seed.

mod clock;
pub mod device;
pub mod lab;
mod seed;
mod sys;
mod tunnel_end;
pub mod worker;

pub use clock::Clock;
pub use seed::random_seed;
pub use tunnel_end::{Inner, TunnelEnd, TunnelEndCounters};
