//! The schedulers' decisions, compared with vectors that IPVS's own code produced.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use core::cell::RefCell;
use core::net::SocketAddr;
use std::rc::Rc;

use lvs_core::config::ScheduleFlags;
use lvs_core::sched::Maglev;
use lvs_core::sched::{Change, Pool, Rng, Schedule, TableLen};
use lvs_core::*;
use support::*;

/// A director with one service, whose servers are called A, B, C .. in the order of their numbers.
struct HeapBench {
    director: Director<Heap>,
    next_port: u16,
}

impl HeapBench {
    fn new(name: &str, weights: &[(char, u16)]) -> Self {
        let mut director = Director::new(config(), Heap::with_capacity(4_096));
        director.add_service(WEB, scheduler(name)).unwrap();
        let mut bench = Self { director, next_port: 1_024 };
        for &(letter, weight) in weights {
            bench.add(letter, weight);
        }
        bench
    }

    fn add(&mut self, letter: char, weight: u16) {
        self.director.add_server(WEB, server(number(letter), Method::Nat, weight)).unwrap();
    }

    fn edit(&mut self, letter: char, weight: u16) {
        self.director.edit_server(WEB, server(number(letter), Method::Nat, weight)).unwrap();
    }

    fn remove(&mut self, letter: char) {
        self.director.remove_server(WEB, address(number(letter))).unwrap();
    }

    fn letter(&self, id: ServerId) -> char {
        let SocketAddr::V4(address) = self.director.server(id).unwrap().address() else { panic!() };
        (b'A' + address.ip().octets()[3] - 11) as char
    }

    /// The servers of the next new connections, `-` for none.
    fn picks(&mut self, count: usize) -> String {
        (0..count).map(|_| self.pick([192, 0, 2, 1])).collect()
    }

    fn pick(&mut self, client: [u8; 4]) -> char {
        self.next_port += 1;
        let port = self.next_port;
        self.pick_from(client, port)
    }

    fn pick_from(&mut self, client: [u8; 4], port: u16) -> char {
        match syn(&mut self.director, client, port) {
            Some(id) => self.letter(id),
            None => '-',
        }
    }

    /// The servers of clients at the specification's addresses.
    fn picks_by_client(&mut self, port: Option<u16>) -> String {
        let clients = [
            [10, 0, 0, 1],
            [10, 0, 0, 2],
            [10, 0, 0, 3],
            [192, 168, 1, 77],
            [172, 16, 5, 9],
            [8, 8, 8, 8],
            [203, 0, 113, 200],
            [1, 2, 3, 4],
        ];
        clients
            .map(|client| match port {
                Some(port) => self.pick_from(client, port),
                None => self.pick(client),
            })
            .iter()
            .collect()
    }

    fn flags(&mut self, name: &str, fallback: bool, port: bool) {
        let config = scheduler(name).with_flags(ScheduleFlags { fallback, port });
        self.director.edit_service(WEB, config).unwrap();
    }

    /// Brings a server to its upper threshold, or back from it.
    fn overload(&mut self, letter: char, weight: u16, on: bool) {
        let total =
            self.director.servers(WEB).find(|(_, server)| server.address() == address(number(letter)));
        let total = total.map(|(_, server)| server.active() + server.inactive()).unwrap();
        let upper = if on { total.max(1) } else { 0 };
        let config = server(number(letter), Method::Nat, weight).with_thresholds(upper, 0);
        if total == 0 && on {
            // Only a count can overload: give it one connection first.
            self.director.edit_server(WEB, server(number(letter), Method::Nat, weight)).unwrap();
        }
        self.director.edit_server(WEB, config).unwrap();
    }
}

fn number(letter: char) -> u8 {
    letter as u8 - b'A' + 1
}

#[test]
fn rr_goes_around_from_the_newest() {
    let mut bench = HeapBench::new("rr", &[('A', 1), ('B', 1), ('C', 1)]);
    assert_eq!(bench.picks(7), "CBACBAC");
    bench.remove('B');
    assert_eq!(bench.picks(4), "ACAC");
    bench.add('D', 1);
    assert_eq!(bench.picks(6), "ADCADC");
    bench.edit('A', 0);
    assert_eq!(bench.picks(4), "DCDC");
    bench.edit('C', 0);
    bench.edit('D', 0);
    assert_eq!(bench.picks(2), "--");
}

#[test]
fn wrr_follows_the_weights_from_where_it_was() {
    let mut bench = HeapBench::new("wrr", &[('A', 4), ('B', 3), ('C', 2)]);
    assert_eq!(bench.picks(18), "CBAABACBACBAABACBA");
    assert_eq!(bench.picks(2), "CB");
    bench.edit('B', 6);
    assert_eq!(bench.picks(14), "CBABBACBABBACB");
}

#[test]
fn wrr_uses_the_common_divisor() {
    let mut bench = HeapBench::new("wrr", &[('A', 2), ('B', 6)]);
    assert_eq!(bench.picks(12), "BABBBABBBABB");
    bench.edit('B', 0);
    assert_eq!(bench.picks(4), "AAAA");
    bench.edit('A', 0);
    assert_eq!(bench.picks(1), "-");
    bench.edit('B', 5);
    assert_eq!(bench.picks(4), "BBBB");
    bench.overload('B', 5, true);
    assert_eq!(bench.picks(2), "--");
    bench.overload('B', 5, false);
    assert_eq!(bench.picks(3), "BBB");
}

#[test]
fn wrr_survives_removal_and_return() {
    let mut bench = HeapBench::new("wrr", &[('A', 3), ('B', 1)]);
    assert_eq!(bench.picks(3), "BAA");
    bench.remove('A');
    assert_eq!(bench.picks(3), "BBB");
    bench.add('A', 3);
    assert_eq!(bench.picks(8), "ABAAABAA");
}

#[test]
fn sh_hashes_the_client() {
    let mut bench = HeapBench::new("sh", &[('A', 1), ('B', 2), ('C', 3)]);
    assert_eq!(bench.picks_by_client(None), "BACCCCBB");
    bench.flags("sh", false, true);
    assert_eq!(bench.picks_by_client(Some(1_234)), "CBCAABBC");
}

#[test]
fn sh_without_fallback_refuses_the_clients_of_a_full_server() {
    let mut bench = HeapBench::new("sh", &[('A', 1), ('B', 2), ('C', 3)]);
    assert_eq!(bench.pick([10, 0, 0, 3]), 'C');
    bench.overload('C', 3, true);
    assert_eq!(bench.picks_by_client(None), "BA----BB");
    bench.flags("sh", true, false);
    assert_eq!(bench.picks_by_client(None), "BABBBBBB");
}

#[test]
fn sh_gives_a_quiesced_server_one_run_per_round() {
    let mut bench = HeapBench::new("sh", &[('A', 1), ('B', 2), ('C', 3)]);
    bench.edit('B', 0);
    assert_eq!(bench.picks_by_client(None), "ACCAC-CC");
    bench.flags("sh", true, false);
    assert_eq!(bench.picks_by_client(None), "ACCACCCC");
}

#[test]
fn dh_hashes_the_virtual_address() {
    let expected = [
        ([10, 0, 0, 1], 'C'),
        ([10, 0, 0, 2], 'A'),
        ([10, 0, 0, 3], 'B'),
        ([192, 168, 1, 77], 'C'),
        ([172, 16, 5, 9], 'B'),
        ([8, 8, 8, 8], 'A'),
        ([203, 0, 113, 200], 'B'),
        ([1, 2, 3, 4], 'B'),
    ];
    let mut bench = HeapBench::new("dh", &[]);
    let marked = ServiceKey::Mark { family: Family::V4, mark: 7 };
    bench.director.add_service(marked, scheduler("dh")).unwrap();
    for letter in ['A', 'B', 'C'] {
        bench.director.add_server(marked, server(number(letter), Method::Direct, 1)).unwrap();
    }
    for (vip, letter) in expected {
        let packet = request(ServiceKey::tcp(vip.into(), 80), [192, 0, 2, 1], 4_000, SYN).marked(7);
        let forward = forwarded(bench.director.decide(Tick::ZERO, &packet, Inspected::Nothing)).unwrap();
        assert_eq!(bench.letter(forward.server), letter, "{vip:?}");
    }
}

#[test]
fn mh_hashes_the_client_over_a_maglev_table() {
    let mut bench = HeapBench::new("mh", &[('A', 1), ('B', 1), ('C', 1)]);
    assert_eq!(bench.picks_by_client(None), "BCAAABBB");
    bench.flags("mh", false, true);
    assert_eq!(bench.picks_by_client(Some(1_234)), "BAABCBBA");
    bench.flags("mh", true, false);
    bench.overload('C', 1, true);
    assert_eq!(bench.picks_by_client(None), "BAAAABBB");
}

/// `mh` that shows its table.
#[derive(Debug)]
struct OpenMaglev(Maglev, Rc<RefCell<Vec<u32>>>);

impl Schedule for OpenMaglev {
    fn name(&self) -> &'static str {
        "open-mh"
    }

    fn pick(&mut self, pool: &mut Pool<'_>, flow: &Flow, rng: &mut Rng) -> Option<ServerId> {
        self.0.pick(pool, flow, rng)
    }

    fn on_change(&mut self, pool: &mut Pool<'_>, change: Change) {
        self.0.on_change(pool, change);
        *self.1.borrow_mut() = pool.table().to_vec();
    }

    fn table_len(&self) -> TableLen {
        self.0.table_len()
    }
}

#[test]
fn mh_builds_the_tables_of_ipvs() {
    let cases = [
        ([1, 1, 1], [1_364, 1_364, 1_365], 0x5751_bace),
        ([1, 2, 3], [682, 1_364, 2_047], 0xbf87_3436),
        ([1, 2, 1_000], [63, 63, 3_967], 0x3f50_e087),
    ];
    for (weights, shares, expected) in cases {
        let table = Rc::new(RefCell::new(Vec::new()));
        let mut director = Director::new(config(), Heap::<OpenMaglev>::with_capacity(1));
        let open = OpenMaglev(Maglev, Rc::clone(&table));
        director.add_service(WEB, ServiceConfig::new(open)).unwrap();
        for (letter, weight) in ['A', 'B', 'C'].into_iter().zip(weights) {
            director.add_server(WEB, server(number(letter), Method::Nat, weight)).unwrap();
        }
        // The ids of a new store count up from 0.
        let letters: Vec<u8> = table.borrow().iter().map(|&id| b'A' + id as u8).collect();
        let counts =
            [b'A', b'B', b'C'].map(|letter| letters.iter().filter(|&&other| other == letter).count());
        assert_eq!(counts, shares, "{weights:?}");
        let fnv = |hash: u32, letter: &u8| (hash ^ u32::from(*letter)).wrapping_mul(0x0100_0193);
        assert_eq!(letters.iter().fold(0x811c_9dc5, fnv), expected, "{weights:?}");
    }
}

#[test]
fn mh_keeps_the_places_of_a_quiesced_server() {
    let mut bench = HeapBench::new("mh", &[('A', 1), ('B', 1), ('C', 1)]);
    bench.edit('B', 0);
    assert_eq!(bench.picks_by_client(None), "-CAAA---");
}

#[test]
fn mh_does_not_depend_on_the_order_of_addition() {
    let mut one = HeapBench::new("mh", &[('A', 1), ('B', 2), ('C', 3)]);
    let mut other = HeapBench::new("mh", &[('C', 3), ('A', 1), ('B', 2)]);
    for client in 0..=255 {
        assert_eq!(one.pick([198, 51, 100, client]), other.pick([198, 51, 100, client]));
    }
}

#[test]
fn equals_go_to_the_newest() {
    for name in ["lc", "wlc", "sed", "nq", "fo", "ovf"] {
        let mut bench = HeapBench::new(name, &[('A', 1), ('B', 1), ('C', 1)]);
        assert_eq!(bench.picks(1), "C", "{name}");
    }
}

#[test]
fn least_connection_schedulers_see_half_open_connections() {
    for name in ["lc", "wlc", "sed", "nq"] {
        let mut bench = HeapBench::new(name, &[('A', 1), ('B', 1), ('C', 1)]);
        assert_eq!(bench.picks(6), "CBACBA", "{name}");
    }
}

#[test]
fn wlc_and_sed_weigh() {
    assert_eq!(HeapBench::new("wlc", &[('A', 1), ('B', 2)]).picks(6), "BABBAB");
    assert_eq!(HeapBench::new("sed", &[('A', 1), ('B', 2)]).picks(6), "BBABBA");
}

#[test]
fn nq_prefers_any_idle_server() {
    assert_eq!(HeapBench::new("nq", &[('A', 1), ('B', 9)]).picks(4), "BABB");
}

#[test]
fn fo_takes_the_heaviest_and_falls_over() {
    let mut bench = HeapBench::new("fo", &[('A', 1), ('B', 3), ('C', 2)]);
    assert_eq!(bench.picks(3), "BBB");
    bench.edit('B', 0);
    assert_eq!(bench.picks(2), "CC");
}

#[test]
fn ovf_admits_one_more_than_the_weight() {
    let mut bench = HeapBench::new("ovf", &[('A', 1), ('B', 2)]);
    assert_eq!(bench.picks(6), "BBBAA-");
}

#[test]
fn weight_zero_everywhere_leaves_no_choice() {
    for name in Scheduler::NAMES {
        let mut bench = HeapBench::new(name, &[('A', 0), ('B', 0)]);
        assert_eq!(bench.picks(3), "---", "{name}");
        let mut empty = HeapBench::new(name, &[]);
        assert_eq!(empty.picks(2), "--", "{name}");
    }
}
