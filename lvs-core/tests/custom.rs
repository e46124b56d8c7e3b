//! Schedulers that an embedder wrote, badly, and what the built-in ones do in odd company.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use lvs_core::error::AddServiceError;
use lvs_core::sched::{Change, Either, Pool, Rng, Schedule, TableLen};
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

/// Sends everything to the server with the smallest load that it was told of.
#[derive(Debug, Default)]
struct Idlest {
    picks: u32,
    due: Option<Tick>,
    ticks: u32,
}

impl Schedule for Idlest {
    fn name(&self) -> &'static str {
        "idlest"
    }

    fn pick(&mut self, pool: &mut Pool<'_>, _flow: &Flow, _rng: &mut Rng) -> Option<ServerId> {
        self.picks += 1;
        let usable = pool.iter().filter(|(_, server)| server.is_usable());
        usable.min_by_key(|(_, server)| server.load()).map(|(id, _)| id)
    }

    fn next_tick(&self) -> Option<Tick> {
        self.due
    }

    fn on_tick(&mut self, _pool: &mut Pool<'_>) {
        self.due = None;
        self.ticks += 1;
    }
}

#[test]
fn a_scheduler_is_fed_by_loads_and_lent_while_it_runs() {
    let mut director = Director::new(config(), Heap::<Either<Idlest, Scheduler>>::with_capacity(64));
    director.add_service(WEB, ServiceConfig::new(Either::Left(Idlest::default()))).unwrap();
    director.add_service(DNS, ServiceConfig::new(Either::Right("rr".parse().unwrap()))).unwrap();
    let ids = [1, 2].map(|number| director.add_server(WEB, server(number, Method::Nat, 1)).unwrap());
    for (port, loads) in (4_000..).zip([[5, 9], [9, 5], [1, 2]]) {
        ids.iter().zip(loads).for_each(|(&id, load)| director.set_load(id, load).unwrap());
        let expected = ids[usize::from(loads[0] > loads[1])];
        assert_eq!(forwarded(decide(&mut director, port, SYN)).unwrap().server, expected);
    }
    // What the scheduler is told now it wants to be called for later: a sweep does so.
    let picks = director.with_scheduler(WEB, |scheduler, pool| {
        let Either::Left(idlest) = scheduler else { panic!("it is the other one") };
        assert_eq!((pool.len(), idlest.name()), (2, "idlest"));
        idlest.due = Some(Tick::from_millis(50));
        idlest.picks
    });
    assert_eq!(picks, Some(3));
    director.sweep(Tick::from_millis(49), 64);
    director.sweep(Tick::from_millis(50), 64);
    director.sweep(Tick::from_millis(99), 64);
    let ticks = |scheduler: &mut Either<Idlest, Scheduler>| {
        if let Either::Left(idlest) = scheduler { Some(idlest.ticks) } else { None }
    };
    assert_eq!(director.with_scheduler(WEB, |scheduler, _| ticks(scheduler)), Some(Some(1)));
    assert_eq!(director.with_scheduler(DNS, |scheduler, _| ticks(scheduler)), Some(None));
    assert_eq!(director.with_scheduler(ServiceKey::tcp(VIP, 81), |_, _| ()), None);
    director.remove_server(WEB, address(1)).unwrap();
    assert!(director.set_load(ids[0], 1).is_err(), "a removed server has no load");
}

#[test]
fn schedulers_in_boxes_and_pairs_are_those_that_they_hold() {
    for name in Scheduler::NAMES {
        let plain: Scheduler = name.parse().unwrap();
        let (boxed, either) = (Box::new(plain.clone()), Either::<Idlest, Scheduler>::Right(plain.clone()));
        let erased: Box<dyn Schedule> = boxed;
        let said = |of: &dyn Schedule| {
            (of.name(), of.table_len(), of.builder().is_some(), of.hashes(), of.takes_flags(), of.next_tick())
        };
        assert_eq!((said(&erased), said(&either)), (said(&plain), said(&plain)), "{name}");
        let mut one = Director::new(config(), Heap::<Scheduler>::with_capacity(512));
        let mut other = Director::new(config(), Heap::<Box<dyn Schedule>>::with_capacity(512));
        let mut third = Director::new(config(), Heap::<Either<Idlest, Scheduler>>::with_capacity(512));
        one.add_service(WEB, ServiceConfig::new(plain)).unwrap();
        other.add_service(WEB, ServiceConfig::new(erased)).unwrap();
        third.add_service(WEB, ServiceConfig::new(either)).unwrap();
        for number in 1..6 {
            let config = server(number, Method::Direct, u16::from(number) * 40);
            one.add_server(WEB, config).unwrap();
            other.add_server(WEB, config).unwrap();
            third.add_server(WEB, config).unwrap();
        }
        for port in 1..200 {
            let expected = decide(&mut one, port, SYN);
            assert_eq!(decide(&mut other, port, SYN), expected, "{name}");
            assert_eq!(decide(&mut third, port, SYN), expected, "{name}");
        }
    }
}
