//! FTP's two ways to open data connections, through NAT, with real TCP on both sides: only the words that matter.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use lvs_core::{Family, Method, Scheduler, ServerConfig, ServiceConfig, ServiceKey};
use lvs_std::lab::harness::{Outcome, Trial, trial};
use lvs_std::lab::{Arms, Cluster, Lab, Plan};

use crate::balancer::Balancer;
use crate::traffic::PATIENCE;

/// What a data connection carries.
const FILE: &[u8] = &[7; 300_000];

/// Over a director as planned, but on two networks.
pub(crate) fn over(lab: Lab, prefix: &str, plan: Plan) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (over, family) in [("IPv4", Family::V4), ("IPv6", Family::V6)] {
        let name = format!("{prefix}FTP through NAT over {over} fetches files in both modes");
        trials.push(trial(name, move || fetch_files(lab, plan, family)));
    }
    trials
}

fn fetch_files(lab: Lab, plan: Plan, family: Family) -> Outcome {
    // Two networks: the servers' way to the client is the director.
    let plan = plan.with_arms(Arms::Two);
    let balancer = Balancer::start(lab, &plan, family, "rr")?;
    let server = SocketAddr::new(Cluster::server_address(1, family), 21);
    let listener = balancer.server(1).run(|| TcpListener::bind(server))??;
    balancer.server(1).spawn("ftp", move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    })?;
    let service = ServiceKey::tcp(Cluster::vip(family), 21);
    let scheduler = Scheduler::from_name("rr").ok_or("there is no such scheduler")?;
    let handle = balancer.handle();
    handle.with(move |director, _, _| director.add_service(service, ServiceConfig::new(scheduler)))??;
    handle
        .with(move |director, _, _| director.add_server(service, ServerConfig::new(server, Method::Nat)))??;
    let virt = SocketAddr::new(Cluster::vip(family), 21);
    balancer.client().run(|| converse(virt))??;
    let counters = balancer.stop()?.director.forwarder;
    assert_eq!((counters.expected, counters.unhelped), (6, 0), "{counters:?}");
    Ok(())
}

/// The client: three files in passive mode, three in active mode, over one control connection.
fn converse(server: SocketAddr) -> io::Result<()> {
    let control = TcpStream::connect_timeout(&server, PATIENCE)?;
    control.set_read_timeout(Some(PATIENCE))?;
    let own = control.local_addr()?.ip();
    let mut words = BufReader::new(control.try_clone()?);
    let mut say = control;
    let mut hear = move || -> io::Result<String> {
        let mut line = String::new();
        words.read_line(&mut line)?;
        Ok(line)
    };
    assert!(hear()?.starts_with("220 "));
    for round in 0..6 {
        let data = if round % 2 == 0 {
            let extended = server.is_ipv6();
            say.write_all(if extended { b"EPSV\r\n" } else { b"PASV\r\n" })?;
            let answer = hear()?;
            let to = if extended { extended_port(server.ip(), &answer) } else { passive_address(&answer) };
            assert_eq!(to.ip(), server.ip(), "the virtual address: {answer}");
            TcpStream::connect_timeout(&to, PATIENCE)?
        } else {
            let listener = TcpListener::bind((own, 0))?;
            let port = listener.local_addr()?.port();
            let [high, low] = port.to_be_bytes();
            let command = match own {
                IpAddr::V4(own) => {
                    let [a, b, c, d] = own.octets();
                    format!("PORT {a},{b},{c},{d},{high},{low}\r\n")
                }
                IpAddr::V6(own) => format!("EPRT |2|{own}|{port}|\r\n"),
            };
            say.write_all(command.as_bytes())?;
            assert!(hear()?.starts_with("200 "));
            let (data, from) = listener.accept()?;
            assert_eq!(from, SocketAddr::new(server.ip(), 20), "the server shows as the virtual one");
            data
        };
        let mut data = data;
        data.set_read_timeout(Some(PATIENCE))?;
        let mut file = Vec::new();
        data.read_to_end(&mut file)?;
        assert_eq!(file, FILE);
        assert!(hear()?.starts_with("226 "), "the control connection goes on");
    }
    Ok(())
}

fn passive_address(answer: &str) -> SocketAddr {
    let inside = answer.split_once('(').and_then(|(_, rest)| rest.split_once(')')).expect("parentheses").0;
    let numbers: Vec<u8> = inside.split(',').map(|number| number.parse().expect("a number")).collect();
    let &[a, b, c, d, high, low] = numbers.as_slice() else { panic!("six numbers: {answer}") };
    SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low]))
}

fn extended_port(server: IpAddr, answer: &str) -> SocketAddr {
    let port = answer.split("|||").nth(1).and_then(|rest| rest.split('|').next()).expect("a port");
    SocketAddr::new(server, port.parse().expect("a number"))
}

/// The server's side of a control connection. It writes its address with leading zeros now and then, so that answers
/// shrink and grow.
fn serve(control: TcpStream) -> io::Result<()> {
    let own = control.local_addr()?;
    let client = control.peer_addr()?;
    let words = BufReader::new(control.try_clone()?);
    let mut say = control;
    say.write_all(b"220 ready\r\n")?;
    let mut short = true;
    for line in words.lines() {
        let line = line?;
        let mut data = match line.split_once(' ') {
            None => {
                let listener = TcpListener::bind((own.ip(), 0))?;
                let port = listener.local_addr()?.port();
                match own.ip() {
                    IpAddr::V4(own) => {
                        let [a, b, c, d] = own.octets();
                        let [high, low] = port.to_be_bytes();
                        let text = if short {
                            format!("{a},{b},{c},{d},{high},{low}")
                        } else {
                            format!("{a:03},{b:03},{c:03},{d:03},{high:03},{low:03}")
                        };
                        short = !short;
                        // In one segment, as servers do: IPVS reads no answer from two.
                        say.write_all(format!("227 Entering Passive Mode ({text}).\r\n").as_bytes())?;
                    }
                    IpAddr::V6(_) => {
                        say.write_all(
                            format!("229 Entering Extended Passive Mode (|||{port}|)\r\n").as_bytes(),
                        )?;
                    }
                }
                listener.accept()?.0
            }
            Some((_, address)) => {
                let to = if own.is_ipv4() {
                    let numbers: Vec<u8> = address.split(',').filter_map(|part| part.parse().ok()).collect();
                    let &[.., high, low] = numbers.as_slice() else { return Ok(()) };
                    SocketAddr::new(client.ip(), u16::from_be_bytes([high, low]))
                } else {
                    let port = address.split('|').nth(3).and_then(|port| port.parse().ok());
                    SocketAddr::new(client.ip(), port.unwrap_or(0))
                };
                say.write_all(b"200 ok\r\n")?;
                from_port_20(own.ip(), to)?
            }
        };
        data.write_all(FILE)?;
        drop(data);
        say.write_all(b"226 done\r\n")?;
    }
    Ok(())
}

/// Connects from port 20, which earlier connections may have used.
fn from_port_20(own: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};
    let family = if own.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddr::new(own, 20))?;
    connect(&socket, &to)?;
    Ok(socket.into())
}
