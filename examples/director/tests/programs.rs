//! `director run`, `check` and `decap` as their users start them, in the namespaces of a lab.

mod support;

use core::error::Error;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Output};
use std::time::Instant;

use lvs_conformance::{Action, Scenario};
use lvs_core::{Family, Method, Tunnel};
use lvs_std::device::Device;
use lvs_std::device::packet::{self, PacketOptions};
use lvs_std::lab::harness::{self, Outcome};
use lvs_std::lab::{Cluster, Lab, Node, Plan};
use rustix::process::Signal;
use support::{PROGRAM, Program, Temporary, ask, serve};
use tempfile::TempDir;

fn main() -> ExitCode {
    harness::run(None, |lab| {
        harness::named(
            lab,
            [
                ("a director balances by its file, by NAT", nat),
                ("a director balances several ports as one service by their mark", mark),
                ("a director tunnels by its file, and real servers decapsulate into a TUN device", tunnel),
                ("merged frames beyond 64 KiB reach real servers, of both families", big_tcp),
                (
                    "a director of a scenario does on interfaces what was recorded, controlled as by ipvsadm",
                    scenario,
                ),
                ("a director of a scenario tells others of its connections", sync_master),
                (
                    "routing rules that a killed director leaves lead nowhere, and the next one takes them away",
                    leaves_rules,
                ),
                ("a tool without a director says so", no_director),
                ("a director whose interface does not exist says so, and ends if told so", no_interface),
                ("a director that may choose its device says which it took and why", chosen_device),
                ("a director that may not load an XDP program says so", no_bpf),
                ("a right file is described, with status 0", right_file),
                ("a wrong file is refused with its place, with status 1", wrong_file),
            ],
        )
    })
}

fn nat(lab: Lab) -> Outcome {
    let cluster = Cluster::new(lab, &Plan::new(Method::Nat).with_servers(2))?;
    let file = Temporary::new(&configuration(|number| {
        format!(
            "address = \"{}\"\nport = 8080\nmethod = \"nat\"\n",
            Cluster::server_address(number, Family::V4)
        )
    }))?;
    for (server, number) in cluster.servers.iter().zip(1..) {
        serve(server, SocketAddr::new(Cluster::server_address(number, Family::V4), 8080))?;
    }
    let text = balance(&cluster, &file)?;
    assert!(text.contains("sent to real servers") && text.contains("sent to clients"), "{text}");
    Ok(())
}

/// A real server on the director's machine.
fn leaves_rules(lab: Lab) -> Outcome {
    let (client, machine) = (lab.node("client")?, lab.node("machine")?);
    lab.connect((&client, "eth0"), (&machine, "eth0"))?;
    client.add_address("eth0", [10, 1, 0, 2].into(), 24)?;
    machine.add_address("eth0", [10, 1, 0, 1].into(), 24)?;
    let server = "10.1.0.1:8081".parse()?;
    serve(&machine, server)?;
    let file = Temporary::new(
        "[[interface]]\nname = \"eth0\"\naddresses = [\"10.1.0.254/24\"]\n\
         [[service]]\nprotocol = \"tcp\"\naddress = \"10.1.0.100\"\nport = 80\n\
         [[service.server]]\naddress = \"10.1.0.1\"\nport = 8081\nmethod = \"nat\"\n",
    )?;
    let arguments = ["run", "--no-state", "--no-control", "--config", &file.name()];
    let start = || Program::start(&machine, &arguments, "the director is at work");
    let ask = |to: SocketAddr| client.run(|| ask(to));
    let before = machine.count_routing_rules()?;
    let director = start()?;
    assert_eq!(ask("10.1.0.100:80".parse()?)??, "machine");
    let with = machine.count_routing_rules()?;
    assert!(with > before, "{with} rules");
    // Killed.
    drop(director);
    let since = Instant::now();
    while machine.interface("director0").is_ok() {
        assert!(since.elapsed() < Duration::from_secs(60), "the interface goes with the process");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(machine.count_routing_rules()?, with, "nobody is there to take them away");
    assert_eq!(ask(server)??, "machine", "they are in nobody's way");
    let director = start()?;
    assert_eq!(ask("10.1.0.100:80".parse()?)??, "machine");
    assert_eq!(machine.count_routing_rules()?, with, "only its own");
    director.stop(Signal::INT)?;
    assert_eq!(machine.count_routing_rules()?, before);
    assert_eq!(ask(server)??, "machine");
    Ok(())
}

fn mark(lab: Lab) -> Outcome {
    let cluster = Cluster::new(lab, &Plan::new(Method::Nat).with_servers(2))?;
    let mut text = String::from(
        "virtual-addresses = [\"192.0.2.100\"]\n[[interface]]\nname = \"eth0\"\n\
         addresses = [\"10.0.1.254/24\", \"192.0.2.254/24\"]\n\
         [[mark]]\nmark = 5\nto = \"192.0.2.100/32\"\nprotocol = \"tcp\"\nports = [81, 82]\n\
         [[service]]\nmark = 5\nfamily = \"v4\"\nscheduler = \"rr\"\n",
    );
    for (server, number) in cluster.servers.iter().zip(1..) {
        let address = Cluster::server_address(number, Family::V4);
        text.push_str(&format!("[[service.server]]\naddress = \"{address}\"\nmethod = \"nat\"\n"));
        serve(server, SocketAddr::new(address, 81))?;
        serve(server, SocketAddr::new(address, 82))?;
    }
    let file = Temporary::new(&text)?;
    let director = Program::start(
        &cluster.director,
        &["run", "--no-control", "--config", &file.name()],
        "the director is at work",
    )?;
    let ask = |port| cluster.client.run(|| ask(SocketAddr::new(Cluster::vip(Family::V4), port)));
    for (port, server) in [(81, "rs2"), (82, "rs1"), (82, "rs2"), (81, "rs1")] {
        assert_eq!(ask(port)??, server, "one service deals the connections to both ports in turn");
    }
    director.stop(Signal::INT)?;
    Ok(())
}

fn tunnel(lab: Lab) -> Outcome {
    let cluster = Cluster::new(lab, &Plan::new(Method::Tunnel(Tunnel::IpIp)).with_servers(2))?;
    let file = Temporary::new(&configuration(|number| {
        let address = Cluster::tunnel_address(number, Family::V4);
        format!(
            "address = \"{address}\"\nmethod = \"tun\"\ntunnel = \"gue\"\ntunnel-port = 6080\nchecksum = true\n"
        )
    }))?;
    let mut ends = Vec::new();
    for (server, number) in cluster.servers.iter().zip(1..) {
        serve(server, SocketAddr::new(Cluster::vip(Family::V4), 80))?;
        let address = format!("{}/24", Cluster::tunnel_address(number, Family::V4));
        let arguments = ["decap", "--interface", "eth0", "--address", &address, "--tun", "tunl0"];
        ends.push(Program::start(server, &arguments, "unwrapping what comes to")?);
    }
    balance(&cluster, &file)?;
    for end in ends {
        let text = end.stop(Signal::TERM)?;
        assert!(text.contains(" packets were unwrapped"), "{text}");
        assert!(!text.contains(" 0 packets") && !text.contains("could not be handed over"), "{text}");
    }
    Ok(())
}

/// By cables, since a bridge would need to be told as well. Two workers share the frames.
fn big_tcp(lab: Lab) -> Outcome {
    let [client, director, server] = ["client", "director", "server"].map(|name| lab.node(name));
    let (client, director, server) = (client?, director?, server?);
    lab.connect((&client, "eth0"), (&director, "eth0"))?;
    lab.connect((&server, "eth0"), (&director, "eth1"))?;
    for (node, interface) in [(&client, "eth0"), (&director, "eth0"), (&director, "eth1"), (&server, "eth0")]
    {
        node.set_merged_lengths(interface, 185_000)?;
    }
    let mut text = String::from("[director]\nworkers = 2\noffload = false\n");
    for (name, v4, v6) in [("eth0", "10.1.0.254", "fd01::fe"), ("eth1", "10.2.0.254", "fd02::fe")] {
        text.push_str(&format!("[[interface]]\nname = \"{name}\"\naddresses = [\"{v4}/24\", \"{v6}/64\"]\n"));
    }
    let mut services = Vec::new();
    for (vip, client_address, server_address, gateway, prefix) in [
        ("10.1.0.100", "10.1.0.2", "10.2.0.11", "10.2.0.254", 24),
        ("fd01::100", "fd01::2", "fd02::11", "fd02::fe", 64),
    ] {
        client.add_address("eth0", client_address.parse()?, prefix)?;
        server.add_address("eth0", server_address.parse()?, prefix)?;
        let any = if prefix == 24 { "0.0.0.0" } else { "::" };
        server.add_route(any.parse()?, 0, gateway.parse()?)?;
        text.push_str(&format!(
            "[[service]]\nprotocol = \"tcp\"\naddress = \"{vip}\"\nport = 81\n\
             [[service.server]]\naddress = \"{server_address}\"\nmethod = \"nat\"\n"
        ));
        services.push(SocketAddr::new(vip.parse()?, 81));
        count_bytes(&server, SocketAddr::new(server_address.parse()?, 81))?;
    }
    let file = Temporary::new(&text)?;
    let running = Program::start(
        &director,
        &["run", "--no-control", "--config", &file.name()],
        "the director is at work",
    )?;
    for service in services {
        let longest = |_: u32| -> Result<u64, Box<dyn Error>> {
            let before = received(&director, "eth0")?;
            let counted = client.run(|| upload(service, 24 << 20))??;
            assert_eq!(counted, (24 << 20).to_string(), "{service}");
            let now = received(&director, "eth0")?;
            Ok((now.0 - before.0) / (now.1 - before.1))
        };
        let averages = (0..10).map(longest).collect::<Result<Vec<_>, _>>()?;
        // How long frames become is the client's decision. Some of them were longer for sure if the average was.
        assert!(averages.iter().any(|bytes| *bytes > 65_536), "{service}: frames of {averages:?} bytes");
    }
    let said = running.stop(Signal::INT)?;
    assert!(!said.contains("jumbo"), "{said}");
    Ok(())
}

/// A server that counts what each client sends, and says how much that was.
fn count_bytes(node: &Node, address: SocketAddr) -> Outcome {
    let listener = node.run(|| std::net::TcpListener::bind(address))??;
    node.spawn("counter", move || {
        for mut stream in listener.incoming().flatten() {
            let count = std::io::copy(&mut stream, &mut std::io::sink()).unwrap_or_default();
            drop(std::io::Write::write_all(&mut stream, count.to_string().as_bytes()));
        }
    })?;
    Ok(())
}

/// Sends so many bytes, and returns what comes then.
fn upload(to: SocketAddr, bytes: usize) -> std::io::Result<String> {
    let mut stream = std::net::TcpStream::connect_timeout(&to, Duration::from_secs(10))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let piece = vec![7; 1 << 20];
    for _ in 0..bytes >> 20 {
        std::io::Write::write_all(&mut stream, &piece)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    std::io::read_to_string(stream)
}

/// Bytes and frames that have come in by an interface.
fn received(node: &Node, interface: &str) -> Result<(u64, u64), Box<dyn Error>> {
    let text = node.run(|| std::fs::read_to_string("/proc/thread-self/net/dev"))??;
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'));
    let mut fields = line.ok_or("no such interface")?.split_whitespace();
    Ok((fields.next().ok_or("bytes")?.parse()?, fields.next().ok_or("frames")?.parse()?))
}

fn scenario(lab: Lab) -> Outcome {
    let nodes = (lab.node("director")?, lab.node("outside")?);
    let (program, _place, socket) = play(&lab, &nodes, "nat-tcp", 10)?;
    let listed = String::from_utf8(ipvsadm(&socket, "-Ln")?.stdout)?;
    assert_eq!(listed.lines().nth(3), Some("TCP  10.99.0.1:80 rr"), "{listed}");
    let server = "  -> 10.0.1.11:8080               Masq    1      0          1         ";
    assert_eq!(listed.lines().nth(4), Some(server), "{listed}");
    let listed = String::from_utf8(ipvsadm(&socket, "-Lnc")?.stdout)?;
    assert!(listed.contains("TIME_WAIT   192.0.2.7:40000    10.99.0.1:80       10.0.1.11:8080"), "{listed}");
    let refused = ipvsadm(&socket, "-A -t 10.99.0.1:80 -s rr")?;
    assert_eq!((refused.status.code(), &*refused.stderr), (Some(255), &b"Service already exists\n"[..]));
    let turned = Command::new(PROGRAM)
        .args(["sysctl", "--control", &socket, "net.ipv4.vs.sloppy_tcp", "2"])
        .output()?;
    assert_eq!(turned.status.code(), Some(255), "{turned:?}");
    program.stop(Signal::INT)?;
    assert!(!PathBuf::from(socket).exists(), "the socket goes with the director");
    Ok(())
}

fn sync_master(lab: Lab) -> Outcome {
    let nodes = (lab.node("director")?, lab.node("outside")?);
    let (program, _place, socket) = play(&lab, &nodes, "sync-master-all", 7)?;
    let refused = ipvsadm(&socket, "--start-daemon master --mcast-interface eth0")?;
    assert_eq!((refused.status.code(), &*refused.stderr), (Some(255), &b"Daemon has already run\n"[..]));
    assert_eq!(ipvsadm(&socket, "--stop-daemon master")?.status.code(), Some(0));
    program.stop(Signal::INT)?;
    Ok(())
}

/// Plays a scenario against a director on interfaces, which must send this many frames, all as recorded. It goes on;
/// this is its socket.
fn play(
    lab: &Lab,
    (director, outside): &(Node, Node),
    name: &str,
    count: usize,
) -> Result<(Program, TempDir, String), Box<dyn Error>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../conformance/scenarios").join(name);
    let scenario = Scenario::load(&folder)?;
    let mut ports = BTreeMap::new();
    for port in scenario.director.ports.keys() {
        lab.connect((director, port), (outside, port))?;
        ports.insert(port.as_str(), outside.run(|| packet::open(port, &PacketOptions::default()))??.device);
    }
    let place = tempfile::tempdir()?;
    let socket = place.path().join("director.sock").display().to_string();
    let folder = folder.display().to_string();
    let arguments = ["run", "--scenario", &folder, "--ports", "eth0,eth1", "--control", &socket];
    let program = Program::start(director, &arguments, "the director is at work")?;
    let mut frames = 0;
    for step in &scenario.steps {
        let expected = match &step.action {
            Action::Ipvsadm { args, rc } => {
                let output = ipvsadm(&socket, args)?;
                assert_eq!(output.status.code(), Some(*rc), "{args}: {output:?}");
                continue;
            }
            Action::Frame { port, hex, out, .. } => {
                ports.get_mut(port.as_str()).ok_or("no such port")?.send(&hex.0)?;
                out
            }
            // Waiting for what is to come is enough.
            Action::Sleep { out, .. } => out,
            Action::Snap { .. } | Action::Listing {} | Action::Sysctl { .. } => continue,
            other => return Err(format!("{other:?}").into()),
        };
        for expected in expected {
            let device = ports.get_mut(expected.port.as_str()).ok_or("no such port")?;
            let got = receive(device)?;
            let mask = |at: usize| expected.mask.as_ref().map_or(0xff, |mask| mask.0[at]);
            let masked =
                |bytes: &[u8]| bytes.iter().enumerate().map(|(at, b)| b & mask(at)).collect::<Vec<u8>>();
            assert_eq!(got.len(), expected.hex.0.len(), "step {}", step.number);
            assert_eq!(masked(&got), masked(&expected.hex.0), "step {}", step.number);
            frames += 1;
        }
    }
    assert_eq!(frames, count);
    Ok((program, place, socket))
}

fn ipvsadm(socket: &str, line: &str) -> std::io::Result<Output> {
    Command::new(PROGRAM).args(["ipvsadm", "--control", socket]).args(line.split_whitespace()).output()
}

/// The next frame, in time. Interfaces also speak of themselves (router and listener discovery): that is IPv6.
fn receive(device: &mut Device) -> Result<Vec<u8>, Box<dyn Error>> {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        let ipv4 = |frame: &Vec<u8>| frame.get(12..14) == Some(&[8, 0]);
        if let Some(frame) = device.drain()?.into_iter().find(ipv4) {
            return Ok(frame);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err("nothing came".into())
}

fn no_director(_: Lab) -> Outcome {
    let output = ipvsadm("/nowhere/director.sock", "-Ln")?;
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr)?;
    assert!(said.starts_with("Can't initialize ipvs: No such file or directory\n"), "{said}");
    assert!(said.contains("No director answers at /nowhere/director.sock"), "{said}");
    Ok(())
}

/// Runs a director on the file, asks 40 times, and stops it; returns what it printed.
fn balance(cluster: &Cluster, file: &Temporary) -> Result<String, Box<dyn Error>> {
    let director = Program::start(
        &cluster.director,
        &["run", "--no-control", "--config", &file.name()],
        "the director is at work",
    )?;
    let mut servers = BTreeMap::new();
    for _ in 0..40 {
        let name = cluster.client.run(|| ask(SocketAddr::new(Cluster::vip(Family::V4), 80)))??;
        *servers.entry(name).or_insert(0) += 1;
    }
    assert_eq!(servers, BTreeMap::from([("rs1".to_owned(), 30), ("rs2".to_owned(), 10)]), "weights 3 and 1");
    let text = director.stop(Signal::INT)?;
    let row = |name: &str| -> Vec<String> {
        let line = text.lines().rev().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(row("TCP 192.0.2.100:80, wrr").get(3).map(String::as_str), Some("40"), "{text}");
    assert_eq!(
        row("10.0.1.").get(1).map(String::as_str),
        Some("10"),
        "the last server's connections: {text}"
    );
    Ok(text)
}

fn no_interface(lab: Lab) -> Outcome {
    let text = configuration(|number| format!("address = \"10.0.1.{number}\"\nmethod = \"dr\"\n"));
    let file = Temporary::new(&format!("[director]\nwhen-no-interface = \"exit\"\n{text}"))?;
    let mut command = Command::new(PROGRAM);
    let command = command.args(["run", "--no-control", "--no-state", "--config", &file.name()]);
    let output = lab.node("empty")?.run(|| command.output())??;
    let text = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("eth0: it is not there; it is taken up when it comes"), "{text}");
    assert!(text.contains("none of the interfaces can be used"), "{text}");
    Ok(())
}

fn chosen_device(lab: Lab) -> Outcome {
    let cluster = Cluster::new(lab, &Plan::new(Method::Nat).with_servers(2))?;
    for (server, number) in cluster.servers.iter().zip(1..) {
        serve(server, SocketAddr::new(Cluster::server_address(number, Family::V4), 8080))?;
    }
    let file = Temporary::new(&by_device("auto"))?;
    let director = Program::start(
        &cluster.director,
        &["run", "--no-control", "--config", &file.name()],
        "eth0: packet sockets, because the other end of this `veth` interface is a kernel",
    )?;
    let server = cluster.client.run(|| ask(SocketAddr::new(Cluster::vip(Family::V4), 80)))??;
    assert!(server.starts_with("rs"), "{server}");
    director.stop(Signal::INT).map(drop)
}

fn no_bpf(lab: Lab) -> Outcome {
    let cluster = Cluster::new(lab, &Plan::new(Method::Nat).with_servers(0))?;
    let file = Temporary::new(&by_device("xdp"))?;
    let mut command = Command::new(PROGRAM);
    let command = command.args(["run", "--no-control", "--config", &file.name()]);
    let output = cluster.director.run(|| command.output())??;
    let text = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("interface `eth0`: the kernel makes no BPF maps, for which CAP_BPF"), "{text}");
    Ok(())
}

/// A file that says by which device its interface is to be used.
fn by_device(device: &str) -> String {
    let text = configuration(|number| {
        let address = Cluster::server_address(number, Family::V4);
        format!("address = \"{address}\"\nport = 8080\nmethod = \"nat\"\n")
    });
    text.replacen("name = \"eth0\"", &format!("name = \"eth0\"\ndevice = \"{device}\""), 1)
}

fn right_file(_: Lab) -> Outcome {
    let output = Command::new(PROGRAM)
        .args(["check", concat!(env!("CARGO_MANIFEST_DIR"), "/director.toml")])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(0), "{text}");
    for part in [
        "interfaces\n  eth0",
        "TCP 192.0.2.100:80, wrr",
        "tun, gue to port 6080 with checksum",
        "65536 connections",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    Ok(())
}

fn wrong_file(_: Lab) -> Outcome {
    let file = Temporary::new(&configuration(|_| "adress = \"10.0.1.11\"\n".to_owned()))?;
    let output = Command::new(PROGRAM).args(["check", &file.name()]).output()?;
    let text = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("{}:11:1: unknown key `adress`", file.name())), "{text}");
    assert!(text.contains("11 | adress = \"10.0.1.11\"\n   | ^^^^^^ did you mean `address`?"), "{text}");
    Ok(())
}

/// A file for two servers with the weights 3 and 1.
fn configuration(server: impl Fn(u8) -> String) -> String {
    let mut text = String::from(
        "[[interface]]\nname = \"eth0\"\naddresses = [\"10.0.1.254/24\", \"192.0.2.254/24\"]\n\n[[service]]\n\
         protocol = \"tcp\"\naddress = \"192.0.2.100\"\nport = 80\nscheduler = \"wrr\"\n",
    );
    for (number, weight) in [(1, 3), (2, 1)] {
        text.push_str(&format!("[[service.server]]\n{}weight = {weight}\n", server(number)));
    }
    text
}
