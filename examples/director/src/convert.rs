//! `director convert`: services between the director's own TOML and the lines of `ipvsadm --save`.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use lvs_std::config::{Configuration, ConvertError, is_saved, services_of_saved};
use lvs_std::ipvsadm::System;
use lvs_support::{eprintln, print};

/// Prints the services of a file in the other format: those of a configuration as ipvsadm's lines, ipvsadm's lines as a
/// part of a configuration.
pub(crate) fn main(file: &Path) -> ExitCode {
    let name = file.display();
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("error: {name} cannot be read: {error}");
            return ExitCode::FAILURE;
        }
    };
    let converted = if is_saved(&text) {
        services_of_saved(&text, &System).map_err(|error| {
            // A line's number says more beside the file's name.
            let is_line = matches!(error, ConvertError::Line(_));
            if is_line { format!("{name}, {error}") } else { error.to_string() }
        })
    } else {
        let configuration = Configuration::parse(&text);
        configuration.map(|of| of.to_saved()).map_err(|error| error.show(&name.to_string()).to_string())
    };
    match converted {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
