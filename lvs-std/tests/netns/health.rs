//! Checkers that need a network of their own.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use libtest_mimic::Trial;
use lvs_std::health::{Doing, Engine, Failure, Ping, Probe, Schedule};
use lvs_std::lab::{Lab, Node};

use crate::trial;

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

/// What one ping from a node comes to.
fn ping(from: &Node, target: &str) -> Result<Result<(), Failure>, Box<dyn core::error::Error>> {
    let target = SocketAddr::new(target.parse()?, 0);
    let mut schedule = Schedule::every(Duration::from_secs(60)).with_timeout(TIMEOUT);
    schedule.warmup = Duration::ZERO;
    from.run(|| {
        let (mut engine, probes, _events) = Engine::new()?;
        let id = probes.watch(Probe::new(target, Ping::new().into(), schedule));
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
const TIMEOUT: Duration = Duration::from_millis(300);
