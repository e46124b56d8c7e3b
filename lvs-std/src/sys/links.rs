//! When interfaces come, go and change (rtnetlink(7), `linux/rtnetlink.h`).

use core::time::Duration;
use std::collections::BTreeSet;
use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Tells of the interfaces of a network namespace: of the one in which this was made.
pub(crate) struct LinkMonitor(Socket);

impl LinkMonitor {
    /// Of the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, LINKS))?;
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// Waits until something has changed, for `patience` at most. Returns the numbers of interfaces that have gone
    /// since the last call; one may be back under the same number. How all others are now is to be asked.
    pub(crate) fn wait(&self, patience: Duration) -> io::Result<BTreeSet<u32>> {
        let limit = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
        let mut gone = BTreeSet::new();
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&limit)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(gone),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut buffer = Vec::with_capacity(ROOM);
        for _ in 0..MOST_READS {
            buffer.clear();
            match self.0.recv(&mut buffer, 0) {
                Ok(_) => deleted(&buffer, &mut gone),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Some messages did not fit. A device whose interface has gone says so itself a little later.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(gone)
    }
}

/// Collects which interfaces are deleted by some messages. Only the headers are looked at, so that no attribute that a
/// later kernel adds can hide one.
fn deleted(mut messages: &[u8], gone: &mut BTreeSet<u32>) {
    // `struct nlmsghdr`: length, type; `struct ifinfomsg` behind its 16 bytes: family, index.
    while let Some(length) = messages.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes) as usize) {
        let Some(message) = messages.get(..length.max(HEADER)) else { return };
        let kind = message.get(4..).and_then(<[u8]>::first_chunk).map(|bytes| u16::from_ne_bytes(*bytes));
        let index = message.get(HEADER + 4..).and_then(<[u8]>::first_chunk);
        // A bridge tells of a port that leaves it in the same way, with its own family.
        if let (Some(libc::RTM_DELLINK), Some(0), Some(index)) = (kind, message.get(HEADER), index) {
            gone.insert(u32::from_ne_bytes(*index));
        }
        messages = messages.get(message.len().next_multiple_of(4)..).unwrap_or_default();
    }
}

/// `RTMGRP_LINK`.
const LINKS: u32 = 1;
const HEADER: usize = 16;
const ROOM: usize = 1 << 15;
/// Messages that are read at a time, so that a busy machine does not keep the reader from its work.
const MOST_READS: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, family: u8, index: u32, more: usize) -> Vec<u8> {
        let length = (HEADER + 16 + more) as u32;
        let mut bytes =
            [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10], &[family, 0, 0, 0]].concat();
        bytes.extend(index.to_ne_bytes());
        bytes.resize((length as usize).next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn interfaces_that_go_are_found_among_other_messages() {
        let messages = [
            message(libc::RTM_NEWLINK, 0, 3, 5),
            message(libc::RTM_DELLINK, 0, 4, 7),
            message(libc::RTM_DELLINK, libc::AF_BRIDGE as u8, 5, 0),
            message(libc::RTM_DELLINK, 0, 6, 0),
        ]
        .concat();
        let mut gone = BTreeSet::new();
        deleted(&messages, &mut gone);
        assert_eq!(gone, BTreeSet::from([4, 6]));
    }

    #[test]
    fn messages_that_are_cut_off_or_lie_about_their_length_end_the_reading() {
        let whole = message(libc::RTM_DELLINK, 0, 4, 0);
        for length in 0..whole.len() {
            deleted(&whole[..length], &mut BTreeSet::new());
            let mut lying = whole.clone();
            lying[..4].copy_from_slice(&(length as u32).to_ne_bytes());
            deleted(&lying, &mut BTreeSet::new());
        }
    }
}
