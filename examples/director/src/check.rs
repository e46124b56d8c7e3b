//! `director check`: what a configuration file means.

use std::path::Path;
use std::process::ExitCode;

use lvs_std::config::ConfigSource;
use lvs_support::{eprintln, print};

/// Prints what the file would do, or what is wrong with it.
pub(crate) fn main(file: &Path) -> ExitCode {
    match ConfigSource::read(file) {
        Ok(source) => {
            print!("{}", source.configuration.describe());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
