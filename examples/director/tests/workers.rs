//! A running director with two workers: it is controlled as one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/greeting.rs"]
mod greeting;
mod support;

use core::error::Error;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, Output};
use std::time::Instant;

use greeting::{greet, ping};
use lvs_core::{Family, Method};
use lvs_std::lab::harness::{self, Outcome};
use lvs_std::lab::{Cluster, Lab, Plan};
use rustix::net::{SocketFlags, SocketType};
use rustix::process::Signal;
use support::{PROGRAM, Program, Temporary, ask, serve};

fn main() -> ExitCode {
    harness::run(None, |lab| {
        harness::named(
            lab,
            [
                (
                    "listings and counts are those of both workers, and what is changed is changed in both",
                    sums,
                ),
                ("a drain ends when neither worker has a connection left, and a deadline cuts both", drains),
                ("persistent clients keep their server, and each of them has one worker", persists),
                ("what two workers cannot share is refused", refuses),
                ("an address is answered for by both workers while the machine has it", follows),
                ("without traffic two workers take no processor", idles),
            ],
        )
    })
}

/// A cluster with a director of two workers on it.
struct Stage {
    /// Ends before its folder goes.
    director: Option<Program>,
    cluster: Cluster,
    file: Temporary,
    socket: String,
}

impl Stage {
    fn new(lab: Lab, director: &str, services: &str) -> Result<Self, Box<dyn Error>> {
        let cluster = Cluster::new(lab, &Plan::new(Method::Nat).with_servers(3))?;
        for (server, number) in cluster.servers.iter().zip(1..) {
            greet(server, SocketAddr::new(Cluster::server_address(number, Family::V4), 80))?;
        }
        let file = Temporary::new(&text(director, services))?;
        let socket = file.beside("director.sock");
        let arguments = ["run", "--config", &file.name(), "--control", &socket];
        let director = Some(Program::start(&cluster.director, &arguments, "the director is at work")?);
        Ok(Self { cluster, file, socket, director })
    }

    fn run(&self, words: &str) -> Result<String, Box<dyn Error>> {
        let output = self.output(words)?;
        assert_eq!(output.status.code(), Some(0), "{words}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    fn output(&self, words: &str) -> std::io::Result<Output> {
        let mut words = words.split_whitespace();
        let verb = words.next().unwrap();
        Command::new(PROGRAM).args([verb, "--director", &self.socket]).args(words).output()
    }

    /// The lines of a listing about services and servers, blanks squeezed.
    fn table(&self, options: &str) -> Result<Vec<String>, Box<dyn Error>> {
        let text = self.run(&format!("lvsadm {options}"))?;
        let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(text.lines().skip(3).map(squeeze).collect())
    }

    /// A connection from one of the client's addresses, and who it is with.
    fn connect(&self, from: IpAddr) -> Result<(TcpStream, String), Box<dyn Error>> {
        let flags = SocketFlags::CLOEXEC;
        Ok(self.cluster.client.run(|| -> std::io::Result<_> {
            let socket =
                rustix::net::socket_with(rustix::net::AddressFamily::INET, SocketType::STREAM, flags, None)?;
            rustix::net::bind(&socket, &SocketAddr::new(from, 0))?;
            rustix::net::connect(&socket, &vip())?;
            let mut stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            let mut name = [0; 3];
            stream.read_exact(&mut name)?;
            Ok((stream, String::from_utf8_lossy(&name).into_owned()))
        })??)
    }

    /// Stops the director; what each worker did: frames in, frames out, connections, frames handed on, frames lost by
    /// that.
    fn stop(&mut self) -> Result<Vec<Vec<u64>>, Box<dyn Error>> {
        let text = self.director.take().ok_or("it runs")?.stop(Signal::TERM)?;
        let rows = text.lines().skip_while(|line| *line != "frames");
        let rows = rows.skip_while(|line| *line != "workers").skip(2).take(2);
        let numbers =
            |row: &str| row.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        Ok(rows.map(numbers).collect())
    }
}

fn client() -> IpAddr {
    Cluster::client_address(Family::V4)
}

fn vip() -> SocketAddr {
    SocketAddr::new(Cluster::vip(Family::V4), 80)
}

fn text(director: &str, services: &str) -> String {
    format!(
        "[director]\nworkers = 2\n{director}\n[[interface]]\nname = \"eth0\"\n\
         addresses = [\"10.0.1.254/24\", \"192.0.2.254/24\"]\n{services}"
    )
}

fn service(scheduler: &str, more: &str) -> String {
    let mut text = format!(
        "[[service]]\nprotocol = \"tcp\"\naddress = \"192.0.2.100\"\nport = 80\nscheduler = \"{scheduler}\"\n{more}"
    );
    for number in 1..=2 {
        text.push_str(&format!("[[service.server]]\naddress = \"10.0.1.1{number}\"\nmethod = \"nat\"\n"));
    }
    text
}

/// Whether a connection still carries bytes there and back.
fn is_alive(stream: &mut TcpStream) -> bool {
    ping(stream, Duration::from_secs(1)).is_ok()
}

fn sums(lab: Lab) -> Outcome {
    const CONNECTIONS: usize = 40;
    let mut stage = Stage::new(lab, "", &service("rr", ""))?;
    let mut held: Vec<_> = (0..CONNECTIONS).map(|_| stage.connect(client()).unwrap()).collect();
    let count = |name: &str| held.iter().filter(|(_, server)| server == name).count();
    let active = |number: u32| format!("-> 10.0.1.1{number}:80 Masq 1 {} 0", count(&format!("rs{number}")));
    let table = stage.table("-Ln")?;
    assert!(table.contains(&active(1)) && table.contains(&active(2)), "{table:?}");
    let connections = stage.run("lvsadm -Lnc")?;
    assert_eq!(connections.lines().filter(|line| line.contains("ESTABLISHED")).count(), CONNECTIONS);
    for (stream, name) in held.iter().step_by(7) {
        let said = stage.run(&format!("explain tcp {} {}", stream.local_addr()?, vip()))?;
        assert!(said.contains(&name.replace("rs", "10.0.1.1")), "{said}");
        assert!(said.contains("worker 0 has") || said.contains("worker 1 has"), "{said}");
    }
    // Counts are shown every two seconds.
    let conns = |stage: &Stage| -> Result<String, Box<dyn Error>> {
        let table = stage.table("-Ln --stats")?;
        Ok(table.first().and_then(|line| line.split(' ').nth(2)).unwrap_or_default().to_owned())
    };
    eventually("the counts are those of both", || Ok(conns(&stage)? == CONNECTIONS.to_string()))?;
    stage.run("lvsadm -Z")?;
    assert_eq!(conns(&stage)?, "0", "in both");
    // A third server, and another scheduler, for both.
    stage.run("lvsadm -a -t 192.0.2.100:80 -r 10.0.1.13:80 -m -w 2")?;
    stage.run("lvsadm --set 800 100 200")?;
    fs::write(stage.file.name(), text("", &service("wrr", "")))?;
    assert!(stage.run("reload")?.contains("rr -> wrr"));
    assert!(stage.run("lvsadm -L --timeout")?.contains("800 100 200"));
    let names: Vec<String> = (0..40).map(|_| stage.connect(client()).unwrap().1).collect();
    let third = names.iter().filter(|name| *name == "rs3").count();
    assert!((16..=24).contains(&third), "half of each worker's: {names:?}");
    assert!(held.iter_mut().all(|(stream, _)| is_alive(stream)));
    assert!(stage.run("statistics")?.contains("sent to real servers"));
    let workers = stage.stop()?;
    let opened: Vec<u64> = workers.iter().map(|row| row[2]).collect();
    assert!(opened.iter().sum::<u64>() == 80 && opened.iter().all(|opened| *opened >= 15), "{workers:?}");
    assert!(workers[0][3] > 0 && workers[1][3] == 0, "neighbours are heard by the first: {workers:?}");
    Ok(())
}

fn drains(lab: Lab) -> Outcome {
    let stage = Stage::new(lab, "", &service("rr", ""))?;
    let mut held: Vec<_> = (0..24).map(|_| stage.connect(client()).unwrap()).collect();
    let of_first = held.iter().filter(|(_, name)| name == "rs1").count();
    stage.run("lvsadm --drain -t 192.0.2.100:80 -r 10.0.1.11:80 --deadline 1.5 --no-wait")?;
    assert!(stage.run("lvsadm --drains")?.contains(&format!("{of_first} connections left")));
    for _ in 0..8 {
        assert_eq!(stage.connect(client())?.1, "rs2", "nobody new, from either worker");
    }
    eventually("the deadline cuts", || {
        Ok(stage.table("-Ln")?.iter().any(|line| line.ends_with("Masq 0 0 0")))
    })?;
    for (stream, name) in &mut held {
        assert_eq!(is_alive(stream), name == "rs2");
    }
    Ok(())
}

fn persists(lab: Lab) -> Outcome {
    let persistent = service("rr", "persistence = { timeout = 100, mask = 28 }\n");
    let mut stage = Stage::new(lab, "", &persistent)?;
    let check = Command::new(PROGRAM).args(["check", &stage.file.name()]).output()?;
    let said = String::from_utf8(check.stdout)?;
    assert!(said.contains("2 share the packets out by the client's network (/28 and /128)"), "{said}");
    let clients = 112..=207_u8;
    for last in clients.clone() {
        stage.cluster.client.add_address("eth0", [192, 0, 2, last].into(), 24)?;
    }
    let mut servers = BTreeMap::new();
    for _ in 0..2 {
        for last in clients.clone() {
            let (_, name) = stage.connect([192, 0, 2, last].into())?;
            let before = servers.entry(last / 16).or_insert_with(|| name.clone());
            assert_eq!(*before, name, "192.0.2.{last} is in a network that has a server");
        }
    }
    let templates = stage.run("lvsadm -Lnc")?;
    assert_eq!(templates.lines().filter(|line| line.contains(":0 ")).count(), 6, "{templates}");
    let workers = stage.stop()?;
    let opened: Vec<u64> = workers.iter().map(|row| row[2]).collect();
    assert_eq!(opened.iter().sum::<u64>(), 192);
    assert!(opened.iter().all(|opened| opened % 32 == 0), "whole networks: {opened:?}");
    Ok(())
}

fn refuses(lab: Lab) -> Outcome {
    let stage = Stage::new(lab, "", &service("rr", ""))?;
    let refused = |words: &str| -> Result<String, Box<dyn Error>> {
        let output = stage.output(words)?;
        assert_ne!(output.status.code(), Some(0), "{words}");
        Ok(String::from_utf8(output.stderr)?)
    };
    refused("lvsadm -A -t 192.0.2.100:443 -s rr -p 100")?;
    refused("lvsadm -A -t 192.0.2.100:21 -s rr")?;
    refused("lvsadm -E -t 192.0.2.100:80 -s rr -p 100")?;
    refused("lvsadm --start-daemon master --mcast-interface eth0")?;
    stage.run("lvsadm -A -t 192.0.2.100:443 -s rr")?;
    fs::write(stage.file.name(), text("", &service("rr", "persistence = { timeout = 100 }\n")))?;
    let said = refused("reload")?;
    assert!(said.contains("shared out by their address") && said.contains("a new start"), "{said}");
    let table = stage.table("-Ln")?;
    assert_eq!(table.iter().filter(|line| line.starts_with("TCP")).count(), 2, "{table:?}");
    Ok(())
}

fn follows(lab: Lab) -> Outcome {
    let cluster = Cluster::new(lab, &Plan::new(Method::Nat).with_servers(2))?;
    for (server, number) in cluster.servers.iter().zip(1..) {
        serve(server, SocketAddr::new(Cluster::server_address(number, Family::V4), 80))?;
    }
    let configuration = format!("answer-for = \"host\"\n{}", text("", &service("rr", "")));
    let file = Temporary::new(&configuration)?;
    let arguments = ["run", "--no-control", "--config", &file.name()];
    let director = Program::start(&cluster.director, &arguments, "the director is at work")?;
    let reaches =
        || cluster.client.run(|| TcpStream::connect_timeout(&vip(), Duration::from_millis(700)).is_ok());
    assert!(!reaches()?, "the machine does not have the address");
    cluster.director.set_up("lo")?;
    cluster.director.add_address("lo", vip().ip(), 32)?;
    eventually("the address came", || Ok(reaches()?))?;
    for _ in 0..40 {
        let name = cluster.client.run(|| ask(vip()))??;
        assert!(name.starts_with("rs"), "replies are found by the worker that has the connection");
    }
    director.stop(Signal::TERM)?;
    Ok(())
}

fn idles(lab: Lab) -> Outcome {
    let stage = Stage::new(lab, "", &service("rr", ""))?;
    drop(stage.connect(client())?);
    let asked = UnixStream::connect(format!("{}.json", stage.socket))?;
    let pid = rustix::net::sockopt::socket_peercred(&asked)?.pid.as_raw_pid();
    drop(asked);
    // Ticks of 10 ms, of the user and of the kernel: the 14th and the 15th field.
    let used = || -> Result<u64, Box<dyn Error>> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields = stat.rsplit_once(')').ok_or("a name")?.1.split_whitespace();
        Ok(fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum())
    };
    std::thread::sleep(Duration::from_millis(500));
    let (before, begun) = (used()?, Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    let ticks = used()? - before;
    let share = ticks as f64 / 100.0 / begun.elapsed().as_secs_f64();
    assert!(share < 0.05, "{ticks} ticks are {share} of a processor");
    Ok(())
}

/// Waits for something that takes a moment.
fn eventually(what: &str, mut is: impl FnMut() -> Result<bool, Box<dyn Error>>) -> Outcome {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        if is()? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("in vain: {what}").into())
}
