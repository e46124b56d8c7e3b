//! What the example programs share: how they print, what a terminal can show, and how they log and end.
//!
//! No product logic: whatever decides, plans, compares or watches belongs to the libraries.

mod terminal;

use core::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

pub use lvs_std::text;
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

/// Prints to standard output, if anybody reads it.
pub fn say(text: core::fmt::Arguments<'_>) {
    let _ = io::stdout().write_fmt(text);
}

/// Does what runs until it is stopped, with its log on standard error. Status 1 when it fails.
pub fn supervise(work: impl FnOnce() -> Result<(), Box<dyn Error>>) -> ExitCode {
    tracing_subscriber::fmt().with_writer(io::stderr).with_target(false).init();
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
