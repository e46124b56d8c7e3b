//! Two directors with VRRP between their keepaliveds.

use core::net::SocketAddr;
use core::time::Duration;
use std::time::Instant;

use lvs_core::{Family, Method};
use lvs_std::lab::harness::Outcome;
use lvs_std::lab::{Cluster, Lab, Node, Plan};

use crate::cell::Cell;
use crate::web::{Web, visit_within};

/// The active director's machine goes; the virtual address moves, and new connections work within the time that VRRP
/// takes.
pub(crate) fn takeover(lab: Lab) -> Outcome {
    takeover_of(lab, &ON_LO)
}

/// The same with the tutorials' own lines: the virtual address on eth0, and each director a guest there.
pub(crate) fn takeover_beside_the_kernel(lab: Lab) -> Outcome {
    takeover_of(lab, &ON_ETH0)
}

/// Where keepalived puts the virtual address, and what the director is there.
struct Place {
    device: &'static str,
    arp_ignore: &'static str,
    mac: &'static str,
}

/// A host of its own: the kernel has the address on the loopback interface, and does not answer for it.
const ON_LO: Place = Place { device: " dev lo", arp_ignore: "1", mac: "own" };
const ON_ETH0: Place = Place { device: "", arp_ignore: "0", mac: "same" };

fn takeover_of(lab: Lab, place: &Place) -> Outcome {
    let cluster = Cluster::new(lab, &Plan::new(Method::Direct).with_servers(2))?;
    let second = lab.node("director2")?;
    cluster.switches[0].join(&second, "eth0")?;
    let mut servers = Vec::new();
    for node in &cluster.servers {
        servers.push(Web::serve(node)?);
    }
    let active = machine(&cluster.director, 1, ("MASTER", 100), place)?;
    let backup = machine(&second, 2, ("BACKUP", 90), place)?;
    let vip = SocketAddr::new(Cluster::vip(Family::V4), 80);
    let answers = || cluster.client.run(|| visit_within(vip, SHORT)).is_ok_and(|answer| answer.is_ok());
    active.wait("answer of the active director", answers)?;
    assert!(backup.read("keepalived.log").contains("Entering BACKUP STATE"), "{}", backup.logs());
    assert!(!backup.read("keepalived.log").contains("Entering MASTER STATE"), "{}", backup.logs());

    let gone = Instant::now();
    cluster.director.set_down("eth0")?;
    drop(active);
    assert!(!answers(), "the virtual address cannot have moved yet");
    backup.wait("answer of the other director", answers)?;
    let taken = gone.elapsed();
    assert!(taken < TAKEOVER + LATE, "{taken:?}");
    println!("new connections work {:.1} s after the active director was gone", taken.as_secs_f64());
    for _ in 0..4 {
        assert!(answers(), "{}", backup.logs());
    }
    Ok(())
}

/// Starts a director and its keepalived in a node. The director answers for the virtual address while it is there.
fn machine(
    node: &Node,
    number: u8,
    (state, priority): (&str, u8),
    place: &Place,
) -> Result<Cell, Box<dyn core::error::Error>> {
    let Place { device, arp_ignore, mac } = place;
    node.set_sysctl("net.ipv4.conf.all.arp_ignore", arp_ignore)?;
    node.set_sysctl("net.ipv6.conf.eth0.disable_ipv6", "1")?;
    node.add_address("eth0", format!("10.0.1.25{number}").parse()?, 24)?;
    let cell = Cell::new(node, &format!("vrrp{number}{mac}"))?;
    cell.write(
        "director.toml",
        &format!(
            "answer-for = \"host\"\n[[interface]]\nname = \"eth0\"\nmac = \"{mac}\"\n\
             addresses = [\"10.0.1.24{number}/24\", \"192.0.2.24{number}/24\"]\n"
        ),
    )?;
    let head = format!(
        "vrrp_instance VI_1 {{\n state {state}\n interface eth0\n virtual_router_id 51\n priority {priority}\n \
         advert_int 1\n virtual_ipaddress {{ 192.0.2.100/32{device} }}\n}}\n"
    );
    cell.write("keepalived.conf", &(head + SERVICE))?;
    cell.start_director("--config /run/kw/director.toml")?;
    cell.start_keepalived("")?;
    cell.wait_for_servers(&["10.0.1.11:80", "10.0.1.12:80"], Duration::from_secs(2))?;
    Ok(cell)
}

const SERVICE: &str = "\
virtual_server 192.0.2.100 80 {
    delay_loop 1
    lb_algo wrr
    lb_kind DR
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
const LATE: Duration = Duration::from_millis(2_500);
/// How long one connection is tried.
const SHORT: Duration = Duration::from_millis(300);
