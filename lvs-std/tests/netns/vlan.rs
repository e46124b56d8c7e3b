//! A director on a trunk, beside a kernel with interfaces of its own for the same VLANs.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::io;
use std::thread;
use std::time::Instant;

use lvs_forward::DropReason;
use lvs_std::lab::harness::{Outcome, REQUIRE_VLAN, Trial, left_out, trial};
use lvs_std::lab::{Lab, LabError};
use lvs_std::runtime::Runtime;

use crate::arms::{Arms, LONG, VIP};
use crate::word::{fetch, listen};

pub(crate) fn trials(lab: Lab) -> Vec<Trial> {
    if let Err(why) = has_vlans(lab) {
        return vec![left_out(REQUIRE_VLAN, "a director on a trunk", format!("no VLANs here: {why}"))];
    }
    let mut trials = Vec::new();
    for (mac, workers) in [("own", 1), ("same", 1), ("same", 2)] {
        let of = format!("mac = {mac}, {workers} workers");
        trials.push(trial(
            format!("each VLAN of a trunk has a port and a kernel of its own, {of}"),
            move || trunk(lab, mac, workers),
        ));
        trials
            .push(trial(format!("an interface and one of its VLANs see no frame twice, {of}"), move || {
                interfaces(lab, mac, workers)
            }));
    }
    trials
}

/// Whether the kernel can have an interface for a VLAN.
fn has_vlans(lab: Lab) -> Result<(), LabError> {
    let (one, other) = (lab.node("one")?, lab.node("other")?);
    lab.connect((&one, "eth0"), (&other, "eth0"))?;
    one.add_vlan("eth0", 100)
}

struct Net(Arms);

impl Net {
    /// The client and the director's machine have interfaces for VLANs 100 and 200 of their cable. The machine listens
    /// at port 22 of all its addresses, and has the virtual address of VLAN 100 if it is to have it.
    fn new(lab: Lab, has_address: bool) -> Outcome<Self> {
        let net = Arms::new(lab)?;
        net.director.add_address("eth0", IpAddr::from([10, 1, 0, 1]), 24)?;
        for vlan in [100, 200] {
            for (node, host) in [(&net.client, 2), (&net.director, 1)] {
                node.add_vlan("eth0", vlan.into())?;
                node.add_address(&format!("eth0.{vlan}"), Ipv4Addr::new(10, vlan, 0, host).into(), 24)?;
            }
        }
        if has_address {
            net.director.add_address("eth0.100", TAGGED_VIP, 32)?;
        }
        net.join_server()?;
        listen(&net.director, 22, "machine")?;
        listen(&net.server, 80, "server")?;
        Ok(Self(net))
    }

    fn start(&self, head: &str, interfaces: &str) -> Outcome<Runtime> {
        let service = |address: IpAddr| {
            format!(
                "[[service]]\nprotocol = \"tcp\"\naddress = \"{address}\"\nport = 80\n\
                 [[service.server]]\naddress = \"10.2.0.11\"\nport = 80\nmethod = \"nat\"\n"
            )
        };
        self.0.start(&format!("{head}{interfaces}{}{}", service(VIP), service(TAGGED_VIP)))
    }

    fn ask(&self, address: IpAddr, port: u16) -> io::Result<String> {
        let ask = move || fetch(SocketAddr::new(address, port));
        self.0.client.run(ask).map_err(io::Error::other)?
    }

    /// Waits until a real server answers at both virtual addresses.
    fn is_served(&self) -> Outcome {
        let since = Instant::now();
        for address in [VIP, TAGGED_VIP] {
            loop {
                match self.ask(address, 80) {
                    Ok(word) if word == "server" => break,
                    other if since.elapsed() > LONG => return Err(format!("{address}: {other:?}").into()),
                    Ok(_) | Err(_) => thread::sleep(Duration::from_millis(50)),
                }
            }
        }
        Ok(())
    }
}

fn trunk(lab: Lab, mac: &str, workers: usize) -> Outcome {
    let guest = mac == "same";
    let net = Net::new(lab, guest)?;
    let port = |name: &str, vlan: &str, address: &str| {
        format!("[[interface]]\nname = \"{name}\"\nmac = \"{mac}\"\n{vlan}addresses = [\"{address}/24\"]\n")
    };
    let interfaces = [
        port("eth0", "", "10.1.0.254"),
        port("eth0", "vlan = 100\n", "10.100.0.254"),
        port("eth1", "", "10.2.0.254"),
    ];
    let runtime = net.start(&format!("[director]\nworkers = {workers}\n"), &interfaces.concat())?;
    net.is_served()?;
    for _ in 0..8 {
        assert_eq!(net.ask(VIP, 80)?, "server", "without a tag");
        assert_eq!(net.ask(TAGGED_VIP, 80)?, "server", "in VLAN 100");
        for own in [[10, 1, 0, 1], [10, 100, 0, 1], [10, 200, 0, 1]] {
            assert_eq!(net.ask(own.into(), 22)?, "machine", "{own:?}");
        }
        if guest {
            assert_eq!(net.ask(TAGGED_VIP, 22)?, "machine", "the virtual address is the machine's as well");
        }
    }
    let drops = runtime.handle().statistics()?.total.forwarder.drops(DropReason::Vlan);
    assert!(drops > 0, "frames of VLAN 200 are none of the director's");
    Ok(())
}

fn interfaces(lab: Lab, mac: &str, workers: usize) -> Outcome {
    let net = Net::new(lab, mac == "same")?;
    let port = |(name, address): (&str, &str)| {
        format!("[[interface]]\nname = \"{name}\"\nmac = \"{mac}\"\naddresses = [\"{address}/24\"]\n")
    };
    let interfaces =
        [("eth0", "10.1.0.254"), ("eth0.100", "10.100.0.254"), ("eth1", "10.2.0.254")].map(port).concat();
    let runtime = net.start(&format!("[director]\nworkers = {workers}\n"), &interfaces)?;
    net.is_served()?;
    let counted = || -> Outcome<Vec<(u64, u64)>> {
        let services = runtime.handle().statistics()?.services;
        Ok(services.iter().map(|of| (of.traffic.connections, of.traffic.in_packets)).collect())
    };
    let before = counted()?;
    for _ in 0..8 {
        assert_eq!(net.ask(VIP, 80)?, "server");
        assert_eq!(net.ask(TAGGED_VIP, 80)?, "server");
    }
    for (before, after) in before.into_iter().zip(counted()?) {
        assert_eq!(after.0 - before.0, 8, "a connection is one");
        // A client sends a SYN, an acknowledgement, a FIN and what acknowledges the word and the server's FIN.
        let packets = (after.1 - before.1) / 8;
        assert!((3..=6).contains(&packets), "{packets} packets of a connection");
    }
    Ok(())
}

/// The virtual address of VLAN 100.
const TAGGED_VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 100, 0, 100));
