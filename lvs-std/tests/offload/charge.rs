//! The director stays in charge of what passes it by.

use core::net::SocketAddr;
use core::time::Duration;
use std::thread::{self, sleep};
use std::time::Instant;

use lvs_core::conn::{State, TcpState};
use lvs_core::stats::Traffic;
use lvs_core::{Family, Method, ServerConfig, ServiceKey};
use lvs_std::control::{Controller, NoDaemons};
use lvs_std::lab::harness::{Outcome, Trial, trial};
use lvs_std::lab::{Arms, Cluster, Lab, Node, Obstacle, Plan};
use lvs_std::steering::By;
use lvs_std::worker::Handle;

use crate::balancer::Balancer;
use crate::traffic::{PATIENCE, Session};

pub(crate) fn trials(lab: Lab) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (over, family) in [("IPv4", Family::V4), ("IPv6", Family::V6)] {
        for (name, method, arms) in [
            ("NAT", Method::Nat, Arms::One),
            ("NAT between two networks", Method::Nat, Arms::Two),
            ("DR", Method::Direct, Arms::One),
        ] {
            let plan = Plan::new(method).with_arms(arms).with_offload();
            trials.push(trial(
                format!("bulk transfers by {name} over {over} pass the director by"),
                move || passes(lab, plan, family),
            ));
        }
        let plan = Plan::new(Method::Nat).with_offload();
        for sessions in [1, 40] {
            let name = format!("what passes by on {sessions} connections over {over} counts to the byte");
            trials.push(trial(name, move || counts(lab, plan, family, sessions)));
        }
        trials.push(trial(
            format!("a connection over {over} that is closed is closed for the director"),
            move || closes(lab, plan, family),
        ));
        trials.push(trial(format!("a removed server gets nothing more over {over}"), move || {
            removes(lab, plan, family)
        }));
        trials.push(trial(
            format!("nothing passes to a virtual address that is gone over {over}"),
            move || loses_its_address(lab, plan, family),
        ));
        trials.push(trial(
            format!("where another program takes what was to pass over {over}, transfers go by the director"),
            move || is_obstructed(lab, plan, family),
        ));
        let plan = plan.with_workers(2, By::Endpoint);
        trials.push(trial(format!("each of two workers has an offload over {over}"), move || {
            shares(lab, plan, family)
        }));
    }
    trials
}

/// Enough for an offload to be taken, in both directions.
const BULK: usize = 12 << 20;

fn passes(lab: Lab, plan: Plan, family: Family) -> Outcome {
    let balancer = Balancer::start(lab, &plan, family, "rr")?;
    let sees_replies = plan.method.sees_replies();
    balancer.client().run(|| {
        for _ in 0..3 {
            let mut session = Session::open(balancer.vip())?;
            // The second time, all of it may pass.
            session.exchange(BULK, BULK)?;
            session.exchange(BULK, BULK)?;
        }
        Ok::<(), std::io::Error>(())
    })??;
    let counters = balancer.stop()?.director;
    let (offload, traffic) = (counters.worker.offload, counters.director.traffic);
    assert_eq!(offload.installed, if sees_replies { 6 } else { 3 }, "{offload:?}");
    let all = (if sees_replies { 12 } else { 6 }) * BULK as u64;
    assert!(traffic.in_bytes + traffic.out_bytes > all, "{traffic:?}");
    assert!(offload.bytes > all / 2, "most of {all} bytes pass by: {offload:?}");
    Ok(())
}

/// A transfer whose packets the director counts itself, and one that passes it by.
fn counts(lab: Lab, plan: Plan, family: Family, sessions: usize) -> Outcome {
    let balancer = Balancer::start(lab, &plan, family, "rr")?;
    let each = BULK / sessions.div_ceil(4);
    let mut sessions: Vec<Session> = balancer
        .client()
        .run(|| (0..sessions).map(|_| Session::open(balancer.vip())).collect::<Result<_, _>>())??;
    let talk = |sessions: &mut Vec<Session>, each: usize| {
        thread::scope(|scope| {
            let all = sessions.iter_mut().map(|session| scope.spawn(move || session.exchange(each, each)));
            all.collect::<Vec<_>>().into_iter().try_for_each(|talk| talk.join().expect("no panic").map(drop))
        })
    };
    talk(&mut sessions, each)?;
    talk(&mut sessions, each)?;
    let seen = |handle: &Handle| {
        handle.with(|director, forwarder, _| {
            let service = director.services().next().map(|service| service.meter().live());
            let servers = director.services().next().map(|service| service.key()).map(|key| {
                director.servers(key).map(|(_, server)| server.meter().live().in_bytes).sum::<u64>()
            });
            (director.counters().traffic, service, servers, forwarder.counters().requests)
        })
    };
    let sent = || -> Result<[(u64, u64); 2], Box<dyn core::error::Error>> {
        let mut by_servers = (0, 0);
        for number in 1..=3 {
            let (packets, bytes) = sent_by(balancer.server(number))?;
            by_servers = (by_servers.0 + packets, by_servers.1 + bytes);
        }
        Ok([sent_by(balancer.client())?, by_servers])
    };
    // A command sees what has passed up to then. What is sent in between is not missed by both.
    let (sent_before, before) = (sent()?, seen(balancer.handle())?);
    talk(&mut sessions, each)?;
    let (after, sent_after) = (seen(balancer.handle())?, sent()?);
    let (frames, all) = (after.3 - before.3, after.0.in_packets - before.0.in_packets);
    assert!(4 * frames < all, "nearly all of it passed by: {frames} of {all} packets did not");
    let counted = |traffic: &Traffic| {
        [(traffic.in_packets, traffic.in_bytes), (traffic.out_packets, traffic.out_bytes)]
    };
    for at in [0, 1] {
        let (now, earlier) = (counted(&after.0)[at], counted(&before.0)[at]);
        let (packets, bytes) = (now.0 - earlier.0, now.1 - earlier.1);
        let (sent_packets, sent_bytes) =
            (sent_after[at].0 - sent_before[at].0, sent_after[at].1 - sent_before[at].1);
        // Kernels may have asked for neighbours, told their groups, or acknowledged late, as well.
        let others = sent_packets - packets;
        assert!(others <= 12 + sessions.len() as u64, "{packets} packets of {sent_packets}");
        let of_others = sent_bytes - 14 * sent_packets - bytes;
        assert!((28 * others..=120 * others).contains(&of_others), "{of_others} bytes in {others} packets");
    }
    assert_eq!(after.1, Some(after.0), "the service has what the director has");
    assert_eq!(after.2, Some(after.0.in_bytes), "and so have its servers");
    balancer.stop().map(drop)
}

fn closes(lab: Lab, plan: Plan, family: Family) -> Outcome {
    let balancer = Balancer::start(lab, &plan, family, "rr")?;
    let mut session = balancer.client().run(|| Session::open(balancer.vip()))??;
    session.exchange(BULK, BULK)?;
    assert!(shown(balancer.handle())? > 0);
    drop(session);
    let controller = Controller::new(balancer.handle().clone(), Box::new(NoDaemons));
    let end = Instant::now() + PATIENCE;
    loop {
        let states: Vec<State> =
            controller.connections()?.iter().map(|connection| connection.state).collect();
        if states.iter().all(|state| *state != State::Tcp(TcpState::Established)) {
            assert_eq!(states.len(), 1, "{states:?}");
            break;
        }
        assert!(Instant::now() < end, "{states:?}");
        sleep(Duration::from_millis(5));
    }
    balancer.stop().map(drop)
}

fn removes(lab: Lab, plan: Plan, family: Family) -> Outcome {
    let balancer = Balancer::start(lab, &plan, family, "rr")?;
    let mut session = balancer.client().run(|| Session::open(balancer.vip()))??;
    let server = session.exchange(BULK, BULK)?;
    assert!(shown(balancer.handle())? > 0);
    balancer.remove_server(server)?;
    let before = passed(balancer.handle())?;
    let talk = thread::spawn(move || session.exchange(BULK, BULK));
    sleep(Duration::from_millis(500));
    assert_eq!(passed(balancer.handle())?, before, "nothing passes to a server that is gone");
    assert!(!talk.is_finished());
    let web = ServiceKey::tcp(Cluster::vip(family), balancer.vip().port());
    let again = SocketAddr::new(Cluster::server_address(server, family), 8080);
    let again = ServerConfig::new(again, Method::Nat);
    balancer.handle().with(move |director, _, _| director.add_server(web, again))??;
    assert_eq!(talk.join().expect("no panic")?, server, "it goes on when the server is back");
    balancer.stop().map(drop)
}

fn loses_its_address(lab: Lab, plan: Plan, family: Family) -> Outcome {
    let balancer = Balancer::start(lab, &plan, family, "rr")?;
    let mut session = balancer.client().run(|| Session::open(balancer.vip()))??;
    session.exchange(BULK, BULK)?;
    assert!(shown(balancer.handle())? > 0);
    let vip = balancer.vip().ip();
    assert!(balancer.handle().with(move |_, forwarder, _| forwarder.host_mut().remove_address(vip))?);
    let before = passed(balancer.handle())?;
    let talk = thread::spawn(move || session.exchange(BULK, BULK));
    sleep(Duration::from_millis(300));
    assert_eq!(passed(balancer.handle())?, before, "it is another host's now");
    balancer.handle().with(move |_, forwarder, _| forwarder.host_mut().add_virtual_address(vip))??;
    talk.join().expect("no panic")?;
    balancer.stop().map(drop)
}

fn is_obstructed(lab: Lab, plan: Plan, family: Family) -> Outcome {
    let balancer = Balancer::start(lab, &plan, family, "rr")?;
    let mut session = balancer.client().run(|| Session::open(balancer.vip()))??;
    session.exchange(BULK, BULK)?;
    let shown = shown(balancer.handle())?;
    assert!(shown > 0);
    let obstacle = balancer.cluster.director.run(|| Obstacle::put("eth0"))??;
    let before = passed(balancer.handle())?;
    session.exchange(BULK, BULK)?;
    let others = balancer.client().run(|| Session::open(balancer.vip()))??.exchange(BULK, BULK)?;
    assert!(passed(balancer.handle())? > before + (BULK >> 16) as u64, "server {others} was reached");
    drop(obstacle);
    let offload = balancer.stop()?.director.worker.offload;
    assert!(offload.lost > 0, "it is noticed");
    assert_eq!(offload.installed, shown, "nothing is shown any more");
    Ok(())
}

fn shares(lab: Lab, plan: Plan, family: Family) -> Outcome {
    let balancer = Balancer::start(lab, &plan, family, "rr")?;
    balancer.client().run(|| {
        for _ in 0..12 {
            let mut session = Session::open(balancer.vip())?;
            session.exchange(BULK / 2, BULK / 2)?;
        }
        Ok::<(), std::io::Error>(())
    })??;
    let workers = balancer.stop()?.workers;
    assert!(workers.iter().all(|worker| worker.worker.offload.bytes > 0), "{workers:?}");
    Ok(())
}

/// Packets and bytes, Ethernet headers included, that a node has sent.
fn sent_by(node: &Node) -> Result<(u64, u64), Box<dyn core::error::Error>> {
    let text = node.run(|| std::fs::read_to_string("/proc/thread-self/net/dev"))??;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).ok_or("no eth0")?;
    let numbers: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    Ok((numbers[9], numbers[8]))
}

/// Directions that were shown to the kernel, once some are.
fn shown(handle: &Handle) -> Result<u64, Box<dyn core::error::Error>> {
    let end = Instant::now() + PATIENCE;
    loop {
        let shown = handle.snapshot().worker.offload.installed;
        if shown > 0 || Instant::now() > end {
            return Ok(shown);
        }
        sleep(Duration::from_millis(20));
    }
}

/// Packets that the director has counted.
fn passed(handle: &Handle) -> Result<u64, Box<dyn core::error::Error>> {
    Ok(handle.with(|director, _, _| director.counters().traffic.in_packets)?)
}
