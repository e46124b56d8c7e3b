//! Schedulers that an embedder wrote, badly, and what the built-in ones do in odd company.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use lvs_core::*;
use support::*;

const CLIENT: [u8; 4] = [192, 0, 2, 7];

fn decide<S: Store>(director: &mut Director<S>, port: u16, content: Content) -> Verdict {
    director.decide(Tick::ZERO, &request(WEB, CLIENT, port, content))
}

/// Picks always the same id and asks for a table of this size.
#[derive(Debug)]
struct Stubborn(u32, usize);

impl Schedule for Stubborn {
    fn name(&self) -> &'static str {
        "stubborn"
    }

    fn pick(&mut self, _pool: &mut Pool<'_>, _flow: &Flow, _rng: &mut Rng) -> Option<ServerId> {
        Some(ServerId::from_index(self.0))
    }

    fn table_len(&self) -> usize {
        self.1
    }
}

#[test]
fn a_scheduler_that_names_no_server_of_its_service_gives_none() {
    for (id, there) in [(0, true), (1, false), (2, false), (3, false), (u32::MAX, false)] {
        let mut director = Director::new(config(), Heap::<Stubborn>::with_capacity(16));
        director.add_service(WEB, ServiceConfig::new(Stubborn(id, 0))).unwrap();
        director.add_service(DNS, ServiceConfig::new(Stubborn(id, 0))).unwrap();
        director.add_server(WEB, server(1, Method::Nat, 1)).unwrap();
        director.add_server(DNS, server(1, Method::Nat, 1)).unwrap();
        director.add_server(WEB, server(2, Method::Nat, 1)).unwrap();
        director.remove_server(WEB, address(2)).unwrap();
        let verdict = decide(&mut director, 4_000, SYN);
        assert_eq!(forwarded(verdict).is_some(), there, "{id}: {verdict:?}");
    }
}

#[test]
fn a_scheduler_that_wants_more_table_than_there_is_memory_is_refused() {
    let mut director = Director::new(config(), Heap::<Stubborn>::with_capacity(16));
    let greedy = || ServiceConfig::new(Stubborn(0, usize::MAX));
    assert_eq!(director.add_service(WEB, greedy()), Err(AddServiceError::NoTable));
    assert!(director.add_service(WEB, ServiceConfig::new(Stubborn(0, 4))).is_ok());
}

/// A built-in scheduler in a table of another size than it asks for.
#[derive(Debug)]
struct Resized(Scheduler, usize);

impl Schedule for Resized {
    fn name(&self) -> &'static str {
        "resized"
    }

    fn pick(&mut self, pool: &mut Pool<'_>, flow: &Flow, rng: &mut Rng) -> Option<ServerId> {
        self.0.pick(pool, flow, rng)
    }

    fn on_change(&mut self, pool: &mut Pool<'_>, change: Change) {
        self.0.on_change(pool, change);
    }

    fn table_len(&self) -> usize {
        self.1
    }
}

#[test]
fn hashing_schedulers_live_with_any_size_of_table() {
    for name in ["mh", "sh", "dh"] {
        for (len, enough) in [(0, false), (100, false), (5_000, true)] {
            let mut director = Director::new(config(), Heap::<Resized>::with_capacity(2_000));
            let resized = Resized(Scheduler::from_name(name).unwrap(), len);
            director.add_service(WEB, ServiceConfig::new(resized)).unwrap();
            for number in 1..4 {
                director.add_server(WEB, server(number, Method::Direct, 1)).unwrap();
            }
            for client in 0..=255 {
                let verdict = director.decide(Tick::ZERO, &request(WEB, [192, 0, 2, client], 4_000, SYN));
                assert!(forwarded(verdict).is_some() || !enough, "{name}, {len}: {verdict:?}");
            }
        }
    }
}

#[test]
fn a_heavy_overloaded_server_costs_wrr_no_time() {
    let mut director = Director::new(config(), Heap::<Scheduler>::with_capacity(256));
    director.add_service(WEB, scheduler("wrr")).unwrap();
    let heaviest = Weight::new(i32::MAX as u32).unwrap();
    let heavy = server(1, Method::Direct, 1).with_weight(heaviest).with_thresholds(1, 1);
    director.add_server(WEB, heavy).unwrap();
    director.add_server(WEB, server(2, Method::Direct, 1)).unwrap();
    assert_eq!(forwarded(decide(&mut director, 4_000, SYN)).unwrap().target, address(2));
    assert_eq!(forwarded(decide(&mut director, 4_001, SYN)).unwrap().target, address(1));
    for port in 0..100 {
        assert_eq!(forwarded(decide(&mut director, 5_000 + port, SYN)).unwrap().target, address(2));
    }
}
