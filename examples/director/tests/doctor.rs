//! `director doctor`: planted faults are found by their names, and the advice mends them.

mod support;

use core::time::Duration;
use std::env;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::Instant;

use lvs_std::lab::harness::{self, Outcome};
use lvs_std::lab::{Lab, Node};
use rustix::process::Signal;
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use serde::Deserialize;
use support::{PROGRAM, Program, Temporary, ask, serve};

fn main() -> ExitCode {
    harness::start(None, |_| {
        let lab = Lab::new()?;
        // It is a small one, to be filled.
        let folder = tempfile::tempdir()?;
        let disk = lab.disk(folder.path(), 2 << 20)?;
        let test = "planted faults are found by their names, and the advice mends them";
        if let Some(missing) = ["ip", "sysctl", "sed"].iter().find(|tool| !is_installed(tool)) {
            return Ok(vec![harness::left_out(
                harness::REQUIRE_TOOLS,
                test,
                format!("{missing} is not installed"),
            )]);
        }
        Ok(vec![harness::trial(test, move || {
            let outcome = faults(lab, folder.path());
            drop((disk, folder));
            outcome
        })])
    })
}

fn path() -> String {
    let own = Path::new(PROGRAM).parent().map(|folder| folder.display().to_string()).unwrap_or_default();
    format!("{own}:{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default())
}

fn is_installed(tool: &str) -> bool {
    path().split(':').any(|folder| Path::new(folder).join(tool).is_file())
}

/// A command as an operator types it.
fn sh(node: &Node, line: &str) -> Outcome<Output> {
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("PATH", path()).stdin(Stdio::null());
    Ok(node.run(|| command.output())??)
}

#[derive(Debug, Deserialize)]
struct Report {
    checks: Vec<String>,
    findings: Vec<Finding>,
}

#[derive(Debug, Deserialize)]
struct Finding {
    check: String,
    rank: String,
    on: String,
    what: String,
    commands: Vec<String>,
}

/// A director's machine and three servers, one by each method.
struct Site {
    director: Node,
    servers: Vec<Node>,
    file: Temporary,
    _lan: lvs_std::lab::Switch,
    end: Option<Program>,
}

const VIP: &str = "192.0.2.100";
const ADDRESSES: [&str; 3] = ["10.0.1.11", "10.0.1.22", "10.0.1.13"];

fn configuration() -> String {
    let mut text = format!(
        "virtual-addresses = [\"{VIP}\"]\n[[interface]]\nname = \"eth0\"\nmac = \"own\"\n\
         addresses = [\"10.0.1.254/24\"]\n"
    );
    for (address, rest, port) in [
        (ADDRESSES[0], "method = \"dr\"", 81),
        (ADDRESSES[1], "method = \"tun\"\ncheck-address = \"10.0.1.12\"\ncheck-port = 82", 82),
        (ADDRESSES[2], "method = \"nat\"\nport = 83", 83),
    ] {
        text.push_str(&format!(
            "[[service]]\nprotocol = \"tcp\"\naddress = \"{VIP}\"\nport = {port}\ncheck = {{ type = \"tcp\" }}\n\
             [[service.server]]\naddress = \"{address}\"\n{rest}\n"
        ));
    }
    text
}

impl Site {
    fn new(lab: Lab) -> Outcome<Self> {
        let lan = lab.switch("lan")?;
        let director = lab.node("director")?;
        lan.join(&director, "eth0")?;
        // Checks come from the kernel.
        director.add_address("eth0", "10.0.1.250".parse()?, 24)?;
        sh(&director, &format!("ip route add {VIP} dev eth0"))?;
        let mut site = Self {
            director,
            servers: Vec::new(),
            file: Temporary::new(&configuration())?,
            _lan: lan,
            end: None,
        };
        for number in 1..=3 {
            let server = lab.node(&format!("rs{number}"))?;
            site._lan.join(&server, "eth0")?;
            server.add_address("eth0", format!("10.0.1.1{number}").parse()?, 24)?;
            serve(&server, format!("0.0.0.0:{}", 80 + number).parse()?)?;
            site.servers.push(server);
        }
        let record = site.record(0);
        let up = |rest: &str| format!("director realserver up --interface eth0 --vip {VIP} {rest}");
        site.must(0, &up(&format!("--record {record} --mode dr")))?;
        let record = site.record(1);
        site.must(
            1,
            &up(&format!("--record {record} --mode tun --via director --tunnel-address 10.0.1.22/24")),
        )?;
        site.lead()?;
        site.decapsulate()?;
        let to = "10.0.1.13:83".parse()?;
        assert_eq!(site.director.run(|| ask(to))??, "rs3", "there is somebody to be asked");
        Ok(site)
    }

    fn lead(&self) -> Outcome {
        let up = format!("director realserver up --vip {VIP} --mode nat --gateway 10.0.1.254");
        self.must(2, &format!("{up} --record {}", self.record(2)))?;
        // No director runs who would answer for its address: each look for it would take a second.
        let mac = self.director.interface("eth0")?.mac.map(|byte| format!("{byte:02x}")).join(":");
        self.must(2, &format!("ip neighbour replace 10.0.1.254 lladdr {mac} dev eth0 nud permanent"))
    }

    fn decapsulate(&mut self) -> Outcome {
        let arguments = ["decap", "--interface", "eth0", "--address", "10.0.1.22/24"];
        self.end = Some(Program::start(&self.servers[1], &arguments, "unwrapping what comes to")?);
        Ok(())
    }

    fn record(&self, server: usize) -> String {
        self.file.beside(&format!("record{server}"))
    }

    fn must(&self, server: usize, line: &str) -> Outcome {
        let output = sh(&self.servers[server], line)?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }

    fn line(&self) -> String {
        let socket = self.file.beside("director.sock");
        format!("director doctor --json --director {socket} --config {}", self.file.name())
    }

    fn doctor(&self, more: &str) -> Outcome<Report> {
        read(&sh(&self.director, &format!("{} {more}", self.line()))?)
    }

    /// Finds a fault, does what the advice says, and finds it no more.
    fn mends(&self, check: &str) -> Outcome {
        let report = self.doctor("")?;
        let finding = report.error(check)?;
        assert!(!finding.commands.is_empty(), "{finding:?}");
        for line in &finding.commands {
            let (node, line) = match ADDRESSES.iter().position(|address| *address == finding.on) {
                // The record of the test's server is its own.
                Some(at) if line.starts_with("director realserver") => {
                    (&self.servers[at], format!("{line} --record {}", self.record(at)))
                }
                Some(at) => (&self.servers[at], line.clone()),
                None => (&self.director, line.clone()),
            };
            let output = sh(node, &line)?;
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        }
        self.is_well(check)
    }

    /// What was mended may take a moment until it shows.
    fn is_well(&self, after: &str) -> Outcome {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let report = self.doctor("")?;
            if report.findings.iter().all(|finding| finding.rank != "error") {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("after {after}: {:#?}", report.findings).into());
            }
        }
    }
}

impl Report {
    #[track_caller]
    fn error(&self, check: &str) -> Outcome<&Finding> {
        let is = |finding: &&Finding| finding.check == check && finding.rank == "error";
        let found = self.findings.iter().find(is);
        assert!(self.checks.iter().any(|of| of == check), "{check} is no check");
        found.ok_or_else(|| format!("{check} is not found: {:#?}", self.findings).into())
    }
}

/// The doctor's status says whether something is wrong.
fn read(output: &Output) -> Outcome<Report> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report: Report = serde_json::from_str(&text)
        .map_err(|error| format!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)))?;
    let wrong = report.findings.iter().any(|finding| finding.rank == "error");
    assert_eq!(output.status.code(), Some(i32::from(wrong)), "{text}");
    Ok(report)
}

fn faults(lab: Lab, disk: &Path) -> Outcome {
    let mut site = Site::new(lab)?;
    site.is_well("nothing")?;
    let director = site.director.clone();

    // No capability: nobody else mends it than who starts the program.
    let mut command = Command::new(PROGRAM);
    command.args(site.line().split(' ').skip(1)).stdin(Stdio::null());
    let output = director.run(|| {
        remove_capability_from_bounding_set(CapabilitySet::NET_RAW)?;
        command.output()
    })??;
    assert!(read(&output)?.error("capability")?.what.contains("CAP_NET_RAW"));

    director.set_down("eth0")?;
    site.mends("interface")?;
    // The route went with the interface.
    sh(&director, &format!("ip route replace {VIP} dev eth0"))?;

    director.set_mtu("eth0", 580)?;
    site.mends("mtu")?;
    director.set_mtu("eth0", 1_500)?;

    director.add_address("eth0", VIP.parse()?, 32)?;
    site.mends("address")?;
    sh(&director, &format!("ip route replace {VIP} dev eth0"))?;

    fs::write(site.file.name(), configuration().replace("254/24", "254/16"))?;
    site.mends("netmask")?;

    sh(&director, &format!("ip route delete {VIP} dev eth0"))?;
    director.set_sysctl("net.ipv4.conf.eth0.rp_filter", "1")?;
    site.mends("rp-filter")?;

    // The virtual address is gone from the DR server.
    site.must(0, &format!("director realserver down --record {}", site.record(0)))?;
    site.mends("decapsulation")?;

    for interface in ["all", "eth0"] {
        site.servers[0].set_sysctl(&format!("net.ipv4.conf.{interface}.arp_ignore"), "0")?;
    }
    site.mends("arp")?;

    site.must(2, &format!("director realserver down --record {}", site.record(2)))?;
    site.mends("gateway")?;

    // Nobody unwraps at the TUN server, whose kernel has the address.
    site.end.take().ok_or("no tunnel's end")?.stop(Signal::TERM)?;
    site.servers[1].add_address("eth0", ADDRESSES[1].parse()?, 24)?;
    assert_eq!(site.doctor("")?.error("decapsulation")?.on, ADDRESSES[1]);
    site.servers[1].remove_address("eth0", ADDRESSES[1].parse()?, 24)?;
    site.decapsulate()?;
    site.is_well("no decapsulation")?;

    site.servers[2].set_down("eth0")?;
    let report = site.doctor("")?;
    assert!(report.error("server")?.what.contains(ADDRESSES[2]), "{:#?}", report.findings);
    site.servers[2].set_up("eth0")?;
    // The route went with the interface.
    site.lead()?;
    site.is_well("a server without a cable")?;

    fs::write(site.file.name(), configuration().replace("10.0.1.12", "10.0.1.99"))?;
    let report = site.doctor("")?;
    assert!(report.error("check-target")?.what.contains("10.0.1.99"), "{:#?}", report.findings);
    fs::write(site.file.name(), configuration())?;
    site.is_well("a dead check target")?;

    let state = format!("--state {}", disk.join("state").display());
    assert!(site.doctor(&state)?.findings.iter().all(|finding| finding.check != "disk"));
    fs::write(disk.join("filler"), vec![0; 3 << 19])?;
    site.doctor(&state)?.error("disk")?;
    fs::remove_file(disk.join("filler"))?;
    assert!(site.doctor(&state)?.findings.iter().all(|finding| finding.check != "disk"));

    let few = |then: &str| format!("ulimit -S -n 60; {then}{}", site.line());
    let advice = read(&sh(&director, &few(""))?)?.error("descriptors")?.commands.join("; ");
    let mended = read(&sh(&director, &few(&format!("{advice}; ")))?)?;
    assert!(mended.findings.iter().all(|finding| finding.rank != "error"), "{:#?}", mended.findings);

    // Another director, with the same interface.
    let other = site.file.beside("other.sock");
    let mut command = Command::new(PROGRAM);
    command.args(["run", "--no-state", "--director", &other, "--config", &site.file.name()]).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut second = director.run(|| command.spawn())??;
    let end = Instant::now() + Duration::from_secs(60);
    while site.doctor("")?.error("second-director").is_err() {
        assert!(Instant::now() < end && second.try_wait()?.is_none(), "it is not seen");
    }
    let mended = site.mends("second-director");
    drop(second.kill());
    drop(second.wait());
    mended
}
