//! The real servers of the recordings: what listens at their addresses, and can be taken down and up.

use core::error::Error;
use core::net::{Ipv4Addr, SocketAddr};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use lvs_std::lab::Node;

/// What they speak.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Speech {
    /// Nothing: connections are accepted and closed.
    Silent,
    /// HTTP: `/index.html` is there, as long as it is not taken away.
    Http,
    Smtp,
    /// Any datagram is answered by one that looks like its answer in DNS.
    Dns,
}

/// The servers `10.5.0.1` and following in one node.
pub(crate) struct Servers {
    node: Node,
    speech: Speech,
    up: BTreeMap<u8, Listening>,
    /// Whether there is an `/index.html`.
    index: Arc<AtomicBool>,
}

/// A thread that serves until it is dropped.
struct Listening {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Servers {
    /// None is up yet.
    pub(crate) fn new(node: Node, speech: Speech) -> Self {
        Self { node, speech, up: BTreeMap::new(), index: Arc::new(AtomicBool::new(true)) }
    }

    pub(crate) fn up(&mut self, number: u8) -> Result<(), Box<dyn Error>> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, index, speech) = (Arc::clone(&stop), Arc::clone(&self.index), self.speech);
        let thread = match speech {
            Speech::Dns => {
                let socket = self.node.run(|| UdpSocket::bind(address(number, 53)))??;
                socket.set_read_timeout(Some(LOOK))?;
                thread::spawn(move || {
                    let mut datagram = [0; 512];
                    while !stopped.load(Ordering::Relaxed) {
                        let Ok((length, client)) = socket.recv_from(&mut datagram) else { continue };
                        // The bit that makes an answer of a question.
                        datagram[2] |= 0x80;
                        drop(socket.send_to(&datagram[..length], client));
                    }
                })
            }
            Speech::Silent | Speech::Http | Speech::Smtp => {
                let port = if let Speech::Smtp = speech { 25 } else { 80 };
                let listener = self.node.run(|| TcpListener::bind(address(number, port)))??;
                listener.set_nonblocking(true)?;
                thread::spawn(move || {
                    while !stopped.load(Ordering::Relaxed) {
                        match listener.accept() {
                            Ok((stream, _)) => drop(serve(&stream, speech, &index)),
                            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(LOOK),
                            Err(_) => {}
                        }
                    }
                })
            }
        };
        self.up.insert(number, Listening { stop, thread: Some(thread) });
        Ok(())
    }

    pub(crate) fn down(&mut self, number: u8) {
        self.up.remove(&number);
    }

    pub(crate) fn set_index(&self, there: bool) {
        self.index.store(there, Ordering::Relaxed);
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn address(number: u8, port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 5, 0, number).into(), port)
}

fn serve(stream: &TcpStream, speech: Speech, index: &AtomicBool) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let (mut lines, mut stream) = (BufReader::new(stream), stream);
    let mut line = String::new();
    match speech {
        Speech::Silent | Speech::Dns => Ok(()),
        Speech::Http => {
            lines.read_line(&mut line)?;
            let found = line.starts_with("GET /index.html ") && index.load(Ordering::Relaxed);
            while line != "\r\n" && !line.is_empty() {
                line.clear();
                lines.read_line(&mut line)?;
            }
            let status = if found { "200 OK" } else { "404 Not Found" };
            write!(
                stream,
                "HTTP/1.0 {status}\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n"
            )
        }
        Speech::Smtp => {
            stream.write_all(b"220 test ESMTP\r\n")?;
            while lines.read_line(&mut line)? > 0 {
                if line.starts_with("QUIT") {
                    return stream.write_all(b"221 bye\r\n");
                }
                line.clear();
                stream.write_all(b"250 test\r\n")?;
            }
            Ok(())
        }
    }
}

/// How often a server looks whether it shall end.
const LOOK: Duration = Duration::from_millis(10);
