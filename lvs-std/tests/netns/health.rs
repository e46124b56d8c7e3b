//! Checkers that need a network of their own.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::net::TcpListener;

use lvs_core::{Config, Family, Method, Tunnel};
use lvs_std::health::{Check, Doing, Engine, Failure, Ping, Probe, Schedule, Through, ThroughMethod};
use lvs_std::lab::harness::{Outcome, Trial, trial};
use lvs_std::lab::{Cluster, Lab, Node, Plan};

pub(crate) fn trials(lab: Lab) -> Vec<Trial> {
    vec![
        trial(
            "a host that answers pings is up, by a ping socket and by a raw one, over both families",
            move || {
                let (checker, host) = pair(lab)?;
                // In a new namespace nobody may have ping sockets; then this group may.
                for groups in [None, Some("0 0")] {
                    if let Some(groups) = groups {
                        checker.set_sysctl("net.ipv4.ping_group_range", groups)?;
                    }
                    for address in HOST {
                        assert_eq!(ping(&checker, address)?, Ok(()), "{groups:?}: {address}");
                    }
                }
                drop(host);
                Ok(())
            },
        ),
        trial("a host that does not answer pings is down when time is up", move || {
            let (checker, host) = pair(lab)?;
            host.set_sysctl("net.ipv4.icmp_echo_ignore_all", "1")?;
            host.set_sysctl("net.ipv6.icmp.echo_ignore_all", "1")?;
            for address in HOST {
                let late = Failure::TimedOut { doing: Doing::Reply, after: TIMEOUT };
                assert_eq!(ping(&checker, address)?, Err(late), "{address}");
            }
            Ok(())
        }),
        trial("a probe through the virtual address reaches the server that it is for, by DR", move || {
            through(lab, Method::Direct)
        }),
        trial("a probe through the virtual address reaches the server that it is for, by IPIP", move || {
            through(lab, Method::Tunnel(Tunnel::IpIp))
        }),
        trial("a probe through the virtual address reaches the server that it is for, by GRE", move || {
            through(lab, Method::Tunnel(Tunnel::Gre { checksum: false }))
        }),
        trial("a probe through the virtual address reaches the server that it is for, by GUE", move || {
            through(lab, Method::Tunnel(Tunnel::Gue { port: 6080, checksum: false }))
        }),
        trial("a network to which there is no way is told as such", move || {
            let (checker, _host) = pair(lab)?;
            let failure = ping(&checker, "198.51.100.1")?.expect_err("there is no route");
            assert_eq!(failure.to_string(), "unreachable: network is unreachable");
            Ok(())
        }),
    ]
}

/// Two hosts on a cable.
fn pair(lab: Lab) -> Result<(Node, Node), Box<dyn core::error::Error>> {
    let (checker, host) = (lab.node("checker")?, lab.node("host")?);
    lab.connect((&checker, "eth0"), (&host, "eth0"))?;
    for (node, addresses) in [(&checker, CHECKER), (&host, HOST)] {
        for address in addresses {
            let address: IpAddr = address.parse()?;
            node.add_address("eth0", address, if address.is_ipv4() { 24 } else { 64 })?;
        }
    }
    Ok((checker, host))
}

/// The first server listens at the virtual address, the second does not, and there is no fifth.
fn through(lab: Lab, method: Method) -> Outcome {
    let cluster = Cluster::new(lab, &Plan::new(method).with_servers(2))?;
    let checker = &cluster.director;
    checker.set_sysctl("net.ipv6.conf.eth0.disable_ipv6", "0")?;
    let balancer = cluster.balance(Config::new(lvs_std::random_seed()?), Vec::new())?;
    for (family, address) in [Family::V4, Family::V6].into_iter().zip(CHECKER) {
        checker.add_address("eth0", address.parse()?, Cluster::prefix(family))?;
        let vip = SocketAddr::new(Cluster::vip(family), 80);
        let _listener = cluster.servers[0].run(|| TcpListener::bind(vip))??;
        let (way, place): (_, fn(u8, Family) -> IpAddr) = match method {
            Method::Tunnel(tunnel) => (ThroughMethod::Tunnel(tunnel), Cluster::tunnel_address),
            Method::Bypass | Method::Direct | Method::Local | Method::Nat => {
                (ThroughMethod::Direct, Cluster::server_address)
            }
        };
        // Neighbours that do not answer the first solicitation are asked again after a second.
        let answer = |number, timeout| {
            ask(checker, SocketAddr::new(place(number, family), 0), Through::new(vip, way), timeout)
        };
        assert_eq!(answer(1, PATIENCE)?, Ok(()), "{family:?}");
        assert_eq!(answer(2, PATIENCE)?, Err(Failure::Refused), "{family:?}");
        let failure = answer(5, TIMEOUT)?.expect_err("nobody is there");
        let told = matches!(failure, Failure::TimedOut { .. } | Failure::Unreachable(_));
        assert!(told, "{family:?}: {failure}");
        assert_eq!(answer(1, PATIENCE)?, Ok(()), "{family:?}: again");
    }
    balancer.stop()?;
    Ok(())
}

fn ping(from: &Node, target: &str) -> Result<Result<(), Failure>, Box<dyn core::error::Error>> {
    ask(from, SocketAddr::new(target.parse()?, 0), Ping::new(), TIMEOUT)
}

/// What one check from a node comes to.
fn ask(
    from: &Node,
    target: SocketAddr,
    check: impl Into<Check> + Send,
    timeout: Duration,
) -> Result<Result<(), Failure>, Box<dyn core::error::Error>> {
    let mut schedule = Schedule::every(Duration::from_secs(60)).with_timeout(timeout);
    schedule.warmup = Duration::ZERO;
    from.run(|| {
        let (mut engine, probes, _events) = Engine::new()?;
        let id = probes.watch(Probe::new(target, check.into(), schedule));
        while !probes.is_ready() {
            engine.turn(Some(Duration::from_millis(10)));
            if let Some(why) = probes.report(id).and_then(|report| report.why).filter(Failure::is_ours) {
                return Err(std::io::Error::other(why).into());
            }
        }
        let why = probes.report(id).and_then(|report| report.why);
        Ok::<_, Box<dyn core::error::Error + Send + Sync>>(why.map_or(Ok(()), Err))
    })?
    .map_err(|error| -> Box<dyn core::error::Error> { error })
}

const CHECKER: [&str; 2] = ["10.0.1.253", "2001:db8:1::fd"];
const HOST: [&str; 2] = ["10.0.1.11", "2001:db8:1::11"];
const PATIENCE: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_millis(300);
