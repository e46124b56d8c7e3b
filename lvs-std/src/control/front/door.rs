//! Where clients come in, also when the process has no descriptor left.

use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
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
    /// Somebody who cannot be let in: not even a spare descriptor is left.
    NoDescriptor,
    /// Somebody who cannot be let in, because memory is short.
    Trouble,
}

impl Door {
    /// A listener that never blocks, and the spare descriptors.
    pub(super) fn new(listener: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&listener, true)?;
        let mut door = Self { listener, spares: Vec::with_capacity(SPARES), shut_until: None };
        door.refill()?;
        Ok(door)
    }

    pub(super) const fn listener(&self) -> &OwnedFd {
        &self.listener
    }

    /// Lets in whoever is next.
    pub(super) fn open(&mut self) -> Knock {
        // The kernel asks for a descriptor before it looks for a client: nobody is to leave for nobody.
        let mut listener = [PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN)];
        if !matches!(poll(&mut listener, Some(&Timespec::default())), Ok(1)) {
            return Knock::Nobody;
        }
        // Between giving up a descriptor and taking it again another socket's clients could have it, for good.
        let _alone = ACCEPTING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut knock = self.accept();
        // Other threads open files as well, and may be faster: then the next spare is given up.
        while let Err(Errno::MFILE | Errno::NFILE) = knock
            && let Some(spare) = self.spares.pop()
        {
            drop(spare);
            knock = self.accept();
            if knock.is_ok() {
                return told(knock, self.spares.is_empty());
            }
        }
        // There was nobody, or one has left meanwhile: what was given up for it may be there still.
        let _ = self.refill();
        told(knock, false)
    }

    fn accept(&self) -> Result<OwnedFd, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::io::retry_on_intr(|| rustix::net::accept_with(&self.listener, flags))
    }

    /// Ends a connection. Its descriptor becomes a spare if one is missing: it is never free in between, when another
    /// thread could take it.
    pub(super) fn close(&mut self, mut client: OwnedFd) {
        if self.spares.len() < SPARES
            && rustix::io::dup3(&self.listener, &mut client, rustix::io::DupFlags::CLOEXEC).is_ok()
        {
            self.spares.push(client);
        }
    }

    /// Takes spare descriptors again, as far as some are free.
    fn refill(&mut self) -> io::Result<()> {
        while self.spares.len() < SPARES {
            self.spares.push(rustix::io::fcntl_dupfd_cloexec(&self.listener, 0)?);
        }
        Ok(())
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
        Err(Errno::MFILE | Errno::NFILE) => Knock::NoDescriptor,
        Err(_) => Knock::Trouble,
    }
}

/// Held while a descriptor is given up and taken again: one socket of the process at a time.
static ACCEPTING: Mutex<()> = Mutex::new(());
/// Spare descriptors.
const SPARES: usize = 4;
/// How long nobody is let in when nothing is left to let anybody in with.
const PAUSE: Duration = Duration::from_millis(100);
