//! `lblc`, `lblcr` and `twos`: what they remember, what they forget, and what they draw.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use core::net::SocketAddr;

use lvs_core::*;
use support::*;

const MARKED: ServiceKey = ServiceKey::Mark { family: Family::V4, mark: 7 };
/// Room for about sixteen addresses.
const SMALL: usize = 256;

/// A director with one service by mark, whose servers are called A, B, C .. by their numbers.
struct Bench<S: Store<Scheduler = Scheduler>> {
    director: Director<S>,
    now: Tick,
    next_port: u16,
}

impl<S: Store<Scheduler = Scheduler>> Bench<S> {
    fn new(director: Director<S>, name: &str, weights: &[(char, u16)]) -> Self {
        let mut bench = Self { director, now: Tick::from_millis(1_000), next_port: 1_024 };
        bench.director.add_service(MARKED, scheduler(name)).unwrap();
        for &(letter, weight) in weights {
            bench.add(letter, weight);
        }
        bench
    }

    fn config(letter: char, weight: u16) -> ServerConfig {
        server(letter as u8 - b'A' + 1, Method::Direct, weight)
    }

    fn add(&mut self, letter: char, weight: u16) {
        self.director.add_server(MARKED, Self::config(letter, weight)).unwrap();
    }

    fn edit(&mut self, letter: char, weight: u16) {
        self.director.edit_server(MARKED, Self::config(letter, weight)).unwrap();
    }

    fn remove(&mut self, letter: char) {
        self.director.remove_server(MARKED, Self::config(letter, 1).address).unwrap();
    }

    /// The servers of new connections to these virtual addresses (by their last part), `-` for none.
    fn picks(&mut self, destinations: &[u16]) -> String {
        destinations.iter().map(|&destination| self.pick(destination)).collect()
    }

    fn pick(&mut self, destination: u16) -> char {
        self.next_port += 1;
        let [high, low] = destination.to_be_bytes();
        let flow = Flow::new(
            Protocol::Tcp,
            ([192, 0, 2, 1], self.next_port).into(),
            SocketAddr::from(([10, 98, high, low], 80)),
        );
        let packet = Packet::new(flow.unwrap(), SYN, 60).marked(7);
        let forward = forwarded(self.director.decide(self.now, &packet, Inspected::Nothing));
        forward.map_or('-', |forward| {
            let SocketAddr::V4(address) = self.director.server(forward.server).unwrap().address() else {
                panic!("an IPv6 server")
            };
            (b'A' + address.ip().octets()[3] - 11) as char
        })
    }

    /// Lets time pass, as the run loop does: with a sweep in every second.
    fn wait(&mut self, secs: u64) {
        for _ in 0..secs {
            self.now = self.now.plus_secs(1);
            self.director.sweep(self.now, usize::MAX);
        }
    }
}

on_every_store! {
    lblc_gives_an_address_to_one_server
    lblcr_gives_an_address_to_a_set_of_servers
    lblc_leaves_a_server_that_was_quiesced_or_removed
    lblcr_takes_a_server_back
    lblc_goes_by_weight
    an_address_is_forgotten_when_nobody_asks_for_it
    a_set_shrinks_when_it_has_not_changed_for_long
    an_upper_threshold_does_not_bind_lblc
}

/// Recorded from Linux 6.1.192, as the following ones.
fn lblc_gives_an_address_to_one_server<S: Store<Scheduler = Scheduler>>(
    director: impl FnOnce(Config) -> Director<S>,
) {
    let mut bench = Bench::new(director(config()), "lblc", &[('A', 1), ('B', 1), ('C', 1)]);
    assert_eq!(bench.picks(&[1, 6, 11, 16, 21, 26, 31, 36, 41]), "CBACBACBA");
    assert_eq!(bench.picks(&[41, 36, 31, 26, 21, 16, 11, 6, 1]), "ABCABCABC");
}

fn lblcr_gives_an_address_to_a_set_of_servers<S: Store<Scheduler = Scheduler>>(
    director: impl FnOnce(Config) -> Director<S>,
) {
    let mut bench = Bench::new(director(config()), "lblcr", &[('A', 2), ('B', 2), ('C', 2)]);
    assert_eq!(bench.picks(&[1; 12]), "CCCBBBAAAABC");
}

fn lblc_leaves_a_server_that_was_quiesced_or_removed<S: Store<Scheduler = Scheduler>>(
    director: impl FnOnce(Config) -> Director<S>,
) {
    let mut bench = Bench::new(director(config()), "lblc", &[('A', 2), ('B', 2), ('C', 2)]);
    assert_eq!(bench.picks(&[1, 6, 11, 1, 6, 11]), "CBACBA");
    bench.edit('A', 0);
    assert_eq!(bench.picks(&[1, 6, 11, 1, 6, 11]), "CBCCBC");
    bench.remove('B');
    assert_eq!(bench.picks(&[1, 6, 11, 1, 6, 11]), "CCCCCC");
    bench.add('B', 2);
    bench.edit('A', 2);
    assert_eq!(bench.picks(&[1, 6, 11, 1, 6, 11]), "CCCCCC");
}

fn lblcr_takes_a_server_back<S: Store<Scheduler = Scheduler>>(director: impl FnOnce(Config) -> Director<S>) {
    let mut bench = Bench::new(director(config()), "lblcr", &[('A', 2), ('B', 2), ('C', 2)]);
    assert_eq!(bench.picks(&[1, 6, 11, 1, 6, 11]), "CBACBA");
    bench.edit('A', 0);
    assert_eq!(bench.picks(&[1, 6, 11, 1, 6, 11]), "CBCCBC");
    bench.remove('B');
    assert_eq!(bench.picks(&[1, 6, 11, 1, 6, 11]), "CCCCCC");
    bench.add('B', 2);
    bench.edit('A', 2);
    assert_eq!(bench.picks(&[1, 6, 11, 1, 6, 11]), "CBACBA");
}

fn lblc_goes_by_weight<S: Store<Scheduler = Scheduler>>(director: impl FnOnce(Config) -> Director<S>) {
    let mut bench = Bench::new(director(config()), "lblc", &[('A', 1), ('B', 4), ('C', 0), ('D', 2)]);
    assert_eq!(bench.picks(&[1, 6, 11, 16, 21, 26, 31]), "DBABDBB");
    assert_eq!(bench.picks(&[1, 6, 11, 16, 21, 26, 31]), "DBABDBB");
}

fn an_address_is_forgotten_when_nobody_asks_for_it<S: Store<Scheduler = Scheduler>>(
    director: impl FnOnce(Config) -> Director<S>,
) {
    for (wait, kept) in [(29 * 60, true), (31 * 60, false)] {
        for name in ["lblc", "lblcr"] {
            let mut config = config();
            (config.tuning.lblc_expiration, config.tuning.lblcr_expiration) = (1_000, 1_000);
            let mut bench = Bench::new(Director::new(config, Heap::with_capacity(64)), name, &[('A', 1)]);
            assert_eq!(bench.pick(1), 'A');
            bench.add('B', 1);
            bench.wait(wait);
            assert_eq!(bench.pick(1) == 'A', kept, "{name} after {wait} s");
        }
    }
    // Asked for in time, it stays, however long that goes on.
    let mut config = config();
    config.tuning.lblc_expiration = 1_000;
    let mut bench = Bench::new(director(config), "lblc", &[('A', 1)]);
    assert_eq!(bench.pick(1), 'A');
    bench.add('B', 1);
    for _ in 0..10 {
        bench.wait(900);
        assert_eq!(bench.pick(1), 'A');
    }
}

fn a_set_shrinks_when_it_has_not_changed_for_long<S: Store<Scheduler = Scheduler>>(
    director: impl FnOnce(Config) -> Director<S>,
) {
    let mut config = config();
    config.tuning.lblcr_expiration = 600;
    let mut bench = Bench::new(director(config), "lblcr", &[('A', 1), ('B', 1)]);
    assert_eq!(bench.picks(&[1, 1, 1]), "BBA");
    // By now all three connections have expired. The set is A, B, and of equals it is A's turn.
    bench.wait(300);
    assert_eq!(bench.pick(1), 'A');
    bench.wait(301);
    // Of equals the first one is the most loaded, too: it serves once more, and leaves.
    assert_eq!(bench.picks(&[1, 1]), "AB");
}

fn an_upper_threshold_does_not_bind_lblc<S: Store<Scheduler = Scheduler>>(
    director: impl FnOnce(Config) -> Director<S>,
) {
    let mut bench = Bench::new(director(config()), "lblc", &[('A', 9), ('B', 9)]);
    bench.director.edit_server(MARKED, server(2, Method::Direct, 9).with_thresholds(1, 0)).unwrap();
    assert_eq!(bench.picks(&[1, 1, 1, 2]), "BBBA");
}

#[test]
fn a_small_cache_serves_what_it_cannot_remember() {
    for name in ["lblc", "lblcr"] {
        let store: Box<Fixed<512, 1, 4, 8, SMALL>> = Box::new(Fixed::new());
        let mut bench = Bench::new(Director::new(config(), *store), name, &[('A', 1_000), ('B', 1_000)]);
        let first = bench.picks(&[0, 1, 2, 3, 4, 5, 6, 7]);
        for address in 8..400 {
            assert_ne!(bench.pick(address), '-', "{name}");
        }
        assert_eq!(bench.picks(&[0, 1, 2, 3, 4, 5, 6, 7]), first, "{name}");
    }
}

#[test]
fn a_full_cache_forgets_what_is_older_than_six_minutes() {
    for name in ["lblc", "lblcr"] {
        let store: Box<Fixed<64, 1, 4, 8, SMALL>> = Box::new(Fixed::new());
        let mut bench = Bench::new(Director::new(config(), *store), name, &[('A', 1_000)]);
        for address in 0..40 {
            assert_eq!(bench.pick(address), 'A');
        }
        bench.wait(430);
        bench.add('B', 1_000);
        assert_eq!(bench.pick(99), 'B', "{name}");
        // By weight A would be the next one. There is room for the address only because old ones made it.
        bench.edit('A', 20_000);
        assert_eq!(bench.picks(&[98, 99]), "AB", "{name}");
    }
}

#[test]
fn the_place_of_a_removed_server_may_go_to_another_one_which_inherits_no_address() {
    for name in ["lblc", "lblcr"] {
        let store: Box<Fixed<64, 1, 2, 8, SMALL>> = Box::new(Fixed::new());
        let mut bench = Bench::new(Director::new(config(), *store), name, &[('A', 1), ('B', 1)]);
        assert_eq!(bench.picks(&[1, 2]), "BA");
        bench.wait(100);
        bench.remove('B');
        // Both places are taken, so C gets that of B.
        bench.add('C', 1);
        assert_eq!(bench.pick(3), 'C');
        // A is idle, C is not.
        assert_eq!(bench.pick(1), 'A', "{name}");
    }
}

#[test]
fn a_removed_server_keeps_its_place_while_it_is_remembered_and_no_longer() {
    for name in ["lblc", "lblcr"] {
        let mut bench =
            Bench::new(Director::new(config(), Heap::with_capacity(64)), name, &[('A', 1), ('B', 3)]);
        assert_eq!(bench.picks(&[1, 2, 3]), "BAB");
        let place = |bench: &Bench<Heap>| bench.director.server(ServerId::from_index(0)).is_some();
        bench.remove('A');
        bench.wait(1_000);
        assert!(place(&bench));
        bench.add('A', 1);
        assert_eq!(bench.pick(2), 'A', "{name}");
        bench.wait(1_000);
        bench.remove('A');
        bench.director.edit_service(MARKED, scheduler("wlc")).unwrap();
        bench.wait(1_000);
        assert!(!place(&bench), "{name}");
    }
}

#[test]
fn twos_gives_the_newest_server_one_share_more() {
    // The first connection of all finds equal loads, so the server that was drawn first has it: of the numbers 0 to 4
    // that can be drawn two are for B, three for A.
    let mut counts = [0_u32; 2];
    for seed in 0..4_000_u32 {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&seed.to_le_bytes());
        let director = Director::new(Config::new(Seed::from_bytes(bytes)), Heap::with_capacity(8));
        let mut bench = Bench::new(director, "twos", &[('A', 3), ('B', 1)]);
        counts[(bench.pick(1) as u8 - b'A') as usize] += 1;
    }
    let [_, newest] = counts;
    assert!((1_500..1_700).contains(&newest), "{counts:?}");
}

#[test]
fn twos_takes_the_less_loaded_of_two() {
    let director = Director::new(config(), Heap::with_capacity(4_096));
    let mut bench = Bench::new(director, "twos", &[('A', 1), ('B', 1)]);
    let picks: String = (0..1_000).map(|_| bench.pick(1)).collect();
    let share = picks.chars().filter(|&letter| letter == 'A').count();
    // By chance alone A would have a third.
    assert!((490..=510).contains(&share), "{share}");
    bench.edit('A', 0);
    assert_eq!(bench.picks(&[1; 8]), "BBBBBBBB");
}
