//! Look-up tables that are made ahead of a change: they are used where they are for just the servers that there are
//! then, and else made anew.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use core::cell::Cell;
use core::net::SocketAddr;

use lvs_core::pick::{FailurePolicy, Outcome};
use lvs_core::sched::Maglev;
use lvs_core::sched::{Pool, Rng, Schedule, TableLen};
use lvs_core::tables::{Build, Member, PrebuiltTable, TableBuilder};
use lvs_core::*;
use support::*;

type Large = Maglev<65_521, 8>;

thread_local! {
    /// How many tables were made on this thread.
    static BUILDS: Cell<usize> = const { Cell::new(0) };
}

/// Maglev that counts the tables it makes.
#[derive(Debug, Default)]
struct Counted(Large);

impl Schedule for Counted {
    fn name(&self) -> &'static str {
        "counted-mh"
    }

    fn pick(&mut self, pool: &mut Pool<'_>, flow: &Flow, rng: &mut Rng) -> Option<ServerId> {
        self.0.pick(pool, flow, rng)
    }

    fn table_len(&self) -> TableLen {
        self.0.table_len()
    }

    fn builder(&self) -> Option<Build> {
        Some(|list, table| {
            BUILDS.set(BUILDS.get() + 1);
            Large::default().builder().unwrap()(list, table)
        })
    }
}

/// How many tables are made while something is done.
fn builds(work: impl FnOnce()) -> usize {
    let before = BUILDS.get();
    work();
    BUILDS.get() - before
}

fn director(servers: &[(u8, u16)]) -> Director<Heap<Counted>> {
    let mut director = Director::new(config(), Heap::with_capacity(10_000));
    director.add_service(WEB, ServiceConfig::new(Counted::default())).unwrap();
    for &(number, weight) in servers {
        director.add_server(WEB, server(number, Method::Nat, weight)).unwrap();
    }
    director
}

/// To which servers the clients of a network go.
fn picks<S: Store>(director: &mut Director<S>, network: u8) -> Vec<Option<SocketAddr>> {
    let pick = |client: u16| {
        let [high, low] = client.to_be_bytes();
        let packet = request(WEB, [198, network, high, low], 4_000, SYN);
        forwarded(director.decide(Tick::ZERO, &packet, Inspected::Nothing)).map(|forward| forward.target)
    };
    (0..500).map(pick).collect()
}

type Table = PrebuiltTable<Vec<Member>, Vec<u32>>;

/// The table for the servers as they will be after a change, made on another thread.
fn ahead(director: &Director<Heap<Counted>>, change: impl FnOnce(&mut Vec<Member>)) -> Table {
    let builder = director.table_builder(WEB).unwrap();
    let mut members: Vec<Member> = director.members(WEB).collect();
    change(&mut members);
    let table = vec![7; builder.room(members.len())];
    std::thread::spawn(move || builder.build(members, table).unwrap()).join().unwrap()
}

const SERVERS: [(u8, u16); 3] = [(1, 1), (2, 2), (3, 1)];

#[test]
fn a_table_is_taken_over_while_failures_hold_a_server_back() {
    let mut director = director(&SERVERS);
    director.set_failure_policy(Some(FailurePolicy::new(1, 10)));
    let held = director.servers(WEB).find(|(_, of)| of.address() == address(2)).unwrap().0;
    director.observe(Tick::ZERO, held, Outcome::Failure).unwrap();
    let config = server(2, Method::Nat, 5);
    let edit = |members: &mut Vec<Member>| {
        members.iter_mut().find(|member| member.address() == config.address).unwrap().edit(&config);
    };
    for now in [Tick::ZERO, Tick::from_millis(10_000)] {
        director.sweep(now, 1);
        let mut table = ahead(&director, edit);
        let made = builds(|| {
            director.edit_server(WEB, config).unwrap();
            assert!(director.adopt_table(WEB, &mut table));
            let reached = picks(&mut director, 1);
            assert_eq!(reached.contains(&Some(address(2))), now != Tick::ZERO);
        });
        assert_eq!(made, 0);
    }
}

#[test]
fn a_decision_after_a_change_is_by_the_table_that_was_made_ahead() {
    let new = server(4, Method::Nat, 3);
    let heavier = server(2, Method::Nat, 5);
    let quiesced = server(2, Method::Nat, 0);
    type Step = fn(&mut Vec<Member>, ServerConfig);
    type Change = fn(&mut Director<Heap<Counted>>, ServerConfig);
    let add: (Step, Change) = (
        |members, config| members.insert(0, Member::new(&config)),
        |director, config| _ = director.add_server(WEB, config).unwrap(),
    );
    let edit: (Step, Change) = (
        |members, config| {
            let is = |member: &&mut Member| member.address() == config.address;
            members.iter_mut().find(is).unwrap().edit(&config);
        },
        |director, config| director.edit_server(WEB, config).unwrap(),
    );
    let remove: (Step, Change) = (
        |members, config| members.retain(|member| member.address() != config.address),
        |director, config| director.remove_server(WEB, config.address).unwrap(),
    );
    for ((step, change), config) in [(add, new), (edit, heavier), (edit, quiesced), (remove, heavier)] {
        let mut director = director(&SERVERS);
        let before = picks(&mut director, 1);
        let mut table = ahead(&director, |members| step(members, config));
        let mut after = Vec::new();
        let made = builds(|| {
            change(&mut director, config);
            assert!(director.adopt_table(WEB, &mut table));
            after = picks(&mut director, 2);
        });
        assert_eq!(made, 0, "nothing is made while packets wait");
        let mut same = director_of_same(&director);
        assert_eq!(after, picks(&mut same, 2));
        assert_ne!(before, picks(&mut same, 1));
    }
}

/// A director with the same servers, added in the same order, which knows no client.
fn director_of_same(of: &Director<Heap<Counted>>) -> Director<Heap<Counted>> {
    let mut director = director(&[]);
    let servers: Vec<_> = of.servers(WEB).map(|(_, server)| server.clone()).collect();
    for server in servers.iter().rev() {
        let config = ServerConfig::new(server.address(), Method::Nat);
        let weight = |weight| Weight::new(weight).unwrap();
        director.add_server(WEB, config.with_weight(weight(server.last_weight()))).unwrap();
        director.edit_server(WEB, config.with_weight(weight(server.weight()))).unwrap();
    }
    director
}

#[test]
fn any_number_of_changes_makes_one_table_at_the_next_connection() {
    let mut director = director(&[]);
    let changes = builds(|| {
        for number in 1..=50 {
            director.add_server(WEB, server(number, Method::Nat, 1)).unwrap();
        }
        director.remove_server(WEB, address(7)).unwrap();
    });
    assert_eq!(changes, 0);
    let picked = builds(|| assert!(!picks(&mut director, 1).contains(&Some(address(7)))));
    assert_eq!(picked, 1);
}

#[test]
fn a_table_for_other_servers_is_not_used() {
    type Step = fn(&mut Vec<Member>);
    let others: [(&str, Step); 6] = [
        ("one is missing", |members| _ = members.pop()),
        ("one too many", |members| members.push(Member::new(&server(9, Method::Nat, 1)))),
        ("another order", |members| members.swap(0, 1)),
        ("another weight", |members| members[1].edit(&server(2, Method::Nat, 7))),
        ("quiesced", |members| members[1].edit(&server(2, Method::Nat, 0))),
        ("another address", |members| members[1] = Member::new(&server(9, Method::Nat, 2))),
    ];
    let expected = picks(&mut director(&SERVERS), 1);
    for (what, change) in others {
        let mut director = director(&SERVERS);
        let mut table = ahead(&director, change);
        assert!(!director.adopt_table(WEB, &mut table), "{what}");
        let mut ours = Vec::new();
        assert_eq!(builds(|| ours = picks(&mut director, 1)), 1, "{what}: the director makes its own");
        assert_eq!(ours, expected, "{what}");
    }
}

#[test]
fn a_table_is_used_only_while_one_is_wanted_and_only_by_its_own_scheduler() {
    let mut director = director(&SERVERS);
    let mut table = ahead(&director, |_| ());
    let builder = TableBuilder::of(&Large::default(), Family::V4).unwrap();
    let members: Vec<Member> = director.members(WEB).collect();
    let mut foreign = builder.build(members, vec![0; builder.room(3)]).unwrap();
    assert!(!director.adopt_table(WEB, &mut foreign), "of a scheduler with another builder");
    assert!(!director.adopt_table(DNS, &mut table), "no such service");
    assert!(director.adopt_table(WEB, &mut table));
    assert!(!director.adopt_table(WEB, &mut table), "it has one");
}

#[test]
fn a_table_made_ahead_needs_no_allocator() {
    let mut director = Director::new(config(), Fixed::<16, 1, 4, 8, 4_093>::new());
    director.add_service(WEB, scheduler("mh")).unwrap();
    let (first, second) = (server(1, Method::Nat, 1), server(2, Method::Nat, 2));
    director.add_server(WEB, first).unwrap();
    let builder = director.table_builder(WEB).unwrap();
    let mut members = [Member::new(&second), director.members(WEB).next().unwrap()];
    let mut memory = [0; 4_500];
    assert!(builder.room(members.len()) <= memory.len());
    let mut table = builder.build(&mut members[..], &mut memory[..]).unwrap();
    director.add_server(WEB, second).unwrap();
    assert!(director.adopt_table(WEB, &mut table));
    let packet = request(WEB, [198, 51, 100, 1], 4_000, SYN);
    assert!(forwarded(director.decide(Tick::ZERO, &packet, Inspected::Nothing)).is_some());
}
