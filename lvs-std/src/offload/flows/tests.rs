use core::net::Ipv4Addr;

use lvs_core::{Content, Method, Path, Protocol, ServerId, TcpFlags};

use super::*;
use crate::offload::maps::key;
use crate::offload::route::Head;

pub(in crate::offload) const PORT: PortId = PortId(0);
pub(in crate::offload) const NEXT: MacAddress = MacAddress([2, 0, 0, 0, 0, 11]);
pub(in crate::offload) const MTU: u16 = 1_500;

fn key(number: u8) -> Key {
    [number; key::LEN]
}

/// The requests of a connection with direct routing; answers come back only if it is said how they are found.
pub(in crate::offload) fn rule(number: u8, answers: Option<Key>) -> FlowRule {
    let mut before: Head = [0; size_of::<Head>()];
    before[..24]
        .copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6]);
    before[47] = 0x10;
    let mut after = before;
    after[..6].copy_from_slice(&NEXT.0);
    after[22] = 63;
    after[24] = 1;
    let client = (Ipv4Addr::new(192, 0, 2, number), 40_000).into();
    let service = (Ipv4Addr::new(192, 0, 2, 100), 80).into();
    let flow = lvs_core::Flow::new(Protocol::Tcp, client, service).expect("one family");
    FlowRule {
        forward: Forward {
            direction: Direction::Request,
            method: Method::Direct,
            target: service,
            connection: ConnId::from_index(number.into()),
            server: ServerId::from_index(0),
            helper: None,
        },
        packet: Packet::new(flow, Content::Tcp(TcpFlags::ACK), 0),
        key: key(number),
        answers,
        route: Route::learn(&before, &after, false).expect("a hop less"),
        hop: client.ip(),
        port: PORT,
        interface: 1,
        mtu: MTU,
    }
}

/// Flows of two connections, synced as a director does that agrees with everything.
struct Shown {
    maps: Maps,
    flows: Flows,
    counters: FlowOffloadCounters,
}

impl Shown {
    fn new(answers: Option<Key>) -> Self {
        let (maps, mut flows) = (Maps::simulated(2), Flows::new(2));
        for number in [0, 1] {
            assert!(flows.has_room());
            flows.install(Tick::ZERO, &maps, rule(number, answers)).expect("there is room");
        }
        assert!(!flows.has_room() && maps.is_in_use());
        Self { maps, flows, counters: FlowOffloadCounters::default() }
    }

    fn add(&self, flow: usize, word: i16, count: u64) {
        self.maps.cells()[flow][word as usize / 8].fetch_add(count, Ordering::Relaxed);
    }

    /// What is wanted afterwards.
    fn sync_counters(&mut self, millis: u64) -> Vec<Key> {
        let (now, mut wanted) = (Tick::ZERO.plus_millis(millis), Vec::new());
        let agree =
            |packet: &Packet, _: &Forward, _, _| (packet.path == Path::Local).then_some((PORT, NEXT, MTU));
        let Self { maps, flows, counters } = self;
        flows.sync_counters(now, 2, maps, counters, agree, |key| wanted.push(key));
        flows.forget(now, maps, counters, agree);
        wanted
    }
}

#[test]
fn what_is_left_out_and_never_comes_ends_all() {
    let mut installed = Shown::new(None);
    for at in 1..=3 {
        // One is always on its way from one program to the other.
        installed.add(0, cell::LEFT_OUT, 10);
        installed.add(0, cell::REQUESTS, if at == 1 { 9 } else { 10 });
        installed.sync_counters(100 * at);
        assert_eq!(
            (installed.flows.len(), installed.counters.packets, installed.counters.lost),
            (2, 10 * at - 1, 0)
        );
    }
    installed.add(0, cell::LEFT_OUT, LOST - 1);
    installed.sync_counters(400);
    assert_eq!((installed.flows.len(), installed.counters.lost), (2, 0), "so many may be on their way");
    installed.add(0, cell::LEFT_OUT, 1);
    installed.sync_counters(500);
    assert_eq!(installed.counters.lost, LOST + 1);
    installed.sync_counters(600);
    assert_eq!(installed.flows.len(), 0, "the other one neither");
    assert!(!installed.maps.is_in_use(), "the programs need not look");
    // Their cells are free again when nobody can be at work with them.
    installed.sync_counters(800);
    assert!(installed.flows.has_room() && installed.flows.is_empty());
}

#[test]
fn bytes_that_come_after_their_packet_count() {
    let mut installed = Shown::new(None);
    installed.add(1, cell::REQUESTS, 1);
    installed.sync_counters(100);
    installed.add(1, cell::REQUESTS + 8, 1_500);
    installed.sync_counters(200);
    assert_eq!((installed.counters.packets, installed.counters.bytes), (1, 1_500));
}

#[test]
fn what_is_closed_stays_closed() {
    let mut installed = Shown::new(None);
    installed.flows.close(&installed.maps);
    assert!(!installed.maps.is_in_use());
    installed.sync_counters(100);
    assert_eq!(
        (installed.flows.len(), installed.maps.is_in_use()),
        (2, false),
        "synchronisation a last time opens nothing"
    );
}

#[test]
fn answers_are_wanted_until_they_are_shown() {
    let mut installed = Shown::new(Some(key(9)));
    assert!(installed.sync_counters(100).is_empty(), "nothing passes");
    for at in 2..=5 {
        installed.add(1, cell::REQUESTS, 1);
        assert_eq!(installed.sync_counters(100 * at), [key(9)]);
    }
    let mut answers = rule(1, None);
    answers.forward.direction = Direction::Reply;
    answers.key = key(9);
    installed.flows.install(Tick::ZERO, &installed.maps, answers).expect("the connection has a cell");
    installed.add(1, cell::REQUESTS, 1);
    assert!(installed.sync_counters(600).is_empty());
}
