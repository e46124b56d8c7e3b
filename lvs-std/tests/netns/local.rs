//! Real servers that are the director's machine itself: its own stack serves them, by every method and over both
//! families, whether the director is a host of its own there or a guest. Programs of that machine as clients.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::thread;
use std::time::Instant;

use lvs_core::Family;
use lvs_std::control::{ServerSpec, ServiceName, ServiceSpec, TableCommand};
use lvs_std::lab::harness::{Outcome, Trial, trial};
use lvs_std::lab::{Lab, Node};
use lvs_std::runtime::{Runtime, RuntimeHandle};

use crate::arms::{Arms, LONG, SERVER, VIP};
use crate::traffic::{echo, exchange, serve};

/// By packet sockets (`packet`) or by `AF_XDP` (`xdp`).
pub(crate) fn over(lab: Lab, device: &str) -> Vec<Trial> {
    if device == "xdp" { by_xdp(lab) } else { by_packet_sockets(lab) }
}

fn by_packet_sockets(lab: Lab) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (mac, workers) in [("own", 1), ("same", 1), ("same", 2)] {
        let name =
            format!("a machine serves as a real server of its director, mac = {mac}, {workers} workers");
        trials.push(trial(name, move || serves(lab, (mac, "packet"), workers)));
    }
    trials.push(trial("a sorry server on the director's machine serves, and stops", move || sorry(lab)));
    for mac in ["own", "same"] {
        let name = format!("programs of the director's machine are clients, mac = {mac}");
        trials.push(trial(name, move || clients(lab, mac)));
    }
    trials
        .push(trial("servers and clients on the machine outlast what others do to its routing", move || {
            outlasts(lab)
        }));
    trials
        .push(trial("a server on the machine that cannot be served is said until it can", move || said(lab)));
    trials
}

fn by_xdp(lab: Lab) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (mac, workers) in [("own", 2), ("same", 1)] {
        let name = format!(
            "AF_XDP: a machine serves as a real server of its director, mac = {mac}, {workers} workers"
        );
        trials.push(trial(name, move || serves(lab, (mac, "xdp"), workers)));
    }
    trials
}

/// The director's machine has an address of the clients' network, and the virtual addresses on lo.
fn net(lab: Lab) -> Outcome<Arms> {
    let net = Arms::new(lab)?;
    net.client.add_address("eth0", v6(2), 64)?;
    net.director.add_address("eth0", MACHINE, 24)?;
    net.director.add_address("eth0", MACHINE6, 64)?;
    net.director.add_address("lo", VIP, 32)?;
    net.director.add_address("lo", VIP6, 128)?;
    // As on every real server: only the director answers for them.
    net.director.set_sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
    net.join_server()?;
    Ok(net)
}

fn start(net: &Arms, head: &str, mac: &str, services: &str) -> Outcome<Runtime> {
    start_by(net, head, (mac, "packet"), services)
}

fn start_by(net: &Arms, head: &str, (mac, device): (&str, &str), services: &str) -> Outcome<Runtime> {
    net.start(&format!(
        "{head}\n[[interface]]\nname = \"eth0\"\nmac = \"{mac}\"\ndevice = \"{device}\"\n\
         addresses = [\"10.1.0.254/24\", \"fd00:1::fe/64\"]\n\
         [[interface]]\nname = \"eth1\"\ndevice = \"{device}\"\n\
         addresses = [\"10.2.0.254/24\", \"fd00:2::fe/64\"]\n{services}"
    ))
}

fn service(virt: &str, port: u16, server: &str, server_port: u16, method: &str, protocol: &str) -> String {
    format!(
        "[[service]]\nprotocol = \"{protocol}\"\naddress = \"{virt}\"\nport = {port}\n\
         [[service.server]]\naddress = \"{server}\"\nport = {server_port}\nmethod = \"{method}\"\n"
    )
}

fn serves(lab: Lab, by: (&str, &str), workers: usize) -> Outcome {
    let net = net(lab)?;
    // A strict test of sources must not be in the way.
    net.director.set_sysctl("net.ipv4.conf.all.rp_filter", "1")?;
    let mut services = String::new();
    let mut all = Vec::new();
    let cases: [(IpAddr, &str, u16, &str, IpAddr); 11] = [
        // The service's port, and where the machine listens for it.
        (VIP, "127.0.0.1", 81, "nat", IpAddr::V4(Ipv4Addr::LOCALHOST)),
        (VIP, "10.1.0.1", 82, "nat", MACHINE),
        (VIP, "127.0.0.1", 83, "dr", VIP),
        (VIP, "10.1.0.1", 84, "tun", IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        (VIP, "10.1.0.100", 85, "nat", VIP),
        (VIP6, "::1", 86, "nat", IpAddr::V6(Ipv6Addr::LOCALHOST)),
        (VIP6, "fd00:1::1", 87, "nat", MACHINE6),
        (VIP6, "::1", 88, "dr", VIP6),
        (VIP6, "fd00:1::1", 89, "tun", IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        // Sockets that are bound to no address.
        (VIP, "127.0.0.1", 90, "nat", IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        (VIP, "10.1.0.1", 91, "nat", IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
    ];
    for (virt, server, port, method, listen) in cases {
        let server_port = if method == "nat" { port + 8_000 } else { port };
        for protocol in ["tcp", "udp"] {
            services += &service(&virt.to_string(), port, server, server_port, method, protocol);
        }
        serve(&net.director, SocketAddr::new(listen, server_port), port as u8)?;
        all.push((SocketAddr::new(virt, port), port as u8, listen.is_unspecified() && method != "nat"));
    }
    let runtime = start_by(&net, &format!("[director]\nworkers = {workers}"), by, &services)?;
    are_said(&runtime.handle(), &["this machine's rp_filter"])?;
    for (to, number, anywhere) in all {
        assert_eq!(exchange(&net.client, to, 300_000, 300_000)?, number, "{to}");
        // A socket of UDP without an address answers from the route's, as with any server by direct routing.
        if !anywhere {
            assert_eq!(echo(&net.client, to, 1_000)?, number, "{to} by UDP");
        }
    }
    // Several clients at a time, which several workers have.
    for _ in 0..8 {
        assert_eq!(exchange(&net.client, SocketAddr::new(VIP, 81), 1_000, 1_000)?, 81);
    }
    // The machine is itself as before: its own clients, and those that come directly, unless the test is strict.
    net.director.set_sysctl("net.ipv4.conf.all.rp_filter", "2")?;
    are_said(&runtime.handle(), &[])?;
    let own = SocketAddr::new(MACHINE, 8_082);
    assert_eq!(exchange(&net.director, own, 1_000, 1_000)?, 82);
    assert_eq!(exchange(&net.client, own, 1_000, 1_000)?, 82);
    assert!(net.director.interface("director0").is_ok());
    drop(runtime);
    assert!(net.director.interface("director0").is_err(), "gone with the director");
    assert_eq!(exchange(&net.client, own, 1_000, 1_000)?, 82, "nothing is led to the director any more");
    Ok(())
}

fn sorry(lab: Lab) -> Outcome {
    let net = net(lab)?;
    let services = "[[service]]\nprotocol = \"tcp\"\naddress = \"10.1.0.100\"\nport = 80\n\
         check = { type = \"tcp\", interval = \"200ms\", timeout = \"2s\", fall = 1, rise = 1 }\n\
         sorry-server = { address = \"127.0.0.1\", port = 8080, method = \"nat\" }\n\
         [[service.server]]\naddress = \"10.2.0.11\"\nport = 80\nmethod = \"nat\"\n";
    serve(&net.director, SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8_080), 1)?;
    net.director.add_address("eth1", IpAddr::from([10, 2, 0, 1]), 24)?;
    let runtime = start(&net, "", "own", services)?;
    let to = SocketAddr::new(VIP, 80);
    answers(&net.client, to, 1)?;
    serve(&net.server, SocketAddr::new(SERVER, 80), 2)?;
    answers(&net.client, to, 2)?;
    no_problem(&runtime.handle());
    drop(runtime);
    Ok(())
}

/// Waits until the server with this number answers.
fn answers(client: &Node, to: SocketAddr, number: u8) -> Outcome {
    let since = Instant::now();
    loop {
        let answer = exchange(client, to, 1_000, 1_000);
        match answer {
            Ok(who) if who == number => return Ok(()),
            other if since.elapsed() > LONG => return Err(format!("{to}: {other:?}").into()),
            Ok(_) | Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Somebody else takes the interface down, and deletes it.
fn outlasts(lab: Lab) -> Outcome {
    let net = net(lab)?;
    net.director.remove_address("lo", VIP, 32)?;
    net.director.remove_address("lo", VIP6, 128)?;
    let services = service("10.1.0.100", 81, "127.0.0.1", 8_081, "nat", "tcp")
        + &service("fd00:1::100", 81, "::1", 8_081, "nat", "tcp");
    serve(&net.director, "127.0.0.1:8081".parse()?, 1)?;
    serve(&net.director, "[::1]:8081".parse()?, 1)?;
    let runtime = start(&net, "[director]\nlocal-clients = true", "own", &services)?;
    let all_are_served = || -> Outcome {
        for node in [&net.client, &net.director] {
            for virt in [VIP, VIP6] {
                answers(node, SocketAddr::new(virt, 81), 1)?;
            }
        }
        are_said(&runtime.handle(), &[])
    };
    all_are_served()?;
    net.director.set_down("director0")?;
    are_said(&runtime.handle(), &["this machine's own real servers"])?;
    net.director.set_up("director0")?;
    all_are_served()?;
    net.director.remove_interface("director0")?;
    all_are_served()?;
    drop(runtime);
    Ok(())
}

fn said(lab: Lab) -> Outcome {
    let net = net(lab)?;
    let runtime = start(&net, "", "own", "")?;
    let director = runtime.handle();
    let web = ServiceName::tcp(SocketAddr::new(VIP, 80));
    let other = ServiceName::tcp(SocketAddr::from(([10, 1, 0, 101], 80)));
    let submit = |command: TableCommand| director.with_controller(|controller| controller.submit(command));
    for name in [web, other] {
        submit(TableCommand::NewService(name, ServiceSpec::new(Family::V4, "rr")))?;
    }
    const NAT: u32 = 0;
    const DR: u32 = 3;
    // An address of the director alone, and one of this machine that gets packets for an address that it does not have.
    submit(TableCommand::NewServer(web, "10.1.0.254:80".parse()?, ServerSpec::new(NAT, 1)))?;
    submit(TableCommand::NewServer(other, "127.0.0.1:80".parse()?, ServerSpec::new(DR, 1)))?;
    are_said(
        &director,
        &["this machine's real server 10.1.0.254:80", "this machine's real server 127.0.0.1:80"],
    )?;
    net.director.add_address("lo", IpAddr::from([10, 1, 0, 101]), 32)?;
    are_said(&director, &["this machine's real server 10.1.0.254:80"])?;
    submit(TableCommand::DelServer(web, "10.1.0.254:80".parse()?))?;
    are_said(&director, &[])?;
    serve(&net.director, "10.1.0.101:80".parse()?, 7)?;
    assert_eq!(exchange(&net.client, "10.1.0.101:80".parse()?, 1_000, 1_000)?, 7);
    drop(runtime);
    Ok(())
}

/// The machine has none of the virtual addresses, and a way to nowhere but its own networks.
fn clients(lab: Lab, mac: &str) -> Outcome {
    let net = net(lab)?;
    net.director.remove_address("lo", VIP, 32)?;
    net.director.remove_address("lo", VIP6, 128)?;
    net.server.add_address("eth0", SERVER6, 64)?;
    net.server.add_route(IpAddr::from([0_u16; 8]), 0, "fd00:2::fe".parse()?)?;
    let mut services = String::new();
    for protocol in ["tcp", "udp"] {
        services += &service("10.1.0.100", 80, "10.2.0.11", 8_000, "nat", protocol);
        services += &service("fd00:1::100", 80, "fd00:2::11", 8_000, "nat", protocol);
        services += &service("10.1.0.100", 81, "127.0.0.1", 8_081, "nat", protocol);
        services += &service("fd00:1::100", 81, "::1", 8_081, "nat", protocol);
    }
    serve(&net.server, SocketAddr::new(SERVER, 8_000), 1)?;
    serve(&net.server, SocketAddr::new(SERVER6, 8_000), 1)?;
    serve(&net.director, "127.0.0.1:8081".parse()?, 2)?;
    serve(&net.director, "[::1]:8081".parse()?, 2)?;
    let runtime = start(&net, "[director]\nlocal-clients = true", mac, &services)?;
    for virt in [VIP, VIP6] {
        for (port, number) in [(80, 1), (81, 2)] {
            let to = SocketAddr::new(virt, port);
            assert_eq!(exchange(&net.director, to, 300_000, 300_000)?, number, "{to}");
            assert_eq!(echo(&net.director, to, 1_000)?, number, "{to} by UDP");
            assert_eq!(echo(&net.director, to, 3_000)?, number, "{to} by UDP in fragments");
            assert_eq!(exchange(&net.client, to, 1_000, 1_000)?, number, "{to}, another host");
        }
        let refused = exchange(&net.director, SocketAddr::new(virt, 82), 1, 1).map_err(|error| error.kind());
        assert_eq!(refused, Err(std::io::ErrorKind::ConnectionRefused), "nobody listens there");
    }
    no_problem(&runtime.handle());
    // Less fits through to the server, which its answers do not tell of: an ICMP error does.
    net.director.set_mtu("eth1", 1_300)?;
    for virt in [VIP, VIP6] {
        assert_eq!(exchange(&net.director, SocketAddr::new(virt, 80), 300_000, 100)?, 1, "{virt}");
    }
    // With the address on the machine its programs find the machine, which is said.
    net.director.add_address("lo", VIP, 32)?;
    are_said(&runtime.handle(), &["this machine's own clients"])?;
    net.director.remove_address("lo", VIP, 32)?;
    are_said(&runtime.handle(), &[])?;
    assert_eq!(exchange(&net.director, SocketAddr::new(VIP, 80), 1_000, 1_000)?, 1);
    drop(runtime);
    let gone = net.director.run(|| std::net::UdpSocket::bind("0.0.0.0:0")?.connect((VIP, 80)))?;
    assert!(gone.is_ok(), "the machine's own network has the address again: {gone:?}");
    Ok(())
}

/// Waits until these parts have problems, and no others.
fn are_said(director: &RuntimeHandle, parts: &[&str]) -> Outcome {
    let since = Instant::now();
    loop {
        let said: Vec<String> = director.problems().list().iter().map(|one| one.part.to_string()).collect();
        if said == parts {
            return Ok(());
        }
        if since.elapsed() > LONG {
            return Err(format!("{said:?}").into());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn no_problem(director: &RuntimeHandle) {
    assert!(director.problems().list().is_empty(), "{:?}", director.problems());
}

const fn v6(host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, host))
}

const MACHINE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1));
const MACHINE6: IpAddr = v6(1);
const VIP6: IpAddr = v6(0x100);
const SERVER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0x11));
