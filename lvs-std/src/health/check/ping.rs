//! An ICMP echo request (RFC 792, RFC 4443).

use core::net::SocketAddr;
use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use lvs_forward::checksum::Sum;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, Protocol, SendFlags, SocketFlags, SocketType, ipproto};
use rustix::rand::{GetRandomFlags, getrandom};

use super::udp::hear;
use super::{Attempt, Checker, Expiry, PASSED, Progress};
use crate::health::{Doing, Failure};

/// A target is up when it answers a ping. Its port does not matter.
///
/// A ping needs no privilege where `net.ipv4.ping_group_range` has this process's group in it (most distributions), and
/// otherwise the capability `CAP_NET_RAW`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Ping {}

impl Ping {
    /// The one that there is.
    #[must_use]
    pub const fn new() -> Self {
        Self {}
    }
}

impl Checker for Ping {
    fn begin(&self, target: SocketAddr) -> Result<Box<dyn Attempt>, Failure> {
        let (socket, raw) = open(target).map_err(|errno| Failure::Hindered {
            step: "open an ICMP socket",
            errno: errno.raw_os_error(),
        })?;
        // A raw socket hears the replies to all pings of the machine, and the cookie tells whose one is.
        let mut cookie = [0; COOKIE];
        getrandom(&mut cookie, GetRandomFlags::empty())
            .map_err(|errno| Failure::Hindered { step: "draw a number", errno: errno.raw_os_error() })?;
        let target = SocketAddr::new(target.ip(), 0);
        let v4 = target.is_ipv4();
        // Only a raw IPv4 socket shows the IP header before the message.
        let attempt = Asked { socket, cookie, skips_header: raw && v4, reply: if v4 { 0 } else { 129 } };
        net::connect(&attempt.socket, &target).map_err(|errno| Failure::of_socket("connect", errno))?;
        net::send(&attempt.socket, &request(v4, &cookie), SendFlags::NOSIGNAL)
            .map_err(|errno| Failure::of_socket("send", errno))?;
        Ok(Box::new(attempt))
    }
}

/// A socket for echoes only, or else a raw one, which hears everything that is ICMP.
fn open(target: SocketAddr) -> Result<(OwnedFd, bool), Errno> {
    let (family, protocol): (_, Protocol) = match target {
        SocketAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        SocketAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let open = |kind| net::socket_with(family, kind, flags, Some(protocol));
    // A ping socket takes no capability where `net.ipv4.ping_group_range` allows it. A raw one takes `CAP_NET_RAW`.
    match open(SocketType::DGRAM) {
        Ok(socket) => Ok((socket, false)),
        Err(Errno::ACCESS | Errno::PERM | Errno::PROTONOSUPPORT) => {
            open(SocketType::RAW).map(|socket| (socket, true))
        }
        Err(errno) => Err(errno),
    }
}

/// An echo request with the cookie as its data. The kernel fills the checksum of ICMPv6 in, and a ping socket's
/// identifier.
fn request(v4: bool, cookie: &[u8; COOKIE]) -> Vec<u8> {
    let [id1, id2, ..] = *cookie;
    let mut message = vec![if v4 { 8 } else { 128 }, 0, 0, 0, id1, id2, 0, 1];
    message.extend_from_slice(cookie);
    if v4 {
        // For IPv6 the kernel does it: that sum covers the source address, which the kernel chooses (RFC 3542 §3.1).
        let sum = Sum::ZERO.bytes(&message).checksum();
        if let Some(place) = message.get_mut(2..4) {
            place.copy_from_slice(&sum.to_be_bytes());
        }
    }
    message
}

#[derive(Debug)]
struct Asked {
    socket: OwnedFd,
    /// What nobody else has sent.
    cookie: [u8; COOKIE],
    /// Whether messages come with the IPv4 header in front: raw sockets of IPv4 do.
    skips_header: bool,
    /// The type of a reply.
    reply: u8,
}

impl Asked {
    fn is_answer(&self, packet: &[u8]) -> bool {
        let header = match packet.first() {
            Some(first) if self.skips_header => usize::from(first & 0xf) * 4,
            Some(_) | None => 0,
        };
        let Some(message) = packet.get(header..) else { return false };
        message.first() == Some(&self.reply) && message.get(8..8 + COOKIE) == Some(&self.cookie)
    }
}

impl Attempt for Asked {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn proceed(&mut self) -> Progress {
        let mut room = [0; 256];
        for _ in 0..MESSAGES {
            match hear(self.socket.as_fd(), &mut room) {
                Ok(Some((bytes, _))) if self.is_answer(bytes) => return Progress::Done(PASSED),
                Ok(Some(_)) => {}
                Ok(None) => return Progress::Waits,
                Err(failure) => return Progress::Done(Err(failure)),
            }
        }
        Progress::Yields
    }

    fn expire(&mut self, after: Duration) -> Expiry {
        Expiry::Ends(Err(Failure::TimedOut { doing: Doing::Reply, after }))
    }
}

const COOKIE: usize = 16;
/// Messages that are looked at before others have a turn: a raw socket hears those of everybody.
const MESSAGES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_makes_all_sum_up_to_nothing() {
        for cookie in [[0; COOKIE], [0xff; COOKIE], *b"0123456789abcdef"] {
            let message = request(true, &cookie);
            let sum = message
                .chunks(2)
                .fold(0_u32, |sum, pair| sum + u32::from(u16::from_be_bytes([pair[0], pair[1]])));
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        }
    }
}
