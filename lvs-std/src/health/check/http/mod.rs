//! An HTTP request (RFC 9112), and what its answer must be.

mod body;
mod digest;
mod options;
mod talk;

use core::net::SocketAddr;
use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::tcp::{connect, is_connected};
use super::{Attempt, Checker, Expiry, Progress};
use crate::health::{Doing, Failure};

pub use digest::{BadDigest, Digest};
pub use options::{BadRequest, BadStatuses, Http, Statuses};
pub(super) use talk::Talk;

impl Checker for Http {
    fn begin(&self, target: SocketAddr) -> Result<Box<dyn Attempt>, Failure> {
        let socket = connect(target)?;
        Ok(Box::new(Plain { socket, target, connected: false, talk: Talk::new(self, target, 80) }))
    }
}

/// A talk on a plain connection.
#[derive(Debug)]
struct Plain {
    socket: OwnedFd,
    target: SocketAddr,
    connected: bool,
    talk: Talk,
}

impl Plain {
    /// `Err` when it is over.
    fn advance(&mut self) -> Result<Progress, Failure> {
        if !self.connected {
            self.connected = is_connected(self.socket.as_fd(), self.target)?;
            if !self.connected {
                return Ok(Progress::Waits);
            }
        }
        while !self.talk.to_send().is_empty() {
            match send(self.socket.as_fd(), self.talk.to_send()) {
                Ok(count) => self.talk.sent(count),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                // The answer may be there already: a server may answer before it has read everything.
                Err(_) => break,
            }
        }
        let mut room = [0; PIECE];
        for _ in 0..PIECES {
            match rustix::io::read(&self.socket, &mut room) {
                Ok(0) => return Ok(Progress::Done(self.talk.closed())),
                Ok(count) => {
                    if let Some(answer) = self.talk.heard(room.get(..count).unwrap_or_default()) {
                        return Ok(Progress::Done(answer));
                    }
                }
                Err(Errno::AGAIN) => return Ok(Progress::Waits),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Failure::of_socket("read", errno)),
            }
        }
        Ok(Progress::Yields)
    }
}

impl Attempt for Plain {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn proceed(&mut self) -> Progress {
        self.advance().unwrap_or_else(|failure| Progress::Done(Err(failure)))
    }

    fn expire(&mut self, after: Duration) -> Expiry {
        let doing = if self.connected { self.talk.doing() } else { Doing::Connecting };
        Expiry::Ends(Err(Failure::TimedOut { doing, after }))
    }
}

/// Sends without a signal when the other side is gone.
pub(super) fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    rustix::net::send(socket, bytes, rustix::net::SendFlags::NOSIGNAL)
}

/// Bytes that are read at a time.
pub(super) const PIECE: usize = 8 << 10;
/// Pieces that are read before others have a turn.
pub(super) const PIECES: usize = 8;
