//! Two workers as one director, turned by hand: what they hand to each other, and what they say together.

use core::net::IpAddr;

use lvs_core::conn::Connection;
use lvs_core::{Method, Seed, Tick};
use lvs_std::control::{CommandError, Controller, Errno, NoDaemons};
use lvs_std::device::{Device, PairOptions};
use lvs_std::steering::{By, Steer};
use lvs_std::worker::{Worker, WorkerGone, WorkerGroup};

use crate::world::{CLIENT, CLIENT_MAC, MACS, SERVER, Segment, VIP, World, see};

/// The workers with the other ends of their links: clients' and servers'.
pub(crate) struct Pair {
    pub(crate) workers: Vec<Worker>,
    pub(crate) clients: Vec<Device>,
    pub(crate) servers: Vec<Device>,
    pub(crate) group: WorkerGroup,
    steer: Steer,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let steer = Steer::new(Seed::from_bytes([9; 16]), 2, By::Endpoint);
        let (mut workers, mut handles) = (Vec::new(), Vec::new());
        let (mut clients, mut servers) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let World { worker, handle, client, server, .. } =
                World::new(Method::Nat, &PairOptions::default());
            workers.push(worker);
            handles.push(handle);
            clients.push(client);
            servers.push(server);
        }
        let group = WorkerGroup::new(&mut workers, handles, steer, vec![]);
        Self { workers, clients, servers, group, steer }
    }

    /// A port of the client's that this worker has.
    fn port_of(&self, worker: usize) -> u16 {
        let mut ports = 40_000..41_000;
        ports.find(|port| self.steer.owner_of(CLIENT.into(), *port) == worker).expect("some are each one's")
    }

    /// Lets both work until nothing is left.
    fn turn(&mut self) {
        while self.workers.iter_mut().map(Worker::turn).sum::<usize>() > 0 {}
    }
}

fn arp_request(last: u8) -> Vec<u8> {
    let mac = [2, 0, 0, 0, 7, last];
    let header = [&[0xff; 6][..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
    [&header[..], &mac, &[192, 0, 2, last], &[0; 6], &VIP.octets(), &[0; 18]].concat()
}

#[test]
fn neighbours_are_known_to_both_workers_and_answered_by_the_first() {
    let mut pair = Pair::new();
    pair.clients[0].send(&arp_request(33)).unwrap();
    pair.turn();
    let answers = pair.clients[0].drain().unwrap();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0][..6], [2, 0, 0, 0, 7, 33]);
    assert_eq!(pair.clients[1].drain().unwrap().len(), 0, "one answer is enough");
    let known =
        |worker: &mut Worker| worker.forwarder().host_mut().look_for(Tick::ZERO, [192, 0, 2, 33].into());
    assert!(pair.workers.iter_mut().all(known));
    let answers: u64 = pair.workers.iter_mut().map(|worker| worker.forwarder().counters().answers).sum();
    assert_eq!(answers, 1);
}

#[test]
fn workers_ask_for_a_neighbour_once_and_all_hear_the_answer() {
    let mut pair = Pair::new();
    let stranger = IpAddr::from([10, 0, 1, 44]);
    for worker in &mut pair.workers {
        worker.forwarder().host_mut().look_for(Tick::ZERO, stranger);
    }
    pair.turn();
    let mut asked = Vec::new();
    for server in &mut pair.servers {
        asked.extend(server.drain().unwrap());
    }
    assert_eq!(asked.len(), 1, "the other worker waits for the answer to the first one's");
    assert_eq!(asked[0][38..42], [10, 0, 1, 44]);
    // The kernel leaves answers to the first worker.
    let mac = [2, 0, 0, 0, 1, 44];
    let header = [&MACS[1][..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]].concat();
    let answer = [&header[..], &mac, &[10, 0, 1, 44], &MACS[1], &[10, 0, 1, 254], &[0; 18]].concat();
    pair.servers[0].send(&answer).unwrap();
    pair.turn();
    for worker in &mut pair.workers {
        assert!(worker.forwarder().host_mut().look_for(Tick::ZERO, stranger), "each worker knows it now");
    }
}

#[test]
fn an_error_is_translated_by_the_worker_that_has_the_connection() {
    let mut pair = Pair::new();
    let port = pair.port_of(1);
    pair.clients[1].send(&Segment::syn(port).bytes()).unwrap();
    pair.turn();
    let sent = pair.servers[1].drain().unwrap();
    assert_eq!(see(&sent[0]).to, (SERVER, 8_080));
    // The server's kernel says that it is unreachable, and the kernel's program leaves that to the first worker.
    let quoted = &sent[0][14..42];
    let mut icmp = [&[3, 1, 0, 0, 0, 0, 0, 0], quoted].concat();
    let sum: u32 = icmp.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut error = Vec::new();
    etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 1, 11], MACS[1])
        .ipv4(SERVER.octets(), CLIENT.octets(), 64)
        .write(&mut error, etherparse::IpNumber::ICMP, &icmp)
        .unwrap();
    pair.servers[0].send(&error).unwrap();
    pair.turn();
    assert_eq!(pair.clients[0].drain().unwrap().len(), 0);
    let told = pair.clients[1].drain().unwrap();
    assert_eq!(told.len(), 1, "the client hears of it");
    assert_eq!(
        (&told[0][..6], &told[0][58..62]),
        (&CLIENT_MAC[..], &VIP.octets()[..]),
        "as of the virtual address"
    );
}

#[test]
fn post_that_is_not_read_in_time_is_lost_and_counted() {
    let mut pair = Pair::new();
    let mut sent = 0;
    for _ in 0..3 {
        for number in 0..100 {
            pair.clients[0].send(&arp_request(number)).unwrap();
            sent += 1;
        }
        while pair.workers[0].turn() > 0 {}
        pair.clients[0].drain().unwrap();
    }
    for handle in pair.group.handles() {
        handle.stop();
    }
    // What has counted is published at the end.
    for worker in &mut pair.workers {
        let _ = worker.run();
    }
    let counted = pair.group.snapshot().unwrap().worker;
    assert_eq!((counted.handed_over, counted.handed_over + counted.handover_lost), (256, sent));
}

#[test]
fn what_is_told_to_all_is_done_by_each_and_what_they_say_is_joined() {
    let mut pair = Pair::new();
    for worker in 0..2 {
        let port = pair.port_of(worker);
        pair.clients[worker].send(&Segment::syn(port).bytes()).unwrap();
    }
    pair.turn();
    let group = pair.group.clone();
    let threads: Vec<_> =
        pair.workers.into_iter().map(|mut worker| std::thread::spawn(move || worker.run())).collect();
    let numbers = group.with_each(|number, director, _, _| (number, director.counters().live));
    assert_eq!(numbers, Ok(vec![(0, 1), (1, 1)]));
    let controller = Controller::new(group.clone(), Box::new(NoDaemons));
    // The time goes on between two questions.
    let timeless = |mut connection: Connection| {
        connection.expires_in = 0;
        connection
    };
    let timeless_all = |of: Vec<Connection>| of.into_iter().map(timeless).collect::<Vec<_>>();
    let connections = timeless_all(controller.connections().unwrap());
    assert_eq!(connections.len(), 2);
    let first = controller.connections_page(controller.beginning()).unwrap();
    let next = first.next.unwrap();
    assert_eq!(timeless_all(first.connections), connections[..1], "a page is of one worker");
    let second = controller.connections_page(next).unwrap();
    assert_eq!(second.next, None);
    assert_eq!(timeless_all(second.connections), connections[1..]);
    for connection in &connections {
        let found = controller.connection(connection.flow).unwrap().map(timeless);
        assert_eq!(found.as_ref(), Some(connection));
    }
    let other = Controller::new(group.clone(), Box::new(NoDaemons)).beginning();
    assert_eq!(
        controller.connections_page(other),
        Err(CommandError::Refused(Errno::Invalid)),
        "a cursor of another run"
    );
    assert!(connections.iter().all(|connection| connection.flow.source().ip() == CLIENT));
    group.stop();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), lvs_std::worker::End::Stopped);
    }
    assert_eq!(group.snapshot().unwrap().director.live, 2);
    assert_eq!(group.with_each(|_, _, _, _| ()), Err(WorkerGone));
    assert_eq!(group.change_addresses(vec![], vec![]).unwrap_err(), WorkerGone);
    assert_eq!(controller.connections(), Err(WorkerGone));
}

#[test]
fn addresses_change_in_all_and_only_the_first_announces_them() {
    let Pair { workers, mut clients, group, .. } = Pair::new();
    let threads: Vec<_> =
        workers.into_iter().map(|mut worker| std::thread::spawn(move || worker.run())).collect();
    let new = [192, 0, 2, 101].into();
    let done = group.change_addresses(vec![VIP.into()], vec![new, [192, 0, 2, 254].into()]).unwrap();
    assert!(
        matches!(done.as_slice(), [(address, Ok(()))] if *address == new),
        "the own one is there: {done:?}"
    );
    let owned = group
        .with_each(move |_, _, forwarder, _| (forwarder.host().owns(new), forwarder.host().owns(VIP.into())));
    assert_eq!(owned, Ok(vec![(true, false); 2]));
    let announced = crate::world::await_frames(&mut clients[0]);
    assert_eq!(announced[0][12..14], [8, 6], "by ARP");
    group.stop();
    threads.into_iter().for_each(|thread| drop(thread.join()));
    assert_eq!(clients[1].drain().unwrap().len(), 0);
}
