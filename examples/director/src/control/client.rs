//! The tools' end.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use super::{LONGEST, Place, Request, Response};

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
    ask(&arguments.place.control, &Request::Ipvsadm(arguments.words))
}

/// Turns a switch of a running director.
pub(crate) fn sysctl(arguments: Sysctl) -> ExitCode {
    ask(&arguments.place.control, &Request::Sysctl(arguments.key, arguments.value))
}

fn ask(place: &Path, request: &Request) -> ExitCode {
    match exchange(place, request) {
        Ok(response) => {
            print!("{}", response.out);
            eprint!("{}", response.error);
            ExitCode::from(response.status)
        }
        Err(error) => {
            eprintln!("error: no director answers at {}: {error}", place.display());
            ExitCode::from(UNREACHABLE)
        }
    }
}

fn exchange(place: &Path, request: &Request) -> io::Result<Response> {
    let mut stream = UnixStream::connect(place)?;
    let text = serde_json::to_string(request)? + "\n";
    stream.write_all(text.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// ipvsadm's status when the kernel has no IPVS.
const UNREACHABLE: u8 = 2;
