//! What a director is told anew while it runs: its file, drains, questions, addresses.

use crate::stage::{Stage, eventually, is_alive, service, text, vip};
use crate::support::{Program, Temporary, ask, serve};
use core::net::SocketAddr;
use core::time::Duration;
use etherparse::{NetSlice, TransportSlice};
use lvs_core::{Family, Method};
use lvs_forward::parse::Link;
use lvs_std::device::pcap::Reader;
use lvs_std::lab::harness::Outcome;
use lvs_std::lab::{Cluster, Lab, Plan};
use rustix::process::Signal;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

pub(crate) fn reload(lab: Lab) -> Outcome {
    let stage = Stage::new(lab, &service("rr", &[(1, 1), (2, 1)]))?;
    let mut held: Vec<_> = (0..4).map(|_| stage.connect().unwrap()).collect();
    stage.run("lvsadm -e -t 192.0.2.100:80 -r 10.0.1.12:80 -m -w 7")?;
    stage.run("lvsadm -A -u 192.0.2.100:53 -s rr")?;
    stage.write(&service("wrr", &[(1, 5), (2, 1), (3, 2)]))?;
    let said = stage.run("reload")?;
    assert!(
        said.contains("~ TCP 192.0.2.100:80 rr -> wrr")
            && said.contains("+ TCP 192.0.2.100:80  10.0.1.13:80"),
        "{said}"
    );
    let table = stage.table()?;
    assert_eq!(table.len(), 5, "{table:?}");
    assert_eq!(table[0], "TCP 192.0.2.100:80 wrr");
    assert!(table[1].starts_with("-> 10.0.1.11:80 Masq 5 2 "), "{table:?}");
    assert!(table[2].starts_with("-> 10.0.1.12:80 Masq 7 2 "), "the operator's weight stays: {table:?}");
    assert!(table[3].starts_with("-> 10.0.1.13:80 Masq 2 0 "), "{table:?}");
    assert_eq!(table[4], "UDP 192.0.2.100:53 rr", "what the file never named stays");
    assert!(held.iter_mut().all(|(stream, _)| is_alive(stream)), "connections go on");
    // A server that goes, by the signal.
    stage.write(&service("wrr", &[(1, 5), (3, 2)]))?;
    stage.director.signal(Signal::HUP)?;
    eventually("the server goes", || Ok(stage.table()?.len() == 4))?;
    for (stream, name) in &mut held {
        assert_eq!(is_alive(stream), name == "rs1", "{name}");
    }
    assert_eq!(stage.run("reload")?, "nothing has changed\n");
    Ok(())
}

pub(crate) fn half_written(lab: Lab) -> Outcome {
    let stage = Stage::new(lab, &service("rr", &[(1, 1), (2, 1)]))?;
    let before = stage.table()?;
    let whole = text(&service("wlc", &[(3, 1)]));
    for token in ["weight = 1", "[[service.server]]", "192.0.2.254/24"] {
        let cut = whole.find(token).unwrap() + token.len() - 2;
        fs::write(stage.file.name(), &whole[..cut])?;
        let output = stage.output("reload")?;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(255), "{said}");
        assert!(said.contains(&stage.file.name()), "the place is named: {said}");
        assert_eq!(stage.table()?, before);
    }
    Ok(())
}

pub(crate) fn plan(lab: Lab) -> Outcome {
    let stage = Stage::new(lab, &service("mh", &[(1, 1), (2, 1), (3, 1)]))?;
    let before = stage.table()?;
    let other = Temporary::new(&text(&service("mh", &[(1, 1), (2, 1)])))?;
    let said = stage.run(&format!("plan {}", other.name()))?;
    assert!(said.starts_with("- TCP 192.0.2.100:80  10.0.1.13:80\n"), "{said}");
    let share: f64 =
        said.split_once("80: ").and_then(|(_, rest)| rest.split_once(" %")).unwrap().0.parse()?;
    assert!((33.0..45.0).contains(&share), "a third, and little else: {said}");
    assert_eq!(stage.run("plan")?, "nothing would change\n");
    assert_eq!(stage.table()?, before, "a plan changes nothing");
    Ok(())
}

pub(crate) fn drain(lab: Lab) -> Outcome {
    let persistent = service("rr", &[(1, 1), (2, 1)]) + "[service.persistence]\ntimeout = 100\n";
    let stage = Stage::new(lab, &persistent)?;
    let events = stage.events()?;
    let (mut stream, name) = stage.connect()?;
    let number = name.trim_start_matches("rs");
    let begun = Instant::now();
    stage.run(&format!("lvsadm --drain -t 192.0.2.100:80 -r 10.0.1.1{number}:80 --deadline 2 --no-wait"))?;
    assert!(stage.run("lvsadm --drains")?.contains("1 connections left"));
    for _ in 0..4 {
        assert_ne!(stage.connect()?.1, name, "nobody new, though the service is persistent");
    }
    assert!(is_alive(&mut stream), "what it has goes on");
    let mut lines = BufReader::new(events).lines();
    let happened = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("\"cut\""))).unwrap()?;
    assert!(happened.contains(&format!("10.0.1.1{number}:80")), "{happened}");
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert!(!is_alive(&mut stream), "the deadline has cut it");
    stage.run(&format!("lvsadm --undrain -t 192.0.2.100:80 -r 10.0.1.1{number}:80"))?;
    let line = format!("-> 10.0.1.1{number}:80 Masq 1 0 0");
    assert!(
        stage.table()?.contains(&line),
        "it has its weight again, and nothing else: {:?}",
        stage.table()?
    );
    // Without connections it is over at once, and said so.
    let said = stage.run(&format!("lvsadm --drain -t 192.0.2.100:80 -r 10.0.1.1{number}:80"))?;
    assert!(said.contains("no connection is left"), "{said}");
    Ok(())
}

pub(crate) fn explain(lab: Lab) -> Outcome {
    let stage = Stage::new(lab, &service("sh", &[(1, 1), (2, 1), (3, 1)]))?;
    let (stream, name) = stage.connect()?;
    let client = stream.local_addr()?;
    let said = stage.run(&format!("explain tcp {client} {}", vip()))?;
    assert!(said.contains("state ESTABLISHED") && said.contains(&name.replace("rs", "10.0.1.1")), "{said}");
    let said = stage.run(&format!("explain tcp {}:9 {}", client.ip(), vip()))?;
    let chosen = format!("sh sends this client to {}:80", name.replace("rs", "10.0.1.1"));
    assert!(said.contains(&chosen), "the same client's next connection: {said}");
    // What is told is what is then done, also where the choice depends on what was chosen last.
    stage.run("lvsadm -E -t 192.0.2.100:80 -s rr")?;
    for port in 1..7 {
        let flow = format!("tcp {}:{port} > {}", client.ip(), vip());
        let words = flow.split(' ').collect::<Vec<_>>();
        let told =
            stage.run(&format!("explain --json {} {} {} {}", words[0], words[1], words[2], words[3]))?;
        let told: serde_json::Value = serde_json::from_str(&told)?;
        let (_stream, name) = stage.connect()?;
        assert_eq!(told["server"], format!("{}:80", name.replace("rs", "10.0.1.1")), "{told}");
        assert_eq!(told["service"], "TCP 192.0.2.100:80");
    }
    let said = stage.run("explain udp 192.0.2.7:9 192.0.2.100:53")?;
    assert!(said.contains("no service is for it"), "{said}");
    let counted = stage.run("statistics")?;
    assert!(counted.contains("sent to real servers"), "{counted}");
    Ok(())
}

pub(crate) fn trace(lab: Lab) -> Outcome {
    let stage = Stage::new(lab, &service("rr", &[(1, 1), (2, 1)]))?;
    let wrong = stage.output("trace --write /dev/null --filter tcp")?;
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("at the end, character 4"), "{wrong:?}");
    let file = stage.file.beside("trace.pcapng");
    let filter = format!("tcp any > {}", vip());
    let words = ["trace", "--director", &stage.socket, "--write", &file, "--filter", &filter];
    let program = Program::start(&stage.cluster.director, &words, "tracing")?;
    let (mut stream, name) = stage.connect()?;
    assert!(is_alive(&mut stream));
    let busy = stage.output("trace --write /dev/null")?;
    assert!(String::from_utf8_lossy(&busy.stderr).contains("somebody else traces"), "{busy:?}");
    program.stop(Signal::INT)?;
    let mut reader = Reader::new(BufReader::new(fs::File::open(&file)?))?;
    let (mut told, mut wrong) = (Vec::new(), Vec::new());
    while let Some(record) = reader.next_frame()? {
        told.push(lvs_std::describe::frame(record.frame.bytes(), Link::Ethernet));
        let packet = etherparse::SlicedPacket::from_ethernet(record.frame.bytes()).map_err(|_| "a frame")?;
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) = (&packet.net, &packet.transport)
        else {
            continue;
        };
        let sum = tcp.to_header().calc_checksum_ipv4(&ip.header().to_header(), tcp.payload())?;
        if sum != tcp.checksum() {
            wrong.push(told.last().cloned());
        }
    }
    assert!(wrong.is_empty(), "checksums are complete: {wrong:?}");
    // The first packet as it came and as it left, and the answer the same.
    let (client, server) = (stream.local_addr()?, name.replace("rs", "10.0.1.1"));
    for (at, said) in [
        (0, format!("TCP {client} > {} SYN", vip())),
        (1, format!("TCP {client} > {server}:80 SYN")),
        (2, format!("TCP {server}:80 > {client} SYN ACK")),
        (3, format!("TCP {} > {client} SYN ACK", vip())),
    ] {
        assert!(told.get(at).is_some_and(|told| told.starts_with(&said)), "{at} {said}: {told:#?}");
    }
    stage.run(&format!("explain --pcap {file}"))?;
    Ok(())
}

pub(crate) fn follow(lab: Lab) -> Outcome {
    let servers = service("rr", &[(1, 1), (2, 1)]);
    let cluster = Cluster::new(lab, &Plan::new(Method::Nat).with_servers(2))?;
    for (server, number) in cluster.servers.iter().zip(1..) {
        serve(server, SocketAddr::new(Cluster::server_address(number, Family::V4), 80))?;
    }
    let file = Temporary::new(&format!("answer-for = \"host\"\n{}", text(&servers)))?;
    let director = Program::start(
        &cluster.director,
        &["run", "--no-control", "--config", &file.name()],
        "the director is at work",
    )?;
    let reaches =
        || cluster.client.run(|| TcpStream::connect_timeout(&vip(), Duration::from_millis(700)).is_ok());
    assert!(!reaches()?, "the machine does not have the address");
    let run = |words: &str| -> Outcome {
        let mut command = Command::new("ip");
        command.args(words.split_whitespace());
        let status = cluster.director.run(|| command.status())??;
        assert!(status.success(), "ip {words}");
        Ok(())
    };
    cluster.director.set_up("lo")?;
    cluster.director.add_address("lo", vip().ip(), 32)?;
    eventually("the address came", || Ok(reaches()?))?;
    run(&format!("address del {}/32 dev lo", vip().ip()))?;
    eventually("the address went", || Ok(!reaches()?))?;
    cluster.director.add_address("lo", vip().ip(), 32)?;
    let back = cluster.client.run(|| {
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            if let Ok(name) = ask(vip()) {
                return name;
            }
        }
        String::new()
    })?;
    assert!(back.starts_with("rs"), "{back}");
    director.stop(Signal::TERM)?;
    Ok(())
}
