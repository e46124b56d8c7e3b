//! A director that is swept when it says so is the same as one that is swept all the time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use lvs_core::config::Defence;
use lvs_core::conn::Expectation;
use lvs_core::event::ServerNews;
use lvs_core::pick::{FailurePolicy, Outcome};
use lvs_core::service::Persistence;
use lvs_core::*;
use proptest::prelude::*;
use support::*;

/// All that happens here happens at multiples of this, because all of it happens whole seconds after something.
const STEP_MS: u64 = 100;

const FTP: ServiceKey = ServiceKey::tcp(VIP, 21);

#[derive(Clone, Debug)]
enum Act {
    Request { service: usize, client: u8, content: usize },
    Answer { server: u8, client: u8, content: usize },
    Weight { server: u8, weight: u16 },
    Remove { server: u8 },
    Add { server: u8 },
    Failure { server: u32 },
    Policy(Option<u32>),
    Expect { client: u8 },
    Configure(Setting),
    Nothing,
}

#[derive(Clone, Copy, Debug)]
struct Setting {
    tcp: u32,
    defence: [u32; 3],
    expire_nodest: bool,
    estimates: bool,
    lblc: u32,
}

const SERVICES: [ServiceKey; 3] = [WEB, DNS, FTP];
const CONTENTS: [Content; 4] = [SYN, ACK, FIN, RST];

fn setting() -> impl Strategy<Value = Setting> {
    (3_u32..200, [0_u32..4, 0_u32..4, 0_u32..4], any::<bool>(), any::<bool>(), 1_u32..4_000).prop_map(
        |(tcp, defence, expire_nodest, estimates, lblc)| Setting {
            tcp,
            // Half of the time nothing is defended, so that nothing need be looked at for that.
            defence: if lblc % 2 == 0 { [0; 3] } else { defence },
            expire_nodest,
            estimates,
            lblc,
        },
    )
}

impl Setting {
    fn config(self) -> Config {
        let mut config = config();
        (config.timeouts.tcp, config.timeouts.tcp_fin, config.timeouts.udp) = (self.tcp, 7, 11);
        let mode = |at: usize| Defence::from_number(self.defence[at]).unwrap_or(Defence::Never);
        config.tuning.drop_entry = mode(0);
        config.tuning.drop_packet = mode(1);
        config.tuning.secure_tcp = mode(2);
        config.tuning.expire_nodest_conn = self.expire_nodest;
        config.tuning.run_estimation = self.estimates;
        config.tuning.lblc_expiration = self.lblc;
        config
    }
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0..3_usize, 0..6_u8, 0..4_usize)
            .prop_map(|(service, client, content)| Act::Request { service, client, content }),
        4 => (0..3_u8, 0..6_u8, 0..4_usize)
            .prop_map(|(server, client, content)| Act::Answer { server, client, content }),
        1 => (0..3_u8, 0..3_u16).prop_map(|(server, weight)| Act::Weight { server, weight }),
        1 => (0..3_u8).prop_map(|server| Act::Remove { server }),
        2 => (0..3_u8).prop_map(|server| Act::Add { server }),
        1 => (0..9_u32).prop_map(|server| Act::Failure { server }),
        1 => prop_oneof![Just(None), (1_u32..20).prop_map(Some)].prop_map(Act::Policy),
        1 => (0..6_u8).prop_map(|client| Act::Expect { client }),
        1 => setting().prop_map(Act::Configure),
        1 => Just(Act::Nothing),
    ]
}

/// Steps until an act: mostly short, now and then so long that much ends.
fn pause() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 0_u64..5, 3 => 0_u64..100, 1 => 0_u64..2_500]
}

struct World {
    director: Director<Heap>,
    happened: Vec<(Tick, Result<Event, ServerNews>)>,
    decided: Vec<Verdict>,
    sweeps: usize,
}

impl World {
    fn new(setting: Setting, schedulers: [usize; 3]) -> Self {
        let mut director = Director::new(setting.config(), Heap::with_capacity(64));
        for (at, key) in SERVICES.into_iter().enumerate() {
            let name = ["wlc", "lblc", "lblcr", "sh"][schedulers[at]];
            let service = scheduler(name);
            let service = if at == 0 { service.with_persistence(Persistence::new(30)) } else { service };
            director.add_service(key, service).unwrap();
            for number in 0..3 {
                director.add_server(key, server(number, Method::Nat, 1)).unwrap();
            }
        }
        Self { director, happened: Vec::new(), decided: Vec::new(), sweeps: 0 }
    }

    /// Whatever is due at this moment, and what that makes due.
    fn catch_up(&mut self, now: Tick) {
        for turn in 0.. {
            assert!(turn < 50, "there is no end to what is due");
            self.sweeps += 1;
            self.director.sweep(now, self.director.capacity());
            while let Some(event) = self.director.poll_event() {
                self.happened.push((now, Ok(event)));
            }
            while let Some(news) = self.director.poll_server() {
                self.happened.push((now, Err(news)));
            }
            if self.director.poll_at().is_none_or(|at| at > now) {
                return;
            }
        }
    }

    fn act(&mut self, now: Tick, act: &Act) {
        let director = &mut self.director;
        let client = |number: u8| [192, 0, 2, number];
        match *act {
            Act::Request { service, client: number, content } => {
                let key = SERVICES[service];
                let content = if key == DNS { Content::Udp } else { CONTENTS[content] };
                let packet = request(key, client(number), 1_024, content);
                self.decided.push(director.decide(now, &packet, Inspected::Nothing));
            }
            Act::Answer { server, client: number, content } => {
                let packet = answer(Protocol::Tcp, server, client(number), 1_024, CONTENTS[content]);
                self.decided.push(director.decide(now, &packet, Inspected::Nothing));
            }
            Act::Weight { server: number, weight } => {
                let _ = director.edit_server(WEB, server(number, Method::Nat, weight));
            }
            Act::Remove { server } => {
                let _ = director.remove_server(WEB, address(server));
            }
            Act::Add { server: number } => {
                let _ = director.add_server(WEB, server(number, Method::Nat, 1));
            }
            Act::Failure { server } => {
                let id = director.servers(DNS).nth(server as usize % 3).map(|(id, _)| id);
                if let Some(id) = id {
                    let _ = director.observe(now, id, Outcome::Failure);
                }
            }
            Act::Policy(secs) => {
                director.set_failure_policy(secs.map(|secs| FailurePolicy::new(1, secs)));
            }
            Act::Expect { client: number } => {
                let control =
                    director.decide(now, &request(FTP, client(number), 1_024, SYN), Inspected::Nothing);
                if let Some(control) = forwarded(control) {
                    let passive = Expectation::FromClient { server_port: 5_000 };
                    let _ = director.expect(now, control.connection, passive);
                }
            }
            Act::Configure(setting) => director.set_config(setting.config()),
            Act::Nothing => {}
        }
    }

    fn state(&self) -> impl PartialEq + core::fmt::Debug + use<> {
        let servers = SERVICES.iter().flat_map(|&key| self.director.servers(key));
        let rates: Vec<_> = servers
            .map(|(id, server)| {
                (id, server.weight(), server.active(), server.meter().shown(), server.meter().rates())
            })
            .collect();
        (self.director.counters(), self.director.meter().shown(), self.director.meter().rates(), rates)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn sweeping_when_it_is_due_is_as_good_as_sweeping_all_the_time(
        first in setting(),
        schedulers in [0..4_usize, 0..4_usize, 0..4_usize],
        acts in prop::collection::vec((pause(), act()), 1..40),
        start in 0_u64..1_000,
    ) {
        let mut always = World::new(first, schedulers);
        let mut asked = World::new(first, schedulers);
        let mut step = start;
        let at = |step: u64| Tick::from_millis(step * STEP_MS);
        let last = core::iter::once((4_000, Act::Nothing));
        always.catch_up(at(step));
        asked.catch_up(at(step));
        for (pause, act) in acts.into_iter().chain(last) {
            // What is due at the moment of an act comes after it, as in a loop that takes packets first.
            let now = at(step + pause);
            while at(step) < now {
                always.catch_up(at(step));
                step += 1;
            }
            while let Some(due) = asked.director.poll_at().filter(|&due| due < now) {
                asked.catch_up(due);
            }
            prop_assert_eq!(asked.state(), always.state(), "before {:?} at {:?}", act, now);
            for world in [&mut always, &mut asked] {
                if !matches!(act, Act::Request { .. } | Act::Answer { .. }) {
                    // Control does not move the clock.
                    world.catch_up(now);
                }
                world.act(now, &act);
                world.catch_up(now);
            }
        }
        prop_assert_eq!(&asked.decided, &always.decided);
        prop_assert_eq!(&asked.happened, &always.happened);
        prop_assert!(asked.sweeps < always.sweeps);
    }
}

#[test]
fn a_director_that_rests_has_nothing_to_do_ever() {
    let mut config = config();
    config.timeouts.udp = 20;
    let mut director: Director<Heap> = Director::new(config, Heap::with_capacity(1_000));
    director.add_service(DNS, scheduler("rr")).unwrap();
    director.add_server(DNS, server(1, Method::Nat, 1)).unwrap();
    director.sweep(Tick::ZERO, 1_000);
    assert_eq!(director.poll_at(), None);
    let mut now = Tick::from_millis(5_000);
    let _ = director.decide(now, &request(DNS, [192, 0, 2, 1], 1_024, Content::Udp), Inspected::Nothing);
    let mut polled = 0;
    while let Some(due) = director.poll_at() {
        now = now.max(due);
        director.sweep(now, 1_000);
        polled += 1;
    }
    assert_eq!((director.counters().live, director.counters().expired), (0, 1));
    assert!(now < Tick::from_millis(180_000), "rates fall to zero within minutes, not at {now:?}");
    assert!(polled < 100, "{polled} times for one connection and its rates");
}

#[test]
fn an_idle_table_is_left_alone_until_the_next_connection_ends() {
    let mut config = config();
    config.tuning.run_estimation = false;
    let mut director: Director<Heap> = Director::new(config, Heap::with_capacity(1_000));
    director.add_service(WEB, scheduler("rr")).unwrap();
    director.add_server(WEB, server(1, Method::Direct, 1)).unwrap();
    // Half-open connections last for a minute; one begins each 100 ms.
    for number in 0..500_u64 {
        let now = Tick::from_millis(100 * number);
        let packet = request(WEB, [192, 0, 2, 1], 1_024 + number as u16, SYN);
        let _ = director.decide(now, &packet, Inspected::Nothing);
        assert_eq!(director.sweep_briefly(now, 1_000).slots, 1_000, "there is nothing to look at");
    }
    let mut ended = 0;
    while let Some(due) = director.poll_at() {
        let freed = director.sweep(due, 1_000);
        assert!(freed <= 1, "each ends at its own time, not {freed} at {due:?}");
        if freed == 1 {
            assert_eq!(due, Tick::from_millis(60_000 + 100 * ended));
            ended += 1;
        }
    }
    assert_eq!(ended, 500);
}
