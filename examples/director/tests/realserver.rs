//! `director realserver`: real servers that nothing else has made ready, in the namespaces of a lab.

mod support;

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::fs;
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::Instant;

use lvs_std::lab::harness::{self, Outcome};
use lvs_std::lab::{Lab, Node};
use rustix::process::Signal;
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use support::{PROGRAM, Program, Temporary, ask, serve};

fn main() -> ExitCode {
    harness::run(None, |lab| {
        harness::named(
            lab,
            [
                ("real servers that were only put up serve by DR, TUN and NAT over both families", serve_all),
                ("a second up changes nothing, and down makes all of it as it was", twice_and_down),
                ("an up that is killed anywhere is undone by down", killed),
                ("what a machine lacks is said by its name, and nothing is changed", lacks),
            ],
        )
    })
}

const VIPS: [&str; 2] = ["192.0.2.100", "2001:db8:c::100"];

/// A machine that has its network and nothing else, and the other end of its cable.
fn machine(lab: Lab) -> Outcome<(Node, Node)> {
    let (node, far) = (lab.node("server")?, lab.node("far")?);
    lab.connect((&node, "eth0"), (&far, "eth0"))?;
    own(&node, ["10.0.1.11", "2001:db8:1::11"])?;
    Ok((node, far))
}

fn own(node: &Node, [v4, v6]: [&str; 2]) -> Outcome {
    node.add_address("eth0", v4.parse()?, 24)?;
    Ok(node.add_address("eth0", v6.parse()?, 64)?)
}

fn run(node: &Node, arguments: &[&str]) -> Outcome<Output> {
    let mut command = Command::new(PROGRAM);
    command.arg("realserver").args(arguments).stdin(Stdio::null());
    Ok(node.run(|| command.output())??)
}

/// What it printed; it must have been a success.
fn done(node: &Node, arguments: &[&str]) -> Outcome<String> {
    let output = run(node, arguments)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(format!("{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(text)
}

/// All that `up` may touch: addresses, routes, and the settings of every interface, in lines.
fn snapshot(node: &Node) -> Outcome<Vec<String>> {
    Ok(node.run(|| -> std::io::Result<Vec<String>> {
        let read = |file: &str| fs::read_to_string(format!("/proc/thread-self/net/{file}"));
        let mut lines = Vec::new();
        // What the tables hold, without their inner shape.
        let mut table = "";
        let (trie, mut leaf) = (read("fib_trie")?, "");
        for line in trie.lines() {
            match line.trim().split_once("-- ") {
                None if line.ends_with(':') => table = line,
                Some(("|", address)) => leaf = address,
                Some(_) => {}
                None => lines.push(format!("{table} {leaf}{}", line.trim())),
            }
        }
        lines.extend(read("route")?.lines().map(str::to_owned));
        // Without what changes by itself: addresses of the link, routes to own addresses (which come a little after
        // these), and counts of uses.
        for file in ["if_inet6", "ipv6_route"] {
            for line in
                read(file)?.lines().filter(|line| !line.starts_with("fe80") && !line.starts_with("ff"))
            {
                let words: Vec<&str> = line.split_whitespace().collect();
                if file == "if_inet6" || words.get(1) != Some(&"80") {
                    lines.push(format!("{file} {}", words.get(..6).unwrap_or_default().join(" ")));
                }
            }
        }
        for interface in fs::read_dir("/proc/sys/net/ipv4/conf")?.flatten() {
            for name in ["arp_ignore", "arp_announce", "rp_filter"] {
                let path = interface.path().join(name);
                lines.push(format!("{} {}", path.display(), fs::read_to_string(&path)?.trim()));
            }
        }
        lines.sort();
        Ok(lines)
    })??)
}

#[track_caller]
fn assert_same(now: &[String], before: &[String], when: &str) {
    let of = |some: &[String], other: &[String]| -> Vec<String> {
        some.iter().filter(|line| !other.contains(line)).cloned().collect()
    };
    let (new, gone) = (of(now, before), of(before, now));
    assert!(new.is_empty() && gone.is_empty(), "{when}: new {new:#?}, gone {gone:#?}");
}

fn serve_all(lab: Lab) -> Outcome {
    let lan = lab.switch("lan")?;
    let (client, director) = (lab.node("client")?, lab.node("director")?);
    lan.join(&client, "eth0")?;
    lan.join(&director, "eth0")?;
    own(&client, ["192.0.2.7", "2001:db8:c::7"])?;
    director.set_sysctl("net.ipv6.conf.eth0.disable_ipv6", "1")?;
    let file = Temporary::new(&configuration())?;
    let mut ends = Vec::new();
    let methods: [&[&str]; 3] = [
        &["--mode", "dr"],
        &[
            "--mode",
            "tun",
            "--via",
            "director",
            "--tunnel-address",
            "10.0.1.22/24",
            "--tunnel-address",
            "2001:db8:1::22/64",
        ],
        &["--mode", "nat", "--gateway", "10.0.1.254", "--gateway", "2001:db8:1::fe"],
    ];
    for (words, number) in methods.into_iter().zip(1..) {
        let server = lab.node(&format!("rs{number}"))?;
        lan.join(&server, "eth0")?;
        // As by many a distribution.
        server.set_sysctl("net.ipv4.conf.eth0.rp_filter", "2")?;
        own(&server, [&format!("10.0.1.1{number}"), &format!("2001:db8:1::1{number}")])?;
        if number < 3 {
            // A way to the clients is the network's matter.
            server.add_link_route("192.0.2.0".parse()?, 24, "eth0")?;
            server.add_link_route("2001:db8:c::".parse()?, 64, "eth0")?;
        }
        let record = file.beside(server.name());
        let mut arguments = vec!["up", "--interface", "eth0", "--record", &record, "--vip"];
        arguments.extend(VIPS);
        arguments.extend(words);
        let text = done(&server, &arguments)?;
        // What it says is to be run beside is run.
        if let Some(beside) = text.lines().find_map(|line| line.strip_prefix("run now  director ")) {
            let words: Vec<&str> = beside.split(' ').collect();
            ends.push(Program::start(&server, &words, "unwrapping what comes to")?);
        }
        serve(&server, format!("[::]:{}", 80 + number).parse()?)?;
    }
    assert_eq!(ends.len(), 1, "one server has a program beside");
    let arguments = ["run", "--no-control", "--no-state", "--config", &file.name()];
    let director = Program::start(&director, &arguments, "the director is at work")?;
    for vip in VIPS {
        for number in 1..=3 {
            let to = SocketAddr::new(vip.parse()?, 80 + number);
            for _ in 0..2 {
                let name = client.run(|| ask(to))?.map_err(|error| format!("{to}: {error}"))?;
                assert_eq!(name, format!("rs{number}"), "{to}");
            }
        }
    }
    director.stop(Signal::INT)?;
    let text = ends.pop().ok_or("no tunnel's end")?.stop(Signal::TERM)?;
    assert!(!text.contains(" 0 packets were unwrapped"), "{text}");
    Ok(())
}

fn configuration() -> String {
    let mut text = String::from(
        "[[interface]]\nname = \"eth0\"\nmac = \"own\"\naddresses = [\"10.0.1.254/24\", \"192.0.2.254/24\", \
         \"2001:db8:1::fe/64\", \"2001:db8:c::fe/64\"]\n",
    );
    for (vip, net) in [(VIPS[0], "10.0.1."), (VIPS[1], "2001:db8:1::")] {
        for (host, server, port) in [(11, "method = \"dr\"", 81), (22, "method = \"tun\"", 82), (13, NAT, 83)]
        {
            text.push_str(&format!(
                "[[service]]\nprotocol = \"tcp\"\naddress = \"{vip}\"\nport = {port}\n[[service.server]]\n\
                 address = \"{net}{host}\"\n{server}\n"
            ));
        }
    }
    text
}

const NAT: &str = "port = 83\nmethod = \"nat\"";

fn twice_and_down(lab: Lab) -> Outcome {
    let (node, _far) = machine(lab)?;
    let any: [IpAddr; 2] = ["0.0.0.0".parse()?, "::".parse()?];
    node.add_route(any[0], 0, "10.0.1.1".parse()?)?;
    node.add_route(any[1], 0, "2001:db8:1::1".parse()?)?;
    node.set_sysctl("net.ipv4.conf.eth0.arp_announce", "1")?;
    let before = snapshot(&node)?;
    let file = Temporary::new("")?;
    let record = file.beside("state/record");
    let common = ["up", "--interface", "eth0", "--record", &record, "--vip", VIPS[0], VIPS[1]];
    let direct = [&common[..], &["--mode", "dr"]].concat();
    let nat = ["--mode", "nat", "--gateway", "10.0.1.254", "--gateway", "2001:db8:1::fe"];
    let nat = [&common[..], &nat].concat();
    for arguments in [&direct, &nat] {
        let text = done(&node, arguments)?;
        assert!(text.lines().all(|line| line.starts_with("done ")), "{text}");
        let (up, written) = (snapshot(&node)?, fs::read(&record)?);
        assert_ne!(up, before);
        let text = done(&node, arguments)?;
        assert!(text.lines().all(|line| line.starts_with("already ")), "{text}");
        assert_same(&snapshot(&node)?, &up, "a second time changes nothing");
        assert_eq!(fs::read(&record)?, written, "nor does the record");
    }
    let text = done(&node, &["down", "--record", &record])?;
    assert_same(&snapshot(&node)?, &before, &text);
    assert!(text.lines().all(|line| line.starts_with("undone ")), "{text}");
    assert!(!fs::exists(&record)?, "the record goes with the last change");
    assert_eq!(done(&node, &["down", "--record", &record])?, "", "there is nothing more to undo");
    Ok(())
}

fn killed(lab: Lab) -> Outcome {
    let (node, _far) = machine(lab)?;
    let before = snapshot(&node)?;
    let file = Temporary::new("")?;
    let record = file.beside("record");
    let arguments = [
        "realserver",
        "up",
        "--interface",
        "eth0",
        "--record",
        &record,
        "--mode",
        "dr",
        "--vip",
        VIPS[0],
        VIPS[1],
        "--gateway",
        "10.0.1.254",
    ];
    let (mut whole, mut cut) = (0, 0);
    // Killed later and later, until some are through before that (none may be, on a busy machine): whatever there is
    // then, `down` undoes it.
    for round in 0..40_u32 {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let mut child = node.run(|| command.spawn())??;
        while start.elapsed() < Duration::from_millis(1) * round {
            std::thread::yield_now();
        }
        child.kill()?;
        if child.wait()?.success() {
            whole += 1;
        } else if snapshot(&node)? != before {
            cut += 1;
        }
        done(&node, &["down", "--record", &record])?;
        assert_same(&snapshot(&node)?, &before, &format!("killed in round {round}"));
        assert!(!fs::exists(&record)?, "the record is gone");
        if whole == 3 {
            break;
        }
    }
    // How many were cut is for the machine to say, and for whoever reads this.
    eprintln!("{cut} were cut in the middle, {whole} were through");
    Ok(())
}

fn lacks(lab: Lab) -> Outcome {
    let (node, _far) = machine(lab)?;
    let file = Temporary::new("")?;
    let record = file.beside("record");
    let before = snapshot(&node)?;
    let vip = ["up", "--record", &record, "--vip", VIPS[0]];
    let refused = |more: &[&str], status: i32, word: &str| -> Outcome {
        let output = run(&node, &[&vip[..], more].concat())?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{text}");
        assert!(text.contains(word), "{text}");
        assert_same(&snapshot(&node)?, &before, &text);
        assert!(!fs::exists(&record)?, "{text}");
        Ok(())
    };
    refused(&["--mode", "dr", "--interface", "eth7"], 1, "there is no interface eth7")?;
    // The gateway is the last step; those before it are undone.
    refused(&["--mode", "dr", "--gateway", "198.51.100.1"], 1, "must be in a subnet of an interface")?;
    refused(&["--mode", "nat"], 2, "--gateway")?;
    refused(&["--mode", "dr", "--via", "kernel"], 2, "--mode tun")?;
    // A kernel with such tunnels does it, and undoes it.
    let tunnel = run(&node, &[&vip[..], &["--mode", "tun", "--via", "kernel"]].concat())?;
    if tunnel.status.success() {
        done(&node, &["down", "--record", &record])?;
    } else {
        let text = String::from_utf8_lossy(&tunnel.stderr).into_owned();
        assert!(text.contains("ipip") && text.contains("--via director"), "{text}");
        assert_same(&snapshot(&node)?, &before, &text);
    }
    node.set_sysctl("net.ipv6.conf.lo.disable_ipv6", "1")?;
    let output = run(&node, &["up", "--record", &record, "--vip", VIPS[1], "--mode", "dr"])?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("net.ipv6.conf.lo.disable_ipv6=0"), "{text}");
    // A virtual address on the network's interface is answered for there.
    node.add_address("eth0", VIPS[0].parse()?, 32)?;
    let output = run(&node, &[&vip[..], &["--mode", "dr"]].concat())?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("`ip address delete 192.0.2.100/32 dev eth0`"), "{text}");
    let mut command = Command::new(PROGRAM);
    command.args(["realserver", "down", "--record", &file.name()]);
    fs::write(file.name(), "{")?;
    assert_eq!(node.run(|| command.output())??.status.code(), Some(1), "a record that is none");
    let mut command = Command::new(PROGRAM);
    command.arg("realserver").args(vip).args(["--mode", "dr"]);
    let output = node.run(|| {
        remove_capability_from_bounding_set(CapabilitySet::NET_ADMIN)?;
        command.output()
    })??;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("CAP_NET_ADMIN"), "{text}");
    Ok(())
}
