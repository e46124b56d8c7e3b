//! No allocation per packet.

#[path = "../support/counting.rs"]
mod counting;

use lvs_core::Method;
use lvs_std::device::{Device, PairOptions};
use lvs_std::worker::Worker;

use crate::group::Pair;
use crate::world::{Segment, World};

#[test]
fn turns_of_a_worker_do_not_allocate() {
    let World { mut worker, mut client, mut server, .. } = World::new(Method::Nat, &PairOptions::default());
    allocates_nothing(&mut worker, &mut client, &mut server);
}

#[test]
fn turns_of_one_of_two_workers_do_not_allocate() {
    let mut pair = Pair::new();
    allocates_nothing(&mut pair.workers[0], &mut pair.clients[0], &mut pair.servers[0]);
}

fn allocates_nothing(worker: &mut Worker, client: &mut Device, server: &mut Device) {
    let count = |device: &mut Device| {
        let mut count = 0;
        let mut judge = |frames: &mut [lvs_forward::Frame<'_>]| count += frames.len();
        while device.receive.receive(lvs_forward::PortId(0), &mut judge).unwrap() > 0 {}
        count
    };
    let (mut requests, mut replies) = (0, 0);
    for round in 0..50u16 {
        for port in 0..20 {
            // New connections in each round, and an old one.
            let port = if port == 0 { 30_000 } else { 40_000 + round * 20 + port };
            client.send(&Segment::syn(port).bytes()).unwrap();
            server.send(&Segment::reply(port).bytes()).unwrap();
        }
        let before = counting::allocations();
        while worker.turn() > 0 {}
        assert_eq!(counting::allocations() - before, 0, "round {round}");
        requests += count(server);
        replies += count(client);
    }
    assert_eq!((requests, replies), (1_000, 1_000));
}
