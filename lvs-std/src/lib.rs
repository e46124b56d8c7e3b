//! The outside of a Linux Virtual Server director: devices, workers, clock and seed on Linux.
//!
//! [`lvs_core`] decides and [`lvs_forward`] edits; neither does I/O, keeps a clock or draws entropy. This crate
//! does, and holds no policy of theirs.
//!
//! | module | what it is |
//! |---|---|
//! | [`device`] | ports: packet sockets, TUN and TAP, an in-memory pair, captures; wrappers that record or disturb |
//! | [`worker`] | a thread's loop over devices, with commands in, events and numbers out |
//! | [`offload`] | bulk TCP past a worker, inside the kernel and in the director's charge |
//! | [`control`] | the commands of ipvsadm and keepalived: the netlink family IPVS, at a socket of its own |
//! | `ownership` | who owns state file, sockets and interfaces: taken first, by one process (feature `control`) |
//! | `exec` | unmodified programs led to a director: `director exec` (feature `exec`) |
//! | `ipvsadm` | ipvsadm's command line, listings and save format (feature `ipvsadm`) |
//! | `config` | a director's configuration: from a file's text to typed values (feature `config`) |
//! | [`health`] | checkers on a thread of their own, and what a service makes of their answers |
//! | [`steering`] | which of several workers a packet belongs to |
//! | [`cpu`] | what depends on processor and memory: prefetching, vector instructions, large pages, pinned threads |
//! | `runtime` | a whole director at work from a configuration: what `director run` is (feature `runtime`) |
//! | `real_server` | a real server made ready for a method, and as it was before (feature `realserver`) |
//! | `doctor` | what is wrong with a director's surroundings (feature `doctor`) |
//! | [`trace`] | what became of packets, recorded while they pass |
//! | [`filter`], [`describe`] | flows and filters as people write them; frames in words |
//! | `metrics` | a running director's numbers for Prometheus (feature `runtime`; by HTTP, feature `metrics`) |
//! | [`Clock`], [`random_seed`] | the only makers of ticks and seeds |
//! | [`lab`] | networks of namespaces inside one process, for tests and demonstrations |
//!
//! # Features
//!
//! Devices, steering and workers are there by themselves. Two features are on by default: `links` is what is said by
//! netlink ([`HostAddresses`], address filters that follow them, [`device::guard`]), `signals` stops workers on SIGINT
//! and SIGTERM. `control` adds the commands and their journal, `health` the
//! checkers and `health-tls` those by TLS, `config` the configuration file, `runtime` a whole director from one,
//! `metrics` its numbers for Prometheus, `ipvsadm` that program's language, `exec` leads other programs to a director,
//! `realserver` makes real servers ready, `doctor` finds what is wrong, and `lab` the networks of namespaces.
//!
//! All unsafe code is below `sys`, which wraps what the kernel offers; nothing of it is public.
//!
//! # A director at work
//!
//! 1. Describe the director as a host: ports, addresses, routes ([`lvs_forward::host::Host`]).
//! 2. Open a device for each port, in the same order.
//! 3. Give both to a [`Worker`](worker::Worker) and let it run on a thread.
//! 4. Give a [`Controller`](control::Controller) its [`Handle`](worker::Handle), and submit commands: services,
//!    servers, switches, listings.
//!
//! Here the devices are in memory; with [`device::packet::open`] the same program serves an interface.
//!
//! ```
//! use lvs_core::{Config, Director, Heap};
//! use lvs_forward::host::{Host, Port};
//! use lvs_forward::{Forwarder, Options};
//! use lvs_std::control::{Controller, NoDaemons, ServerSpec, ServiceName, ServiceSpec, TableCommand, method};
//! use lvs_std::device::pair;
//! use lvs_std::worker::{End, Worker, WorkerOptions};
//!
//! // A director with one link.
//! let seed = lvs_std::random_seed()?;
//! let mut host: Host = Host::new(seed);
//! let port = host.add_port(Port::ethernet("02:00:00:00:00:01".parse()?, 1500))?;
//! host.add_address(port, "10.0.0.254".parse()?, 24)?;
//! host.add_virtual_address("10.0.0.100".parse()?)?;
//! let forwarder = Box::new(Forwarder::new(host, Options::new()));
//! let store: Heap = Heap::with_capacity(10_000);
//! let director = Director::new(Config::new(seed), store);
//!
//! // The other end of its cable stays with us.
//! let (device, mut cable) = pair(&Default::default())?;
//! let (mut worker, handle, events) =
//!     Worker::new(director, forwarder, vec![device], WorkerOptions::default())?;
//! let thread = std::thread::spawn(move || worker.run());
//!
//! let mut controller = Controller::new(handle.clone(), Box::new(NoDaemons));
//! let web = ServiceName::tcp("10.0.0.100:80".parse()?);
//! controller.submit(TableCommand::NewService(web, ServiceSpec::new(web.family(), "wlc")))?;
//! let server = ServerSpec::new(method::DIRECT, 1);
//! controller.submit(TableCommand::NewServer(web, "10.0.0.11:80".parse()?, server))?;
//!
//! // Who has 10.0.0.100? (RFC 826)
//! let mut question = vec![0xff; 6];
//! question.extend([2, 0, 0, 0, 0, 7, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
//! question.extend([2, 0, 0, 0, 0, 7, 10, 0, 0, 7, 0, 0, 0, 0, 0, 0, 10, 0, 0, 100]);
//! cable.send(&question)?;
//! let answer = loop {
//!     if let Some(frame) = cable.drain()?.pop() {
//!         break frame;
//!     }
//! };
//! assert_eq!(answer[22..28], [2, 0, 0, 0, 0, 1], "the director has it");
//!
//! handle.stop();
//! assert_eq!(thread.join().unwrap(), End::Stopped);
//! assert!(events.try_recv().is_err(), "nobody connected");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Runs on Linux 4.20 or newer. Minimum supported Rust version: 1.90.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "lvs-std is built on what Linux alone has (packet rings, AF_XDP, BPF, rtnetlink): on other systems use lvs-core \
     and lvs-forward, which need no system at all"
);

mod bpf;
mod clock;
#[cfg(feature = "config")]
pub mod config;
#[cfg(feature = "control")]
pub mod control;
pub mod cpu;
pub mod describe;
pub mod device;
#[cfg(feature = "doctor")]
pub mod doctor;
#[cfg(feature = "exec")]
pub mod exec;
pub mod filter;
#[cfg(feature = "health")]
pub mod health;
#[cfg(feature = "health")]
mod ip_packet;
#[cfg(feature = "ipvsadm")]
pub mod ipvsadm;
#[cfg(feature = "lab")]
pub mod lab;
#[cfg(feature = "runtime")]
pub mod metrics;
pub mod offload;
#[cfg(feature = "control")]
pub mod ownership;
#[cfg(feature = "realserver")]
pub mod real_server;
#[cfg(feature = "runtime")]
pub mod runtime;
mod seconds;
mod seed;
pub mod steering;
mod sys;
pub mod text;
pub mod trace;
mod tunnel_end;
pub mod worker;

pub use clock::Clock;
pub use seconds::{NoTime, Seconds};
pub use seed::random_seed;
#[cfg(feature = "links")]
pub use sys::host_addresses::HostAddresses;
pub use tunnel_end::{Inner, TunnelEnd, TunnelEndCounters};

/// The README's program is compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
