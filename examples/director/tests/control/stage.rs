//! A cluster with a director on it, and what its tests share.

use crate::greeting::{greet, ping};
use crate::support::{PROGRAM, Program, Temporary};
use core::error::Error;
use core::net::SocketAddr;
use core::time::Duration;
use lvs_core::{Family, Method};
use lvs_std::lab::harness::Outcome;
use lvs_std::lab::{Cluster, Lab, Node, Plan};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output};
use std::time::Instant;

/// A cluster with a director on it.
pub(crate) struct Stage {
    /// Ends before its folder goes.
    pub(crate) director: Program,
    pub(crate) cluster: Cluster,
    pub(crate) file: Temporary,
    pub(crate) socket: String,
}

impl Stage {
    /// NAT to three servers that tell their names and then wait; `services` is what the file says after the interface.
    pub(crate) fn new(lab: Lab, services: &str) -> Result<Self, Box<dyn Error>> {
        let cluster = Cluster::new(lab, &Plan::new(Method::Nat).with_servers(3))?;
        for (server, number) in cluster.servers.iter().zip(1..) {
            greet(server, SocketAddr::new(Cluster::server_address(number, Family::V4), 80))?;
        }
        let file = Temporary::new(&text(services))?;
        let socket = file.beside("director.sock");
        let director = start(&cluster.director, &file, &socket)?;
        Ok(Self { cluster, file, socket, director })
    }

    pub(crate) fn write(&self, services: &str) -> Outcome {
        Ok(fs::write(self.file.name(), text(services))?)
    }

    pub(crate) fn run(&self, words: &str) -> Result<String, Box<dyn Error>> {
        let output = self.output(words)?;
        assert_eq!(output.status.code(), Some(0), "{words}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    pub(crate) fn output(&self, words: &str) -> std::io::Result<Output> {
        let mut words = words.split_whitespace();
        let verb = words.next().unwrap();
        Command::new(PROGRAM).args([verb, "--director", &self.socket]).args(words).output()
    }

    /// The lines of `-Ln` about services and servers, blanks squeezed.
    pub(crate) fn table(&self) -> Result<Vec<String>, Box<dyn Error>> {
        let text = self.run("lvsadm -Ln")?;
        let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(text.lines().skip(3).map(squeeze).collect())
    }

    /// A connection of the client's, and who it is with.
    pub(crate) fn connect(&self) -> Result<(TcpStream, String), Box<dyn Error>> {
        Ok(self.cluster.client.run(|| -> std::io::Result<_> {
            let mut stream = TcpStream::connect_timeout(&vip(), Duration::from_secs(5))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            let mut name = [0; 3];
            stream.read_exact(&mut name)?;
            Ok((stream, String::from_utf8_lossy(&name).into_owned()))
        })??)
    }

    /// A connection that hears what happens from now on.
    pub(crate) fn events(&self) -> Result<UnixStream, Box<dyn Error>> {
        let mut stream = UnixStream::connect(format!("{}.json", self.socket))?;
        stream.write_all(b"\"events\"\n")?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut first = [0; 3];
        stream.read_exact(&mut first)?;
        Ok(stream)
    }
}

pub(crate) fn start(node: &Node, file: &Temporary, socket: &str) -> Result<Program, Box<dyn Error>> {
    Program::start(node, &["run", "--config", &file.name(), "--control", socket], "the director is at work")
}

pub(crate) fn vip() -> SocketAddr {
    SocketAddr::new(Cluster::vip(Family::V4), 80)
}

pub(crate) fn text(services: &str) -> String {
    format!("[[interface]]\nname = \"eth0\"\naddresses = [\"10.0.1.254/24\", \"192.0.2.254/24\"]\n{services}")
}

pub(crate) fn service(scheduler: &str, servers: &[(u8, u32)]) -> String {
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

/// Whether a connection still carries bytes there and back.
pub(crate) fn is_alive(stream: &mut TcpStream) -> bool {
    ping(stream, Duration::from_secs(1)).is_ok()
}

pub(crate) fn ask_once(to: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    let mut name = [0; 3];
    stream.read_exact(&mut name)?;
    Ok(String::from_utf8_lossy(&name).into_owned())
}

/// Waits for something that takes a moment.
pub(crate) fn eventually(what: &str, mut is: impl FnMut() -> Result<bool, Box<dyn Error>>) -> Outcome {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        if is()? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("in vain: {what}").into())
}
