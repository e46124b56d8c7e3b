//! A web server that can be killed.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;

use lvs_std::lab::{LabError, Node};

/// A web server in a node. It says its name in answer to every request, and for `/stream` again and again.
pub(crate) struct Web {
    node: Node,
    name: String,
    listens: Vec<SocketAddr>,
    running: Mutex<Option<Arc<Running>>>,
}

/// What dies with it.
#[derive(Default)]
struct Running {
    listeners: Mutex<Vec<TcpListener>>,
    streams: Mutex<Vec<TcpStream>>,
}

impl Web {
    pub(crate) fn new(node: Node, listens: Vec<SocketAddr>) -> Self {
        let name = node.name().to_owned();
        Self::named(node, listens, &name)
    }

    pub(crate) fn named(node: Node, listens: Vec<SocketAddr>, name: &str) -> Self {
        Self { node, name: name.to_owned(), listens, running: Mutex::default() }
    }

    pub(crate) fn start(&self) -> Result<(), Box<dyn core::error::Error>> {
        let running = Arc::new(Running::default());
        for &address in &self.listens {
            let listener = self.node.run(|| TcpListener::bind(address))??;
            lock(&running.listeners).push(listener.try_clone()?);
            self.serve(listener, running.clone())?;
        }
        *lock(&self.running) = Some(running);
        Ok(())
    }

    fn serve(&self, listener: TcpListener, running: Arc<Running>) -> Result<(), LabError> {
        let name = self.name.clone();
        self.node.spawn("web", move || {
            while let Ok((stream, _)) = listener.accept() {
                let Ok(clone) = stream.try_clone() else { continue };
                lock(&running.streams).push(clone);
                let name = name.clone();
                std::thread::spawn(move || drop(answer(stream, &name)));
            }
        })?;
        Ok(())
    }

    /// As the kernel does with a process that is killed: nobody listens any more, and connections are reset.
    pub(crate) fn kill(&self) {
        let Some(running) = lock(&self.running).take() else { return };
        for listener in lock(&running.listeners).drain(..) {
            // Wakes whoever waits in `accept`.
            let _ = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both);
        }
        for stream in lock(&running.streams).drain(..) {
            let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn answer(mut stream: TcpStream, name: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.extend(byte);
    }
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{name}\n")?;
    while head.starts_with(b"GET /stream ") {
        sleep(Duration::from_millis(20));
        writeln!(stream, "{name}")?;
    }
    Ok(())
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
