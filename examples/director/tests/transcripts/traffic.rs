//! `traffic`: what clients and servers send, as the scripts ask for it.
//!
//! The helper in a script's path only passes its words on; the frames come from the harness, which holds the other
//! ends of the director's ports.

use core::error::Error;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use lvs_std::device::Device;

use crate::packet::{self, ACK, FIN, PSH, RST, SYN, TCP};

/// The helper: has the words carried out, and fails if they were not.
pub(crate) fn helper() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let ask = || -> Result<String, Box<dyn Error>> {
        let mut stream = UnixStream::connect(std::env::var(SOCKET)?)?;
        writeln!(stream, "{}", words.join(" "))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match ask() {
        Ok(answer) if answer.is_empty() => ExitCode::SUCCESS,
        Ok(answer) => {
            eprintln!("traffic: {answer}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("traffic: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Where the helper finds the harness.
pub(crate) const SOCKET: &str = "TRAFFIC_SOCKET";

/// The network around the director.
#[derive(Debug)]
pub(crate) struct World {
    clients: Device,
    servers: Device,
    pings: u16,
    /// The servers that NAT gave to clients.
    behind: BTreeMap<(SocketAddr, SocketAddr), SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Clients,
    Servers,
}

impl World {
    pub(crate) const fn new(clients: Device, servers: Device) -> Self {
        Self { clients, servers, pings: 0, behind: BTreeMap::new() }
    }

    /// Carries out what helpers ask for, until one says `end`. What was sent before is forgotten.
    pub(crate) fn serve(&mut self, listener: &UnixListener) -> std::io::Result<()> {
        self.behind.clear();
        self.clients.drain()?;
        self.servers.drain()?;
        for stream in listener.incoming() {
            let mut stream = stream?;
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line)?;
            if line.trim_end() == "end" {
                break;
            }
            if let Err(error) = self.carry_out(line.trim_end()) {
                stream.write_all(error.to_string().as_bytes())?;
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, line: &str) -> Result<(), Box<dyn Error>> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[verb, client, service, ..] = words.as_slice() else { return Err("too few words".into()) };
        if verb == "mark" {
            // The director was started with it.
            return Ok(());
        }
        let (client, service): (SocketAddr, SocketAddr) = (client.parse()?, service.parse()?);
        let bytes: usize = words.get(3).map_or(Ok(0), |bytes| bytes.parse())?;
        let packet = match verb {
            "syn" => packet::tcp(client, service, SYN, 0),
            "open" => return self.open(client, service),
            "fin" => packet::tcp(client, service, FIN | ACK, 0),
            "rst" => packet::tcp(client, service, RST, 0),
            "data" => packet::tcp(client, service, PSH | ACK, bytes),
            "sdata" => {
                // Other servers answer without passing the director.
                let Some(&server) = self.behind.get(&(client, service)) else { return Ok(()) };
                let packet = packet::tcp(server, client, PSH | ACK, bytes);
                return self.pass(Side::Servers, &packet).map(drop);
            }
            "udp" => packet::udp(client, service, bytes),
            "sctp" => packet::sctp_init(client, service),
            other => return Err(format!("`{other}` is no kind of traffic").into()),
        };
        self.pass(Side::Clients, &packet).map(drop)
    }

    fn open(&mut self, client: SocketAddr, service: SocketAddr) -> Result<(), Box<dyn Error>> {
        let out = self.pass(Side::Clients, &packet::tcp(client, service, SYN, 0))?;
        let behind = out.iter().find_map(|frame| packet::destination(frame, client, TCP));
        if let Some(server) = behind.filter(|server| server.ip() != service.ip()) {
            self.behind.insert((client, service), server);
            self.pass(Side::Servers, &packet::tcp(server, client, SYN | ACK, 0))?;
        }
        self.pass(Side::Clients, &packet::tcp(client, service, ACK, 0)).map(drop)
    }

    /// Has the director take a packet; returns what it sent to servers. An answered ping after it says that all is
    /// done.
    fn pass(&mut self, side: Side, bytes: &[u8]) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
        self.pings = self.pings.wrapping_add(1);
        let (port, gateway, station, director, own) = match side {
            Side::Clients => (&mut self.clients, "10.0.0.1", CLIENT_MAC, CLIENT_PORT_MAC, "10.0.0.254"),
            Side::Servers => (&mut self.servers, "10.0.1.1", SERVER_MAC, SERVER_PORT_MAC, "10.0.1.254"),
        };
        let ping = packet::ping(gateway.parse()?, own.parse()?, self.pings);
        port.send(&packet::frame(station, director, bytes))?;
        port.send(&packet::frame(station, director, &ping))?;
        let end = Instant::now() + PATIENCE;
        let mut sent = Vec::new();
        while Instant::now() < end {
            let (near, far) = (self.clients.drain()?, self.servers.drain()?);
            let answered = near.iter().chain(&far).any(|frame| packet::pong(frame) == Some(self.pings));
            sent.extend(far);
            if answered {
                // What it sent before by the other port may be a moment behind.
                thread::sleep(MOMENT);
                sent.extend(self.servers.drain()?);
                return Ok(sent);
            }
            thread::sleep(MOMENT / 4);
        }
        Err("the director does not answer".into())
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(2);
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xaa];
const CLIENT_PORT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0xaa];
const SERVER_PORT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
