//! The slow path: one frame at a time, whatever it is.

mod answer;
mod apply;
mod classify;
mod helpers;
mod limit;
mod next_hop;
mod owed;
mod pmtu;
#[cfg(feature = "fragments")]
mod reassembly;
mod reject;
mod request;
mod reset;
mod route;
mod task;

#[cfg(feature = "alloc")]
pub(super) use self::helpers::call_of;
pub(super) use self::limit::Limiter;
pub(super) use self::owed::{OwedReset, OwedResets};
pub(super) use self::pmtu::{PathMtu, PathMtus};
pub(super) use self::task::Task;
