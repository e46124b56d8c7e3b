//! What the example programs share: how they print, what a terminal can show, and how they log and end.
//!
//! No product logic: whatever decides, plans, compares or watches belongs to the libraries.

mod log;
mod output;
mod terminal;

use core::error::Error;
use core::time::Duration;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::{panic, thread};

pub use log::LogFormat;
pub use lvs_std::text;
pub use output::{Output, Written};
pub use terminal::{Terminal, Tone};

/// Prints to standard output like the standard library's macro, which however panics when nobody reads
/// (`director bench | head`).
#[macro_export]
macro_rules! print {
    ($($what:tt)*) => { $crate::say(core::format_args!($($what)*)) };
}

/// Prints a line to standard output like the standard library's macro, which however panics when nobody reads
/// (`director bench | head`).
#[macro_export]
macro_rules! println {
    () => { $crate::say(core::format_args!("\n")) };
    ($($what:tt)*) => { $crate::say(core::format_args!("{}\n", core::format_args!($($what)*))) };
}

/// Says a line on standard error like the standard library's macro, which however panics when it cannot.
#[macro_export]
macro_rules! eprintln {
    ($($what:tt)*) => { $crate::complain(core::format_args!("{}\n", core::format_args!($($what)*))) };
}

/// Says something on standard error. There is nobody to be told when that cannot be.
pub fn complain(text: core::fmt::Arguments<'_>) {
    let _ = io::stderr().write_fmt(text);
}

/// Prints to standard output. What cannot be printed is noted for [`finish`].
pub fn say(text: core::fmt::Arguments<'_>) {
    note(io::stdout().write_fmt(text));
}

/// Notes that something could not be printed. A pipe that nobody reads ends the program by SIGPIPE, as it ends other
/// tools.
pub fn note(printed: io::Result<()>) {
    let Err(error) = printed else { return };
    if error.kind() == io::ErrorKind::BrokenPipe {
        // If that should fail, the end is a status as any other.
        let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGPIPE);
    }
    let mut first = UNPRINTED.lock().unwrap_or_else(PoisonError::into_inner);
    first.get_or_insert_with(|| error.to_string());
}

/// The end of a tool: a success is none when something could not be printed.
#[must_use]
pub fn finish(status: ExitCode) -> ExitCode {
    note(io::stdout().flush());
    let unprinted = UNPRINTED.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(why) = unprinted else { return status };
    complain(format_args!("error: not all could be printed: {why}\n"));
    if status == ExitCode::SUCCESS { ExitCode::FAILURE } else { status }
}

/// Why something could not be printed for the first time.
static UNPRINTED: Mutex<Option<String>> = Mutex::new(None);

/// The output of what runs until it is stopped. No thread waits until somebody reads it, but the end of this value
/// does, for a second: what was said last, a panic perhaps, is written.
#[derive(Debug)]
pub struct Streams {
    /// Standard output.
    pub out: Output,
    /// Standard error, with the log.
    pub log: Output,
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.out.flush(LAST_WORDS);
        self.log.flush(LAST_WORDS);
    }
}

/// Does what runs until it is stopped, with its log in this format on standard error. Status 1 when it fails.
///
/// Neither a line of the log nor the message of a panic makes a thread wait: both go through [`Output`].
pub fn supervise(format: LogFormat, work: impl FnOnce(&Streams) -> Result<(), Box<dyn Error>>) -> ExitCode {
    let lost = |lines| format!("{lines} lines of the log are lost: nobody took them in time\n");
    let streams = Output::to(io::stdout(), None)
        .and_then(|out| Ok(Streams { out, log: Output::to(io::stderr(), Some(lost))? }));
    let streams = match streams {
        Ok(streams) => streams,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: no log can be written: {error}");
            return ExitCode::FAILURE;
        }
    };
    format.init(&streams.log);
    // The standard library's own hook writes to standard error, on the thread that panics.
    panic::set_hook(Box::new(|panic| {
        let thread = thread::current().name().unwrap_or("without a name").to_owned();
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            tracing::error!("the thread `{thread}` has {panic}\n{trace}");
        } else {
            tracing::error!("the thread `{thread}` has {panic}");
        }
    }));
    let done = work(&streams);
    if let Err(error) = &done {
        tracing::error!("{error}");
    }
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How long the end waits until the last lines are written.
const LAST_WORDS: Duration = Duration::from_secs(1);
