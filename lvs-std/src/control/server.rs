//! The control socket: a thread that holds the conversations of all clients.
//!
//! Nothing that a client does, or does not do, holds up another client for longer than one command, or a packet at all:
//! sockets never block, an answer that its client does not fetch waits in a queue of the client's own, nothing more is
//! read from it meanwhile, and after a while it is cut off.

use core::time::Duration;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, SocketFlags};

use super::{CommandHandler, Session};
use crate::ownership::{Access, BoundPath, OwnedSocket, Transport};

/// How a control socket is served.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServeOptions {
    /// Where the socket is.
    pub socket: OwnedSocket,
    /// Who may connect, and command the director. By default the superuser and the user that the director runs as.
    /// Whoever else may connect may ask for the family's number.
    pub access: Access,
    /// Clients at a time; further ones are turned away. Default 64.
    pub clients: usize,
    /// How long an answer waits for its client to fetch some of it. Default 10 s.
    pub patience: Duration,
}

impl ServeOptions {
    /// The defaults, at this path.
    #[must_use]
    pub fn at(socket: OwnedSocket) -> Self {
        Self { socket, access: Access::default(), clients: 64, patience: Duration::from_secs(10) }
    }
}

/// A control socket that is being served, until this is dropped.
#[derive(Debug)]
pub struct Serving {
    /// The socket's file, which goes with it.
    path: Option<BoundPath>,
    /// Closed to end the thread.
    waker: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

/// Serves a control socket on a thread of its own. A socket that a former director left behind is replaced.
///
/// # Errors
/// Those of [`OwnedSocket::listen`].
pub fn serve(options: ServeOptions, handler: Arc<Mutex<dyn CommandHandler + Send>>) -> io::Result<Serving> {
    // On this thread, so that the caller hears of a path that cannot be used.
    let (listener, path) = options.socket.listen(Transport::Messages, options.access, BACKLOG)?;
    let (waker, wake_rx) = UnixStream::pair()?;
    let server = Server { listener, wake_rx, options, handler, clients: Vec::new() };
    let thread = thread::Builder::new().name("control".to_owned()).spawn(move || server.run())?;
    Ok(Serving { path: Some(path), waker: Some(waker), thread: Some(thread) })
}

impl Drop for Serving {
    fn drop(&mut self) {
        // The path first: from now on nobody is to come.
        drop(self.path.take());
        self.waker = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Server {
    listener: OwnedFd,
    wake_rx: UnixStream,
    options: ServeOptions,
    handler: Arc<Mutex<dyn CommandHandler + Send>>,
    clients: Vec<Client>,
}

struct Client {
    socket: OwnedFd,
    session: Session,
    /// Answers that it has not fetched yet.
    waiting: VecDeque<Vec<u8>>,
    /// When it last fetched something, while there is something to fetch.
    since: Instant,
    gone: bool,
}

impl Server {
    fn run(mut self) {
        let mut buffer = vec![0; LONGEST];
        loop {
            let ready = self.wait();
            let Some((waker, listener, clients)) = ready.split_first().and_then(|(waker, rest)| {
                rest.split_first().map(|(listener, clients)| (waker, listener, clients))
            }) else {
                return;
            };
            // Nothing is ever written to the waker. It becomes readable when `Serving` closes its other end.
            if !waker.is_empty() {
                return;
            }
            for (client, ready) in self.clients.iter_mut().zip(clients) {
                client.turn(*ready, &self.handler, &mut buffer);
                client.gone |= !client.waiting.is_empty() && client.since.elapsed() > self.options.patience;
            }
            self.clients.retain(|client| !client.gone);
            if !listener.is_empty() {
                self.accept();
            }
        }
    }

    /// Waits until something can be done; which of waker, listener and clients can.
    fn wait(&self) -> Vec<PollFlags> {
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.wake_rx.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN),
        ];
        fds.extend(self.clients.iter().map(|client| {
            // A client that has answers to fetch is not read from. So a queue holds the answers to one datagram at
            // most, and the number of clients bounds the memory.
            let flags = if client.waiting.is_empty() { PollFlags::IN } else { PollFlags::OUT };
            PollFd::from_borrowed_fd(client.socket.as_fd(), flags)
        }));
        // No event tells that a client's patience is over, so the clock is looked at each second while anybody owes a
        // fetch.
        let waiting = self.clients.iter().any(|client| !client.waiting.is_empty());
        let limit = Timespec { tv_sec: 1, tv_nsec: 0 };
        // Interrupted is as good as nothing to do.
        let _ = poll(&mut fds, waiting.then_some(&limit));
        fds.iter().map(PollFd::revents).collect()
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Ok(socket) = rustix::net::accept_with(&self.listener, flags) {
            // A client too many is accepted and closed at once. Left in the backlog, it would wait without a word, and
            // keep `poll` from ever waiting.
            if self.clients.len() < self.options.clients {
                // Asked once: the kernel notes the user when the client connects, and whoever inherits the descriptor
                // has its rights.
                let privileged = self.options.access.admits(socket.as_fd());
                let session = Session::new(privileged);
                let (waiting, since, gone) = (VecDeque::new(), Instant::now(), false);
                self.clients.push(Client { socket, session, waiting, since, gone });
            }
        }
    }
}

impl Client {
    fn turn(&mut self, ready: PollFlags, handler: &Mutex<dyn CommandHandler + Send>, buffer: &mut [u8]) {
        if ready.is_empty() {
            return;
        }
        if self.waiting.is_empty() {
            match rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                // An empty datagram looks like the end, and is nothing that a client sends.
                Ok((0, _)) => self.gone = true,
                Ok((count, _)) => {
                    let datagram = buffer.get(..count).unwrap_or_default();
                    // A panic while somebody held the lock is no reason to leave the director without control. A
                    // command is noted only after the director has taken it, so both still agree.
                    let mut handler = handler.lock().unwrap_or_else(PoisonError::into_inner);
                    self.waiting.extend(self.session.answer(datagram, &mut *handler));
                    self.since = Instant::now();
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                // Also who left without fetching everything.
                Err(_) => self.gone = true,
            }
        }
        while let Some(next) = self.waiting.front() {
            match rustix::net::send(&self.socket, next, SendFlags::NOSIGNAL) {
                Ok(_) => {
                    self.waiting.pop_front();
                    self.since = Instant::now();
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
    }
}

const BACKLOG: i32 = 64;
/// The longest datagram that is read whole.
const LONGEST: usize = 1 << 16;
