//! The lab itself, with a kernel in the director's place.

use core::net::{IpAddr, SocketAddr};

use lvs_core::{Family, Method};
use lvs_std::lab::harness::{Outcome, Trial, trial};
use lvs_std::lab::{Arms, Cluster, Lab, Plan};

use crate::traffic::{echo, exchange, serve};

pub(crate) fn trials(lab: Lab) -> Vec<Trial> {
    vec![
        trial("a node sees its own interfaces and none of the machine", move || {
            let node = lab.node("alone")?;
            let text = node.run(|| std::fs::read_to_string("/proc/thread-self/net/dev"))??;
            assert_eq!(text.lines().skip(2).count(), 1, "{text}");
            assert!(text.contains(" lo:"), "{text}");
            Ok(())
        }),
        trial("a refused step says which node, which step and why", move || {
            let error = lab
                .node("rs1")?
                .add_address("eth9", [192, 0, 2, 1].into(), 24)
                .expect_err("there is no eth9");
            let text = error.to_string();
            assert!(
                text.starts_with("node rs1: cannot add address 192.0.2.1/24 to eth9: No such device"),
                "{text}"
            );
            Ok(())
        }),
        trial("a second lab of a process with threads is no error", || {
            Lab::new()?;
            Ok(())
        }),
        trial("what looks into a node from outside finds that node", move || {
            let node = lab.node("seen")?;
            node.set_sysctl("net.ipv4.ip_forward", "1")?;
            let command = node.nsenter();
            let path = command.split(" -n").nth(1).ok_or("no path to the namespace")?;
            let namespace = std::fs::read_link(path)?;
            assert_eq!(node.run(|| std::fs::read_link("/proc/thread-self/ns/net"))??, namespace);
            Ok(())
        }),
        trial("a sysctl of one node is none of another's", move || {
            let (one, other) = (lab.node("one")?, lab.node("other")?);
            one.set_sysctl("net.ipv4.ip_forward", "1")?;
            let read = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward");
            assert_eq!(one.run(read)??.trim(), "1");
            assert_eq!(other.run(read)??.trim(), "0");
            Ok(())
        }),
        trial("clients and servers of a NAT layout talk by a router on one network", move || {
            routed(lab, Arms::One)
        }),
        trial("clients and servers of a NAT layout talk by a router between two networks", move || {
            routed(lab, Arms::Two)
        }),
        trial("real servers of DR hide the virtual address from ARP", move || {
            let cluster = Cluster::new(lab, &Plan::new(Method::Direct))?;
            for (server, number) in cluster.servers.iter().zip(1..) {
                serve(server, SocketAddr::new(Cluster::vip(Family::V4), 80), number)?;
                serve(server, SocketAddr::new(Cluster::vip(Family::V6), 80), number)?;
            }
            for family in [Family::V4, Family::V6] {
                let error = exchange(&cluster.client, SocketAddr::new(Cluster::vip(family), 80), 1, 1)
                    .expect_err("nobody answers ARP for the VIP");
                let kind = error.kind();
                assert!(matches!(kind, std::io::ErrorKind::HostUnreachable), "{family:?}: {error}");
            }
            Ok(())
        }),
    ]
}

/// Puts an ordinary router into the director's place.
fn routed(lab: Lab, arms: Arms) -> Outcome {
    let cluster = Cluster::new(lab, &Plan::new(Method::Nat).with_arms(arms))?;
    let inner = match arms {
        Arms::One => "eth0",
        Arms::Two => "eth1",
    };
    let router = &cluster.director;
    router.set_sysctl("net.ipv4.ip_forward", "1")?;
    router.set_sysctl("net.ipv6.conf.all.forwarding", "1")?;
    for interface in ["eth0", inner] {
        router.set_sysctl(&format!("net.ipv6.conf.{interface}.disable_ipv6"), "0")?;
    }
    for family in [Family::V4, Family::V6] {
        let prefix = Cluster::prefix(family);
        router.add_address("eth0", Cluster::director_to_clients(family), prefix)?;
        router.add_address(inner, Cluster::director_to_servers(family), prefix)?;
        let servers = Cluster::server_address(0, family);
        cluster.client.add_route(mask(servers), prefix, Cluster::director_to_clients(family))?;
        for (server, number) in cluster.servers.iter().zip(1..) {
            let address = SocketAddr::new(Cluster::server_address(number, family), 80);
            serve(server, address, number)?;
            assert_eq!(exchange(&cluster.client, address, 3 << 20, 2 << 20)?, number);
            assert_eq!(echo(&cluster.client, address, 1_000)?, number);
        }
    }
    Ok(())
}

/// The network's address: the last byte is the host in both subnets.
fn mask(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            [a, b, c, 0].into()
        }
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets[15] = 0;
            octets.into()
        }
    }
}
