//! The slow path: one frame at a time, whatever it is.

mod answer;
mod apply;
mod classify;
mod helpers;
mod limit;
mod next_hop;
mod owed;
mod pmtu;
mod reassembly;
mod reject;
mod request;
mod reset;
mod route;
mod task;

pub(super) use self::limit::Limiter;
pub(super) use self::owed::OwedResets;
pub(super) use self::pmtu::PathMtus;
pub(super) use self::task::Task;
