//! `director run` with `device = "xdp"`. BPF takes privileges of the machine itself, which no user namespace gives:
//! without them nothing is tested, which is said loudly; it is an error if `LVS_REQUIRE_XDP` is 1.

mod support;

use core::net::SocketAddr;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, ExitCode};

use lvs_core::{Family, Method};
use lvs_std::device::xdp::XdpOptions;
use lvs_std::lab::harness::{self, Outcome, Trial};
use lvs_std::lab::{Arms, Cluster, Lab, Plan};
use rustix::process::Signal;
use support::{PROGRAM, Program, Temporary, ask, serve};

fn main() -> ExitCode {
    harness::run_privileged(None, |lab| harness::probe_xdp(lab, &XdpOptions::default()), trials)
}

fn trials(lab: Lab) -> Vec<Trial> {
    harness::named(
        lab,
        [
            (
                "a director balances by AF_XDP as its file says, and leaves the machine its addresses",
                balances,
            ),
            ("bulk TCP passes a director by whose file does not forbid it", passes_by),
            ("every row of the benchmark against the kernel is measured, or says why not", bench),
        ],
    )
}

fn balances(lab: Lab) -> Outcome {
    for mac in ["own", "same"] {
        let cluster = Cluster::new(lab, &Plan::new(Method::Nat).with_servers(1).with_arms(Arms::Two))?;
        cluster.director.add_address("eth0", [192, 0, 2, 1].into(), 24)?;
        let server = SocketAddr::new(Cluster::server_address(1, Family::V4), 8080);
        serve(cluster.servers.first().ok_or("no server")?, server)?;
        serve(&cluster.director, "192.0.2.1:81".parse()?)?;
        let file = Temporary::new(&format!(
            "[[interface]]\nname = \"eth0\"\ndevice = \"xdp\"\nmac = \"{mac}\"\naddresses = [\"192.0.2.254/24\"]\n\
                 [[interface]]\nname = \"eth1\"\ndevice = \"xdp\"\nmac = \"{mac}\"\naddresses = [\"10.0.1.254/24\"]\n\
                 [[service]]\nprotocol = \"tcp\"\naddress = \"192.0.2.100\"\nport = 80\nscheduler = \"rr\"\n\
                 [[service.server]]\naddress = \"{}\"\nport = 8080\nmethod = \"nat\"\n",
            server.ip()
        ))?;
        let run = ["run", "--no-control", "--config", &file.name()];
        let director = Program::start(
            &cluster.director,
            &run,
            "eth1: AF_XDP on 1 queues, its program run by the driver",
        )?;
        let ask = |to: SocketAddr| cluster.client.run(|| ask(to));
        for _ in 0..10 {
            assert_eq!(ask(SocketAddr::new(Cluster::vip(Family::V4), 80))??, "rs1");
            assert_eq!(ask("192.0.2.1:81".parse()?)??, "director", "the machine has an address of its own");
        }
        director.stop(Signal::INT)?;
    }
    Ok(())
}

fn passes_by(lab: Lab) -> Outcome {
    const CONTENT: usize = 32 << 20;
    for (lines, passes) in [("", true), ("[director]\noffload = false\n", false)] {
        let cluster = Cluster::new(lab, &Plan::new(Method::Nat).with_servers(1))?;
        let server = SocketAddr::new(Cluster::server_address(1, Family::V4), 8080);
        let sink = cluster.servers.first().ok_or("no server")?;
        let listener = sink.run(|| TcpListener::bind(server))??;
        let reader = sink.spawn("sink", move || {
            let (mut stream, _) = listener.accept()?;
            std::io::copy(&mut stream, &mut std::io::sink())
        })?;
        let file = Temporary::new(&format!(
            "{lines}[[interface]]\nname = \"eth0\"\naddresses = [\"192.0.2.254/24\", \"10.0.1.254/24\"]\n\
                 [[service]]\nprotocol = \"tcp\"\naddress = \"192.0.2.100\"\nport = 80\nscheduler = \"rr\"\n\
                 [[service.server]]\naddress = \"{}\"\nport = 8080\nmethod = \"nat\"\n",
            server.ip()
        ))?;
        let run = ["run", "--no-control", "--config", &file.name()];
        let director = Program::start(&cluster.director, &run, "the director is at work")?;
        cluster.client.run(|| {
            let mut stream = TcpStream::connect(SocketAddr::new(Cluster::vip(Family::V4), 80))?;
            (0..CONTENT >> 16).try_for_each(|_| stream.write_all(&[7; 1 << 16]))
        })??;
        assert_eq!(reader.join().map_err(|_| "a panic")??, CONTENT as u64);
        let text = director.stop(Signal::INT)?;
        assert_eq!(text.contains("of bulk transfers, past the director in the kernel"), passes, "{text}");
    }
    Ok(())
}

fn bench(_: Lab) -> Outcome {
    let output = Command::new(PROGRAM).args(["bench", "--wire", "--json", "--rounds", "1"]).output()?;
    let (rows, log) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    assert_eq!(output.status.code(), Some(0), "{log}");
    let rows: Vec<serde_json::Value> = rows.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let names: Vec<_> = rows.iter().map(|row| row["row"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ROWS);
    for row in &rows {
        let measured = FIGURES.iter().any(|figure| row[*figure].as_f64().is_some_and(|figure| figure > 0.0));
        // Those take nftables, or Linux 6.6.
        let demanding = row["row"].as_str().is_some_and(|name| DEMANDING.contains(&name));
        assert!(measured || demanding && row["refused"].as_str().is_some_and(|why| !why.is_empty()), "{row}");
    }
    Ok(())
}

/// What is measured on the wire, in this order.
const ROWS: [&str; 17] = [
    "wire-kernel-forward",
    "wire-kernel-nat",
    "wire-af-packet",
    "wire-af-xdp",
    "wire-two-af-xdp",
    "wire-tcp-kernel-nat",
    "wire-tcp-nat",
    "wire-tcp-dr",
    "wire-tcp-copied-nat",
    "wire-tcp-copied-dr",
    "wire-latency-cable",
    "wire-latency-kernel-forward",
    "wire-latency-af-packet",
    "wire-latency-af-xdp",
    "wire-latency-machine",
    "wire-idle-af-packet",
    "wire-idle-af-xdp",
];

const DEMANDING: [&str; 4] = ["wire-kernel-nat", "wire-tcp-kernel-nat", "wire-tcp-nat", "wire-tcp-dr"];

/// Of which each row has one that is not 0.
const FIGURES: [&str; 5] =
    ["gigabits_per_second", "longest_us", "median_us", "packets_per_second", "processor"];
