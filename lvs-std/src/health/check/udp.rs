//! A UDP datagram, and what comes back.

use core::fmt;
use core::net::SocketAddr;
use core::str::FromStr;
use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::{Attempt, Checker, Expiry, PASSED, Progress};
use crate::health::{Doing, Failure};

/// A target is up when it answers a datagram as it should; or, if no reply is asked for, when no ICMP error says within
/// the time-out that nobody is there (keepalived's `UDP_CHECK`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Udp {
    /// What is sent. Default empty.
    pub payload: Vec<u8>,
    /// What must come back. Without it, any reply is a good one and none is, too.
    pub reply: Option<Reply>,
}

/// What a reply must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Reply {
    /// How it must begin.
    pub begins: Pattern,
    /// The answer's shortest length in bytes. Default 0.
    pub shortest: u16,
    /// The answer's longest length in bytes. Default 255.
    pub longest: u16,
}

impl Reply {
    /// An answer that begins like this, of 0 to 255 bytes.
    #[must_use]
    pub const fn new(begins: Pattern) -> Self {
        Self { begins, shortest: 0, longest: 255 }
    }

    /// Whether a reply of this length with this beginning is one.
    fn fits(&self, bytes: &[u8], length: usize) -> Result<(), &'static str> {
        if length < usize::from(self.shortest) {
            return Err("the reply is too short");
        }
        if length > usize::from(self.longest) {
            return Err("the reply is too long");
        }
        if self.begins.fits(bytes) { Ok(()) } else { Err("the reply is another one") }
    }
}

/// Bytes of which some bits do not matter. Reads and shows as hexadecimal digits, with `X` for one that does not
/// matter.
///
/// ```
/// let pattern: lvs_std::health::Pattern = "XXXX8180".parse()?;
/// assert!(pattern.fits(&[0x12, 0x34, 0x81, 0x80, 0]));
/// assert!(!pattern.fits(&[0x12, 0x34, 0x81, 0x83, 0]));
/// # Ok::<(), lvs_std::health::BadPattern>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pattern(Vec<(u8, u8)>);

impl Pattern {
    /// Whether bytes begin like this.
    #[must_use]
    pub fn fits(&self, bytes: &[u8]) -> bool {
        let Some(bytes) = bytes.get(..self.0.len()) else { return false };
        self.0.iter().zip(bytes).all(|((value, mask), byte)| byte & mask == *value)
    }

    /// The bytes, if all of them matter.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        self.0.iter().map(|&(value, mask)| (mask == 0xff).then_some(value)).collect()
    }
}

impl FromStr for Pattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let digit = |byte: &u8| match byte {
            b'X' | b'x' => Some((0, 0)),
            other => char::from(*other).to_digit(16).map(|digit| (digit as u8, 0xf)),
        };
        let byte = |digits: &[u8]| match digits {
            [high, low] => {
                let ((high, high_mask), (low, low_mask)) = (digit(high)?, digit(low)?);
                Some((high << 4 | low, high_mask << 4 | low_mask))
            }
            _ => None,
        };
        let digits: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b' ' | b':')).collect();
        if digits.len() > 2 * ROOM {
            return Err(BadPattern);
        }
        digits.chunks(2).map(byte).collect::<Option<_>>().map(Self).ok_or(BadPattern)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(value, mask)| {
            [(value >> 4, mask >> 4), (value & 0xf, mask & 0xf)].into_iter().try_for_each(|(value, mask)| {
                if mask == 0 { f.write_str("X") } else { write!(f, "{value:x}") }
            })
        })
    }
}

/// A text that is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing more to say")]
pub struct BadPattern;

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no bytes: expected pairs of hexadecimal digits, {ROOM} at most, such as 0102ff")
    }
}

impl core::error::Error for BadPattern {}

impl Checker for Udp {
    fn begin(&self, target: SocketAddr) -> Result<Box<dyn Attempt>, Failure> {
        let socket = ask(target, &self.payload)?;
        Ok(Box::new(Asked { socket, reply: self.reply.clone() }))
    }
}

/// Sends a datagram from a new socket that hears of this target alone.
pub(super) fn ask(target: SocketAddr, payload: &[u8]) -> Result<OwnedFd, Failure> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(family, SocketType::DGRAM, flags, None)
        .map_err(|errno| Failure::of_socket("open a socket", errno))?;
    net::connect(&socket, &target).map_err(|errno| Failure::of_socket("connect", errno))?;
    match net::send(&socket, payload, SendFlags::NOSIGNAL) {
        Ok(_) => Ok(socket),
        Err(errno) => Err(Failure::of_socket("send", errno)),
    }
}

/// The next datagram, and how long it was before it was cut to the room. `None` when there is none yet.
pub(super) fn hear<'a>(
    socket: BorrowedFd<'_>,
    room: &'a mut [u8],
) -> Result<Option<(&'a [u8], usize)>, Failure> {
    loop {
        match net::recv(socket, &mut *room, RecvFlags::TRUNC) {
            Ok((count, length)) => return Ok(room.get(..count).map(|bytes| (bytes, length))),
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Failure::of_socket("receive", errno)),
        }
    }
}

#[derive(Debug)]
struct Asked {
    socket: OwnedFd,
    reply: Option<Reply>,
}

impl Attempt for Asked {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn proceed(&mut self) -> Progress {
        let mut room = [0; ROOM];
        match (hear(self.socket.as_fd(), &mut room), &self.reply) {
            (Ok(None), _) => Progress::Waits,
            (Ok(Some(_)), None) => Progress::Done(PASSED),
            (Ok(Some((bytes, length))), Some(reply)) => {
                Progress::Done(reply.fits(bytes, length).map_err(Failure::Reply).and(PASSED))
            }
            (Err(failure), _) => Progress::Done(Err(failure)),
        }
    }

    fn expire(&mut self, after: Duration) -> Expiry {
        Expiry::Ends(match self.reply {
            // A server need not answer what it does not understand. Only an ICMP error would say that nobody listens.
            None => PASSED,
            Some(_) => Err(Failure::TimedOut { doing: Doing::Reply, after }),
        })
    }
}

/// Bytes of a reply that are looked at.
pub(super) const ROOM: usize = 2 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_read_back_as_written() {
        for text in ["", "00ff", "XX1X2a"] {
            assert_eq!(text.parse::<Pattern>().unwrap().to_string(), text);
        }
        assert_eq!("0A 0b".parse::<Pattern>().unwrap().bytes(), Some(vec![10, 11]));
        assert_eq!("0X".parse::<Pattern>().unwrap().bytes(), None);
        for text in ["0", "0g", "é0", &"00".repeat(ROOM + 1)] {
            assert_eq!(text.parse::<Pattern>(), Err(BadPattern), "{text}");
        }
    }

    #[test]
    fn a_reply_must_be_as_long_as_asked_for() {
        let mut reply = Reply::new("01".parse().unwrap());
        (reply.shortest, reply.longest) = (2, 3);
        assert_eq!(reply.fits(&[1, 2], 2), Ok(()));
        assert_eq!(reply.fits(&[1], 1), Err("the reply is too short"));
        assert_eq!(reply.fits(&[1, 2, 3, 4], 4), Err("the reply is too long"));
        assert_eq!(reply.fits(&[2, 2], 2), Err("the reply is another one"));
    }
}
