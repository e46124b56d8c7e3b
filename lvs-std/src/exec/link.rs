//! The connection of one socket to the director, which is made when it is first needed, and made again when the
//! director has gone away.
//!
//! A program such as keepalived opens its socket once and never again. So a request that the director took with it is
//! sent again on the next connection. One that had been carried out is answered as a second one is (`EEXIST`,
//! `ENOENT`): the director says what is true.

use core::time::Duration;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::message::{append, as_part, ask_for_family, is_dump, refusal, to_director, to_program};
use crate::control::protocol::{Header, Message, cmd, flag, kind, messages};

/// What stands between a socket and the director.
#[derive(Debug)]
pub(super) struct Link {
    connection: Option<OwnedFd>,
    /// Until when a director is waited for, if one is.
    patience: Option<Instant>,
    /// Whether there was a connection before.
    known: bool,
    /// Whether the last wait was in vain.
    given_up: bool,
    unsent: VecDeque<Request>,
    unanswered: VecDeque<Request>,
}

/// A message on its way to the director.
#[derive(Debug)]
struct Request {
    /// As the program has made it.
    bytes: Vec<u8>,
    header: Header,
    /// Whether a part of the answer has come.
    begun: bool,
    sent: u32,
    /// Set where the family is asked for in place of a list of all: with this the kernel is asked for the list then.
    then: Option<Vec<u8>>,
}

/// What a turn led to.
#[derive(Debug, Default)]
pub(super) struct Happened {
    /// For the program.
    pub(super) datagrams: Vec<Vec<u8>>,
    /// For the kernel.
    kernel: Vec<Vec<u8>>,
    /// Something was read, so that there may be more.
    pub(super) read: bool,
}

impl Happened {
    pub(super) fn drain_kernel(&mut self) -> Vec<Vec<u8>> {
        core::mem::take(&mut self.kernel)
    }
}

impl Link {
    pub(super) const fn new() -> Self {
        Self {
            connection: None,
            patience: None,
            known: false,
            given_up: false,
            unsent: VecDeque::new(),
            unanswered: VecDeque::new(),
        }
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(OwnedFd::as_fd)
    }

    pub(super) fn interest(&self) -> PollFlags {
        if self.unsent.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT }
    }

    /// Whether it looks for a director, again and again.
    pub(super) const fn looks(&self) -> bool {
        self.patience.is_some()
    }

    /// Whether so much waits to be sent that nothing more is taken.
    pub(super) fn is_full(&self) -> bool {
        self.unsent.len() >= MOST
    }

    /// Whether an answer is on its way from a director that is there.
    pub(super) fn expects(&self) -> bool {
        let asked = || self.unsent.iter().chain(&self.unanswered).any(Request::wants_answer);
        self.connection.is_some() && asked()
    }

    /// Asks the director.
    pub(super) fn ask(&mut self, message: &Message<'_>, then: Option<Vec<u8>>, director: &Path) {
        let request =
            Request { bytes: message.bytes.to_vec(), header: message.header, begun: false, sent: 0, then };
        self.unsent.push_back(request);
        if self.connection.is_none() && self.patience.is_none() {
            let patience = match (self.given_up, self.known) {
                (true, _) => Duration::ZERO,
                (false, false) => FIRST,
                (false, true) => AGAIN,
            };
            self.patience = Some(Instant::now() + patience);
        }
        self.connect(director);
    }

    /// Asks the director for its family, and then the kernel what the program has asked.
    pub(super) fn ask_for_family(&mut self, message: &Message<'_>, director: &Path) {
        let question = ask_for_family(message.header.sequence);
        for asked in messages(&question) {
            self.ask(&asked, Some(message.bytes.to_vec()), director);
        }
    }

    fn connect(&mut self, director: &Path) {
        if self.connection.is_some() || self.patience.is_none() {
            return;
        }
        if let Ok(connection) = connect(director) {
            self.connection = Some(connection);
            (self.patience, self.known, self.given_up) = (None, true, false);
        }
    }

    /// Sends what is to be sent and reads what has come, one datagram.
    pub(super) fn turn(&mut self, director: &Path, port: u32, room: &mut [u8]) -> Happened {
        let mut happened = Happened::default();
        self.connect(director);
        if self.patience.is_some_and(|end| Instant::now() >= end) {
            self.give_up(port, &mut happened);
        }
        self.send(director, port, &mut happened);
        let Some(connection) = &self.connection else { return happened };
        match rustix::net::recv(connection, &mut *room, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok((0, _)) | Err(_) => self.lost(director, port, &mut happened),
            Ok((count, _)) => {
                happened.read = true;
                let mut datagram = Vec::with_capacity(count);
                for message in messages(room.get(..count).unwrap_or_default()) {
                    if let Some(bytes) = self.answer(&message, port, &mut happened) {
                        append(&mut datagram, &bytes);
                    }
                }
                happened.datagrams.extend((!datagram.is_empty()).then_some(datagram));
            }
        }
        happened
    }

    fn send(&mut self, director: &Path, port: u32, happened: &mut Happened) {
        while let (Some(connection), Some(next)) = (&self.connection, self.unsent.front_mut()) {
            let bytes = to_director(&next.bytes);
            match rustix::net::send(connection, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(_) => {
                    next.sent += 1;
                    self.unanswered.extend(self.unsent.pop_front());
                    // Requests that are answered by nothing stay until a later one is answered.
                    if self.unanswered.len() > MOST {
                        drop(self.unanswered.pop_front());
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS) => return,
                Err(_) => self.lost(director, port, happened),
            }
        }
    }

    /// What a message of the director's is for the program, if it is anything.
    fn answer(&mut self, message: &Message<'_>, port: u32, happened: &mut Happened) -> Option<Vec<u8>> {
        let header = message.header;
        let mut bytes = to_program(message, port);
        let at = self.unanswered.iter().position(|request| request.header.sequence == header.sequence);
        let Some(at) = at else { return Some(bytes) };
        // Those before it have had no answer and get none.
        self.unanswered.drain(..at);
        let request = self.unanswered.front_mut()?;
        request.begun = true;
        let ends = matches!(header.kind, kind::ERROR | kind::DONE);
        let alone = header.flags & flag::MULTI == 0 && request.header.flags & flag::ACK == 0;
        let then = request.then.take();
        if ends || alone {
            self.unanswered.pop_front();
        }
        if let Some(list) = then {
            happened.kernel.push(list);
            if ends {
                return None;
            }
            as_part(&mut bytes);
        }
        Some(bytes)
    }

    /// The director has gone. What it has not begun to answer is asked again.
    fn lost(&mut self, director: &Path, port: u32, happened: &mut Happened) {
        self.connection = None;
        let mut last = true;
        while let Some(request) = self.unanswered.pop_back() {
            // One that asks for no answer may have been carried out; the last one is likely not to have been.
            let asked_again = request.wants_answer() || last;
            last = false;
            if request.begun || request.sent >= ROUNDS {
                happened.datagrams.push(refusal(&request.bytes, request.header, port, libc::ECONNRESET));
            } else if asked_again {
                self.unsent.push_front(request);
            }
        }
        if !self.unsent.is_empty() {
            let patience = if self.given_up { Duration::ZERO } else { AGAIN };
            self.patience.get_or_insert_with(|| Instant::now() + patience);
            self.connect(director);
        }
    }

    /// Nobody came: what was asked is refused.
    fn give_up(&mut self, port: u32, happened: &mut Happened) {
        // As a kernel without IPVS answers, or as one cannot.
        let errno = if self.known { libc::ECONNRESET } else { libc::ENOENT };
        (self.patience, self.given_up) = (None, true);
        for request in self.unsent.drain(..) {
            match request.then {
                Some(list) => happened.kernel.push(list),
                None => happened.datagrams.push(refusal(&request.bytes, request.header, port, errno)),
            }
        }
    }
}

impl Request {
    /// Whether it asks for an answer even if all goes well.
    fn wants_answer(&self) -> bool {
        let asks = || messages(&self.bytes).next().and_then(|message| message.command());
        self.header.flags & flag::ACK != 0
            || is_dump(self.header)
            || self.header.kind == kind::CONTROLLER
            || asks().is_some_and(|command| ASKING.contains(&command))
    }
}

/// A connection to the director, if it listens.
fn connect(director: &Path) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(director)?)?;
    Ok(socket)
}

/// The commands of the family that ask for something.
const ASKING: [u8; 5] = [cmd::GET_SERVICE, cmd::GET_DEST, cmd::GET_DAEMON, cmd::GET_CONFIG, cmd::GET_INFO];
/// How long the first connection waits for a director, so that commands pass while it restarts.
pub(super) const FIRST: Duration = Duration::from_secs(1);
/// How long a request waits for a director that has gone away.
pub(super) const AGAIN: Duration = Duration::from_secs(5);
/// How often somebody who waits looks.
pub(super) const LOOK: Duration = Duration::from_millis(20);
/// How often one request is sent, at most: a director may go away again and again.
const ROUNDS: u32 = 3;
/// Requests that wait to be sent; and those without an answer that are kept in case they must be sent again.
const MOST: usize = 64;
