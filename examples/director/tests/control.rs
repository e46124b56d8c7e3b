//! A running director under control: reload, drain, restart, clients that misbehave, addresses that move.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use core::error::Error;
use core::net::SocketAddr;
use core::time::Duration;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, Output};
use std::time::Instant;

use lvs_core::{Family, Method};
use lvs_std::control::{Answer, Client, Query, ServiceName, ServiceSpec, TableCommand};
use lvs_std::lab::harness::{self, Outcome};
use lvs_std::lab::{Cluster, Lab, Node, Plan};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use support::{PROGRAM, Program, Temporary, ask, serve};

fn main() -> ExitCode {
    harness::run(None, |lab| {
        harness::named(
            lab,
            [
                (
                    "a reload changes what the file says anew, and keeps connections and what operators changed",
                    reload,
                ),
                ("a file that is wrong, or only half written, changes nothing", half_written),
                ("a plan says what a reload would change and what share of clients would move", plan),
                ("a director that was killed comes back with the table that it had", restart),
                ("a second start is refused and the first director loses nothing by it", second_start),
                ("a drained server keeps its connections until the deadline cuts them", drain),
                ("what became of a packet is explained", explain),
                (
                    "clients that send garbage, or read nothing, hold nobody up and stay connected",
                    hostile_clients,
                ),
                (
                    "an operator's commands work while clients crowd, and when no descriptor or thread is left",
                    crowded,
                ),
                ("what cannot be printed, or has no memory, is an error with words", unprinted),
                ("an address is answered for while the machine has it", follow),
            ],
        )
    })
}

/// A cluster with a director on it.
struct Stage {
    cluster: Cluster,
    file: Temporary,
    socket: String,
    director: Program,
}

impl Stage {
    /// NAT to three servers that tell their names and then wait; `services` is what the file says after the interface.
    fn new(lab: Lab, name: &str, services: &str) -> Result<Self, Box<dyn Error>> {
        let cluster = Cluster::new(lab, &Plan::new(Method::Nat).with_servers(3))?;
        for (server, number) in cluster.servers.iter().zip(1..) {
            greet(server, SocketAddr::new(Cluster::server_address(number, Family::V4), 80))?;
        }
        let file = Temporary::new(name, &text(services))?;
        let socket = std::env::temp_dir().join(format!("director-test-{}-{name}.sock", std::process::id()));
        let socket = socket.display().to_string();
        let director = start(&cluster.director, &file, &socket)?;
        Ok(Self { cluster, file, socket, director })
    }

    fn write(&self, services: &str) -> Outcome {
        Ok(fs::write(self.file.name(), text(services))?)
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

    /// The lines of `-Ln` about services and servers, blanks squeezed.
    fn table(&self) -> Result<Vec<String>, Box<dyn Error>> {
        let text = self.run("lvsadm -Ln")?;
        let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(text.lines().skip(3).map(squeeze).collect())
    }

    /// A connection of the client's, and who it is with.
    fn connect(&self) -> Result<(TcpStream, String), Box<dyn Error>> {
        Ok(self.cluster.client.run(|| -> std::io::Result<_> {
            let mut stream = TcpStream::connect_timeout(&vip(), Duration::from_secs(5))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            let mut name = [0; 3];
            stream.read_exact(&mut name)?;
            Ok((stream, String::from_utf8_lossy(&name).into_owned()))
        })??)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for end in ["", ".lock", ".json", ".json.lock", ".state", ".state.lock", ".state.toml"] {
            drop(fs::remove_file(format!("{}{end}", self.socket)));
        }
    }
}

fn start(node: &Node, file: &Temporary, socket: &str) -> Result<Program, Box<dyn Error>> {
    Program::start(node, &["run", "--config", &file.name(), "--control", socket], "the director is at work")
}

fn vip() -> SocketAddr {
    SocketAddr::new(Cluster::vip(Family::V4), 80)
}

fn text(services: &str) -> String {
    format!("[[interface]]\nname = \"eth0\"\naddresses = [\"10.0.1.254/24\", \"192.0.2.254/24\"]\n{services}")
}

fn service(scheduler: &str, servers: &[(u8, u32)]) -> String {
    let mut text = format!(
        "[[service]]\nprotocol = \"tcp\"\naddress = \"192.0.2.100\"\nport = 80\nscheduler = \"{scheduler}\"\n"
    );
    for (number, weight) in servers {
        text.push_str(&format!(
            "[[service.server]]\naddress = \"10.0.1.1{number}\"\nmethod = \"nat\"\nweight = {weight}\n"
        ));
    }
    text
}

/// A server that tells its node's name and echoes what comes.
fn greet(node: &Node, address: SocketAddr) -> Outcome {
    let listener = node.run(|| std::net::TcpListener::bind(address))??;
    let name = node.name().to_owned();
    node.spawn("server", move || {
        for mut stream in listener.incoming().flatten() {
            let name = name.clone();
            std::thread::spawn(move || {
                drop(stream.write_all(name.as_bytes()));
                let mut bytes = [0; 64];
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    drop(stream.write_all(&bytes[..count]));
                }
            });
        }
    })?;
    Ok(())
}

/// Whether a connection still carries bytes there and back.
fn is_alive(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut back = [0; 4];
    stream.write_all(b"ping").is_ok() && stream.read_exact(&mut back).is_ok() && &back == b"ping"
}

fn reload(lab: Lab) -> Outcome {
    let stage = Stage::new(lab, "reload", &service("rr", &[(1, 1), (2, 1)]))?;
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

fn half_written(lab: Lab) -> Outcome {
    let stage = Stage::new(lab, "half", &service("rr", &[(1, 1), (2, 1)]))?;
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

fn plan(lab: Lab) -> Outcome {
    let stage = Stage::new(lab, "plan", &service("mh", &[(1, 1), (2, 1), (3, 1)]))?;
    let before = stage.table()?;
    let other = Temporary::new("plan-other", &text(&service("mh", &[(1, 1), (2, 1)])))?;
    let said = stage.run(&format!("plan {}", other.name()))?;
    assert!(said.starts_with("- TCP 192.0.2.100:80  10.0.1.13:80\n"), "{said}");
    let share: f64 =
        said.split_once("80: ").and_then(|(_, rest)| rest.split_once(" %")).unwrap().0.parse()?;
    assert!((33.0..45.0).contains(&share), "a third, and little else: {said}");
    assert_eq!(stage.run("plan")?, "nothing would change\n");
    assert_eq!(stage.table()?, before, "a plan changes nothing");
    Ok(())
}

fn restart(lab: Lab) -> Outcome {
    let mut stage = Stage::new(lab, "restart", &service("rr", &[(1, 1), (2, 1)]))?;
    stage.run("lvsadm -a -t 192.0.2.100:80 -r 10.0.1.13:80 -m -w 9 -x 100 -y 50")?;
    stage.run("lvsadm -d -t 192.0.2.100:80 -r 10.0.1.11:80")?;
    stage.run("lvsadm -A -f 7 -s sh -b sh-port -p 100")?;
    stage.run("lvsadm --set 800 100 200")?;
    stage.run("lvsadm --drain -t 192.0.2.100:80 -r 10.0.1.12:80 --deadline 300 --no-wait")?;
    stage.run("lvsadm --start-daemon backup --mcast-interface eth0 --syncid 9")?;
    let all = |stage: &Stage| -> Result<_, Box<dyn Error>> {
        let timeouts = stage.run("lvsadm -L --timeout")?;
        Ok((stage.run("lvsadm -Ln --thresholds")?, timeouts, stage.run("lvsadm -L --daemon")?))
    };
    let before = all(&stage)?;
    assert!(before.2.contains("syncid=9"), "{before:?}");
    stage.director.signal(Signal::KILL)?;
    std::thread::sleep(Duration::from_millis(200));
    stage.director = start(&stage.cluster.director, &stage.file, &stage.socket)?;
    assert_eq!(all(&stage)?, before);
    assert!(stage.run("services")?.contains("10.0.1.12:80"));
    let drained = stage.table()?.iter().any(|line| line.starts_with("-> 10.0.1.12:80 Masq 0 "));
    assert!(drained, "it is drained as before: {:?}", stage.table()?);
    stage.run("lvsadm --undrain -t 192.0.2.100:80 -r 10.0.1.12:80")?;
    let names: Vec<String> = (0..4).map(|_| stage.connect().unwrap().1).collect();
    assert!(names.iter().all(|name| name != "rs1") && names.contains(&"rs3".to_owned()), "{names:?}");
    // A file that was edited meanwhile is applied on top.
    stage.director.signal(Signal::KILL)?;
    stage.write(&service("wrr", &[(1, 1), (2, 1)]))?;
    std::thread::sleep(Duration::from_millis(200));
    stage.director = start(&stage.cluster.director, &stage.file, &stage.socket)?;
    let table = stage.table()?;
    assert!(
        table[0].ends_with("wrr") && table.iter().any(|line| line.contains("10.0.1.13:80 Masq 9")),
        "{table:?}"
    );
    // Time-outs that a reload has set stay what it has set them to.
    stage.write(&format!("{}[timeouts]\nudp = 60\n", service("wrr", &[(1, 1), (2, 1)])))?;
    assert_eq!(stage.run("reload")?, "~ time-outs, switches or virtual addresses\n");
    let reloaded = stage.run("lvsadm -L --timeout")?;
    assert!(reloaded.trim_end().ends_with("60"), "{reloaded}");
    stage.director.signal(Signal::KILL)?;
    std::thread::sleep(Duration::from_millis(200));
    stage.director = start(&stage.cluster.director, &stage.file, &stage.socket)?;
    assert_eq!(stage.run("lvsadm -L --timeout")?, reloaded);
    Ok(())
}

/// Whatever a second start shares with the first director, it ends before it has touched anything.
fn second_start(lab: Lab) -> Outcome {
    let mut stage = Stage::new(lab, "second", &service("rr", &[(1, 1), (2, 1)]))?;
    let (mut held, _) = stage.connect()?;
    let other = std::env::temp_dir().join(format!("director-test-{}-second-other", std::process::id()));
    let other = other.display().to_string();
    let files = ["", ".json", ".state"].map(|end| format!("{}{end}", stage.socket));
    let inodes =
        || files.each_ref().map(|file| fs::symlink_metadata(file).map(|file| file.ino()).unwrap_or(0));
    // Connections to the sockets that nobody accepts or reads: whether the first one lives must not depend on them.
    let raw = || -> std::io::Result<_> {
        let (family, flags) = (AddressFamily::UNIX, SocketFlags::NONBLOCK);
        let socket = rustix::net::socket_with(family, SocketType::SEQPACKET, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(&stage.socket)?)?;
        Ok(socket)
    };
    let _crowd: Vec<_> = (0..60).map_while(|_| raw().ok()).collect();
    let state = format!("{}.state", stage.socket);
    let mut added = 0;
    for (shares, arguments) in [
        ("everything", vec!["--control", &stage.socket]),
        ("the socket", vec!["--control", &stage.socket, "--no-state"]),
        ("the state", vec!["--control", &other, "--state", &state]),
        ("the interface", vec!["--control", &other, "--no-state"]),
        ("the interface, without control", vec!["--no-control"]),
    ] {
        let before = (inodes(), fs::read(&state)?);
        let mut command = Command::new(PROGRAM);
        command.args(["run", "--config", &stage.file.name()]).args(&arguments);
        let output = stage.cluster.director.run(|| command.output())??;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{shares}: {said}");
        assert!(said.contains("is in use by another director (process "), "{shares}: {said}");
        assert_eq!((inodes(), fs::read(&state)?), before, "{shares}");
        assert!(is_alive(&mut held), "{shares}: what was open stays");
        stage.connect()?;
        added += 1;
        stage.run(&format!("lvsadm -A -u 192.0.2.100:{added} -s rr"))?;
    }
    drop(_crowd);
    let table = stage.table()?;
    assert_eq!(table.len(), 3 + added, "{table:?}");
    stage.director.signal(Signal::KILL)?;
    std::thread::sleep(Duration::from_millis(200));
    stage.director = start(&stage.cluster.director, &stage.file, &stage.socket)?;
    assert_eq!(stage.table()?.len(), 3 + added, "no command was lost");
    for end in ["", ".lock", ".json.lock"] {
        drop(fs::remove_file(format!("{other}{end}")));
    }
    Ok(())
}

fn drain(lab: Lab) -> Outcome {
    let persistent = service("rr", &[(1, 1), (2, 1)]) + "[service.persistence]\ntimeout = 100\n";
    let stage = Stage::new(lab, "drain", &persistent)?;
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

fn explain(lab: Lab) -> Outcome {
    let stage = Stage::new(lab, "explain", &service("sh", &[(1, 1), (2, 1), (3, 1)]))?;
    let (stream, name) = stage.connect()?;
    let client = stream.local_addr()?;
    let said = stage.run(&format!("explain tcp {client} {}", vip()))?;
    assert!(said.contains("state ESTABLISHED") && said.contains(&name.replace("rs", "10.0.1.1")), "{said}");
    let said = stage.run(&format!("explain tcp {}:9 {}", client.ip(), vip()))?;
    let chosen = format!("sh sends this client to {}:80", name.replace("rs", "10.0.1.1"));
    assert!(said.contains(&chosen), "the same client's next connection: {said}");
    let said = stage.run("explain udp 192.0.2.7:9 192.0.2.100:53")?;
    assert!(said.contains("no service is for it"), "{said}");
    let counted = stage.run("statistics")?;
    assert!(counted.contains("sent to real servers"), "{counted}");
    Ok(())
}

fn hostile_clients(lab: Lab) -> Outcome {
    let stage = Stage::new(lab, "hostile", &service("rr", &[(1, 1), (2, 1)]))?;
    let raw = || -> std::io::Result<_> {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::NONBLOCK,
            None,
        )?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(&stage.socket)?)?;
        Ok(socket)
    };
    // Bytes that are no message at all, and messages that are cut at every place.
    let garbage = raw()?;
    let mut rng = 1_u32;
    for length in 1..400_usize {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                rng = rng.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (rng >> 24) as u8
            })
            .collect();
        let _ = rustix::net::send(&garbage, &bytes, SendFlags::NOSIGNAL);
    }
    let get_family: Vec<u8> =
        [&[32, 0, 0, 0, 0x10, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0, 3, 1, 0, 0, 9, 0, 2, 0][..], b"IPVS\0\0\0\0"]
            .concat();
    eventually("there is room for another question", || {
        Ok(rustix::net::send(&garbage, &get_family, SendFlags::NOSIGNAL).is_ok())
    })?;
    let mut answer = [0; 4_096];
    eventually("the client is still answered", || {
        let received = rustix::net::recv(&garbage, &mut answer[..], rustix::net::RecvFlags::empty());
        Ok(received.is_ok_and(|(count, _)| count == 388))
    })?;
    // Ask for listings without ever reading them, by as many clients as may be.
    let services: Vec<u8> =
        [&[20, 0, 0, 0, 0x1b, 0, 1, 3, 9, 0, 0, 0, 0, 0, 0, 0][..], &[4, 1, 0, 0]].concat();
    let greedy: Vec<_> = (0..40).filter_map(|_| raw().ok()).collect();
    for _ in 0..2_000 {
        for client in &greedy {
            let _ = rustix::net::send(client, &services, SendFlags::NOSIGNAL);
        }
    }
    let begun = Instant::now();
    let mut client = Client::connect(stage.socket.as_ref())?;
    for number in 1..50_u16 {
        let name = ServiceName::udp(SocketAddr::new(vip().ip(), number));
        client.call(&TableCommand::NewService(name, ServiceSpec::new(Family::V4, "rr")).into())?;
    }
    let Answer::Services(listed) = client.call(&Query::Services.into())? else {
        return Err("no listing".into());
    };
    assert_eq!(listed.len(), 50);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let name = stage.cluster.client.run(|| ask_once(vip()))??;
    assert!(name.starts_with("rs"), "packets pass: {name}");
    // The JSON socket: a question that never ends, and one that is none.
    let mut silent = UnixStream::connect(format!("{}.json", stage.socket))?;
    silent.write_all(b"{\"explain\":")?;
    let mut wrong = UnixStream::connect(format!("{}.json", stage.socket))?;
    wrong.write_all(b"[[[[[[[[\n")?;
    let mut line = String::new();
    BufReader::new(wrong).read_line(&mut line)?;
    assert!(line.contains("no question that this director knows"), "{line}");
    stage.run("services")?;
    Ok(())
}

fn crowded(lab: Lab) -> Outcome {
    let stage = Stage::new(lab, "crowded", &service("rr", &[(1, 1), (2, 1)]))?;
    let json = format!("{}.json", stage.socket);
    let netlink = || -> std::io::Result<_> {
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(&stage.socket)?)?;
        Ok(socket)
    };
    let peer = rustix::net::sockopt::socket_peercred(UnixStream::connect(&json)?)?.pid;
    let count = |what: &str| -> std::io::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/{what}", peer.as_raw_pid()))?.count())
    };
    // Each command is a process of its own, which has its share.
    let commands = |when: &str| -> Outcome {
        let begun = Instant::now();
        assert_eq!(stage.table()?.len(), 3, "{when}");
        assert!(stage.run("services")?.contains("192.0.2.100:80"), "{when}");
        stage.run("health")?;
        assert!(begun.elapsed() < Duration::from_secs(10), "{when}: {:?}", begun.elapsed());
        Ok(())
    };
    let threads = count("task")?;
    let silent: Vec<_> = (0..200).map(|_| netlink().unwrap()).collect();
    let mut asking: Vec<_> = (0..200).map(|_| UnixStream::connect(&json).unwrap()).collect();
    for stream in &mut asking {
        // Half a question. Those that have given way already cannot be written to.
        let _ = stream.write_all(b"{\"plan\":\"");
    }
    commands("while clients sit there")?;
    assert_eq!(count("task")?, threads, "questions need no further thread");
    drop((silent, asking));
    // No descriptor more than it has now.
    commands("before")?;
    eventually("those who left are gone", || Ok(count("fd")? < 100))?;
    let numbers = fs::read_dir(format!("/proc/{}/fd", peer.as_raw_pid()))?;
    let highest = numbers.filter_map(|fd| fd.ok()?.file_name().to_str()?.parse::<u64>().ok()).max();
    let limit = Rlimit { current: highest.map(|fd| fd + 1), maximum: Some(4_096) };
    prlimit(Some(peer), Resource::Nofile, limit)?;
    commands("without a descriptor")?;
    let waiting: Vec<_> =
        (0..50).map(|_| (netlink().unwrap(), UnixStream::connect(&json).unwrap())).collect();
    let before = spent(peer)?;
    std::thread::sleep(Duration::from_secs(1));
    let after = spent(peer)?;
    assert!(after - before < 50, "{} hundredths of a second, while nobody asks anything", after - before);
    commands("while clients wait for descriptors")?;
    drop(waiting);
    prlimit(Some(peer), Resource::Nofile, Rlimit { current: Some(1_024), maximum: Some(4_096) })?;
    commands("after")?;
    let name = stage.cluster.client.run(|| ask_once(vip()))??;
    assert!(name.starts_with("rs"), "packets pass: {name}");
    Ok(())
}

/// Hundredths of a second on a processor that the threads at a process's control sockets have had.
fn spent(process: Pid) -> Result<u64, Box<dyn Error>> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{}/task", process.as_raw_pid()))? {
        let text = fs::read_to_string(task?.path().join("stat"))?;
        let (_, rest) = text.rsplit_once(") ").ok_or("stat")?;
        if text.contains("(control)") || text.contains("(json)") {
            sum += rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>();
        }
    }
    Ok(sum)
}

/// What is done is said, or the status is another one than 0: with a full standard output, and with a closed one.
fn unprinted(lab: Lab) -> Outcome {
    let stage = Stage::new(lab, "unprinted", &service("rr", &[(1, 1), (2, 1)]))?;
    let commands = [
        "lvsadm -Ln",
        "lvsadm -Sn",
        "lvsadm -Lcn",
        "lvsadm -L --timeout",
        "lvsadm --help",
        "services",
        "statistics",
        "plan",
    ];
    for words in commands {
        let mut all = words.split_whitespace();
        let command = || {
            let mut command = Command::new(PROGRAM);
            let mut all = all.clone();
            command.args(all.next()).args(["--director", &stage.socket]).args(all);
            command
        };
        let full = fs::File::options().write(true).open("/dev/full")?;
        let output = command().stdout(full).output()?;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(1), "{words} > /dev/full: {said}");
        assert!(said.contains("No space left"), "{words} > /dev/full: {said}");
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let output = command().stdout(writer).output()?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
        assert_eq!(signal, Some(13), "{words} | (nobody): {:?} {:?}", output.status, output.stderr);
        assert!(all.next().is_some());
    }
    let full = fs::File::options().write(true).open("/dev/full")?;
    let output = Command::new(PROGRAM).arg("--help").stdout(full).output()?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let file = fs::File::options().write(true).open("/dev/full")?;
    let output = Command::new(PROGRAM).args(["check", "/nowhere"]).stderr(file).output()?;
    assert_eq!(output.status.code(), Some(1), "no panic: {output:?}");
    // A table that this machine has no memory for.
    let big = text(&format!("[tuning]\nconnections = {}\n", 120_000_000));
    let file = Temporary::new("big", &big)?;
    let script = "ulimit -v 8000000; exec \"$0\" run --no-control --config \"$1\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, PROGRAM, &file.name()]);
    let output = stage.cluster.client.run(|| command.output())??;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("lower `connections`"), "{said}");
    Ok(())
}

fn follow(lab: Lab) -> Outcome {
    let servers = service("rr", &[(1, 1), (2, 1)]);
    let cluster = Cluster::new(lab, &Plan::new(Method::Nat).with_servers(2))?;
    for (server, number) in cluster.servers.iter().zip(1..) {
        serve(server, SocketAddr::new(Cluster::server_address(number, Family::V4), 80))?;
    }
    let file = Temporary::new("follow", &format!("answer-for = \"host\"\n{}", text(&servers)))?;
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

impl Stage {
    /// A connection that hears what happens from now on.
    fn events(&self) -> Result<UnixStream, Box<dyn Error>> {
        let mut stream = UnixStream::connect(format!("{}.json", self.socket))?;
        stream.write_all(b"\"events\"\n")?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut first = [0; 3];
        stream.read_exact(&mut first)?;
        Ok(stream)
    }
}

fn ask_once(to: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    let mut name = [0; 3];
    stream.read_exact(&mut name)?;
    Ok(String::from_utf8_lossy(&name).into_owned())
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
