//! Checkers: what is asked of a target, and what is a good answer. One file and one line in the list each.

pub(super) mod dns;
pub(super) mod http;
#[cfg(feature = "health-tls")]
pub(super) mod https;
pub(super) mod ping;
pub(super) mod program;
pub(super) mod tcp;
pub(super) mod through;
pub(super) mod udp;

use core::fmt::Debug;
use core::net::SocketAddr;
use core::time::Duration;
use std::os::fd::BorrowedFd;

use super::Failure;

/// How a kind of check goes about it.
pub(super) trait Checker {
    /// Begins an attempt, without ever waiting. An error is the attempt's end.
    fn begin(&self, target: SocketAddr) -> Result<Box<dyn Attempt>, Failure>;
}

/// One question to a target, under way.
pub(super) trait Attempt: Debug + Send {
    /// What is watched for it. The same as long as it lasts.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Whether it goes on at once, and not only when something happens at the descriptor.
    fn is_eager(&self) -> bool {
        false
    }

    /// Goes on as far as it can without waiting: called whenever something happened at the descriptor, and after
    /// [`Progress::Yields`].
    fn proceed(&mut self) -> Progress;

    /// The attempt's time is up, `after` its start.
    fn expire(&mut self, after: Duration) -> Expiry;
}

/// How far an attempt is.
#[derive(Debug)]
pub(super) enum Progress {
    /// The attempt waits for its descriptor.
    Waits,
    /// The attempt could go on, but others should have a turn first.
    Yields,
    /// The attempt waits for its descriptor, but for no longer than this.
    Pauses(Duration),
    /// The attempt has its answer.
    Done(Result<Pass, Failure>),
}

/// What becomes of an attempt whose time is up.
#[derive(Debug)]
pub(super) enum Expiry {
    /// The attempt ends.
    Ends(Result<Pass, Failure>),
    /// The attempt goes on for as long again, to clean up after itself, and is asked again then.
    Lingers(Duration),
}

/// A good answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pass {
    /// The weight that it advises.
    pub(super) advice: Option<u32>,
}

/// The end of an attempt that went well and advises nothing.
pub(super) const PASSED: Result<Pass, Failure> = Ok(Pass { advice: None });

/// Declares every checker; everything that must know all of them follows from this list.
macro_rules! checkers {
    ($($(#[doc = $doc:literal])* $(#[cfg($cfg:meta)])? $name:literal => $kind:ident($checker:path),)+) => {
        /// What is asked of a target, with all its options.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Check {
            $($(#[doc = $doc])* $(#[cfg($cfg)])? $kind($checker),)+
        }

        impl Check {
            /// Names of all kinds, as configurations have them.
            pub const NAMES: &'static [&'static str] = &[$($(#[cfg($cfg)])? $name),+];

            /// The name of its kind.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $($(#[cfg($cfg)])? Self::$kind(_) => $name,)+
                }
            }

            pub(in crate::health) fn begin(&self, target: SocketAddr) -> Result<Box<dyn Attempt>, Failure> {
                match self {
                    $($(#[cfg($cfg)])? Self::$kind(checker) => checker.begin(target),)+
                }
            }
        }

        $($(#[cfg($cfg)])? impl From<$checker> for Check {
            fn from(checker: $checker) -> Self {
                Self::$kind(checker)
            }
        })+
    };
}

checkers! {
    /// A TCP connection is accepted.
    "tcp" => Tcp(tcp::Tcp),
    /// An HTTP request is answered as it should be.
    "http" => Http(http::Http),
    /// An HTTP request by TLS is answered as it should be.
    #[cfg(feature = "health-tls")] "https" => Https(https::Https),
    /// A connection to the virtual address is accepted by one real server.
    "through" => Through(through::Through),
    /// A UDP datagram is answered, or at least not refused.
    "udp" => Udp(udp::Udp),
    /// A name server answers a question.
    "dns" => Dns(dns::Dns),
    /// A host answers an ICMP echo request.
    "ping" => Ping(ping::Ping),
    /// A program ends with the right status.
    "program" => Program(program::Program),
}
