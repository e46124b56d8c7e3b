//! Look-up tables are made by who changes a service, never by a worker's thread.

use core::net::SocketAddr;
use std::sync::Mutex;
use std::thread::{self, ThreadId};

use lvs_core::sched::{Change, Pool, Rng, Schedule, TableLen};
use lvs_core::tables::Build;
use lvs_core::{
    Config, Content, Director, Flow, Heap, Inspected, Method, Packet, Protocol, Scheduler, Seed,
    ServerConfig, ServerId, ServiceConfig, ServiceKey, TcpFlags, Tick, Verdict, Weight,
};
use lvs_std::control::{Controller, NoDaemons, ServerSpec, ServiceName, ServiceSpec, TableCommand, method};
use lvs_std::device::{PairOptions, pair};
use lvs_std::steering::{By, Steer};
use lvs_std::worker::{Handle, Worker, WorkerGroup, WorkerOptions};

use crate::world::{VIP, forwarder};

/// A scheduler that notes which thread makes its tables.
#[derive(Debug)]
struct Observed(Scheduler);

static MAKERS: Mutex<Vec<ThreadId>> = Mutex::new(Vec::new());

impl From<Scheduler> for Observed {
    fn from(scheduler: Scheduler) -> Self {
        Self(scheduler)
    }
}

impl Schedule for Observed {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn pick(&mut self, pool: &mut Pool<'_>, flow: &Flow, rng: &mut Rng) -> Option<ServerId> {
        self.0.pick(pool, flow, rng)
    }

    fn on_change(&mut self, pool: &mut Pool<'_>, change: Change) {
        self.0.on_change(pool, change);
    }

    fn table_len(&self) -> TableLen {
        self.0.table_len()
    }

    fn builder(&self) -> Option<Build> {
        self.0.builder()?;
        Some(|roster, table| {
            MAKERS.lock().unwrap().push(thread::current().id());
            mh().builder().unwrap()(roster, table)
        })
    }
}

fn mh() -> Scheduler {
    Scheduler::from_name("mh").unwrap()
}

type Store = Heap<Observed>;

fn key() -> ServiceKey {
    ServiceKey::tcp(VIP.into(), 80)
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, number], 80))
}

/// Where the SYNs of new clients go.
fn picks<S: lvs_core::Store>(director: &mut Director<S>, network: u8) -> Vec<SocketAddr> {
    let pick = |client: u8| {
        let client = SocketAddr::from(([198, 51, network, client], 4_000));
        let flow = Flow::new(Protocol::Tcp, client, (VIP, 80).into()).unwrap();
        match director.decide(
            Tick::ZERO,
            &Packet::new(flow, Content::Tcp(TcpFlags::SYN), 60),
            Inspected::Nothing,
        ) {
            Verdict::Forward(forward) => Some(forward.target),
            Verdict::Drop(_) | Verdict::Inspect | Verdict::Pass(_) | Verdict::Reject(_) => None,
        }
    };
    (0..200).filter_map(pick).collect()
}

/// What a director chooses that has never had other servers than these, the oldest first.
fn expected(servers: &[(u8, u16)], network: u8) -> Vec<SocketAddr> {
    let mut director = Director::new(Config::new(Seed::from_bytes([1; 16])), Heap::with_capacity(1_000));
    director.add_service(key(), ServiceConfig::new(mh())).unwrap();
    for (number, weight) in servers {
        let config = ServerConfig::new(address(*number), Method::Nat).with_weight(Weight::from(*weight));
        director.add_server(key(), config).unwrap();
    }
    picks(&mut director, network)
}

fn workers(count: usize) -> (Vec<Worker<Store>>, Vec<Handle<Store>>) {
    let one = |_| {
        let devices = [(); 2].map(|()| pair(&PairOptions::default()).unwrap().0);
        let store = Heap::with_capacity(1_000);
        let director = Director::new(Config::new(Seed::from_bytes([7; 16])), store);
        let made = Worker::new(director, forwarder(), devices.into(), WorkerOptions::default()).unwrap();
        (made.0, made.1)
    };
    (0..count).map(one).unzip()
}

#[test]
fn whoever_changes_a_service_makes_its_table_for_every_worker() {
    for count in [1, 2] {
        let (mut workers, handles) = workers(count);
        let steer = Steer::new(Seed::from_bytes([9; 16]), count, By::Endpoint);
        let group = WorkerGroup::new(&mut workers, handles.clone(), steer, vec![]);
        let threads: Vec<_> =
            workers.into_iter().map(|mut worker| thread::spawn(move || worker.run())).collect();
        let ids: Vec<ThreadId> = threads.iter().map(|thread| thread.thread().id()).collect();
        let mut controller = Controller::new(group.clone(), Box::new(NoDaemons));
        let name = ServiceName::tcp((VIP, 80).into());
        let spec = |weight| ServerSpec::new(method::MASQUERADING, weight);
        let service = |scheduler| ServiceSpec::new(name.family(), scheduler);
        let (set, add) = (TableCommand::SetServer, TableCommand::NewServer);
        let steps = [
            (TableCommand::NewService(name, service("rr")), vec![]),
            (add(name, address(1), spec(1)), vec![]),
            (add(name, address(2), spec(2)), vec![]),
            (TableCommand::SetService(name, service("mh"), u32::MAX), vec![(1, 1), (2, 2)]),
            (add(name, address(3), spec(1)), vec![(1, 1), (2, 2), (3, 1)]),
            (set(name, address(1), spec(5)), vec![(1, 5), (2, 2), (3, 1)]),
            (TableCommand::DelServer(name, address(2)), vec![(1, 5), (3, 1)]),
            (add(name, address(2), spec(3)), vec![(1, 5), (3, 1), (2, 3)]),
        ];
        for (network, (command, servers)) in (0..).zip(steps) {
            let before = MAKERS.lock().unwrap().len();
            controller.submit(command.clone()).unwrap();
            if servers.is_empty() {
                continue;
            }
            let all = group.with_each(move |_, director, _, _| picks(director, network)).unwrap();
            for picks in all {
                assert_eq!(picks, expected(&servers, network), "{command:?}");
            }
            let makers = MAKERS.lock().unwrap()[before..].to_vec();
            assert!(!makers.iter().any(|maker| ids.contains(maker)), "{command:?}");
            let here = makers.iter().filter(|maker| **maker == thread::current().id());
            assert_eq!(here.count(), 1, "one table for all workers: {command:?}");
        }
        group.stop();
        threads.into_iter().for_each(|thread| _ = thread.join().unwrap());
    }
}
