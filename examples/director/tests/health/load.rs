//! Clients: short requests without end, and long ones that must not break.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use core::time::Duration;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep};
use std::time::Instant;

use lvs_core::Family;
use lvs_std::lab::{Cluster, Node};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::web::lock;

/// A short request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) port: u16,
    pub(crate) began: Instant,
    /// The name of the server that answered.
    pub(crate) result: Result<String, String>,
}

/// Clients at work.
pub(crate) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    requests: Mutex<Vec<Request>>,
    /// The server of each long request, and when it last said something.
    streams: Mutex<Vec<(String, Instant)>>,
}

impl Load {
    pub(crate) fn start(client: &Node, to: SocketAddr) -> Result<Self, Box<dyn core::error::Error>> {
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        for _ in 0..STREAMS {
            let shared = shared.clone();
            threads.push(client.spawn("stream", move || drop(shared.stream(to)))?);
        }
        let port = Arc::new(AtomicU16::new(FIRST_PORT));
        for _ in 0..CLIENTS {
            let (shared, port) = (shared.clone(), port.clone());
            threads.push(client.spawn("client", move || shared.ask(to, &port))?);
        }
        Ok(Self { shared, threads })
    }

    /// The servers of the long requests that still go on.
    pub(crate) fn streams(&self) -> Vec<String> {
        let streams = lock(&self.shared.streams);
        let alive = streams.iter().filter(|(_, heard)| heard.elapsed() < SILENT);
        alive.map(|(name, _)| name.clone()).collect()
    }

    /// The names of the streams as soon as they are as they should be, or as they are in the end: whoever stood still
    /// for a while has to be heard again.
    pub(crate) fn streams_when(&self, good: impl Fn(&[String]) -> bool) -> Vec<String> {
        let end = Instant::now() + PATIENCE * 2;
        loop {
            let streams = self.streams();
            if good(&streams) || Instant::now() > end {
                return streams;
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// When a server first answered a request that began after a time.
    pub(crate) fn wait_for(
        &self,
        server: &str,
        after: Instant,
        patience: Duration,
    ) -> Result<Instant, Box<dyn core::error::Error>> {
        let end = Instant::now() + patience;
        while Instant::now() < end {
            let requests = lock(&self.shared.requests);
            let answered =
                |request: &&Request| request.began > after && request.result.as_deref() == Ok(server);
            if let Some(request) = requests.iter().find(answered) {
                return Ok(request.began);
            }
            drop(requests);
            sleep(Duration::from_millis(5));
        }
        Err(format!("{server} was not used again within {patience:?}").into())
    }

    /// All short requests.
    pub(crate) fn stop(mut self) -> Vec<Request> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
        core::mem::take(&mut lock(&self.shared.requests))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn ask(&self, to: SocketAddr, ports: &AtomicU16) {
        while !self.stop.load(Ordering::Relaxed) {
            let port = ports.fetch_add(1, Ordering::Relaxed);
            let began = Instant::now();
            let result = connect(port, to).and_then(|stream| name(&stream, "/"));
            let request = Request { port, began, result: result.map_err(|error| error.to_string()) };
            lock(&self.requests).push(request);
            sleep(Duration::from_millis(25));
        }
    }

    fn stream(&self, to: SocketAddr) -> io::Result<()> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let server = name(&stream, "/stream")?;
        let place = {
            let mut streams = lock(&self.streams);
            streams.push((server, Instant::now()));
            streams.len() - 1
        };
        for line in BufReader::new(stream).lines() {
            line?;
            lock(&self.streams)[place].1 = Instant::now();
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(())
    }
}

/// Who answers at an address.
pub(crate) fn ask(to: SocketAddr) -> Result<String, String> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    name(&stream, "/").map_err(|error| error.to_string())
}

/// Asks, and reads up to the server's name.
fn name(mut stream: &TcpStream, path: &str) -> io::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")?;
    // A line at a time and nothing behind it: the stream goes on elsewhere.
    let mut lines = Vec::new();
    let mut byte = [0];
    loop {
        if io::Read::read(&mut stream, &mut byte)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        lines.extend(byte);
        if byte == *b"\n" && lines.windows(4).any(|end| end == b"\r\n\r\n") && !lines.ends_with(b"\r\n") {
            break;
        }
    }
    let text = String::from_utf8_lossy(&lines);
    text.lines().last().map(str::to_owned).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Connects from this port of the client, by which the director's table tells its server.
fn connect(port: u16, to: SocketAddr) -> io::Result<TcpStream> {
    let from = SocketAddr::new(Cluster::client_address(Family::V4), port);
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &from)?;
    for side in [Timeout::Send, Timeout::Recv] {
        sockopt::set_socket_timeout(&socket, side, Some(PATIENCE))?;
    }
    rustix::net::connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}

pub(crate) const CLIENTS: usize = 16;
pub(crate) const STREAMS: usize = 12;
/// Whoever says something every 20 ms and has not for so long is gone, also where the machine stands still for a while.
const SILENT: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(2);
/// Below those that the kernel chooses.
const FIRST_PORT: u16 = 10_000;
