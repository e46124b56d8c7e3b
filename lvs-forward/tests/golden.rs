//! Real recordings: what Linux's IPVS (6.1, with the corrections of August 2026) did with each frame, and what this
//! director does with the same ones. `data/golden/README.md` says how they were made.
//!
//! Frames are compared byte for byte, except where a mask says that the kernel itself varies from boot to boot.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use core::fmt::Write as _;
use core::net::{IpAddr, SocketAddr};
use std::collections::HashMap;
use std::path::Path;

use lvs_core::{
    Config, Director, Family, Heap, Method, Protocol, Scheduler, Seed, ServerConfig, ServiceConfig,
    ServiceKey, Tick, Tunnel,
};
use lvs_forward::host::{Host, Port, Prefix};
use lvs_forward::output::pieces;
use lvs_forward::parse::Link;
use lvs_forward::{Forwarder, Frame, HEADROOM, Options, Outcome, PortId};
use serde_json::Value;

#[test]
fn every_recording_is_reproduced() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    assert!(files.len() >= 50, "recordings are missing: {}", files.len());
    let mut report = String::new();
    let mut frames = 0;
    for file in &files {
        let scenario: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        match play(&scenario) {
            Ok(count) => frames += count,
            Err(difference) => {
                writeln!(report, "{}: {difference}", file.file_stem().unwrap().to_string_lossy()).unwrap();
            }
        }
    }
    assert!(report.is_empty(), "\n{report}");
    assert!(frames > 250, "only {frames} frames were compared");
}

/// Plays a scenario; the number of frames put in, or the first difference.
fn play(scenario: &Value) -> Result<usize, String> {
    let mut lab = Lab::new(&scenario["director"]);
    let mut frames = 0;
    for step in scenario["steps"].as_array().unwrap() {
        match step["op"].as_str().unwrap() {
            "ipvsadm" => lab.command(step["args"].as_str().unwrap()),
            "frame" => {
                frames += 1;
                let got = lab.frame(step["port"].as_str().unwrap(), &from_hex(step["hex"].as_str().unwrap()));
                let mut expected = step["out"].as_array().cloned().unwrap_or_default();
                for out in &mut expected {
                    deviate(scenario["name"].as_str().unwrap(), &step["i"], out);
                }
                // Without a stack behind it the director need not say what the kernel's own stack said.
                let own: Vec<Value> = expected.iter().filter(|out| out["host"].is_null()).cloned().collect();
                if let (Err(_), Err(difference)) = (equal(&expected, &got), equal(&own, &got)) {
                    return Err(format!("step {}: {difference}\n  in  {}", step["i"], step["text"]));
                }
            }
            "snap" | "listing" => {}
            other => panic!("step {other} is not known"),
        }
    }
    Ok(frames)
}

/// Where this director says something else on purpose.
///
/// A router inside a tunnel states its MTU, and the client must hear of it. The kernel's first message to the client
/// still has the MTU of the director's own link, and only its next packet is told the right one; this
/// director says the right one at once.
fn deviate(scenario: &str, step: &Value, out: &mut Value) {
    let (link, path, checksums) = match (scenario, step.as_u64()) {
        ("tun-ipip-icmp-path", Some(5)) => ("05c8", "0500", ("7404", "74cc")),
        ("tun-gue-icmp-path", Some(5)) => ("05bc", "04f4", ("f66a", "f732")),
        _ => return,
    };
    let hex = out["hex"].as_str().unwrap();
    let (stated, written) =
        (format!("0304{}0000{link}", checksums.0), format!("0304{}0000{path}", checksums.1));
    assert!(hex.contains(&stated), "the recording changed");
    out["hex"] = hex.replacen(&stated, &written, 1).into();
}

fn equal(expected: &[Value], got: &[(String, Vec<u8>)]) -> Result<(), String> {
    if expected.len() != got.len() {
        let texts: Vec<_> = expected.iter().map(|out| &out["text"]).collect();
        return Err(format!("{} frames instead of {texts:?}", got.len()));
    }
    for (out, (port, bytes)) in expected.iter().zip(got) {
        let wanted = from_hex(out["hex"].as_str().unwrap());
        let mask = out["mask"].as_str().map_or_else(|| vec![0xff; wanted.len()], from_hex);
        let masked = |bytes: &[u8]| bytes.iter().zip(&mask).map(|(a, b)| a & b).collect::<Vec<_>>();
        if out["port"] != port.as_str() || wanted.len() != bytes.len() || masked(&wanted) != masked(bytes) {
            return Err(format!(
                "expected {}\n  {} {}\n  {port} {}",
                out["text"],
                out["port"].as_str().unwrap(),
                to_hex(&wanted),
                to_hex(bytes)
            ));
        }
    }
    Ok(())
}

struct Lab {
    director: Director<Heap>,
    forwarder: Box<Forwarder>,
    ports: Vec<String>,
    mtus: Vec<u16>,
    marks: Vec<(IpAddr, Option<u8>, Option<u16>, u32)>,
}

impl Lab {
    fn new(director: &Value) -> Self {
        let mut host: Host = Host::new(Seed::from_bytes([7; 16]));
        let mut ports = Vec::new();
        let mut mtus = Vec::new();
        let mut ids = HashMap::new();
        for (name, port) in director["ports"].as_object().unwrap() {
            let mtu = port["mtu"].as_u64().unwrap() as u16;
            let id = host.add_port(Port::ethernet(parse(&port["mac"]), mtu)).unwrap();
            ports.push(name.clone());
            mtus.push(mtu);
            ids.insert(name.clone(), id);
            for address in port["addrs"].as_array().unwrap() {
                let (address, len) = address.as_str().unwrap().split_once('/').unwrap();
                host.add_address(id, address.parse().unwrap(), len.parse().unwrap()).unwrap();
            }
        }
        for vip in director["vips"].as_array().unwrap() {
            let (address, _) = vip.as_str().unwrap().split_once('/').unwrap();
            host.add_virtual_address(address.parse().unwrap()).unwrap();
        }
        for route in director["routes"].as_array().unwrap() {
            let (address, len) = route["dst"].as_str().unwrap().split_once('/').unwrap();
            let prefix = Prefix::new(address.parse().unwrap(), len.parse().unwrap()).unwrap();
            host.add_route(prefix, Some(parse(&route["via"])), ids[route["port"].as_str().unwrap()]).unwrap();
        }
        for neighbour in director["neigh"].as_array().unwrap() {
            let port = ids[neighbour["port"].as_str().unwrap()];
            host.add_neighbour(port, parse(&neighbour["ip"]), parse(&neighbour["mac"])).unwrap();
        }
        let mut options = Options::new();
        options.refuse = true;
        options.ip_forward = director["sysctl"]["net.ipv4.ip_forward"] == "1";
        options.pmtu_disc = director["sysctl"]["net.ipv4.vs.pmtu_disc"] != "0";
        let marks = director["marks"].as_array().unwrap().iter().map(|mark| {
            let protocol = mark["proto"].as_str().map(|name| if name == "tcp" { 6 } else { 17 });
            let port = mark["port"].as_u64().map(|port| port as u16);
            (parse(&mark["dst"]), protocol, port, mark["mark"].as_u64().unwrap() as u32)
        });
        Self {
            director: Director::new(Config::new(Seed::from_bytes([7; 16])), Heap::with_capacity(1_000)),
            forwarder: Box::new(Forwarder::new(host, options)),
            ports,
            mtus,
            marks: marks.collect(),
        }
    }

    /// Carries out an ipvsadm command, as far as the recordings use them.
    fn command(&mut self, text: &str) {
        let mut words = text.split_whitespace();
        let verb = words.next().unwrap();
        let (mut key, mut server, mut scheduler) = (None, None, "wlc");
        let (mut method, mut weight, mut kind, mut port, mut checksum) = ("-g", 1, "ipip", 0, false);
        let mut family = Family::V4;
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap();
            match word {
                "-t" | "-u" | "--sctp-service" => {
                    let endpoint: SocketAddr = value().parse().unwrap();
                    let protocol = match word {
                        "-t" => Protocol::Tcp,
                        "-u" => Protocol::Udp,
                        _ => Protocol::Sctp,
                    };
                    let (address, port) = (endpoint.ip(), endpoint.port());
                    key = Some(ServiceKey::Address { protocol, address, port });
                }
                "-f" => key = Some(ServiceKey::Mark { family, mark: value().parse().unwrap() }),
                "-6" => {
                    family = Family::V6;
                    if let Some(ServiceKey::Mark { family, .. }) = &mut key {
                        *family = Family::V6;
                    }
                }
                "-s" => scheduler = value(),
                "-r" => server = Some(value()),
                "-m" | "-g" | "-i" => method = word,
                "-w" => weight = value().parse().unwrap(),
                "--tun-type" => kind = value(),
                "--tun-port" => port = value().parse().unwrap(),
                // For packets that the director forwards both make the same bytes.
                "--tun-csum" | "--tun-remcsum" => checksum = true,
                "--tun-nocsum" => checksum = false,
                other => panic!("{other} in {text}"),
            }
        }
        let key = key.unwrap();
        if verb == "-A" {
            let scheduler = Scheduler::from_name(scheduler).unwrap();
            self.director.add_service(key, ServiceConfig::new(scheduler)).unwrap();
            return;
        }
        assert_eq!(verb, "-a");
        let server = server.unwrap();
        let address = server
            .parse::<SocketAddr>()
            .unwrap_or_else(|_| SocketAddr::new(server.parse::<IpAddr>().unwrap(), 0));
        let method = match (method, kind) {
            ("-m", _) => Method::Nat,
            ("-g", _) => Method::Direct,
            (_, "ipip") => Method::Tunnel(Tunnel::IpIp),
            (_, "gre") => Method::Tunnel(Tunnel::Gre { checksum }),
            (_, _) => Method::Tunnel(Tunnel::Gue { port, checksum }),
        };
        let config = ServerConfig::new(address, method).with_weight(lvs_core::Weight::new(weight).unwrap());
        self.director.add_server(key, config).unwrap();
    }

    /// Puts a frame on a port; what leaves because of it.
    fn frame(&mut self, port: &str, bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
        let id = PortId(self.ports.iter().position(|name| name == port).unwrap() as u8);
        let mut buffer = vec![0xaa; HEADROOM];
        buffer.extend(bytes);
        let end = buffer.len();
        let mut frame = Frame::new(&mut buffer, HEADROOM, end, id).unwrap();
        frame.mark = self.mark(bytes);
        let outcome = self.forwarder.process(&mut self.director, Tick::ZERO, &mut frame);
        let name = |port: PortId| self.ports[usize::from(port.0)].clone();
        let mut out = Vec::new();
        match outcome {
            Outcome::Send => {
                assert!(frame.len() <= 14 + usize::from(self.mtus[usize::from(frame.port.0)]));
                out.push((name(frame.port), frame.bytes().to_vec()));
            }
            Outcome::SendPieces(cut) => {
                pieces(&mut frame, Link::Ethernet, cut, &mut |piece| {
                    out.push((name(piece.port), piece.bytes().to_vec()));
                })
                .unwrap();
            }
            Outcome::Consumed | Outcome::Drop(_) | Outcome::Pass(_) => {}
        }
        let mut spare = vec![0; HEADROOM + 2_048];
        assert!(
            self.forwarder.poll_transmit(Tick::ZERO, &mut spare).is_none(),
            "all neighbours are configured"
        );
        out
    }

    /// The firewall mark that the recording's rules gave a frame.
    fn mark(&self, bytes: &[u8]) -> u32 {
        let packet = &bytes[14..];
        let (protocol, destination, transport) = match packet[0] >> 4 {
            4 => {
                let octets: [u8; 4] = packet[16..20].try_into().unwrap();
                (packet[9], IpAddr::from(octets), usize::from(packet[0] & 15) * 4)
            }
            _ => {
                let octets: [u8; 16] = packet[24..40].try_into().unwrap();
                (packet[6], IpAddr::from(octets), 40)
            }
        };
        let port = u16::from_be_bytes(packet[transport + 2..transport + 4].try_into().unwrap());
        let rule = self.marks.iter().find(|(address, of_protocol, of_port, _)| {
            *address == destination
                && of_protocol.is_none_or(|wanted| wanted == protocol)
                && of_port.is_none_or(|wanted| wanted == port)
        });
        rule.map_or(0, |rule| rule.3)
    }
}

fn parse<T: core::str::FromStr<Err: core::fmt::Debug>>(value: &Value) -> T {
    value.as_str().unwrap().parse().unwrap()
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
