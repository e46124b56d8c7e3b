//! The tools' end.

use std::process::ExitCode;

use super::json::ask;
use super::requests::Request;
use super::{Place, beside};
use crate::lvsadm;

/// `director lvsadm` and `director ipvsadm`.
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

/// Asks a running director as ipvsadm asks the kernel, with ipvsadm's exit status. Hints name the tool as `program`.
pub(crate) fn ipvsadm(program: &str, arguments: Ipvsadm) -> ExitCode {
    ExitCode::from(lvsadm::call(program, arguments.words, Some(arguments.place.socket())))
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
