//! The whole way of a packet of a known connection: parse, decide, rewrite, address; in batches as workers have them.

use core::hint::black_box;
use core::sync::atomic::{Ordering, fence};
use core::time::Duration;
use std::time::Instant;

use lvs_core::batch::BATCH;
use lvs_core::{Family, Method, Tick, Tunnel};
use lvs_forward::{DropReason, Outcome};

use super::floor::Floor;
use super::frames::frame;
use super::median;
use super::report::{Row, rounded};
use super::world::World;

/// A way of packets.
#[derive(Clone, Copy)]
pub(super) struct Way {
    name: &'static str,
    family: Family,
    method: Method,
    reply: bool,
}

const fn way(name: &'static str, family: Family, method: Method, reply: bool) -> Way {
    Way { name, family, method, reply }
}

const IPIP: Method = Method::Tunnel(Tunnel::IpIp);
pub(super) const DIRECT: Way = way("dr", Family::V4, Method::Direct, false);
pub(super) const NAT: Way = way("nat", Family::V4, Method::Nat, false);
pub(super) const NAT_REPLY: Way = way("nat-reply", Family::V4, Method::Nat, true);
pub(super) const TUNNEL: Way = way("tun", Family::V4, IPIP, false);
pub(super) const DIRECT_V6: Way = way("dr6", Family::V6, Method::Direct, false);
pub(super) const NAT_V6: Way = way("nat6", Family::V6, Method::Nat, false);
pub(super) const NAT_REPLY_V6: Way = way("nat6-reply", Family::V6, Method::Nat, true);
pub(super) const TUNNEL_V6: Way = way("tun6", Family::V6, IPIP, false);

/// Packets of flows drawn at random among so many.
pub(super) fn rows(way: Way, flows: u32, aim: Option<f64>) -> Vec<Row> {
    let mut world = World::of(way.family, flows, way.method);
    world.fill(flows, Tick::ZERO);
    let mut floor = Floor::new(flows as usize * BYTES_TOUCHED);
    let (mut measured, mut floors) = (Vec::new(), Vec::new());
    // Caches, branch prediction and clock rate come to what they are under load, so that it does not matter which row
    // is first.
    let start = Instant::now();
    while start.elapsed() < WARM_UP {
        nanoseconds(&mut world, way.reply, BATCHES);
    }
    for _ in 0..RUNS {
        measured.push(nanoseconds(&mut world, way.reply, BATCHES));
        floors.push(floor.nanoseconds(BATCHES, BATCH, ACCESSES));
    }
    let (nanoseconds, floor) = (median(measured), median(floors));
    let label = format!("{}, {flows} flows, batches of {BATCH}, per packet", way.name);
    let json = serde_json::json!({
        "method": way.name, "flows": flows, "batch": BATCH,
        "ns_per_packet": rounded(nanoseconds), "floor_ns": rounded(floor),
    });
    vec![Row { label, value: nanoseconds, unit: "ns", floor: Some(floor), aim, json }]
}

/// Nanoseconds per packet, the median of so many batches, without the time to make them: frames are edited in place,
/// so each batch needs new ones. Reading the clock adds about 1 ns per packet.
pub(super) fn nanoseconds(world: &mut World, reply: bool, batches: usize) -> f64 {
    let mut took = Vec::with_capacity(batches);
    let mut sent = 0;
    for _ in 0..batches {
        let mut buffers = world.frames(reply);
        // What it took to write the frames is over before the time begins.
        fence(Ordering::SeqCst);
        let start = Instant::now();
        let mut frames = buffers.each_mut().map(|buffer| frame(buffer).expect("it fits its buffer"));
        let mut outcomes = [Outcome::Drop(DropReason::Malformed); BATCH];
        world.forwarder.process_batch(&mut world.director, Tick::ZERO, black_box(&mut frames), &mut outcomes);
        took.push(start.elapsed().as_nanos() as f64 / BATCH as f64);
        sent += black_box(outcomes).iter().filter(|outcome| **outcome == Outcome::Send).count();
    }
    assert_eq!(sent, batches * BATCH, "every frame of the bench belongs to a connection");
    median(took)
}

/// How long each row works before it is measured.
const WARM_UP: Duration = Duration::from_millis(500);
const RUNS: usize = 9;
const BATCHES: usize = 8_192;
/// A packet of a known connection reads a cell of the index and edits a slot.
const ACCESSES: usize = 2;
/// Of the bytes per connection, those that packets touch: its cells of 8 bytes, and the slot.
const BYTES_TOUCHED: usize = 87;
