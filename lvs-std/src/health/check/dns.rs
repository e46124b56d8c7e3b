//! A question to a name server (RFC 1035), over UDP.

use core::fmt;
use core::net::SocketAddr;
use core::str::FromStr;
use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::rand::{GetRandomFlags, getrandom};

use super::udp::{ROOM, ask, hear};
use super::{Attempt, Checker, Expiry, PASSED, Pass, Progress};
use crate::health::{Doing, Failure};

/// A name server is up when it answers a question without an error code (keepalived's `DNS_CHECK`). What it answers
/// does not matter, nor whether it had to shorten it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Dns {
    /// The name that is asked for. Default the root.
    pub name: Name,
    /// The records that are asked for. Default SOA.
    pub record: Record,
}

impl Dns {
    /// A question for records of a name.
    #[must_use]
    pub const fn new(name: Name, record: Record) -> Self {
        Self { name, record }
    }
}

impl Default for Dns {
    fn default() -> Self {
        Self { name: Name(vec![0]), record: Record::Soa }
    }
}

/// A domain name, as it is in messages: labels with their lengths, and a zero.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(Vec<u8>);

impl FromStr for Name {
    type Err = BadName;

    /// Labels with dots between them, with or without a last one; `.` is the root.
    fn from_str(text: &str) -> Result<Self, BadName> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let mut bytes = Vec::new();
        if !text.is_empty() {
            for label in text.split('.') {
                let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length));
                bytes.push(length.ok_or(BadName)?);
                if !label.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(BadName);
                }
                bytes.extend_from_slice(label.as_bytes());
            }
        }
        bytes.push(0);
        if bytes.len() > LONGEST_NAME { Err(BadName) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_slice();
        while let Some((&length, behind)) = rest.split_first().filter(|(length, _)| **length > 0) {
            let Some((label, behind)) = behind.split_at_checked(usize::from(length)) else { break };
            write!(f, "{}.", String::from_utf8_lossy(label))?;
            rest = behind;
        }
        if self.0.len() == 1 { f.write_str(".") } else { Ok(()) }
    }
}

/// A text that is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing more to say")]
pub struct BadName;

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no domain name: expected labels of 1 to 63 characters with dots between them, 253 at most",
        )
    }
}

impl core::error::Error for BadName {}

macro_rules! records {
    ($($(#[$doc:meta])* $kind:ident $name:literal $number:literal,)+) => {
        /// A type of records (RFC 1035, 3.2.2; RFC 3596).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Record {
            $($(#[$doc])* $kind,)+
        }

        impl Record {
            /// The names of all record types.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// The type of this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$kind),)+
                    _ => None,
                }
            }

            const fn number(self) -> u16 {
                match self {
                    $(Self::$kind => $number,)+
                }
            }
        }
    };
}

records! {
    /// IPv4 addresses.
    A "A" 1,
    /// Name servers.
    Ns "NS" 2,
    /// The canonical name.
    Cname "CNAME" 5,
    /// The start of a zone's authority.
    Soa "SOA" 6,
    /// Mail exchangers.
    Mx "MX" 15,
    /// Texts.
    Txt "TXT" 16,
    /// IPv6 addresses.
    Aaaa "AAAA" 28,
}

impl Checker for Dns {
    fn begin(&self, target: SocketAddr) -> Result<Box<dyn Attempt>, Failure> {
        let mut id = [0; 2];
        getrandom(&mut id, GetRandomFlags::empty())
            .map_err(|errno| Failure::Hindered { step: "draw a number", errno: errno.raw_os_error() })?;
        let question = question(self, id);
        let socket = ask(target, &question)?;
        Ok(Box::new(Asked { socket, question }))
    }
}

/// A query with recursion desired, as resolvers ask.
fn question(check: &Dns, id: [u8; 2]) -> Vec<u8> {
    let mut message = id.to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend_from_slice(&check.name.0);
    message.extend(check.record.number().to_be_bytes());
    message.extend(INTERNET);
    message
}

/// What an answer means; `None` when it is none to this question.
fn judge(question: &[u8], answer: &[u8]) -> Option<Result<Pass, Failure>> {
    let (head, rest) = answer.split_first_chunk::<HEADER>()?;
    let [id1, id2, flags, more, questions1, questions2, ..] = *head;
    let is_response = flags & 0x80 != 0;
    if question.get(..2) != Some(&[id1, id2]) || !is_response || flags & 0x78 != 0 {
        return None;
    }
    let code = more & 0xf;
    if code != 0 {
        return Some(Err(Failure::NameServer(code)));
    }
    let asked = question.get(HEADER..).unwrap_or_default();
    let echoes = rest.get(..asked.len()).is_some_and(|echo| echo.eq_ignore_ascii_case(asked));
    Some(match (u16::from_be_bytes([questions1, questions2]), echoes) {
        (0, _) | (1, true) => PASSED,
        _ => Err(Failure::Reply("the reply is about another question")),
    })
}

#[derive(Debug)]
struct Asked {
    socket: OwnedFd,
    question: Vec<u8>,
}

impl Attempt for Asked {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn proceed(&mut self) -> Progress {
        let mut room = [0; ROOM];
        for _ in 0..DATAGRAMS {
            match hear(self.socket.as_fd(), &mut room) {
                Ok(Some((bytes, _))) => {
                    if let Some(answer) = judge(&self.question, bytes) {
                        return Progress::Done(answer);
                    }
                }
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

/// Bytes of a message's header.
const HEADER: usize = 12;
/// The class IN.
const INTERNET: [u8; 2] = [0, 1];
/// RFC 1035, 3.1.
const LONGEST_NAME: usize = 255;
/// Datagrams that are looked at before others have a turn.
const DATAGRAMS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_with_a_last_dot() {
        for (text, shown) in [(".", "."), ("", "."), ("example.org", "example.org."), ("a.b.", "a.b.")] {
            assert_eq!(text.parse::<Name>().unwrap().to_string(), shown);
        }
        let long = ["a"; 128].join(".");
        for text in ["..", "a..b", "a b", &"x".repeat(64), &long] {
            assert_eq!(text.parse::<Name>(), Err(BadName), "{text}");
        }
    }

    /// RFC 1035, 4.1.
    #[test]
    fn the_question_is_that_of_the_standard() {
        let check = Dns::new("ab.c".parse().unwrap(), Record::Aaaa);
        let expected = [9, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, b'a', b'b', 1, b'c', 0, 0, 28, 0, 1];
        assert_eq!(question(&check, [9, 8]), expected);
    }

    #[test]
    fn an_answer_is_judged_by_its_header_and_question() {
        let asked = question(&Dns::default(), [9, 8]);
        let answer = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut answer = asked.clone();
            answer[2] |= 0x80;
            change(&mut answer);
            judge(&asked, &answer)
        };
        assert_eq!(answer(&|_| {}), Some(PASSED));
        assert_eq!(answer(&|answer| answer[2] |= 2), Some(PASSED), "shortened");
        assert_eq!(answer(&|answer| answer[3] = 0x82), Some(Err(Failure::NameServer(2))));
        assert_eq!(answer(&|answer| answer[1] = 7), None, "another's");
        assert_eq!(answer(&|answer| answer[2] = 1), None, "a question");
        assert!(matches!(answer(&|answer| answer[14] = 1), Some(Err(Failure::Reply(_)))));
        for length in 0..asked.len() {
            let cut = answer(&|answer| answer.truncate(length));
            assert!(!matches!(cut, Some(Ok(_))), "{length}: {cut:?}");
        }
    }
}
