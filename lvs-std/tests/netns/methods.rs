//! Every forwarding method over both address families, with real TCP and UDP on both sides.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use lvs_core::{Family, Method, Tunnel};
use lvs_forward::DropReason;
use lvs_std::lab::harness::{Outcome, Trial, trial};
use lvs_std::lab::{Arms, Lab, Plan};

use crate::balancer::Balancer;
use crate::traffic::{Session, echo, exchange};

const METHODS: [(&str, Method); 5] = [
    ("NAT", Method::Nat),
    ("DR", Method::Direct),
    ("TUN by IPIP", Method::Tunnel(Tunnel::IpIp)),
    ("TUN by GRE", Method::Tunnel(Tunnel::Gre { checksum: true })),
    ("TUN by GUE", Method::Tunnel(Tunnel::Gue { port: 6080, checksum: true })),
];

/// All of them over a director as planned for each method.
pub(crate) fn over(lab: Lab, prefix: &str, plan: impl Fn(Method) -> Plan) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, method) in METHODS {
        for (over, family) in [("IPv4", Family::V4), ("IPv6", Family::V6)] {
            let plan = plan(method);
            let mut add = |what: &str, test: fn(Lab, Plan, Family) -> Outcome| {
                trials.push(trial(format!("{prefix}{name} over {over} {what}"), move || {
                    test(lab, plan, family)
                }));
            };
            add("carries megabytes both ways with the offloads of a veth pair", carries_megabytes);
            add("echoes datagrams of every server", echoes_datagrams);
            if !matches!(method, Method::Tunnel(_)) {
                // The tunnels' ends here take no fragments.
                add("echoes datagrams in fragments", echoes_fragments);
            }
            add("leaves others alone when a server is removed", removes_a_server);
            add("deals a thousand short connections by weight", deals_by_weight);
            if let Method::Tunnel(_) = method {
                add("tells the client of the tunnel's MTU, and its connection goes on", learns_the_mtu);
            }
        }
    }
    for (over, family) in [("IPv4", Family::V4), ("IPv6", Family::V6)] {
        let plan = plan(Method::Nat).with_arms(Arms::Two);
        trials.push(trial(
            format!("{prefix}NAT over {over} between two networks carries megabytes both ways"),
            move || carries_megabytes(lab, plan, family),
        ));
    }
    for (inner, outer, families) in
        [("IPv6", "IPv4", [Family::V6, Family::V4]), ("IPv4", "IPv6", [Family::V4, Family::V6])]
    {
        for (name, method) in METHODS.into_iter().filter(|(_, method)| matches!(method, Method::Tunnel(_))) {
            let plan = plan(method);
            trials.push(trial(format!("{prefix}{name} carries {inner} over {outer}"), move || {
                let balancer = Balancer::start_mixed(lab, &plan, families, "rr")?;
                for _ in 0..3 {
                    exchange(balancer.client(), balancer.vip(), 1 << 20, 1 << 20)?;
                }
                balancer.stop().map(drop)
            }));
        }
    }
    trials
}

fn carries_megabytes(lab: Lab, plan: Plan, family: Family) -> Outcome {
    let balancer = Balancer::start(lab, &plan, family, "rr")?;
    let mut servers = BTreeMap::new();
    for _ in 0..3 {
        let server = exchange(balancer.client(), balancer.vip(), 6 << 20, 5 << 20)?;
        *servers.entry(server).or_insert(0) += 1;
    }
    assert_eq!(servers, BTreeMap::from([(1, 1), (2, 1), (3, 1)]), "each server had its turn");
    balancer.stop().map(drop)
}

fn echoes_datagrams(lab: Lab, plan: Plan, family: Family) -> Outcome {
    let balancer = Balancer::start(lab, &plan, family, "rr")?;
    let mut servers = BTreeMap::new();
    for length in [0, 1, 2, 1_000, 1_001, 1_400] {
        *servers.entry(echo(balancer.client(), balancer.vip(), length)?).or_insert(0) += 1;
    }
    assert_eq!(servers, BTreeMap::from([(1, 2), (2, 2), (3, 2)]));
    balancer.stop().map(drop)
}

fn echoes_fragments(lab: Lab, plan: Plan, family: Family) -> Outcome {
    let balancer = Balancer::start(lab, &plan, family, "rr")?;
    for length in [1_473, 3_000, 20_000, 60_000] {
        let server = echo(balancer.client(), balancer.vip(), length)?;
        assert!((1..=3).contains(&server));
    }
    let counters = balancer.stop()?.director.forwarder;
    // Under DR replies do not come by here.
    assert!(counters.datagrams >= 4, "{counters:?}");
    assert!(counters.fragments >= 60, "{counters:?}");
    Ok(())
}

fn removes_a_server(lab: Lab, plan: Plan, family: Family) -> Outcome {
    let balancer = Balancer::start(lab, &plan, family, "rr")?;
    let mut sessions = BTreeMap::new();
    for _ in 0..3 {
        let mut session = balancer.client().run(|| Session::open(balancer.vip()))??;
        sessions.insert(session.exchange(100_000, 100_000)?, session);
    }
    assert_eq!(sessions.len(), 3, "each server has a connection");
    balancer.remove_server(2)?;
    for (server, session) in &mut sessions {
        if *server != 2 {
            assert_eq!(session.exchange(1 << 20, 1 << 20)?, *server, "an open connection keeps its server");
        }
    }
    for _ in 0..4 {
        assert_ne!(
            exchange(balancer.client(), balancer.vip(), 10, 10)?,
            2,
            "a removed server gets nothing new"
        );
    }
    balancer.stop().map(drop)
}

fn deals_by_weight(lab: Lab, plan: Plan, family: Family) -> Outcome {
    const CONNECTIONS: u32 = 1_000;
    let balancer = Balancer::start(lab, &plan, family, "wrr")?;
    let mut servers = BTreeMap::new();
    balancer.client().run(|| {
        for _ in 0..CONNECTIONS {
            *servers.entry(Session::open(balancer.vip())?.exchange(20, 20)?).or_insert(0) += 1;
        }
        Ok::<(), std::io::Error>(())
    })??;
    // Weights 3, 2 and 1: whole cycles are exact, and the last one may be cut short.
    for (server, weight) in [(1, 3), (2, 2), (3, 1)] {
        let got = servers.get(&server).copied().unwrap_or(0_u32);
        assert!(
            (got * 6).abs_diff(CONNECTIONS * weight) <= 6,
            "server {server} got {got} of {CONNECTIONS}: {servers:?}"
        );
    }
    balancer.stop().map(drop)
}

fn learns_the_mtu(lab: Lab, plan: Plan, family: Family) -> Outcome {
    let balancer = Balancer::start(lab, &plan, family, "rr")?;
    let vip: SocketAddr = balancer.vip();
    let mut session = balancer.client().run(|| Session::open(vip))??;
    assert_eq!(session.mtu(vip), plan.mtu, "the client begins with its interface's MTU");
    session.exchange(3 << 20, 10)?;
    let tunnel = plan.mtu - overhead(plan.method, family);
    assert_eq!(session.mtu(vip), tunnel, "the connection uses the tunnel's MTU");
    assert_eq!(balancer.client().path_mtu(vip.ip())?, Some(tunnel), "the client's kernel has learnt it");
    let counters = balancer.stop()?.director.forwarder;
    assert!(counters.drops(DropReason::TooBig) > 0 && counters.icmp_errors > 0, "{counters:?}");
    Ok(())
}

/// What the tunnel adds to a packet, in bytes.
fn overhead(method: Method, family: Family) -> u32 {
    let outer = match family {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    outer
        + match method {
            Method::Bypass | Method::Direct | Method::Local | Method::Nat | Method::Tunnel(Tunnel::IpIp) => 0,
            Method::Tunnel(Tunnel::Gre { checksum }) => {
                if checksum {
                    8
                } else {
                    4
                }
            }
            Method::Tunnel(Tunnel::Gue { .. }) => 12,
        }
}
