//! Where clients come in, also when the process has no descriptor left.

use core::time::Duration;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::SocketFlags;

/// A listening socket, with spare descriptors for the time when there is no other left: for a few clients, and for one
/// that is looked at before somebody gives way to it.
#[derive(Debug)]
pub(super) struct Door {
    listener: OwnedFd,
    /// Given up for clients when there is no other descriptor, and taken again when one is free.
    spares: Vec<OwnedFd>,
    /// Nobody is let in before, because nothing was left to let anybody in with.
    shut_until: Option<Instant>,
}

/// Who comes in.
pub(super) enum Knock {
    /// Whether it is the last one that could be let in: somebody has to leave.
    Client(OwnedFd, bool),
    Nobody,
    /// Somebody who cannot be let in: not even the spare descriptors are left, or memory is short.
    Trouble,
}

impl Door {
    /// A listener that never blocks, and the spare descriptor.
    pub(super) fn new(listener: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&listener, true)?;
        let spares = (0..SPARES).map(|_| spare()).collect::<io::Result<_>>()?;
        Ok(Self { listener, spares, shut_until: None })
    }

    pub(super) const fn listener(&self) -> &OwnedFd {
        &self.listener
    }

    /// Lets in whoever is next.
    pub(super) fn open(&mut self) -> Knock {
        match self.accept() {
            Err(Errno::MFILE | Errno::NFILE) if self.spares.pop().is_some() => {
                let last = self.spares.is_empty();
                let knock = self.accept();
                if knock.is_err() {
                    self.refill();
                }
                told(knock, last)
            }
            knock => told(knock, false),
        }
    }

    fn accept(&self) -> Result<OwnedFd, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::io::retry_on_intr(|| rustix::net::accept_with(&self.listener, flags))
    }

    /// Takes spare descriptors again, as far as they are free.
    pub(super) fn refill(&mut self) {
        while self.spares.len() < SPARES {
            let Ok(spare) = spare() else { return };
            self.spares.push(spare);
        }
    }

    /// Lets nobody in for a while: whoever knocks would be heard again at once, for ever.
    pub(super) fn shut(&mut self, now: Instant) {
        self.shut_until = now.checked_add(PAUSE);
    }

    /// For how long nobody is let in; `None` if the door is open.
    pub(super) fn is_shut(&mut self, now: Instant) -> Option<Duration> {
        let left = self.shut_until?.saturating_duration_since(now);
        if left.is_zero() {
            self.shut_until = None;
        }
        self.shut_until.map(|_| left)
    }
}

fn told(knock: Result<OwnedFd, Errno>, last: bool) -> Knock {
    match knock {
        Ok(client) => Knock::Client(client, last),
        Err(Errno::AGAIN) => Knock::Nobody,
        // Gone before it was let in, which is nobody too: the next one is let in next time.
        Err(Errno::CONNABORTED) => Knock::Nobody,
        Err(_) => Knock::Trouble,
    }
}

/// A descriptor that needs no file.
fn spare() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC)?)
}

/// Spare descriptors.
const SPARES: usize = 4;
/// How long nobody is let in when nothing is left to let anybody in with.
const PAUSE: Duration = Duration::from_millis(100);
