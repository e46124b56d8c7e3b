//! Decisions without packets are a director's decisions.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use core::net::{IpAddr, SocketAddr};

use lvs_core::config::{Defence, MAX_TIMEOUT_SECS};
use lvs_core::error::{AddServerError, EditServerError, ObserveError, ZeroError};
use lvs_core::pick::{Client, FailurePolicy, NotPicked, Outcome, Picker};
use lvs_core::sched::ScheduleFlags;
use lvs_core::service::{Persistence, PersistenceEngine};
use lvs_core::*;
use proptest::prelude::*;
use support::*;

fn picker(name: &str, weights: &[u16]) -> Picker<Heap> {
    let mut picker = Picker::new(config(), Heap::with_capacity(256));
    picker.add_service(WEB, scheduler(name)).unwrap();
    for (number, weight) in (1..).zip(weights) {
        picker.add_server(WEB, server(number, Method::Direct, *weight)).unwrap();
    }
    picker
}

fn client(number: u8) -> Client<'static> {
    Client::Endpoint(SocketAddr::from(([192, 0, 2, number], 4_000)))
}

/// What happens to a picker and to a director, one after the other.
#[derive(Clone, Debug)]
enum Step {
    Begin { client: u8 },
    End { which: prop::sample::Index },
    Add { number: u8, weight: u16, upper: u32 },
    Edit { number: u8, weight: u16, upper: u32 },
    Remove { number: u8 },
    Observe { number: u8, micros: u32 },
    Wait { secs: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let number = || 1..5_u8;
    prop_oneof![
        8 => (0..6_u8).prop_map(|client| Step::Begin { client }),
        4 => any::<prop::sample::Index>().prop_map(|which| Step::End { which }),
        2 => (number(), 0..4_u16, 0..4_u32).prop_map(|(number, weight, upper)| Step::Add { number, weight, upper }),
        2 => (number(), 0..4_u16, 0..4_u32).prop_map(|(number, weight, upper)| Step::Edit { number, weight, upper }),
        1 => number().prop_map(|number| Step::Remove { number }),
        2 => (number(), 1..50_000_u32).prop_map(|(number, micros)| Step::Observe { number, micros }),
        1 => (1..9_u64).prop_map(|secs| Step::Wait { secs }),
    ]
}

/// A server's address, active and other connections, whether it is overloaded, and its weight.
type Load = (SocketAddr, u32, u32, bool, u32);

/// The three of them: by packets, by entries, by picks alone.
struct Three {
    director: Director<Heap>,
    opener: Picker<Heap>,
    holder: Picker<Heap>,
}

impl Three {
    fn new(service: &ServiceConfig) -> Self {
        let mut config = config();
        config.timeouts.tcp = MAX_TIMEOUT_SECS;
        let mut director = Director::new(config.clone(), Heap::with_capacity(256));
        let mut opener = Picker::new(config.clone(), Heap::with_capacity(256));
        let mut holder = Picker::new(config, Heap::with_capacity(256));
        director.add_service(WEB, service.clone()).unwrap();
        opener.add_service(WEB, service.clone()).unwrap();
        holder.add_service(WEB, service.clone()).unwrap();
        Self { director, opener, holder }
    }

    /// Loads, as schedulers see them, and what is counted.
    fn loads(&self) -> [Vec<Load>; 3] {
        [&self.director, self.opener.director(), self.holder.director()].map(|director| {
            let seen = |server: &service::Server| {
                let (active, inactive) = (server.active(), server.inactive());
                (server.address(), active, inactive, server.is_overloaded(), server.weight())
            };
            director.servers(WEB).map(|(_, server)| seen(server)).collect()
        })
    }
}

fn law(service: &ServiceConfig, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut three = Three::new(service);
    let mut now = Tick::ZERO;
    let mut open = Vec::new();
    for (port, step) in (1_024_u16..).zip(steps) {
        match *step {
            Step::Begin { client } => {
                let from = [192, 0, 2, client];
                let verdict = three.director.decide(now, &request(WEB, from, port, SYN), Inspected::Nothing);
                let expected = forwarded(verdict).map(|forward| forward.target);
                let _ = three.director.decide(now, &request(WEB, from, port, ACK), Inspected::Nothing);
                let flow = request(WEB, from, port, SYN).flow;
                let opened = three.opener.open(now, &WEB, &flow);
                let picked = three.holder.pick(now, &WEB, Client::Endpoint((from, port).into()));
                prop_assert_eq!(opened.ok().map(|opened| opened.address), expected);
                prop_assert_eq!(picked.as_ref().ok().map(|pick| pick.address()), expected);
                open.extend(picked.map(|pick| (flow, pick)));
            }
            Step::End { ref which } if !open.is_empty() => {
                let (flow, pick) = open.swap_remove(which.index(open.len()));
                // A reset connection of a removed server is dropped by the director until its time is up.
                let reset = Packet::new(flow, RST, 60);
                let _ = three.director.decide(now, &reset, Inspected::Nothing);
                now = now.plus_secs(11);
                let _ = three.director.sweep(now, 1_000);
                prop_assert!(three.opener.close(now, &flow));
                three.holder.release(now, pick);
                three.opener.sweep(now, 1_000);
                three.holder.sweep(now, 1_000);
            }
            Step::End { .. } => {}
            Step::Add { number, weight, upper } => {
                let config = server(number, Method::Direct, weight).with_thresholds(upper, 0);
                let added = three.director.add_server(WEB, config);
                prop_assert_eq!(three.opener.add_server(WEB, config), added);
                prop_assert_eq!(three.holder.add_server(WEB, config), added);
            }
            Step::Edit { number, weight, upper } => {
                let config = server(number, Method::Direct, weight).with_thresholds(upper, 0);
                let edited = three.director.edit_server(WEB, config);
                prop_assert_eq!(three.opener.edit_server(WEB, config), edited);
                prop_assert_eq!(three.holder.edit_server(WEB, config), edited);
            }
            Step::Remove { number } => {
                // What a removed server's connections are told differs with packets: so it has none.
                let busy = three.director.servers(WEB).any(|(_, server)| {
                    server.address() == address(number) && server.active() + server.inactive() > 0
                });
                if !busy {
                    let removed = three.director.remove_server(WEB, address(number));
                    prop_assert_eq!(three.opener.remove_server(WEB, address(number)), removed);
                    prop_assert_eq!(three.holder.remove_server(WEB, address(number)), removed);
                }
            }
            Step::Observe { number, micros } => {
                let found =
                    three.director.servers(WEB).find(|(_, server)| server.address() == address(number));
                if let Some((id, _)) = found {
                    let outcome = Outcome::Latency { micros };
                    prop_assert_eq!(three.director.observe(now, id, outcome), Ok(()));
                    prop_assert_eq!(three.opener.observe(now, id, outcome), Ok(()));
                    prop_assert_eq!(three.holder.observe(now, id, outcome), Ok(()));
                }
            }
            Step::Wait { secs } => now = now.plus_secs(secs),
        }
        let [director, opener, holder] = three.loads();
        prop_assert_eq!(&opener, &director);
        prop_assert_eq!(&holder, &director);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_picker_picks_what_a_director_does(
        name in prop::sample::select(Scheduler::NAMES),
        flags: (bool, bool),
        persistent: bool,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let flags = ScheduleFlags { fallback: flags.0, port: flags.1 };
        let mut service = scheduler(name).with_flags(flags);
        if persistent {
            // Longer than any sequence lasts: without entries a template's time goes on from its last pick.
            service = service.with_persistence(Persistence::new(100_000).with_mask(31));
        }
        law(&service, &steps)?;
    }
}

#[test]
fn every_name_is_picked_by() {
    for name in Scheduler::NAMES {
        let mut picker = picker(name, &[10, 20, 30]);
        let picks: Vec<_> = (0..12).map(|n| picker.pick(Tick::ZERO, &WEB, client(n)).unwrap()).collect();
        let connections = |picker: &Picker<Heap>| -> u32 {
            picker.director().servers(WEB).map(|(_, server)| server.active()).sum()
        };
        assert_eq!(connections(&picker), 12, "{name}");
        picks.into_iter().for_each(|pick| picker.release(Tick::ZERO, pick));
        assert_eq!(connections(&picker), 0, "{name}");
        assert_eq!(picker.director().counters().live, 0, "{name}: no entry was made");
    }
}

#[test]
fn thresholds_and_weights_count_for_picks() {
    let mut picker = picker("rr", &[1, 0]);
    picker.edit_server(WEB, server(1, Method::Direct, 1).with_thresholds(2, 1)).unwrap();
    let picks = [1, 2].map(|number| picker.pick(Tick::ZERO, &WEB, client(number)).unwrap());
    assert!(picks.iter().all(|pick| pick.address() == address(1)), "the other one is quiesced");
    let refused = picker.pick(Tick::ZERO, &WEB, client(3)).unwrap_err();
    assert_eq!(refused.reason, Reason::NoServer);
    assert_eq!(refused.to_string(), "no real server was picked: no-server");
    assert_eq!(picker.director().counters().of(Reason::NoServer), 1);
    let events: Vec<_> = core::iter::from_fn(|| picker.poll_event()).collect();
    assert!(matches!(events[..], [Event::Overloaded { .. }]), "{events:?}");
    picks.into_iter().for_each(|pick| picker.release(Tick::ZERO, pick));
    assert!(picker.pick(Tick::ZERO, &WEB, client(3)).is_ok());
    assert_eq!(picker.pick(Tick::ZERO, &DNS, client(3)).unwrap_err().reason, Reason::NoService);
}

#[test]
fn clients_stay_with_their_server_whatever_tells_them_apart() {
    let mut picker = picker("rr", &[1, 1, 1]);
    let persistence = Persistence::new(60).with_mask(24);
    picker.edit_service(WEB, scheduler("rr").with_persistence(persistence)).unwrap();
    let v6: IpAddr = "2001:db8::7".parse().unwrap();
    let clients = [
        Client::Address([198, 51, 100, 7].into()),
        Client::Address(v6),
        Client::Key(7),
        Client::Key(8),
        Client::Bytes(b"user-7"),
        Client::Bytes(b"user-8"),
    ];
    let first = clients.map(|client| {
        let pick = picker.pick(Tick::ZERO, &WEB, client).unwrap();
        let address = pick.address();
        picker.release(Tick::ZERO, pick);
        address
    });
    // Six clients in turn over three servers: no two of three were taken for one.
    assert_eq!(first[..3], first[3..]);
    assert_eq!(first.iter().filter(|address| **address == first[0]).count(), 2);
    for _ in 0..3 {
        let again = clients.map(|client| {
            let pick = picker.pick(Tick::from_millis(30_000), &WEB, client).unwrap();
            let address = pick.address();
            picker.release(Tick::from_millis(30_000), pick);
            address
        });
        assert_eq!(again, first);
    }
    // The mask counts for the service's own family: a neighbour of the first client is the same, one of the second not.
    let neighbour = Client::Address([198, 51, 100, 8].into());
    let pick = picker.pick(Tick::from_millis(30_000), &WEB, neighbour).unwrap();
    assert_eq!(pick.address(), first[0]);
    picker.release(Tick::from_millis(30_000), pick);
    assert_eq!(picker.director().counters().live, 6, "a template each");
    let other = Client::Address("2001:db8::8".parse().unwrap());
    let pick = picker.pick(Tick::from_millis(30_000), &WEB, other).unwrap();
    picker.release(Tick::from_millis(30_000), pick);
    assert_eq!(picker.director().counters().live, 7);
    picker.sweep(Tick::from_millis(91_000), 1_000);
    assert_eq!(picker.director().counters().live, 0, "a template's time goes on from its last pick");
}

#[test]
fn clients_and_servers_of_both_families_meet() {
    let mut picker = picker("rr", &[1]);
    let six: SocketAddr = "[2001:db8::12]:8080".parse().unwrap();
    picker.add_server(WEB, ServerConfig::new(six, Method::Direct)).unwrap();
    let v6: IpAddr = "2001:db8:ffff::7".parse().unwrap();
    let mut reached = [Client::Address(v6), client(1), Client::Address(v6), client(1)]
        .map(|client| picker.pick(Tick::ZERO, &WEB, client).unwrap().address());
    reached.sort_unstable();
    assert_eq!(reached, [address(1), address(1), six, six]);
    // With an entry too: the flow is the client's, the service another family's.
    let flow: Flow = "tcp [2001:db8:ffff::7]:40000 > [2001:db8::1]:80".parse().unwrap();
    let opened = picker.open(Tick::ZERO, &WEB, &flow).unwrap();
    let again = picker.open(Tick::ZERO, &WEB, &flow).unwrap();
    assert!(!opened.known && again.known && opened.address == again.address);
    assert_eq!(picker.find(Tick::ZERO, &flow).unwrap().destination, opened.address);
    assert!(picker.close(Tick::ZERO, &flow) && !picker.close(Tick::ZERO, &flow));
    // A director refuses what its packets could not do.
    let mut director = Director::new(config(), Heap::<Scheduler>::with_capacity(16));
    director.add_service(WEB, scheduler("rr")).unwrap();
    let refused = director.add_server(WEB, ServerConfig::new(six, Method::Direct));
    assert_eq!(refused, Err(AddServerError::FamilyMismatch));
}

#[test]
fn an_open_connection_lives_until_it_is_closed_or_forgotten() {
    let mut picker = picker("wlc", &[1, 1]);
    let flow = |port| request(WEB, [192, 0, 2, 7], port, SYN).flow;
    let opened = picker.open(Tick::ZERO, &WEB, &flow(4_000)).unwrap();
    let late = Tick::from_millis(899_000);
    assert!(picker.open(late, &WEB, &flow(4_000)).unwrap().known, "asked for again in time");
    let later = Tick::from_millis(1_790_000);
    assert!(picker.find(later, &flow(4_000)).is_some());
    let gone = Tick::from_millis(1_800_000);
    assert!(picker.find(gone, &flow(4_000)).is_none());
    picker.sweep(gone, 1_000);
    assert!(picker.director().servers(WEB).all(|(_, server)| server.active() == 0));
    // A removed server's connection is made anew.
    let opened = picker.open(gone, &WEB, &flow(4_000)).map(|again| (again.address, opened.address)).unwrap();
    picker.remove_server(WEB, opened.0).unwrap();
    let other = picker.open(gone, &WEB, &flow(4_000)).unwrap();
    assert!(!other.known && other.address != opened.0);
    assert_eq!(picker.open(gone, &WEB, &flow(0)).unwrap_err().reason, Reason::NotStarting);
    let causes: Vec<_> = core::iter::from_fn(|| picker.poll_event())
        .filter_map(|event| if let Event::Closed { cause, .. } = event { Some(cause) } else { None })
        .collect();
    use lvs_core::event::Cause;
    assert_eq!(causes, [Cause::Expired, Cause::Dropped]);
}

#[test]
fn a_full_table_gives_up_no_open_connection_for_another() {
    let mut picker: Picker<Heap> = Picker::new(config(), Heap::with_capacity(8));
    picker.add_service(WEB, scheduler("rr")).unwrap();
    picker.add_server(WEB, server(1, Method::Direct, 1)).unwrap();
    let flow = |port| request(WEB, [192, 0, 2, 7], port, SYN).flow;
    for port in 1..=8 {
        picker.open(Tick::ZERO, &WEB, &flow(port)).unwrap();
    }
    let full = picker.open(Tick::from_millis(60_000), &WEB, &flow(9));
    assert_eq!(full.map_err(|NotPicked { reason, .. }| reason), Err(Reason::TableFull));
    // Without an entry there is no need of room.
    let pick = picker.pick(Tick::from_millis(60_000), &WEB, client(1)).unwrap();
    picker.release(Tick::from_millis(60_000), pick);
}

#[test]
fn failures_in_a_row_hold_a_server_back_for_longer_each_time() {
    let mut picker = picker("rr", &[1, 1, 1]);
    picker.set_failure_policy(Some(FailurePolicy::new(3, 10)));
    let bad = picker.director().servers(WEB).find(|(_, server)| server.address() == address(2)).unwrap().0;
    let weight = |picker: &Picker<Heap>| picker.director().server(bad).unwrap().weight();
    let fail = |picker: &mut Picker<Heap>, now| picker.observe(now, bad, Outcome::Failure).unwrap();
    let zero = Tick::ZERO;
    (0..2).for_each(|_| fail(&mut picker, zero));
    picker.observe(zero, bad, Outcome::Success).unwrap();
    (0..2).for_each(|_| fail(&mut picker, zero));
    assert_eq!(weight(&picker), 1, "a success in between");
    fail(&mut picker, zero);
    assert_eq!(weight(&picker), 0);
    for number in 0..6 {
        assert_ne!(picker.pick(zero, &WEB, client(number)).unwrap().server(), bad);
    }
    // A weight that is said meanwhile counts from its return on.
    picker.edit_server(WEB, server(2, Method::Direct, 5)).unwrap();
    assert_eq!(weight(&picker), 0);
    picker.sweep(Tick::from_millis(9_999), 1);
    assert_eq!(weight(&picker), 0);
    // The first pick brings it back, also if nobody sweeps.
    let _ = picker.pick(Tick::from_millis(10_000), &WEB, client(1)).unwrap();
    assert_eq!(weight(&picker), 5);
    // On trial: one failure is enough, and the time doubles.
    fail(&mut picker, Tick::from_millis(10_000));
    picker.sweep(Tick::from_millis(29_999), 1);
    assert_eq!(weight(&picker), 0);
    picker.sweep(Tick::from_millis(30_000), 1);
    assert_eq!(weight(&picker), 5);
    picker.observe(Tick::from_millis(30_000), bad, Outcome::Latency { micros: 5 }).unwrap();
    fail(&mut picker, Tick::from_millis(30_000));
    assert_eq!(weight(&picker), 5, "a success makes up for all");
    picker.remove_server(WEB, address(2)).unwrap();
    assert_eq!(picker.observe(zero, bad, Outcome::Failure), Err(ObserveError::NotFound));
}

#[test]
fn a_fault_that_all_servers_share_takes_no_more_than_the_policys_share() {
    let mut picker = picker("rr", &[1, 1, 1, 0]);
    picker.set_failure_policy(Some(FailurePolicy::new(1, 10).with_share(67)));
    let all: Vec<_> = picker.director().servers(WEB).map(|(id, _)| id).collect();
    all.iter().for_each(|&id| picker.observe(Tick::ZERO, id, Outcome::Failure).unwrap());
    let usable =
        |picker: &Picker<Heap>| picker.director().servers(WEB).filter(|(_, s)| s.is_usable()).count();
    assert_eq!(usable(&picker), 1, "two of three; the quiesced one does not count");
    picker.set_failure_policy(None);
    assert_eq!(usable(&picker), 3, "without a policy nobody is held back");
}

#[test]
fn a_picker_takes_no_method_that_would_mean_nothing() {
    let mut picker = picker("rr", &[1]);
    let nat = server(2, Method::Nat, 1);
    assert_eq!(picker.add_server(WEB, nat), Err(AddServerError::NotDirect));
    assert_eq!(picker.edit_server(WEB, server(1, Method::Nat, 1)), Err(EditServerError::NotDirect));
}

#[test]
fn calls_are_told_apart_by_their_bytes() {
    let mut picker = picker("rr", &[]);
    let sip = Persistence::new(60).with_engine(PersistenceEngine::Sip);
    picker.add_service(DNS, scheduler("rr").with_persistence(sip)).unwrap();
    (1..3).for_each(|number| _ = picker.add_server(DNS, server(number, Method::Direct, 1)).unwrap());
    let mut to = |call: &[u8]| picker.pick(Tick::ZERO, &DNS, Client::Bytes(call)).unwrap().address();
    let (one, other) = (to(b"a@b"), to(b"c@d"));
    assert!(one != other && to(b"a@b") == one && to(b"c@d") == other);
    let without = picker.pick(Tick::ZERO, &DNS, Client::Key(1)).unwrap_err();
    assert_eq!(without.reason, Reason::NoCallId);
}

#[test]
fn marks_and_all_ports_are_services_too() {
    let mut picker = picker("rr", &[]);
    let mark = ServiceKey::Mark { family: Family::V4, mark: 7 };
    picker.add_service(mark, scheduler("sh")).unwrap();
    picker.add_server(mark, server(1, Method::Direct, 1)).unwrap();
    assert_eq!(picker.pick(Tick::ZERO, &mark, Client::Key(1)).unwrap().address(), address(1));
    let all = ServiceKey::tcp(VIP, 0);
    picker.add_service(all, scheduler("rr").with_persistence(Persistence::new(60))).unwrap();
    picker.add_server(all, ServerConfig::new((address(1).ip(), 0).into(), Method::Direct)).unwrap();
    let opened =
        picker.open(Tick::ZERO, &all, &request(ServiceKey::tcp(VIP, 8_080), [192, 0, 2, 7], 4_000, SYN).flow);
    assert_eq!(opened.unwrap().address, (address(1).ip(), 8_080).into());
}

#[test]
fn a_picker_defends_itself_where_memory_is_short() {
    let mut picker = picker("rr", &[1]);
    let mut short = config();
    short.tuning.drop_packet = Defence::Automatic;
    picker.set_config(short);
    picker.report_available(0);
    picker.sweep(Tick::from_millis(1_000), 1);
    let refused = picker.pick(Tick::from_millis(1_000), &WEB, client(1)).unwrap_err();
    assert_eq!(refused.reason, Reason::Defence);
    picker.report_available(1 << 30);
    picker.sweep(Tick::from_millis(2_000), 1);
    assert!(picker.pick(Tick::from_millis(2_000), &WEB, client(1)).is_ok());
}

#[test]
fn a_pickers_counts_can_be_zeroed_and_a_servers_connections_cut() {
    let mut picker = picker("rr", &[1]);
    let flow = request(WEB, [192, 0, 2, 7], 4_000, SYN).flow;
    let server = picker.open(Tick::ZERO, &WEB, &flow).unwrap().server;
    let shown = |picker: &Picker<Heap>| picker.director().service(WEB).unwrap().meter().shown().connections;
    picker.sweep(Tick::from_millis(2_000), 1);
    picker.zero(Some(WEB)).unwrap();
    assert_eq!(shown(&picker), 0);
    assert_eq!(picker.zero(Some(DNS)), Err(ZeroError::NotFound));
    assert_eq!(picker.cut(Tick::from_millis(2_000), server, 0, 256), 1);
    assert_eq!(picker.find(Tick::from_millis(2_000), &flow), None);
}
