//! The deciding half of a Linux Virtual Server director: a layer-4 load balancer to embed.
//!
//! A program tells a [`Director`] what it saw of a packet, and when; the director says where the packet goes: to
//! which real server and by which method, or why nowhere. It decides as the kernel's IPVS does. What it never does:
//! see a byte of a packet (`lvs-forward` does), read a clock, draw entropy, do I/O, allocate per packet, or
//! panic. It is `no_std`, free of unsafe code, and its memory is known before the start.
//!
//! ```text
//!  Packet ──> Director::decide(now, ..) ──> Verdict
//!               │ connection table   known? its server again, its state moved on
//!               │ service            by mark, or by address and port
//!               │ scheduler          rr wrr lc wlc sed nq sh dh mh fo ovf lblc lblcr twos, or your own
//!               │ real server        weight, thresholds, method: NAT, DR, TUN, local, bypass
//!               └> events, counters
//!  add_, edit_, remove_ services and servers at any time        sweep(now, budget) frees what expired
//! ```
//!
//! # The run loop
//!
//! 1. Take up to [`BATCH`] packets, and the time once for all of them.
//! 2. [`Director::decide_batch`]; carry the verdicts out.
//! 3. About every 10 ms: [`Director::sweep`].
//! 4. Whenever you like: [`Director::poll_event`], [`Director::counters`], control.
//!
//! ```
//! use lvs_core::*;
//!
//! // Without an allocator: 1,024 connections, 4 services, 16 servers, 32 events, tables for `sh` and `dh`.
//! let mut store: Fixed<1_024, 4, 16, 32, 256> = Fixed::new();
//! let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), &mut store);
//! let dns = ServiceKey::udp("10.99.0.1".parse()?, 53);
//! director.add_service(dns, ServiceConfig::new(Scheduler::from_name("rr").unwrap()))?;
//! director.add_server(dns, ServerConfig::new("10.0.1.11:53".parse()?, Method::Direct))?;
//!
//! let flow = |port| Flow::new(Protocol::Udp, ([192, 0, 2, 7], port).into(), ([10, 99, 0, 1], 53).into()).unwrap();
//! let packets = [1_024, 1_025, 1_026].map(|port| Packet::new(flow(port), Content::Udp, 72));
//! let mut verdicts = [Verdict::Drop(Reason::TableFull); 3];
//! let decided = director.decide_batch(Tick::ZERO, &packets, &mut verdicts);
//! assert_eq!(decided, 3);
//! assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Forward(_))));
//! director.sweep(Tick::from_millis(10), 16);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # Where things are
//!
//! * What goes in: [`Packet`], [`Flow`], [`Content`], [`Tick`], [`Seed`]. What comes out: [`Verdict`], [`Forward`], [`Reason`].
//! * Control: [`ServiceKey`], [`ServiceConfig`], [`ServerConfig`], one error type per verb.
//! * Schedulers: [`Scheduler`] and the module [`sched`]; the trait [`Schedule`] for one of your own.
//! * Stores: [`Fixed`] is sized by its type and may live in a `static`; [`Heap`] (feature `alloc`, on by default) is
//!   sized at run time. Both run the same code.
//!
//! # Versions
//!
//! Rust 1.90 or later. The behaviour is that of Linux 6.1.192 and of mainline since August 2026, which agree.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod brief;
mod conntrack;
mod director;
mod hashing;
mod model;
mod proto;
pub mod sched;
mod store;
pub mod sync;

pub use brief::Brief;
pub use conntrack::table::ReadAhead;
pub use director::offload::Offloaded;
pub use director::slow::open::Expectation;
pub use director::time::sweep::Swept;
pub use director::{BATCH, Carry, Director, Found, Next};
pub use hashing::{HashTogether, Hashed, Hashing};
pub use model::config::{Config, Defence, ScheduleFlags, Timeouts, Tuning, WhenFull};
pub use model::counters::Counters;
pub use model::error::{
    AddServerError, AddServiceError, ApplyError, EditServerError, EditServiceError, ExpectError,
    RemoveServerError, RemoveServiceError, ZeroError,
};
pub use model::event::{Cause, Event};
pub use model::flow::{Addresses, Family, Flow, Protocol};
pub use model::id::{ConnId, ServerId, ServiceId};
pub use model::key::{ServiceKey, TemplateTarget};
pub use model::listing::{Connection, Template};
pub use model::meter::{Meter, Rates};
pub use model::method::{Method, Tunnel};
pub use model::packet::{Chunk, Content, Packet, Path, TcpFlags};
pub use model::persistence::{MAX_CALL_ID, Mask, Persistence, PersistenceEngine};
pub use model::reason::Reason;
pub use model::rng::Rng;
pub use model::seed::Seed;
pub use model::server::{Server, ServerConfig, Weight};
pub use model::state::{SctpState, State, TcpState};
pub use model::tick::{MAX_TIMEOUT_SECS, Tick};
pub use model::traffic::Traffic;
pub use model::verdict::{Direction, Forward, Helper, Verdict};
pub use sched::{
    Build, Change, Member, Pool, PrebuiltTable, Schedule, Scheduler, ServerList, TableBuilder, TableLen,
};
pub use store::service::{Service, ServiceConfig};
#[cfg(feature = "alloc")]
pub use store::{Capacity, Heap};
pub use store::{Fixed, SchedulerOf, Store};
