//! A forwarder that is asked when it says so sends the same at the same times as one that is asked all the time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use lvs_core::{
    Config, Director, Heap, Method, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey, Tick,
};
use lvs_forward::checksum::Sum;
use lvs_forward::engine::OWN_BUFFER;
use lvs_forward::host::{Host, MacAddress, Port, Prefix};
use lvs_forward::reassembly::Fragments;
use lvs_forward::{Counters, Forwarder, Frame, HEADROOM, Options, Outcome, PortId};
use proptest::prelude::*;

const OUTSIDE: PortId = PortId(0);
const INSIDE: PortId = PortId(1);
const OWN: [MacAddress; 2] = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 1, 1])];
const GATEWAY: MacAddress = MacAddress([2, 0, 0, 0, 0, 0xaa]);

#[derive(Clone, Debug)]
enum Act {
    /// A client begins a connection to a service, whose server's neighbour may not be known.
    Syn {
        service: u8,
        client: u8,
    },
    /// A server answers the question for its link-layer address, or says it unasked.
    Arp {
        server: u8,
    },
    /// A part of a datagram that never becomes whole.
    Fragment {
        client: u8,
        first: bool,
    },
    /// A server speaks of a connection that nobody knows.
    Stray {
        server: u8,
        client: u8,
    },
    Announce,
    LookFor {
        server: u8,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..3_u8, 1..9_u8).prop_map(|(service, client)| Act::Syn { service, client }),
        2 => (0..3_u8).prop_map(|server| Act::Arp { server }),
        1 => (1..9_u8, any::<bool>()).prop_map(|(client, first)| Act::Fragment { client, first }),
        1 => (0..3_u8, 1..9_u8).prop_map(|(server, client)| Act::Stray { server, client }),
        1 => Just(Act::Announce),
        1 => (0..3_u8).prop_map(|server| Act::LookFor { server }),
    ]
}

/// Milliseconds until an act: now and then so many that neighbours fail, or grow old, and fragments are given up.
fn pause() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 0_u64..5, 3 => 0_u64..3_000, 1 => 0_u64..40_000]
}

fn ipv4(protocol: u8, id: u8, fragment: u16, from: [u8; 4], to: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let total = (20 + payload.len()) as u16;
    let mut header = vec![0x45, 0, 0, 0, 0, id, 0, 0, 64, protocol, 0, 0];
    header.extend(from.into_iter().chain(to));
    header[2..4].copy_from_slice(&total.to_be_bytes());
    header[6..8].copy_from_slice(&fragment.to_be_bytes());
    let sum = Sum::ZERO.bytes(&header).checksum();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [header, payload.to_vec()].concat()
}

fn tcp(from: ([u8; 4], u16), to: ([u8; 4], u16), flags: u8) -> Vec<u8> {
    let mut segment = vec![0; 20];
    segment[..2].copy_from_slice(&from.1.to_be_bytes());
    segment[2..4].copy_from_slice(&to.1.to_be_bytes());
    (segment[12], segment[13]) = (0x50, flags);
    let sum = Sum::pseudo_v4(from.0.into(), to.0.into(), 6, 20).bytes(&segment).checksum();
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    ipv4(6, 7, 0, from.0, to.0, &segment)
}

fn ethernet(to: MacAddress, from: MacAddress, kind: u8, payload: &[u8]) -> Vec<u8> {
    [to.0.as_slice(), &from.0, &[8, kind], payload].concat()
}

impl Act {
    /// The frame that comes in, and where.
    fn frame(&self) -> Option<(PortId, Vec<u8>)> {
        let client = |number: u8| [192, 0, 2, number];
        let server_mac = |server: u8| MacAddress([2, 0, 0, 0, 1, 11 + server]);
        let from_outside = |packet: Vec<u8>| Some((OUTSIDE, ethernet(OWN[0], GATEWAY, 0, &packet)));
        match *self {
            Self::Syn { service, client: number } => {
                from_outside(tcp((client(number), 40_000), ([10, 99, 0, 1 + service], 80), 2))
            }
            Self::Fragment { client: number, first } => {
                let fragment = if first { 0x2000 } else { 0x2002 };
                from_outside(ipv4(17, number, fragment, client(number), [10, 99, 0, 1], &[9; 16]))
            }
            Self::Stray { server, client: number } => {
                let packet = tcp(([10, 0, 1, 11 + server], 8_080), (client(number), 50_000), 0x10);
                Some((INSIDE, ethernet(OWN[1], server_mac(server), 0, &packet)))
            }
            Self::Arp { server } => {
                let mac = server_mac(server).0;
                let reply = [
                    &[0, 1, 8, 0, 6, 4, 0, 2],
                    mac.as_slice(),
                    &[10, 0, 1, 11 + server],
                    &OWN[1].0,
                    &[10, 0, 1, 254],
                ];
                Some((INSIDE, ethernet(OWN[1], server_mac(server), 6, &reply.concat())))
            }
            Self::Announce | Self::LookFor { .. } => None,
        }
    }
}

struct World {
    director: Director<Heap>,
    forwarder: Box<Forwarder>,
    sent: Vec<(Tick, PortId, Vec<u8>)>,
    outcomes: Vec<Outcome>,
    polls: usize,
}

impl World {
    fn new() -> Self {
        let seed = Seed::from_bytes([7; 16]);
        let mut director = Director::new(Config::new(seed), Heap::with_capacity(64));
        let mut host = Host::new(seed);
        for (port, mac) in OWN.into_iter().enumerate() {
            let port_id = host.add_port(Port::ethernet(mac, 1_500)).unwrap();
            host.add_address(port_id, [10, 0, port as u8, 254].into(), 24).unwrap();
        }
        let everywhere = Prefix::new([0, 0, 0, 0].into(), 0).unwrap();
        host.add_route(everywhere, Some([10, 0, 0, 1].into()), OUTSIDE).unwrap();
        host.add_neighbour(OUTSIDE, [10, 0, 0, 1].into(), GATEWAY).unwrap();
        for number in 0..3 {
            let address = [10, 99, 0, 1 + number];
            host.add_virtual_address(address.into()).unwrap();
            let key = ServiceKey::tcp(address.into(), 80);
            director.add_service(key, ServiceConfig::new(Scheduler::from_name("rr").unwrap())).unwrap();
            let server = ([10, 0, 1, 11 + number], 8_080).into();
            director.add_server(key, ServerConfig::new(server, Method::Nat)).unwrap();
        }
        let forwarder = Forwarder::new(host, Options::new()).with_fragments(Fragments::with_room(4));
        Self { director, forwarder: Box::new(forwarder), sent: Vec::new(), outcomes: Vec::new(), polls: 0 }
    }

    fn poll(&mut self, now: Tick) {
        self.polls += 1;
        let mut buffer = [0; OWN_BUFFER];
        while let Some(frame) = self.forwarder.poll_transmit(now, &mut buffer) {
            self.sent.push((now, frame.port, frame.bytes().to_vec()));
        }
    }

    fn act(&mut self, now: Tick, act: &Act) {
        match (act.frame(), act) {
            (Some((port, bytes)), _) => {
                let mut buffer = [[0; HEADROOM].as_slice(), &bytes].concat();
                let end = buffer.len();
                let mut frame = Frame::new(&mut buffer, HEADROOM, end, port).unwrap();
                self.outcomes.push(self.forwarder.process(&mut self.director, now, &mut frame));
                self.sent.push((now, frame.port, frame.bytes().to_vec()));
            }
            (None, Act::LookFor { server }) => {
                self.forwarder.host_mut().look_for(now, [10, 0, 1, 11 + server].into());
            }
            (None, _) => self.forwarder.host_mut().announce_all(now),
        }
    }

    fn counters(&self) -> &Counters {
        self.forwarder.counters()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn asking_when_it_is_due_is_as_good_as_asking_each_millisecond(
        acts in prop::collection::vec((pause(), act()), 1..20),
        start in 1_u64..100_000,
    ) {
        let (mut always, mut asked) = (World::new(), World::new());
        let mut now = Tick::from_millis(start);
        for (pause, act) in acts.into_iter().chain([(40_000, Act::Announce), (5_000, Act::Announce)]) {
            let end = now.plus_millis(pause);
            while now < end {
                always.poll(now);
                now = now.plus_millis(1);
            }
            while let Some(due) = asked.forwarder.poll_at().filter(|&due| due < end) {
                let before = asked.sent.len();
                asked.poll(due);
                let next = asked.forwarder.poll_at();
                prop_assert!(next.is_none_or(|next| next > due), "{:?} after {:?}, {} sent", next, due, before);
            }
            for world in [&mut always, &mut asked] {
                world.act(end, &act);
                world.poll(end);
            }
            prop_assert_eq!(asked.counters(), always.counters(), "after {:?} at {:?}", act, end);
        }
        prop_assert_eq!(&asked.outcomes, &always.outcomes);
        prop_assert_eq!(&asked.sent, &always.sent);
        prop_assert!(asked.polls < always.polls / 100, "{} for {}", asked.polls, always.polls);
    }
}

#[test]
fn a_forwarder_that_rests_has_nothing_to_do_ever() {
    let mut world = World::new();
    assert_eq!(world.forwarder.poll_at(), None);
    let mut now = Tick::from_millis(1_000);
    world.act(now, &Act::Syn { service: 0, client: 1 });
    world.act(now, &Act::Fragment { client: 2, first: true });
    let mut polls = 0;
    while let Some(due) = world.forwarder.poll_at() {
        now = now.max(due);
        world.poll(now);
        polls += 1;
    }
    assert!(now <= Tick::from_millis(32_000), "the fragment is the last to be given up");
    assert!(polls < 10, "{polls} times for three questions and a fragment");
}
