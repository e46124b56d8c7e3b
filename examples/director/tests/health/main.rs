//! `director run` with checks of its own, under steady load, while real servers are killed and brought back.

mod load;
mod program;
mod web;

use core::error::Error;
use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::Instant;

use lvs_core::{Family, Method, Tunnel};
use lvs_std::lab::harness::{self, Outcome, Trial};
use lvs_std::lab::{Cluster, Lab, Plan, undisturbed};

use load::Load;
use program::{Log, Program, Temporary};
use web::Web;

fn main() -> ExitCode {
    // They measure times, so they do not run at a time.
    harness::run(Some(1), trials)
}

fn trials(lab: Lab) -> Vec<Trial> {
    let trial = |name: &str, test: fn(Lab) -> Outcome| {
        harness::trial(name, move || undisturbed(BEARABLE, || test(lab)))
    };
    vec![
        trial("a killed server loses its own connections alone and comes back by itself, by NAT", |lab| {
            killed(lab, Method::Nat, HTTP)
        }),
        trial("a killed server loses its own connections alone and comes back by itself, by DR", |lab| {
            killed(lab, Method::Direct, HTTP)
        }),
        trial("a killed server loses its own connections alone and comes back by itself, by TUN", |lab| {
            killed(lab, Method::Tunnel(Tunnel::IpIp), HTTP)
        }),
        trial("a killed server is noticed through the virtual address, by DR", |lab| {
            killed(lab, Method::Direct, THROUGH)
        }),
        trial("a killed server is noticed through the virtual address, by TUN", |lab| {
            killed(lab, Method::Tunnel(Tunnel::IpIp), THROUGH)
        }),
        trial("a sorry server serves while nobody else does", sorry),
        trial("servers that start dead get no client", dead_from_the_start),
        trial("metrics tell what checks found out, and their address must be free", metrics),
        trial("a dead server is noticed and commands work while standard error is full", |lab| {
            unread(lab, Log::Full)
        }),
        trial("a dead server is noticed and commands work while standard error is closed", |lab| {
            unread(lab, Log::Closed)
        }),
    ]
}

/// A cluster with web servers and a director at work.
struct Site {
    cluster: Cluster,
    webs: Vec<Web>,
    config: Temporary,
    socket: Temporary,
    _director: Program,
    _ends: Vec<Program>,
}

impl Site {
    /// With these lines in the service's table.
    fn start(lab: Lab, method: Method, lines: &str, dead: &[usize]) -> Result<Self, Box<dyn Error>> {
        Self::start_with(lab, method, lines, dead, None)
    }

    /// Starts a director with a log that nobody takes.
    fn start_with(
        lab: Lab,
        method: Method,
        lines: &str,
        dead: &[usize],
        unread: Option<Log>,
    ) -> Result<Self, Box<dyn Error>> {
        let cluster = Cluster::new(lab, &Plan::new(method).with_servers(3))?;
        // The checks come from the kernel of the director's machine.
        cluster.director.add_address("eth0", [10, 0, 1, 253].into(), 24)?;
        let mut text = format!(
            "[[interface]]\nname = \"eth0\"\naddresses = [\"10.0.1.254/24\", \"192.0.2.254/24\"]\n\n[[service]]\n\
             protocol = \"tcp\"\naddress = \"{}\"\nport = 80\nscheduler = \"rr\"\n{lines}\n",
            VIP.ip()
        );
        let (mut webs, mut ends) = (Vec::new(), Vec::new());
        for (node, number) in cluster.servers.iter().zip(1..) {
            let own = SocketAddr::new(Cluster::server_address(number, Family::V4), 80);
            let (listens, server) = match method {
                Method::Nat => (vec![own], format!("address = \"{}\"\nmethod = \"nat\"\n", own.ip())),
                Method::Tunnel(_) => {
                    let end = Cluster::tunnel_address(number, Family::V4);
                    let arguments =
                        ["decap", "--interface", "eth0", "--address", &format!("{end}/24"), "--tun", "tunl0"];
                    ends.push(Program::start(node, &arguments, "unwrapping what comes to")?);
                    // A tunnel's end answers nothing but what is in a tunnel.
                    let check = if lines.contains("through") {
                        String::new()
                    } else {
                        format!("check-address = \"{}\"", own.ip())
                    };
                    (vec![own, VIP], format!("address = \"{end}\"\nmethod = \"tun\"\n{check}\n"))
                }
                Method::Bypass | Method::Direct | Method::Local => {
                    (vec![own, VIP], format!("address = \"{}\"\nmethod = \"dr\"\n", own.ip()))
                }
            };
            text.push_str(&format!("[[service.server]]\n{server}"));
            let web = Web::new(node.clone(), listens);
            if !dead.contains(&usize::from(number)) {
                web.start()?;
            }
            webs.push(web);
        }
        let config = Temporary::new("health.toml", Some(&text))?;
        let socket = Temporary::new("health.sock", None)?;
        let (file, socket_name) = (config.name(), socket.name());
        let arguments =
            ["run", "--config", &file, "--no-state", "--control", &socket_name, "--metrics", METRICS];
        let director = match unread {
            None => Program::start(&cluster.director, &arguments, "the director is at work")?,
            Some(log) => Program::start_unread(&cluster.director, &arguments, log, &socket.name())?,
        };
        Ok(Self { cluster, webs, config, socket, _director: director, _ends: ends })
    }
}

/// One of three servers is killed under load, and brought back.
fn killed(lab: Lab, method: Method, check: &str) -> Outcome {
    let site = Site::start(lab, method, check, &[])?;
    let load = Load::start(&site.cluster.client, VIP)?;
    let streams = load.streams_when(|streams| streams.len() == load::STREAMS);
    assert!((1..=3).all(|number| streams.contains(&format!("rs{number}"))), "{streams:?}");

    // On a machine that stood still for a while its checks may just have failed: then nobody would be sent to it.
    load.wait_for("rs2", Instant::now(), Duration::from_secs(5))?;
    let died = Instant::now();
    site.webs[1].kill();
    sleep(NOTICED * 2);
    let back = Instant::now();
    site.webs[1].start()?;
    let used = load.wait_for("rs2", back, Duration::from_secs(5))?;
    sleep(Duration::from_millis(300));

    // Whoever was on the dead server was cut off; nobody else was.
    let others = |streams: &[String]| streams.iter().filter(|name| *name != "rs2").count();
    let left = load.streams_when(|left| others(left) == left.len() && left.len() == others(&streams));
    assert!(!left.contains(&"rs2".to_owned()), "{left:?}");
    assert_eq!(others(&left), others(&streams), "streams from other servers went on");
    let requests = load.stop();
    let table = program::connections(&site.socket.name())?;
    let failed: Vec<_> = requests.iter().filter(|request| request.result.is_err()).collect();
    assert!(!failed.is_empty(), "a server that dies under load is noticed by clients");
    for request in &failed {
        let at = request.began.saturating_duration_since(died);
        assert!(
            request.began < died + NOTICED,
            "a client was sent to the dead server after {at:?}: {request:?}"
        );
        let server = table.get(&request.port).map(SocketAddr::ip);
        let dead = [Cluster::server_address(2, Family::V4), Cluster::tunnel_address(2, Family::V4)];
        assert!(server.is_some_and(|server| dead.contains(&server)), "{request:?} was sent to {server:?}");
    }
    let meanwhile = requests.iter().filter(|request| request.began > died + NOTICED && request.began < back);
    assert!(meanwhile.clone().count() >= load::CLIENTS, "the load went on: {}", meanwhile.count());
    println!(
        "{method:?}: {} of {} requests failed, all sent to rs2 within {:?} of its death; \
         used again {:?} after its return",
        failed.len(),
        requests.len(),
        failed.iter().map(|request| request.began.saturating_duration_since(died)).max().unwrap_or_default(),
        used - back
    );
    Ok(())
}

fn sorry(lab: Lab) -> Outcome {
    let lines = format!(
        "{HTTP}\ninitially = \"down\"\nsorry-server = {{ address = \"10.0.1.14\", port = 81, method = \"nat\" }}"
    );
    // It is on the third server's machine.
    let site = Site::start(lab, Method::Nat, &lines, &[1, 2, 3])?;
    let node = &site.cluster.servers[2];
    node.add_address("eth0", "10.0.1.14".parse()?, 24)?;
    let last = Web::named(node.clone(), vec!["10.0.1.14:81".parse()?], "sorry");
    last.start()?;
    let ask = || site.cluster.client.run(|| load::ask(VIP));
    let wait = |expected: &str| -> Outcome {
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            let got = ask()?;
            if got.as_deref() == Ok(expected) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("{expected} was expected, {got:?} came").into());
            }
            sleep(Duration::from_millis(10));
        }
    };
    wait("sorry")?;
    site.webs[0].start()?;
    wait("rs1")?;
    for _ in 0..20 {
        assert_eq!(ask()?.as_deref(), Ok("rs1"), "the sorry server is out");
    }
    site.webs[0].kill();
    wait("sorry")?;
    Ok(())
}

fn dead_from_the_start(lab: Lab) -> Outcome {
    let site = Site::start(lab, Method::Nat, &format!("{HTTP}\ninitially = \"down\""), &[2])?;
    let ask = || site.cluster.client.run(|| load::ask(VIP));
    let end = Instant::now() + Duration::from_secs(5);
    while ask()?.is_err() && Instant::now() < end {
        sleep(Duration::from_millis(10));
    }
    for _ in 0..30 {
        let name = ask()?;
        assert!(matches!(name.as_deref(), Ok("rs1" | "rs3")), "{name:?}");
    }
    Ok(())
}

/// What checks found out is among the metrics; a director whose metrics nobody could ask for does not start.
fn metrics(lab: Lab) -> Outcome {
    let site = Site::start(lab, Method::Nat, HTTP, &[2])?;
    let node = &site.cluster.director;
    // Of each server. The dead one is not among those that ipvsadm lists.
    let wanted = [
        ("lvs_probe_up{", ["1", "0", "1"]),
        ("lvs_server_absent{", ["0", "1", "0"]),
        ("node_ipvs_backend_weight{", ["1", "", "1"]),
    ];
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let text = node.run(scrape)??;
        let told = |family: &str, number: u8| {
            let server = Cluster::server_address(number, Family::V4).to_string();
            let mut lines = text.lines().filter(|line| line.starts_with(family) && line.contains(&server));
            lines.next().and_then(|line| line.rsplit(' ').next()).unwrap_or_default().to_owned()
        };
        if wanted.iter().all(|(family, values)| (1..=3).map(|number| told(family, number)).eq(*values)) {
            break;
        }
        if Instant::now() > end {
            return Err(text.into());
        }
        sleep(Duration::from_millis(100));
    }
    let mut second = Command::new(program::PROGRAM);
    second.args(["run", "--no-control", "--metrics", METRICS, "--config", &site.config.name()]);
    let output = node.run(|| second.output())??;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("metrics cannot be asked for at 127.0.0.1:9117"), "{said}");
    Ok(())
}

/// The text at the metrics' address.
fn scrape() -> io::Result<String> {
    let mut stream = TcpStream::connect(METRICS)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: director\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Where a director's metrics are asked for, in its own namespace.
const METRICS: &str = "127.0.0.1:9117";

/// Nobody takes the log's lines: that holds up neither checks nor commands, and health says so.
fn unread(lab: Lab, log: Log) -> Outcome {
    let site = Site::start_with(lab, Method::Nat, HTTP, &[], Some(log))?;
    let (socket, ask) = (site.socket.name(), || site.cluster.client.run(|| load::ask(VIP)));
    assert!(ask()?.is_ok());
    site.webs[1].kill();
    sleep(NOTICED);
    for _ in 0..12 {
        let name = ask()?;
        assert!(matches!(name.as_deref(), Ok("rs1" | "rs3")), "{name:?}");
    }
    let (service, server) = (format!("{VIP}"), "10.0.1.11:80");
    for command in ["--drain", "--undrain"] {
        let words = ["lvsadm", "--control", &*socket, command, "-t", &*service, "-r", server];
        let words: Vec<_> = words.into_iter().chain((command == "--drain").then_some("--no-wait")).collect();
        assert_eq!(program::tool(&words)?.0, Some(0), "{words:?}");
    }
    // Two looks at the log, of a second each, and what a busy machine needs.
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let (status, text) = program::tool(&["health", "--director", &socket])?;
        if status == Some(4) && text.contains("problems\n  log") {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!("{status:?} {text}").into());
        }
        sleep(Duration::from_millis(200));
    }
}

const VIP: SocketAddr = SocketAddr::new(Cluster::vip(Family::V4), 80);
const HTTP: &str = "check = { type = \"http\", path = \"/health\", \
    interval = \"100ms\", timeout = \"500ms\", rise = 2, fall = 2 }";
const THROUGH: &str =
    "check = { type = \"through\", interval = \"100ms\", timeout = \"500ms\", rise = 2, fall = 2 }";
/// Half of the time that an answer to a check may take.
const BEARABLE: Duration = Duration::from_millis(250);
/// Two intervals with their jitter, and what a busy machine needs besides.
const NOTICED: Duration = Duration::from_millis(220 + 1_000);
