//! The editing half of a Linux Virtual Server director: frames in, the same frames out, rewritten and addressed.
//!
//! A program lends a [`Forwarder`] frames and tells it the time; it asks a [`Director`](lvs_core::Director) where each
//! packet goes, and carries that out in place: NAT both ways, direct routing, tunnels. To its neighbours it is a host
//! of its own, with link-layer and IP addresses, that answers ARP, neighbour solicitations and pings. What it never
//! does: I/O, read a clock, draw entropy, allocate, copy a packet to forward it, or panic. It is `no_std` and free of
//! unsafe code.
//!
//! ```text
//!          ┌ ARP, NDP, ping ----------- host -------------------┐
//!  Frame --┤                                                    ├-> Outcome: Send, Pieces, Pass, Drop, Consumed
//!          └ parse ─> Packet ─> Director ─> Verdict ─> apply ───┘               │
//!               Layout          (lvs-core)              │ route, TTL, size      └ output::pieces, for devices
//!                                                       | NAT, DR, TUN           that take no merged or long frames
//!                                                       │ next hop
//!                                                       └ or an ICMP error, in place
//! ```
//!
//! Packets that need no thought (whole TCP and UDP packets of known connections to known neighbours) take a short way
//! with the same result.
//!
//! # The run loop
//!
//! 1. Take up to [`BATCH`](lvs_core::batch::BATCH) frames from a device, each with [`HEADROOM`] free bytes before it,
//!    and the time once.
//! 2. [`Forwarder::process_batch`]. Send what is to be sent by [`Frame::port`]; through [`output::pieces`] where the
//!    device does not take a frame as it is. A datagram that came in [fragments](reassembly) is
//!    [taken](Forwarder::take) for that first.
//! 3. [`Forwarder::poll_transmit`] until it is `None`: questions for neighbours, packets that waited for the answers,
//!    announcements, and what has to be said of datagrams that never became whole.
//! 4. When nothing comes in: 3 again when [`Forwarder::poll_at`] says so, and the sweep when
//!    [`Director::poll_at`](lvs_core::Director::poll_at) does.
//!    [`Director::sweep`](lvs_core::Director::sweep) is the loop's business too.
//!
//! The [`engine`] is this loop without threads and waiting, over a small trait that sends frames; a program that wants
//! nothing special uses that.
//!
//! ```
//! use lvs_core::*;
//! use lvs_forward::host::{Host, Port};
//! use lvs_forward::{Forwarder, Frame, HEADROOM, Options, Outcome, PortId};
//!
//! let seed = Seed::from_bytes([7; 16]);
//! let mut director = Director::new(Config::new(seed), Heap::with_capacity(1 << 16));
//! let web = ServiceKey::tcp("10.99.0.1".parse()?, 80);
//! director.add_service(web, ServiceConfig::new(Scheduler::from_name("wlc").unwrap()))?;
//! director.add_server(web, ServerConfig::new("10.0.1.11:8080".parse()?, Method::Nat))?;
//!
//! let mut host: Host = Host::new(seed);
//! let port = host.add_port(Port::ethernet("02:00:00:00:00:01".parse()?, 1500))?;
//! host.add_address(port, "10.0.1.254".parse()?, 24)?;
//! host.add_virtual_address("10.99.0.1".parse()?)?;
//! host.add_neighbour(port, "10.0.1.11".parse()?, "02:00:00:00:01:11".parse()?)?;
//! let mut forwarder = Forwarder::new(host, Options::new());
//!
//! // A client's SYN, as a device lends it.
//! let syn = [
//!     2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0xaa, 8, 0, // Ethernet
//!     0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0x6e, 0x65, 192, 0, 2, 7, 10, 99, 0, 1, // IPv4
//!     0x9c, 0x40, 0, 80, 0, 0, 3, 0xe8, 0, 0, 0, 0, 0x50, 2, 0xfa, 0xf0, 0x58, 0x26, 0, 0, // TCP
//! ];
//! let mut buffer = [[0; HEADROOM].as_slice(), &syn].concat();
//! let end = buffer.len();
//! let mut frame = Frame::new(&mut buffer, HEADROOM, end, port).unwrap();
//!
//! assert_eq!(forwarder.process(&mut director, Tick::ZERO, &mut frame), Outcome::Send);
//! assert_eq!(frame.bytes()[..6], [2, 0, 0, 0, 1, 0x11], "to the real server's link-layer address");
//! assert_eq!(frame.bytes()[30..34], [10, 0, 1, 11], "and to its IP address");
//! assert_eq!(frame.bytes()[36..38], 8080_u16.to_be_bytes(), "and port");
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # Where things are
//!
//! * Bytes: [`Frame`], and what a device left unfinished about it: [`Offload`]. Every edit keeps that true, so partial
//!   checksums and merged frames (GSO, GRO) stay what they are.
//! * The whole way: [`Forwarder`], [`Options`], [`Outcome`]; every drop has a [`DropReason`], every pass a
//!   [`PassReason`], both with [`Counters`].
//! * The host on the wire: module [`host`]. Parsing: [`parse`](mod@parse). Rewriting alone: [`method`], [`icmp`],
//!   [`checksum`]. Cutting: [`output`].
//! * Datagrams in fragments ([`reassembly`]), and the helper for FTP ([`alg::ftp`]): both need memory, which the
//!   program gives in the beginning.
//! * The other end of a tunnel, at the real server: [`Decapsulator`].
//!
//! # What it does not do
//!
//! * Write IPv4 timestamp options, which need the time of day.
//! * Join groups (MLD, IGMP): a switch that snoops must flood `ff02::/16`.
//! * Learn an IPv6 path's MTU inside a tunnel. IPVS does not either.
//!
//! The forwarder follows IPVS (Linux 6.1.192), frame by frame in recordings, with these exceptions:
//!
//! * When a router inside a tunnel asks for smaller packets, the client is told the right size at once. Linux's first
//!   message still has the size of its own link.
//! * A datagram leaves in the pieces that it came in, if it may. Linux puts small ones together in what is left of the
//!   first one's buffer, which depends on the device that they came by.
//! * A real server whose fragments forbid their fragmentation is told so by the director, by Linux from the virtual
//!   address.
//! * A reply 227 of FTP that names another host than the server itself is left as it is.
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
// What is left out leaves helpers behind that nobody calls. A build with everything shows what is of no use at all.
#![cfg_attr(not(feature = "full"), allow(dead_code, unused_imports))]

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod alg;
pub mod checksum;
#[cfg(feature = "tunnel")]
mod decap;
pub mod engine;
mod forwarder;
mod frame;
mod hash;
mod header;
pub mod host;
pub mod icmp;
mod memory;
pub mod method;
mod offload;
mod outcome;
pub mod output;
pub mod parse;
mod reason;
#[cfg(feature = "fragments")]
pub mod reassembly;
#[cfg(not(feature = "fragments"))]
#[expect(unreachable_pub, reason = "it is public where it is of use")]
mod reassembly;
pub mod sync;

#[cfg(feature = "tunnel")]
pub use decap::{DecapReason, Decapsulator, GUE_PORT, Unwrapped};
#[cfg(feature = "alloc")]
pub use forwarder::Rehearsed;
#[cfg(feature = "fragments")]
pub use forwarder::Taken;
pub use forwarder::{
    Forwarder, ForwarderArrays, ForwarderMemory, ForwarderSizes, LocalTraffic, Options, PortSet,
};
pub use frame::{Checksum, Frame, HEADROOM, Merged, MergedKind, Offload, Offloads, PortId};
pub use header::edit::decrement_ttl;
pub use header::layout::{Fragment, Layout};
pub use offload::complete_checksum;
pub use outcome::{Datagram, Outcome};
pub use reason::{Counters, DropReason, PassReason};

/// The README's program is compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
