//! The deciding half of a Linux Virtual Server director.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod config;
mod conn;
mod counters;
mod director;
mod error;
mod event;
mod flow;
mod hash;
mod method;
mod packet;
mod proto;
mod rng;
pub mod sched;
mod server;
mod service;
mod store;
mod tick;
mod verdict;

pub use config::{Config, Timeouts, Tuning, WhenFull};
pub use conn::{ConnId, Connection};
pub use counters::{Counters, Traffic};
pub use director::{BATCH, Director};
pub use error::{
    AddServerError, AddServiceError, EditServerError, EditServiceError, RemoveServerError, RemoveServiceError,
};
pub use event::{Cause, Event};
pub use flow::{Addresses, Family, Flow, Protocol};
pub use hash::Seed;
pub use method::{Method, Tunnel};
pub use packet::{Chunk, Content, Packet, Path, TcpFlags};
pub use proto::{SctpState, State, TcpState};
pub use rng::Rng;
pub use sched::{Change, Pool, Schedule, ScheduleFlags, Scheduler};
pub use server::{Server, ServerConfig, ServerId, Weight};
pub use service::{Service, ServiceConfig, ServiceId, ServiceKey};
#[cfg(feature = "alloc")]
pub use store::{Capacity, Heap};
pub use store::{Fixed, SchedulerOf, Store};
pub use tick::{MAX_TIMEOUT_SECS, Tick};
pub use verdict::{Direction, Forward, Reason, Verdict};
