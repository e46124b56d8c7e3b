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
//! 1. Take up to [`BATCH`](batch::BATCH) packets, and the time once for all of them.
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
//! * What goes in: [`Packet`], [`Flow`], [`Content`], [`Tick`], [`Seed`] (more in [`packet`]). What comes out:
//!   [`Verdict`], [`Forward`], [`Reason`].
//! * Control: [`ServiceKey`], [`ServiceConfig`], [`ServerConfig`] (more in [`service`] and [`config`]); one error type
//!   per verb in [`error`].
//! * Schedulers: [`Scheduler`] and the module [`sched`]; the trait [`sched::Schedule`] for one of your own.
//! * Without packets: [`Picker`] and the module [`pick`].
//! * What is there and what happened: [`conn`], [`stats`], [`Event`] and [`event`].
//! * Speed: [`batch`] for many packets at once, [`accel`] for what your machine can do, [`tables`] for large look-up
//!   tables.
//! * Other directors: [`sync`].
//! * Stores: [`Fixed`] is sized by its type and may live in a `static`; [`Heap`] (feature `alloc`, on by default) is
//!   sized at run time. Both run the same code.
//!
//! # Features
//!
//! * `alloc` (on by default): the store [`Heap`], which is sized at run time.
//! * `serde`: configuration (`ServiceConfig`, `ServerConfig`, `Persistence`, `Timeouts`, `Tuning`) can be serialized
//!   and read, listings can be serialized. Keys, schedulers and protocols are text, as
//!   [`Display`](core::fmt::Display) writes it. It works without `alloc`.
//! * `log`: what control changes, when memory or the connection table becomes short, and when a defence goes on or off
//!   is said by the `log` facade, target `lvs_core`: changes at level `debug`, what becomes short or goes on at `warn`,
//!   its end at `info`.
//!
//! # Versions
//!
//! Rust 1.90 or later. The behaviour is that of Linux 6.1.192 and of mainline since August 2026, which agree.
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

/// Says something to whoever listens, by the `log` facade; nothing without that feature. Never on a packet's way.
macro_rules! say {
    ($level:ident, $($words:tt)+) => {{
        #[cfg(feature = "log")]
        log::$level!(target: "lvs_core", $($words)+);
    }};
}

mod conntrack;
mod director;
mod model;
mod proto;
pub mod sched;
mod store;
pub mod sync;

pub use director::Director;
pub use director::picker::Picker;
pub use model::config::Config;
pub use model::event::Event;
pub use model::flow::{Family, Flow, Protocol};
pub use model::id::{ConnId, ServerId};
pub use model::key::ServiceKey;
pub use model::method::{Method, Tunnel};
pub use model::packet::{Content, Packet, Path, TcpFlags};
pub use model::reason::Reason;
pub use model::seed::Seed;
pub use model::server::{ServerConfig, Weight};
pub use model::tick::Tick;
pub use model::verdict::{Direction, Forward, Inspected, Verdict};
pub use sched::Scheduler;
#[cfg(feature = "alloc")]
pub use store::Heap;
pub use store::service::ServiceConfig;
pub use store::{Fixed, Store};

/// What the embedder lends the director to make it faster on its machine: prefetch and vector instructions.
pub mod accel {
    pub use crate::conntrack::hashing::{HashTogether, Hashed, Hashing};
    pub use crate::conntrack::table::ReadAhead;
}

/// Many packets at once.
pub mod batch {
    pub use crate::conntrack::family::{AddressFamily, V4, V6};
    pub use crate::conntrack::fast_key::{BATCH, BatchFamily, FastBatch, FastKey};
    pub use crate::director::{Hit, HitHandler, Next};
}

/// How a director behaves, and how large its store is.
pub mod config {
    pub use crate::model::config::{Config, Defence, ScheduleFlags, Timeouts, Tuning, WhenFull};
    pub use crate::model::tick::MAX_TIMEOUT_SECS;
    #[cfg(feature = "alloc")]
    pub use crate::store::{Capacity, NoMemory};
}

/// Entries of the connection table: their ids, states and listings, and what adds to them or takes from them besides
/// packets that are decided.
pub mod conn {
    #[cfg(feature = "alloc")]
    pub use crate::director::Rehearsal;
    pub use crate::director::offload::Offloaded;
    pub use crate::director::slow::open::Expectation;
    pub use crate::director::time::sweep::Swept;
    pub use crate::model::id::ConnId;
    pub use crate::model::key::TemplateTarget;
    pub use crate::model::listing::{Connection, Template};
    pub use crate::model::state::{SctpState, State, TcpState};
    pub use crate::model::verdict::Helper;
}

/// Why a call of the control interface changed nothing: one type per verb.
pub mod error {
    pub use crate::model::error::{
        AddServerError, AddServiceError, ApplyError, EditServerError, EditServiceError, ExpectError,
        ObserveError, ParseError, RemoveServerError, RemoveServiceError, WeightError, ZeroError,
    };
}

/// What happened to connections and real servers.
pub mod event {
    pub use crate::model::event::{Cause, Event};
    pub use crate::model::news::ServerNews;
}

/// How packets reach real servers.
pub mod method {
    pub use crate::model::method::{Method, MethodKind, Tunnel, TunnelKind};
    pub use crate::model::verdict::Rewrite;
}

/// What the director is told of a packet.
pub mod packet {
    pub use crate::model::flow::{Addresses, Family, Flow, Protocol};
    pub use crate::model::packet::{Chunk, Content, Packet, Path, TcpFlags};
}

/// Decisions without packets, for those who connect to real servers themselves; and what they have seen of servers.
pub mod pick {
    pub use crate::director::picker::{Client, NotPicked, Opened, Pick, Picker};
    pub use crate::model::standing::{FailurePolicy, Outcome};
}

/// Virtual services and their real servers.
pub mod service {
    pub use crate::model::id::{ServerId, ServerRef, ServiceId};
    pub use crate::model::key::ServiceKey;
    pub use crate::model::persistence::{MAX_CALL_ID, Mask, Persistence, PersistenceEngine};
    pub use crate::model::server::{Server, ServerConfig, Weight};
    pub use crate::store::SchedulerOf;
    pub use crate::store::service::{Service, ServiceConfig};
}

/// Counters and rates.
pub mod stats {
    pub use crate::model::counters::Counters;
    pub use crate::model::meter::{Meter, Rates};
    pub use crate::model::traffic::Traffic;
}

/// Look-up tables of hashing schedulers that are made ahead of the change that needs them.
pub mod tables {
    pub use crate::sched::prebuilt::{PrebuiltTable, TableBuilder};
    pub use crate::sched::server_list::{Build, Member, ServerList};
}

/// The README's program is compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
