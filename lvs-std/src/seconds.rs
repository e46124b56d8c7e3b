//! Times that come from outside as a number of seconds.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

/// A time from 0 to a billion seconds, some 31 years.
///
/// A number of seconds that comes from a file, a command line or a question is one of these or is refused. Such a time
/// can be added to any moment. What is no number, negative or endless would otherwise be taken for "now" or "never".
///
/// ```
/// use lvs_std::Seconds;
/// assert_eq!("1.5".parse::<Seconds>()?.get().as_millis(), 1_500);
/// for wrong in ["-1", "nan", "inf", "1e300", "1000000001", "soon"] {
///     assert!(wrong.parse::<Seconds>().is_err(), "{wrong}");
/// }
/// # Ok::<(), lvs_std::NoTime>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "config", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "config", serde(try_from = "f64", into = "f64"))]
pub struct Seconds(Duration);

/// A number that is no time, see [`Seconds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoTime;

impl Seconds {
    /// The longest time.
    pub const MOST: Self = Self(Duration::from_secs(1_000_000_000));

    /// The time.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl TryFrom<Duration> for Seconds {
    type Error = NoTime;

    fn try_from(time: Duration) -> Result<Self, NoTime> {
        Some(Self(time)).filter(|time| *time <= Self::MOST).ok_or(NoTime)
    }
}

impl TryFrom<f64> for Seconds {
    type Error = NoTime;

    fn try_from(seconds: f64) -> Result<Self, NoTime> {
        Duration::try_from_secs_f64(seconds).map_err(|_| NoTime)?.try_into()
    }
}

impl From<Seconds> for f64 {
    fn from(seconds: Seconds) -> Self {
        seconds.0.as_secs_f64()
    }
}

impl FromStr for Seconds {
    type Err = NoTime;

    fn from_str(text: &str) -> Result<Self, NoTime> {
        text.parse::<f64>().map_err(|_| NoTime)?.try_into()
    }
}

impl fmt::Display for NoTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no time: expected seconds, from 0 to {}", Seconds::MOST.0.as_secs())
    }
}

impl core::error::Error for NoTime {}
