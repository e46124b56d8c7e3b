//! Where clients come in, also when the process has no descriptor left.

use core::time::Duration;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::SocketFlags;

/// A listening socket, with a spare descriptor for the time when there is none left.
#[derive(Debug)]
pub(super) struct Door {
    listener: OwnedFd,
    /// Given up for a client when there is no other descriptor, and taken again when one is free.
    spare: Option<OwnedFd>,
    /// Nobody is let in before, because nothing was left to let anybody in with.
    shut_until: Option<Instant>,
}

/// Who comes in.
pub(super) enum Knock {
    Client(OwnedFd),
    Nobody,
    /// Somebody who cannot be let in, because the process has no descriptor left, and the spare one is in use.
    NoDescriptor,
    /// Somebody who cannot be let in for another reason, such as want of memory.
    Trouble,
}

impl Door {
    /// A listener that never blocks, and the spare descriptor.
    pub(super) fn new(listener: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&listener, true)?;
        Ok(Self { listener, spare: Some(spare()?), shut_until: None })
    }

    pub(super) const fn listener(&self) -> &OwnedFd {
        &self.listener
    }

    /// Lets in whoever is next.
    pub(super) fn open(&mut self) -> Knock {
        match self.accept() {
            Err(Errno::MFILE | Errno::NFILE) if self.spare.take().is_some() => {
                let knock = self.accept();
                self.refill();
                told(knock)
            }
            knock => told(knock),
        }
    }

    fn accept(&self) -> Result<OwnedFd, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::io::retry_on_intr(|| rustix::net::accept_with(&self.listener, flags))
    }

    /// Takes the spare descriptor again, if one is free.
    pub(super) fn refill(&mut self) {
        if self.spare.is_none() {
            self.spare = spare().ok();
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

fn told(knock: Result<OwnedFd, Errno>) -> Knock {
    match knock {
        Ok(client) => Knock::Client(client),
        Err(Errno::AGAIN) => Knock::Nobody,
        // Gone before it was let in, which is nobody too: the next one is let in next time.
        Err(Errno::CONNABORTED) => Knock::Nobody,
        Err(Errno::MFILE | Errno::NFILE) => Knock::NoDescriptor,
        Err(_) => Knock::Trouble,
    }
}

/// A descriptor that needs no file.
fn spare() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC)?)
}

/// How long nobody is let in when nothing is left to let anybody in with.
const PAUSE: Duration = Duration::from_millis(100);
