//! `director exec`: ipvsadm, keepalived and whatever else configures IPVS, led to a director.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use lvs_std::control::{self, Client};
use lvs_std::exec::Launch;
use lvs_support::println;

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
        return list(Path::new(FOLDER));
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

/// Prints the names of the directors whose sockets are in a folder and answer, in order.
fn list(folder: &Path) -> ExitCode {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        // Nobody has ever made it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {} cannot be looked into: {error}", folder.display());
            return ExitCode::FAILURE;
        }
    };
    let sockets = entries.flatten().map(|entry| entry.path());
    let mut names: Vec<String> =
        sockets.filter(|path| answers(path)).filter_map(|path| name(&path)).collect();
    names.sort();
    for name in names {
        println!("{name}");
    }
    ExitCode::SUCCESS
}

/// The name of the director that has this socket.
fn name(socket: &Path) -> Option<String> {
    socket.file_name()?.to_str()?.strip_suffix(".sock").map(str::to_owned)
}

/// Whether a director listens at a socket.
fn answers(socket: &Path) -> bool {
    Client::connect(socket)
        .is_ok_and(|mut client| client.call(&control::Command::Query(control::Query::Info)).is_ok())
}

/// Where directors have their sockets.
const FOLDER: &str = "/run/director";
