//! `director exec`: ipvsadm, keepalived and whatever else configures IPVS, led to a director.

use std::ffi::OsString;
use std::process::ExitCode;

use lvs_std::control::directors;
use lvs_std::exec::Launch;
use lvs_support::{eprintln, println};

use crate::control::Target;

/// What `director exec` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// List the directors that answer, by name, instead
    #[arg(long, conflicts_with = "command")]
    list: bool,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required_unless_present = "list", value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Executes the command and ends as it does. What stands against that is said before it begins: status 2 when there is
/// no director, or not for this user, 126 and 127 as a shell's when the command cannot be led or found, else 1.
pub(crate) fn main(arguments: Arguments) -> ExitCode {
    if arguments.list {
        return list();
    }
    let mut words = arguments.command.into_iter();
    let Some(program) = words.next() else { return ExitCode::FAILURE };
    let launch = words.fold(Launch::new(arguments.target.socket(), program), Launch::argument);
    match launch.run() {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.status())
        }
    }
}

/// Prints the names of the directors that answer.
fn list() -> ExitCode {
    match directors() {
        Ok(names) => {
            for name in names {
                println!("{name}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: the folder of the directors' sockets cannot be read: {error}");
            ExitCode::FAILURE
        }
    }
}
