use core::net::Ipv4Addr;

use lvs_core::{Content, Method, Path, Protocol, ServerId, TcpFlags};

use super::*;
use crate::shortcut::maps::key;
use crate::shortcut::route::Head;

pub(in crate::shortcut) const PORT: PortId = PortId(0);
pub(in crate::shortcut) const NEXT: MacAddress = MacAddress([2, 0, 0, 0, 0, 11]);
pub(in crate::shortcut) const MTU: u16 = 1_500;

/// Maps for two connections; `None` where this process may not make any, which is an error if `LVS_REQUIRE_XDP` is 1.
fn maps() -> Option<Maps> {
    let required = std::env::var_os("LVS_REQUIRE_XDP").is_some_and(|value| value == "1");
    match Maps::new(2) {
        Ok(maps) => Some(maps),
        Err(error) => {
            assert!(!required, "BPF is refused: {error}");
            eprintln!("NOT TESTED: BPF is refused ({error}); run as root of the machine itself");
            None
        }
    }
}

fn key(number: u8) -> Key {
    [number; key::LEN]
}

/// The requests of a connection with direct routing; answers come back only if it is said how they are found.
pub(in crate::shortcut) fn lesson(number: u8, answers: Option<Key>) -> Lesson {
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
    Lesson {
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

/// Flows of two connections, settled as a director does that agrees with everything.
struct Shown {
    maps: Maps,
    flows: Flows,
    counters: ShortcutCounters,
}

impl Shown {
    fn new(answers: Option<Key>) -> Option<Self> {
        let (maps, mut flows) = (maps()?, Flows::new(2));
        for number in [0, 1] {
            assert!(flows.has_room());
            flows.show(Tick::ZERO, &maps, lesson(number, answers)).expect("there is room");
        }
        assert!(!flows.has_room() && maps.is_in_use());
        Some(Self { maps, flows, counters: ShortcutCounters::default() })
    }

    fn add(&self, flow: usize, word: i16, count: u64) {
        self.maps.cells.all()[flow][word as usize / 8].fetch_add(count, Ordering::Relaxed);
    }

    /// What is wanted afterwards.
    fn settle(&mut self, millis: u64) -> Vec<Key> {
        let (now, mut wanted) = (Tick::ZERO.plus_millis(millis), Vec::new());
        let agree =
            |packet: &Packet, _: &Forward, _, _| (packet.path == Path::Local).then_some((PORT, NEXT, MTU));
        let Self { maps, flows, counters } = self;
        flows.settle(now, 2, maps, counters, agree, |key| wanted.push(key));
        flows.forget(now, maps, counters, agree);
        wanted
    }
}

#[test]
fn what_is_left_out_and_never_comes_ends_all() {
    let Some(mut shown) = Shown::new(None) else { return };
    for at in 1..=3 {
        // One is always on its way from one program to the other.
        shown.add(0, cell::LEFT_OUT, 10);
        shown.add(0, cell::REQUESTS, if at == 1 { 9 } else { 10 });
        shown.settle(100 * at);
        assert_eq!((shown.flows.len(), shown.counters.packets, shown.counters.lost), (2, 10 * at - 1, 0));
    }
    shown.add(0, cell::LEFT_OUT, LOST - 1);
    shown.settle(400);
    assert_eq!((shown.flows.len(), shown.counters.lost), (2, 0), "so many may be on their way");
    shown.add(0, cell::LEFT_OUT, 1);
    shown.settle(500);
    assert_eq!(shown.counters.lost, LOST + 1);
    shown.settle(600);
    assert_eq!(shown.flows.len(), 0, "the other one neither");
    assert!(!shown.maps.is_in_use(), "the programs need not look");
    // Their cells are free again when nobody can be at work with them.
    shown.settle(800);
    assert!(shown.flows.has_room() && shown.flows.is_empty());
}

#[test]
fn bytes_that_come_after_their_packet_count() {
    let Some(mut shown) = Shown::new(None) else { return };
    shown.add(1, cell::REQUESTS, 1);
    shown.settle(100);
    shown.add(1, cell::REQUESTS + 8, 1_500);
    shown.settle(200);
    assert_eq!((shown.counters.packets, shown.counters.bytes), (1, 1_500));
}

#[test]
fn what_is_closed_stays_closed() {
    let Some(mut shown) = Shown::new(None) else { return };
    shown.flows.close(&shown.maps);
    assert!(!shown.maps.is_in_use());
    shown.settle(100);
    assert_eq!((shown.flows.len(), shown.maps.is_in_use()), (2, false), "settling a last time opens nothing");
}

#[test]
fn answers_are_wanted_until_they_are_shown() {
    let Some(mut shown) = Shown::new(Some(key(9))) else { return };
    assert!(shown.settle(100).is_empty(), "nothing passes");
    for at in 2..=5 {
        shown.add(1, cell::REQUESTS, 1);
        assert_eq!(shown.settle(100 * at), [key(9)]);
    }
    let mut answers = lesson(1, None);
    answers.forward.direction = Direction::Reply;
    answers.key = key(9);
    shown.flows.show(Tick::ZERO, &shown.maps, answers).expect("the connection has a cell");
    shown.add(1, cell::REQUESTS, 1);
    assert!(shown.settle(600).is_empty());
}
