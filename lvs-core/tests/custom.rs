//! Schedulers that an embedder wrote, badly, and what the built-in ones do in odd company.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use lvs_core::error::AddServiceError;
use lvs_core::sched::{Change, Pool, Rng, Schedule, TableLen};
use lvs_core::*;
use support::*;

const CLIENT: [u8; 4] = [192, 0, 2, 7];

fn decide<S: Store>(director: &mut Director<S>, port: u16, content: Content) -> Verdict {
    director.decide(Tick::ZERO, &request(WEB, CLIENT, port, content), Inspected::Nothing)
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

    fn table_len(&self) -> TableLen {
        TableLen::exactly(self.1)
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

/// Picks the server after the one with this id, or else the one that was added first.
#[derive(Debug)]
struct After(u32);

impl Schedule for After {
    fn name(&self) -> &'static str {
        "after"
    }

    fn pick(&mut self, pool: &mut Pool<'_>, _flow: &Flow, _rng: &mut Rng) -> Option<ServerId> {
        let after = pool.iter_after(Some(ServerId::from_index(self.0))).next();
        Some(after.map_or(ServerId::from_index(0), |(id, _)| id))
    }
}

#[test]
fn after_a_removed_server_there_are_no_others() {
    let mut director = Director::new(config(), Heap::<After>::with_capacity(16));
    director.add_service(WEB, ServiceConfig::new(After(2))).unwrap();
    (1..=3).for_each(|number| _ = director.add_server(WEB, server(number, Method::Nat, 1)).unwrap());
    let target = |verdict| forwarded(verdict).map(|forward| forward.target);
    assert_eq!(target(decide(&mut director, 4_000, SYN)), Some(address(2)));
    director.remove_server(WEB, address(2)).unwrap();
    director.remove_server(WEB, address(3)).unwrap();
    assert_eq!(target(decide(&mut director, 4_001, SYN)), Some(address(1)));
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

    fn table_len(&self) -> TableLen {
        TableLen::exactly(self.1)
    }
}

#[test]
fn hashing_schedulers_live_with_any_size_of_table() {
    for name in ["mh", "sh", "dh", "lblc", "lblcr"] {
        for (len, enough) in [(0, false), (100, false), (5_000, true)] {
            let mut director = Director::new(config(), Heap::<Resized>::with_capacity(2_000));
            let resized = Resized(Scheduler::from_name(name).unwrap(), len);
            director.add_service(WEB, ServiceConfig::new(resized)).unwrap();
            for number in 1..4 {
                director.add_server(WEB, server(number, Method::Direct, 1)).unwrap();
            }
            for client in 0..=255 {
                let verdict = director.decide(
                    Tick::ZERO,
                    &request(WEB, [192, 0, 2, client], 4_000, SYN),
                    Inspected::Nothing,
                );
                assert!(forwarded(verdict).is_some() || !enough, "{name}, {len}: {verdict:?}");
            }
        }
    }
}

/// A built-in scheduler in a table that is written to behind its back.
#[derive(Debug)]
struct Scribbled(Scheduler, Rng);

impl Schedule for Scribbled {
    fn name(&self) -> &'static str {
        "scribbled"
    }

    fn pick(&mut self, pool: &mut Pool<'_>, flow: &Flow, rng: &mut Rng) -> Option<ServerId> {
        self.scribble(pool);
        self.0.pick(pool, flow, rng)
    }

    fn on_change(&mut self, pool: &mut Pool<'_>, change: Change) {
        self.0.on_change(pool, change);
        self.scribble(pool);
    }

    fn table_len(&self) -> TableLen {
        TableLen { least: self.0.table_len().least, wanted: 700 }
    }

    fn next_tick(&self) -> Option<Tick> {
        self.0.next_tick()
    }

    fn on_tick(&mut self, pool: &mut Pool<'_>) {
        self.scribble(pool);
        self.0.on_tick(pool);
    }
}

impl Scribbled {
    /// Writes small numbers, which could be places in the table, and large ones.
    fn scribble(&mut self, pool: &mut Pool<'_>) {
        for _ in 0..20 {
            let at = self.1.below(pool.table().len() as u32) as usize;
            let value = if self.1.below(4) == 0 { self.1.next_u32() } else { self.1.below(80) };
            pool.table_mut()[at] = value;
        }
    }
}

#[test]
fn caches_survive_whatever_is_written_into_their_tables() {
    for name in ["lblc", "lblcr"] {
        let mut config = config();
        (config.tuning.lblc_expiration, config.tuning.lblcr_expiration) = (20, 20);
        let mut director = Director::new(config, Heap::<Scribbled>::with_capacity(256));
        let chance = Rng::from_seed(Seed::from_bytes([3; 16]));
        let scribbled = Scribbled(Scheduler::from_name(name).unwrap(), chance);
        director.add_service(WEB, ServiceConfig::new(scribbled)).unwrap();
        let mark = ServiceKey::Mark { family: Family::V4, mark: 1 };
        let again = Scribbled(Scheduler::from_name(name).unwrap(), Rng::from_seed(Seed::from_bytes([4; 16])));
        director.add_service(mark, ServiceConfig::new(again)).unwrap();
        for number in 1..4 {
            director.add_server(mark, server(number, Method::Direct, 1)).unwrap();
        }
        let mut now = Tick::ZERO;
        for step in 0..4_000_u32 {
            let [_, _, high, low] = step.wrapping_mul(7).to_be_bytes();
            let to = ServiceKey::tcp([10, 98, high, low].into(), 80);
            let packet = request(to, [192, 0, 2, low], 4_000, SYN).marked(1);
            assert!(forwarded(director.decide(now, &packet, Inspected::Nothing)).is_some(), "{name}");
            now = now.plus_secs(1);
            director.sweep(now, 64);
            if step % 500 == 0 {
                director.remove_server(mark, address(2)).unwrap();
                director.add_server(mark, server(2, Method::Direct, 1)).unwrap();
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
