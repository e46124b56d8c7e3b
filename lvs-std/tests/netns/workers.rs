//! Several workers as one director: each connection with one of them, all of them at work.

use std::collections::BTreeMap;

use lvs_core::{Family, Method, Tunnel};
use lvs_std::lab::harness::{Outcome, Trial, trial};
use lvs_std::lab::{Arms, Lab, Plan};
use lvs_std::steering::By;

use crate::balancer::Balancer;
use crate::traffic::{Session, echo, exchange};

/// By packet sockets, or over devices of another kind, whose name is `by`.
pub(crate) fn over(lab: Lab, by: &str, plan: impl Fn(Method) -> Plan) -> Vec<Trial> {
    if by.is_empty() { by_packet_sockets(lab) } else { over_queues(lab, by, plan) }
}

fn by_packet_sockets(lab: Lab) -> Vec<Trial> {
    let mut trials = Vec::new();
    let methods =
        [("NAT", Method::Nat), ("DR", Method::Direct), ("TUN by IPIP", Method::Tunnel(Tunnel::IpIp))];
    for (name, method) in methods {
        for (over, family) in [("IPv4", Family::V4), ("IPv6", Family::V6)] {
            let plan = Plan::new(method).with_workers(2, By::Endpoint);
            trials.push(trial(format!("two workers share {name} over {over}"), move || {
                shares(lab, plan, family)
            }));
        }
    }
    for (over, family) in [("IPv4", Family::V4), ("IPv6", Family::V6)] {
        for (what, by) in [("endpoint", By::Endpoint), ("address", By::ADDRESS)] {
            let plan = Plan::new(Method::Nat).with_workers(2, by);
            trials.push(trial(
                format!("fragments over {over} come together at the worker of their {what}"),
                move || echoes_fragments(lab, plan, family),
            ));
        }
        let plan = Plan::new(Method::Tunnel(Tunnel::IpIp)).with_workers(3, By::Endpoint);
        trials.push(trial(
            format!("clients learn a tunnel's MTU over {over} from whichever worker they have"),
            move || learns_the_mtu(lab, plan, family),
        ));
        let plan = Plan::new(Method::Nat).with_workers(3, By::Endpoint);
        trials.push(trial(
            format!("an interface that was down over {over} is shared out as before"),
            move || comes_back(lab, plan, family),
        ));
        let plan = Plan::new(Method::Nat).with_arms(Arms::Two).with_workers(3, By::Endpoint);
        trials.push(trial(
            format!("three workers between two networks over {over} find replies back"),
            move || shares(lab, plan, family),
        ));
    }
    trials
}

/// Interfaces of one queue and of several.
fn over_queues(lab: Lab, by: &str, plan: impl Fn(Method) -> Plan) -> Vec<Trial> {
    let mut trials = Vec::new();
    let tun = Method::Tunnel(Tunnel::IpIp);
    for (name, method, workers, queues, arms, family) in [
        ("NAT", Method::Nat, 2, 1, Arms::One, Family::V4),
        ("NAT", Method::Nat, 2, 2, Arms::One, Family::V6),
        ("NAT", Method::Nat, 3, 2, Arms::Two, Family::V4),
        ("NAT", Method::Nat, 2, 4, Arms::Two, Family::V6),
        ("DR", Method::Direct, 2, 2, Arms::One, Family::V4),
        ("DR", Method::Direct, 3, 1, Arms::One, Family::V6),
        ("TUN by IPIP", tun, 2, 4, Arms::One, Family::V4),
        ("TUN by IPIP", tun, 3, 2, Arms::One, Family::V6),
    ] {
        let plan = plan(method).with_workers(workers, By::Endpoint).with_queues(queues).with_arms(arms);
        trials.push(trial(
            format!("{by}{workers} workers share {name} over {family:?}, {queues} queues, {arms:?} arms"),
            move || shares(lab, plan, family),
        ));
    }
    let plan = plan(Method::Nat).with_queues(2);
    for (what, by_what) in [("endpoint", By::Endpoint), ("address", By::ADDRESS)] {
        let plan = plan.with_workers(2, by_what);
        trials.push(trial(
            format!(
                "{by}fragments come together at the worker of their {what}, whichever queue they come by"
            ),
            move || echoes_fragments(lab, plan, Family::V4),
        ));
    }
    trials.push(trial(
        format!("{by}an interface with several queues that was down is shared out as before"),
        move || comes_back(lab, plan.with_workers(3, By::Endpoint), Family::V6),
    ));
    trials
}

/// Many connections, all of them right, and about as many with each worker.
fn shares(lab: Lab, plan: Plan, family: Family) -> Outcome {
    const CONNECTIONS: u64 = 200;
    let balancer = Balancer::start(lab, &plan, family, "rr")?;
    let mut servers = BTreeMap::new();
    balancer.client().run(|| {
        for _ in 0..CONNECTIONS {
            *servers.entry(Session::open(balancer.vip())?.exchange(3_000, 3_000)?).or_insert(0) += 1;
        }
        Ok::<(), std::io::Error>(())
    })??;
    assert_eq!(servers.len(), 3, "{servers:?}");
    for _ in 0..3 {
        exchange(balancer.client(), balancer.vip(), 1 << 20, 1 << 20)?;
    }
    for _ in 0..20 {
        echo(balancer.client(), balancer.vip(), 100)?;
    }
    let counters = balancer.stop()?;
    let workers: Vec<u64> =
        counters.workers.iter().map(|worker| worker.director.traffic.connections).collect();
    assert_eq!(workers.iter().sum::<u64>(), CONNECTIONS + 3 + 20);
    let fair = CONNECTIONS / plan.workers.0 as u64;
    assert!(workers.iter().all(|connections| *connections > fair / 2), "{workers:?}");
    assert_eq!(counters.director.worker.handover_lost, 0);
    Ok(())
}

fn echoes_fragments(lab: Lab, plan: Plan, family: Family) -> Outcome {
    let balancer = Balancer::start(lab, &plan, family, "rr")?;
    for _ in 0..8 {
        for length in [1_473, 3_000, 20_000, 60_000] {
            echo(balancer.client(), balancer.vip(), length)?;
        }
    }
    let counters = balancer.stop()?;
    let datagrams: Vec<u64> = counters.workers.iter().map(|worker| worker.forwarder.datagrams).collect();
    // There and back.
    assert_eq!(datagrams.iter().sum::<u64>(), 64, "{datagrams:?}");
    match plan.workers.1 {
        By::Endpoint => assert!(datagrams.iter().all(|datagrams| *datagrams > 0), "{datagrams:?}"),
        By::Address { .. } => {
            assert!(datagrams.contains(&0), "one client's are with one worker: {datagrams:?}");
            assert_eq!(counters.director.worker.handed_over, counters.workers[0].worker.handed_over);
        }
    }
    assert_eq!(counters.director.worker.handover_lost, 0);
    Ok(())
}

fn learns_the_mtu(lab: Lab, plan: Plan, family: Family) -> Outcome {
    let balancer = Balancer::start(lab, &plan, family, "rr")?;
    let vip = balancer.vip();
    for _ in 0..6 {
        let mut session = balancer.client().run(|| Session::open(vip))??;
        session.exchange(1 << 20, 10)?;
    }
    assert!(balancer.client().path_mtu(vip.ip())?.is_some_and(|mtu| mtu < plan.mtu));
    balancer.stop().map(drop)
}

fn comes_back(lab: Lab, plan: Plan, family: Family) -> Outcome {
    let balancer = Balancer::start(lab, &plan, family, "rr")?;
    let mut sessions = Vec::new();
    for _ in 0..12 {
        let mut session = balancer.client().run(|| Session::open(balancer.vip()))??;
        session.exchange(1_000, 1_000)?;
        sessions.push(session);
    }
    balancer.cluster.director.set_down("eth0")?;
    balancer.cluster.director.set_up("eth0")?;
    for session in &mut sessions {
        session.exchange(100_000, 100_000)?;
    }
    let counters = balancer.stop()?;
    let opened: u64 = counters.workers.iter().map(|worker| worker.director.traffic.connections).sum();
    assert_eq!(opened, 12, "each connection is still with its worker");
    Ok(())
}
