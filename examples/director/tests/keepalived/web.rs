//! HTTP between clients and real servers: servers that can be killed, and clients that never stop asking.

use core::error::Error;
use core::net::{Ipv4Addr, SocketAddr};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use lvs_std::lab::Node;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// A server at a port of all addresses of a node, which answers every request with the node's name. When it is
/// dropped, it is gone as if it were killed: nothing listens, and its connections are cut.
pub(crate) struct Web {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    /// At port 80.
    pub(crate) fn serve(node: &Node) -> Result<Self, Box<dyn Error>> {
        Self::serve_at(node, 80)
    }

    pub(crate) fn serve_at(node: &Node, port: u16) -> Result<Self, Box<dyn Error>> {
        let listener = node.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))??;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, name) = (Arc::clone(&stop), node.name().to_owned());
        let thread = thread::spawn(move || {
            let mut answering = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(LOOK);
                    continue;
                };
                let (stopped, name) = (Arc::clone(&stopped), name.clone());
                answering.push(thread::spawn(move || drop(answer(stream, &name, &stopped))));
                answering.retain(|thread| !thread.is_finished());
            }
            drop(listener);
            for thread in answering {
                drop(thread.join());
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Answers the requests of one connection.
fn answer(mut stream: TcpStream, name: &str, stopped: &AtomicBool) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(LOOK))?;
    let (mut request, mut piece) = (Vec::new(), [0; 1_024]);
    while !stopped.load(Ordering::Relaxed) {
        match stream.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(length) => request.extend(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            // In one piece, so that it is one segment.
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            stream.write_all(answer.as_bytes())?;
        }
    }
    Ok(())
}

/// A client that asks all the time, on a new connection each time, and beside that on one that stays.
pub(crate) struct Browser {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    visits: Arc<Mutex<Vec<Visit>>>,
    /// What the connection that stays has seen.
    stays: Arc<Mutex<Vec<Visit>>>,
}

/// A request: when it began, and who answered.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    pub(crate) at: Instant,
    pub(crate) answer: Result<String, String>,
}

impl Browser {
    /// Begins to ask from a node.
    pub(crate) fn start(node: &Node, to: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let stop = Arc::new(AtomicBool::new(false));
        let (visits, stays) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (stopped, seen) = (Arc::clone(&stop), Arc::clone(&visits));
        let asking = node.spawn("visits", move || {
            // Every connection has a port of its own. The kernel begins at another one every ten seconds, and soon
            // comes across those of connections that were refused: their SYN would meet the old connection in IPVS.
            for port in 10_000.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let at = Instant::now();
                note(&seen, at, connect(to, port, PATIENCE).and_then(|mut stream| ask(&mut stream)));
                thread::sleep(PAUSE);
            }
        })?;
        let (stopped, seen) = (Arc::clone(&stop), Arc::clone(&stays));
        let staying = node.spawn("stays", move || {
            let mut connection = connect(to, 9_000, PATIENCE);
            while !stopped.load(Ordering::Relaxed) {
                let at = Instant::now();
                let answer = match &mut connection {
                    Ok(stream) => ask(stream),
                    Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
                };
                let broken = answer.is_err();
                note(&seen, at, answer);
                if broken {
                    return;
                }
                thread::sleep(PAUSE);
            }
        })?;
        Ok(Self { stop, threads: vec![asking, staying], visits, stays })
    }

    /// The visits up to now.
    pub(crate) fn visits(&self) -> Vec<Visit> {
        self.visits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The requests on the connection that stays, up to now: the last one failed if it was cut.
    pub(crate) fn stays(&self) -> Vec<Visit> {
        self.stays.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn note(list: &Mutex<Vec<Visit>>, at: Instant, answer: io::Result<String>) {
    let answer = answer.map_err(|error| error.to_string());
    list.lock().unwrap_or_else(PoisonError::into_inner).push(Visit { at, answer });
}

/// Asks on a new connection who is there.
pub(crate) fn visit(to: SocketAddr) -> io::Result<String> {
    visit_within(to, PATIENCE)
}

/// An answer that comes in time.
pub(crate) fn visit_within(to: SocketAddr, time: Duration) -> io::Result<String> {
    ask(&mut connect(to, 0, time)?)
}

/// Connects from a port; 0 leaves it to the kernel.
fn connect(to: SocketAddr, port: u16, time: Duration) -> io::Result<TcpStream> {
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    for direction in [Timeout::Send, Timeout::Recv] {
        set_socket_timeout(&socket, direction, Some(time))?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))?;
    rustix::net::connect(&socket, &to)?;
    Ok(socket.into())
}

fn ask(stream: &mut TcpStream) -> io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")?;
    let mut piece = [0; 1_024];
    // So short an answer is one segment.
    let length = stream.read(&mut piece)?;
    let text = String::from_utf8_lossy(&piece[..length]).into_owned();
    let (_, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(body.to_owned())
}

const LOOK: Duration = Duration::from_millis(20);
/// Between two requests of a client.
const PAUSE: Duration = Duration::from_millis(25);
const PATIENCE: Duration = Duration::from_secs(3);
