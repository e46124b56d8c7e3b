//! The tools' end.

use std::io;
use std::process::ExitCode;

use lvs_std::control::Client;

use super::json::ask;
use super::requests::Request;
use super::{Place, beside};
use crate::lvsadm::{Session, System};

/// `director ipvsadm`.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Ipvsadm {
    #[command(flatten)]
    place: Place,
    /// What ipvsadm would be told
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// `director sysctl`.
#[derive(Debug, clap::Args)]
pub(crate) struct Sysctl {
    #[command(flatten)]
    place: Place,
    /// The switch, such as `net.ipv4.vs.sloppy_tcp`
    key: String,
    /// Its value
    value: String,
}

/// Asks a running director as ipvsadm asks the kernel, with ipvsadm's exit status.
pub(crate) fn ipvsadm(arguments: Ipvsadm) -> ExitCode {
    let socket = arguments.place.socket();
    let mut client = match Client::connect(&socket) {
        Ok(client) => client,
        Err(error) => {
            eprintln!("error: no director answers at {}: {error}", socket.display());
            return ExitCode::from(UNREACHABLE);
        }
    };
    let words: Vec<&str> = arguments.words.iter().map(String::as_str).collect();
    let mut session = Session {
        program: "ipvsadm",
        names: &System,
        channel: &mut client,
        input: &mut io::stdin().lock(),
        out: &mut io::stdout().lock(),
        errors: &mut io::stderr().lock(),
    };
    ExitCode::from(session.run(&words))
}

/// Turns a switch of a running director.
pub(crate) fn sysctl(arguments: Sysctl) -> ExitCode {
    let socket = arguments.place.socket();
    match ask(&beside(&socket, "json"), &Request::Sysctl(arguments.key, arguments.value)) {
        Ok(response) => match response.error {
            None => ExitCode::SUCCESS,
            Some(error) => {
                eprintln!("error: {error}");
                ExitCode::from(255)
            }
        },
        Err(error) => {
            eprintln!("error: no director answers at {}: {error}", socket.display());
            ExitCode::from(UNREACHABLE)
        }
    }
}

/// ipvsadm's status when the kernel has no IPVS.
const UNREACHABLE: u8 = 2;
