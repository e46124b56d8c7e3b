//! How the log's lines are written.

use core::fmt;
use std::io;
use std::os::linux::fs::MetadataExt as _;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::Output;

/// How the log's lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For the journal when standard error leads to it, as lines with a time and a level otherwise.
    #[default]
    Auto,
    /// A time, a level and words.
    Text,
    /// A line of JSON each.
    Json,
    /// The level as the journal reads it, `<6>` before the words; it has a clock of its own.
    Journal,
}

impl LogFormat {
    /// Has everything that is said by `tracing` written so.
    pub(crate) fn init(self, log: &Output) {
        let lines = tracing_subscriber::fmt().with_writer(log.clone()).with_target(false);
        match self {
            Self::Auto if leads_to_journal() => Self::Journal.init(log),
            Self::Auto | Self::Text => lines.init(),
            Self::Json => lines.json().init(),
            Self::Journal => {
                let words =
                    Format::default().without_time().with_level(false).with_target(false).with_ansi(false);
                lines.event_format(Journal(words)).init();
            }
        }
    }
}

/// Whether standard error is the stream that `JOURNAL_STREAM` names, as systemd says it.
fn leads_to_journal() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    let place = || -> io::Result<String> {
        let at = std::fs::metadata("/proc/self/fd/2")?;
        Ok(format!("{}:{}", at.st_dev(), at.st_ino()))
    };
    place().is_ok_and(|place| place == stream)
}

/// Lines for the journal: `sd-daemon(3)`.
struct Journal(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = priority(*event.metadata().level());
        let mut words = String::new();
        self.0.format_event(context, Writer::new(&mut words), event)?;
        // Each line is an entry of its own.
        for line in words.lines() {
            writeln!(writer, "<{priority}>{line}")?;
        }
        Ok(())
    }
}

/// The level as syslog counts.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}
