//! What is probed, how and how often.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use super::Check;

/// A target with what is asked of it and how often. Two that are equal are one probe, however many services want it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Probe {
    /// Where the question goes. A check that has no use for a port takes any.
    pub target: SocketAddr,
    /// What is asked, and what is a good answer.
    pub check: Check,
    /// When it is asked.
    pub schedule: Schedule,
}

impl Probe {
    /// A probe of `target`.
    #[must_use]
    pub const fn new(target: SocketAddr, check: Check, schedule: Schedule) -> Self {
        Self { target, check, schedule }
    }
}

impl fmt::Display for Probe {
    /// Such as `http at 10.0.1.11:80`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.check.name();
        match self.target.port() {
            0 => write!(f, "{name} at {}", self.target.ip()),
            _ => write!(f, "{name} at {}", self.target),
        }
    }
}

/// When a probe asks, and how many answers it takes to believe them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Schedule {
    /// From the start of one attempt to the start of the next, while nothing changes. One that lasts longer delays the
    /// next: there are never two of a probe at a time.
    pub interval: Duration,
    /// How long an attempt may last, from its start to the last byte that counts.
    pub timeout: Duration,
    /// Good answers in a row that make a target up that was down. At least 1.
    pub rise: u32,
    /// Bad answers in a row that make a target down that was up. At least 1. The very first answer decides alone.
    pub fall: u32,
    /// In place of the interval while answers contradict the state: after the first bad answer of a target that is up,
    /// for example. From the end of one attempt to the start of the next.
    pub retry: Option<Duration>,
    /// By chance, up to this is added to every interval, so that probes that began together drift apart.
    pub jitter: Duration,
    /// The first attempt begins by chance within this time, so that many probes do not begin together.
    pub warmup: Duration,
}

impl Schedule {
    /// Asks every `interval`; an attempt may last as long as that, 5 s at most; two good answers make a target up,
    /// three bad ones down; jitter and warm-up are a tenth of the interval.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        Self {
            interval,
            timeout: interval.min(Duration::from_secs(5)),
            rise: 2,
            fall: 3,
            retry: None,
            jitter: interval / 10,
            warmup: interval / 10,
        }
    }

    /// The probe with this many good and bad answers to believe.
    #[must_use]
    pub const fn with_counts(mut self, rise: u32, fall: u32) -> Self {
        self.rise = rise;
        self.fall = fall;
        self
    }

    /// The probe with another time-out.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long it takes at most until a target that dies at the worst moment is down: for the report of a
    /// configuration.
    #[must_use]
    pub fn slowest_fall(&self) -> Duration {
        let again = self.retry.map_or(self.interval + self.jitter, |retry| retry + self.timeout);
        let again = again.max(self.timeout);
        self.interval + self.jitter + self.timeout + again * self.fall.max(1).saturating_sub(1)
    }
}

/// What is known of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is no fourth")]
pub enum State {
    /// The target has not answered yet, nor failed to.
    #[default]
    Unknown,
    /// The target answers as it should.
    Up,
    /// The target does not answer as it should.
    Down,
}

impl State {
    /// What two checks of one server mean together: down if one is, unknown if one is and none is down.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Down, _) | (_, Self::Down) => Self::Down,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Up, Self::Up) => Self::Up,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}
