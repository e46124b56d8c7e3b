//! Why an answer was not good, or none came.

use core::error::Error;
use core::fmt;
use core::time::Duration;
use std::io;

use rustix::io::Errno;

/// Why an attempt failed. Its text says it on one line, such as `status 503, expected 200-299`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// Nobody listens: a TCP reset to the connection request, or ICMP port unreachable.
    Refused,
    /// The connection was reset later on.
    Reset,
    /// There is no way to the target, by the error number: `EHOSTUNREACH`, `ENETUNREACH` and their like.
    Unreachable(i32),
    /// Nothing came in time.
    TimedOut {
        /// What was waited for.
        doing: Doing,
        /// How long.
        after: Duration,
    },
    /// The connection was closed before the answer was whole.
    Closed {
        /// What was waited for.
        doing: Doing,
    },
    /// Another error of the connection, by its number.
    Connection(i32),
    /// The answer is not of the protocol.
    Garbage(&'static str),
    /// The answer, or a part of it, is longer than it may be, in bytes.
    TooLong {
        /// Which part.
        part: &'static str,
        /// How many bytes that part may have at most; the attempt ended when one more came.
        limit: usize,
    },
    /// An HTTP status that is none of the expected ones.
    Status {
        /// The one that came.
        got: u16,
        /// The expected ones, as they are written: `200-299, 301`.
        expected: String,
    },
    /// The body does not contain the text.
    TextMissing(String),
    /// The body has another digest.
    Digest {
        /// The one that came, in hexadecimal.
        got: String,
        /// The expected one.
        expected: String,
    },
    /// TLS failed: the certificate, or the negotiation, in the words of the library.
    Tls(String),
    /// The reply is none of the expected ones.
    Reply(&'static str),
    /// A name server answered with an error, by its code (RFC 1035, 4.1.1; RFC 2136).
    NameServer(u8),
    /// The program ended with this status.
    Exit(i32),
    /// A signal ended the program.
    Signal(i32),
    /// The attempt could not be made, for a reason on this side: no file descriptor or port left, a missing permission.
    /// The failure says nothing of the target, whose state stays as it is.
    Hindered {
        /// What could not be done.
        step: &'static str,
        /// The error number.
        errno: i32,
    },
}

/// What an attempt was at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Doing {
    /// Looking for the target's MAC address.
    Neighbour,
    /// Waiting for the connection to be accepted.
    Connecting,
    /// In the TLS handshake.
    Handshake,
    /// Waiting for the first byte of an answer, or for the rest of its head.
    Head,
    /// Waiting for the rest of the body.
    Body,
    /// Waiting for a reply to a datagram.
    Reply,
    /// Waiting for a program to end.
    Program,
}

impl Failure {
    /// Whether it is this side's failure, which says nothing of the target.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        matches!(self, Self::Hindered { .. })
    }

    /// What an error of a socket towards the target means.
    pub(super) fn of_socket(step: &'static str, errno: Errno) -> Self {
        let number = errno.raw_os_error();
        match errno {
            Errno::CONNREFUSED => Self::Refused,
            Errno::CONNRESET | Errno::PIPE => Self::Reset,
            // `ENOPROTOOPT` is how Linux reports ICMP's "protocol unreachable".
            Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN | Errno::NETDOWN | Errno::NOPROTOOPT => {
                Self::Unreachable(number)
            }
            // `connect` says `EPERM` or `EACCES` for a firewall rule here, and `EADDRNOTAVAIL` when no local port is
            // left.
            Errno::MFILE
            | Errno::NFILE
            | Errno::NOBUFS
            | Errno::NOMEM
            | Errno::ADDRNOTAVAIL
            | Errno::ADDRINUSE
            | Errno::AGAIN
            | Errno::PERM
            | Errno::ACCESS
            | Errno::AFNOSUPPORT
            | Errno::INVAL => Self::Hindered { step, errno: number },
            _ => Self::Connection(number),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::Reset => f.write_str("connection reset"),
            Self::Unreachable(errno) => write!(f, "unreachable: {}", Words(*errno)),
            Self::TimedOut { doing, after } => write!(f, "no {} within {after:?}", doing.awaited()),
            Self::Closed { doing } => write!(f, "connection closed before the {}", doing.awaited()),
            Self::Connection(errno) => write!(f, "{}", Words(*errno)),
            Self::Garbage(what) => f.write_str(what),
            Self::TooLong { part, limit } => write!(f, "{part} longer than {limit} bytes"),
            Self::Status { got, expected } => write!(f, "status {got}, expected {expected}"),
            Self::TextMissing(text) => write!(f, "the body does not contain {text:?}"),
            Self::Digest { got, expected } => write!(f, "digest {got}, expected {expected}"),
            Self::Tls(text) => write!(f, "TLS: {text}"),
            Self::Reply(what) => f.write_str(what),
            Self::NameServer(code) => match RCODES.get(usize::from(*code)) {
                Some(name) => write!(f, "name server error {code}, {name}"),
                None => write!(f, "name server error {code}"),
            },
            Self::Exit(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "ended by signal {signal}"),
            Self::Hindered { step, errno } => write!(f, "cannot {step}: {}", Words(*errno)),
        }
    }
}

impl Error for Failure {}

impl Doing {
    /// What is waited for, as a noun.
    const fn awaited(self) -> &'static str {
        match self {
            Self::Neighbour => "MAC address",
            Self::Connecting => "connection",
            Self::Handshake => "TLS handshake",
            Self::Head => "answer",
            Self::Body => "whole body",
            Self::Reply => "reply",
            Self::Program => "end of the program",
        }
    }
}

/// An error number in words, without the number that the standard library adds.
struct Words(i32);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = io::Error::from_raw_os_error(self.0).to_string();
        let words = text.split(" (os error").next().unwrap_or_default();
        f.write_str(&words.to_lowercase())
    }
}

/// Response codes of DNS from 0 on.
const RCODES: [&str; 6] =
    ["no error", "format error", "server failure", "no such name", "not implemented", "refused"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_says_on_one_line_what_was_wrong() {
        let status = Failure::Status { got: 503, expected: "200-299".to_owned() };
        assert_eq!(status.to_string(), "status 503, expected 200-299");
        let late = Failure::TimedOut { doing: Doing::Connecting, after: Duration::from_millis(1_500) };
        assert_eq!(late.to_string(), "no connection within 1.5s");
        assert_eq!(Failure::Unreachable(libc::EHOSTUNREACH).to_string(), "unreachable: no route to host");
        assert_eq!(Failure::NameServer(2).to_string(), "name server error 2, server failure");
    }

    #[test]
    fn a_lack_of_descriptors_is_no_fault_of_the_target() {
        assert!(Failure::of_socket("open a socket", Errno::MFILE).is_ours());
        assert!(!Failure::of_socket("connect", Errno::CONNREFUSED).is_ours());
        assert!(!Failure::of_socket("connect", Errno::HOSTUNREACH).is_ours());
    }
}
