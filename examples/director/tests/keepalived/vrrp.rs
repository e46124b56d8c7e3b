//! Two directors with VRRP between their keepaliveds.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::time::Instant;

use lvs_core::{Family, Method};
use lvs_std::lab::harness::Outcome;
use lvs_std::lab::{Arms, Cluster, Lab, Node, Plan};

use crate::cell::Cell;
use crate::web::{Web, visit_within};

/// The active director's machine goes; the virtual address moves, and new connections work within the time that VRRP
/// takes. Each machine's own services answer meanwhile.
pub(crate) fn takeover(lab: Lab, setup: &Setup) -> Outcome {
    let (method, arms) = if setup.two_armed { (Method::Nat, Arms::Two) } else { (Method::Direct, Arms::One) };
    let cluster = Cluster::new(lab, &Plan::new(method).with_servers(2).with_arms(arms))?;
    let second = lab.node("director2")?;
    for (switch, interface) in cluster.switches.iter().zip(["eth0", "eth1"]) {
        switch.join(&second, interface)?;
    }
    let mut servers = Vec::new();
    for node in &cluster.servers {
        servers.push(Web::serve(node)?);
    }
    let (active, ssh) = machine(&cluster.director, 1, ("MASTER", 100), setup)?;
    let (backup, _ssh) = machine(&second, 2, ("BACKUP", 90), setup)?;
    let at = |address: IpAddr, port| {
        let to = SocketAddr::new(address, port);
        cluster.client.run(|| visit_within(to, SHORT)).is_ok_and(|answer| answer.is_ok())
    };
    let answers = || at(Cluster::vip(Family::V4), 80);
    active.wait("answer of the active director", answers)?;
    assert!(backup.read("keepalived.log").contains("Entering BACKUP STATE"), "{}", backup.logs());
    assert!(!backup.read("keepalived.log").contains("Entering MASTER STATE"), "{}", backup.logs());
    for (number, cell) in [(1, &active), (2, &backup)] {
        cell.wait("answer of a service of the machine itself", || at(own(number), SSH))?;
    }

    let gone = Instant::now();
    for (_, interface) in cluster.switches.iter().zip(["eth0", "eth1"]) {
        cluster.director.set_down(interface)?;
    }
    drop((active, ssh));
    assert!(!answers(), "the virtual address cannot have moved yet");
    backup.wait("answer of the other director", answers)?;
    let taken = gone.elapsed();
    assert!(taken < TAKEOVER + LATE, "{taken:?}");
    println!("new connections work {:.1} s after the active director was gone", taken.as_secs_f64());
    for _ in 0..4 {
        assert!(answers(), "{}", backup.logs());
    }
    assert!(at(own(2), SSH), "{}", backup.logs());
    Ok(())
}

/// Two directors with VRRP: by which devices they work, and where keepalived puts the virtual address.
pub(crate) struct Setup {
    pub(crate) name: &'static str,
    /// Whether servers are behind a network of their own, whose gateway moves with the virtual address: NAT. Else DR.
    pub(crate) two_armed: bool,
    /// The virtual address is on the loopback interface, and the director is a host of its own beside the kernel. Else
    /// it is on eth0, by the tutorials' own lines, and the director is a guest of the kernel.
    pub(crate) on_loopback: bool,
    pub(crate) device: &'static str,
}

/// Starts a director and its keepalived in a node. The director answers for the virtual address while it is there.
fn machine(node: &Node, number: u8, (state, priority): (&str, u8), setup: &Setup) -> Outcome<(Cell, Web)> {
    let device = setup.device;
    let (on, arp_ignore, mac) = if setup.on_loopback { (" dev lo", "1", "own") } else { ("", "0", "same") };
    let interfaces = if setup.two_armed { &["eth0", "eth1"][..] } else { &["eth0"] };
    node.set_sysctl("net.ipv4.conf.all.arp_ignore", arp_ignore)?;
    node.add_address("eth0", own(number), 24)?;
    let name = setup.name.replace(' ', "-");
    let cell = Cell::new(node, &format!("vrrp-{name}-{device}-{number}"))?;
    let mut file = "answer-for = \"host\"\n".to_owned();
    let mut instances = String::new();
    for (interface, id) in interfaces.iter().zip(51..) {
        node.set_sysctl(&format!("net.ipv6.conf.{interface}.disable_ipv6"), "1")?;
        let addresses = match (*interface, setup.two_armed) {
            ("eth0", false) => format!("\"192.0.2.24{number}/24\", \"10.0.1.24{number}/24\""),
            ("eth0", true) => format!("\"192.0.2.24{number}/24\""),
            _ => format!("\"10.0.1.24{number}/24\""),
        };
        file += &format!(
            "[[interface]]\nname = \"{interface}\"\ndevice = \"{device}\"\nmac = \"{mac}\"\n\
             addresses = [{addresses}]\n"
        );
        let moves =
            if *interface == "eth0" { format!("192.0.2.100/32{on}") } else { "10.0.1.254/24".to_owned() };
        instances += &format!(
            "vrrp_instance VI_{id} {{\n state {state}\n interface {interface}\n virtual_router_id {id}\n \
             priority {priority}\n advert_int 1\n virtual_ipaddress {{ {moves} }}\n}}\n"
        );
    }
    // keepalived's checks of servers come from an address of this network.
    let to_servers = interfaces.last().copied().unwrap_or("eth0");
    node.add_address(to_servers, format!("10.0.1.25{number}").parse()?, 24)?;
    if setup.two_armed {
        instances += "vrrp_sync_group VG_1 {\n group {\n VI_51\n VI_52\n }\n}\n";
    }
    cell.write("director.toml", &file)?;
    let kind = if setup.two_armed { "NAT" } else { "DR" };
    cell.write("keepalived.conf", &(instances + &SERVICE.replace("KIND", kind)))?;
    cell.start_director("--config /run/kw/director.toml")?;
    cell.start_keepalived("")?;
    cell.wait_for_servers(&["10.0.1.11:80", "10.0.1.12:80"], Duration::from_secs(2))?;
    Ok((cell, Web::serve_at(node, SSH)?))
}

/// An address of a machine itself.
const fn own(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 250 + number))
}

const SERVICE: &str = "\
virtual_server 192.0.2.100 80 {
    delay_loop 1
    lb_algo wrr
    lb_kind KIND
    protocol TCP
    warmup 0
    real_server 10.0.1.11 80 {
        weight 3
        TCP_CHECK { connect_timeout 3 }
    }
    real_server 10.0.1.12 80 {
        weight 3
        TCP_CHECK { connect_timeout 3 }
    }
}
";

/// Three intervals and the skew of priority 90 (RFC 5798, 6.1): 3 s + (256 - 90) / 256 s.
const TAKEOVER: Duration = Duration::from_millis(3_650);
/// How late it may be on a busy machine.
const LATE: Duration = Duration::from_secs(15);
/// How long one connection is tried.
const SHORT: Duration = Duration::from_millis(300);
/// A port of the machine's own.
const SSH: u16 = 22;
