//! The format of `-S`, which `-R` reads.

use core::fmt;
use core::net::SocketAddr;

use crate::control::{Command, ServerReport, ServerSpec, ServiceName, ServiceReport, flags, method, tunnel};
use lvs_core::Family;

use super::request::request;
use super::table::{self, endpoint, protocol};
use super::{Names, Numeric, UsageError};
use crate::ipvsadm;

/// Services and servers as lines that add them, in ipvsadm's order, addresses and ports as numbers: what `ipvsadm
/// -Sn` prints.
///
/// As there, thresholds are not in it, nor are time-outs and daemons.
#[must_use]
pub fn save_text(services: &[(ServiceReport, Vec<ServerReport>)]) -> String {
    text(&table::sort(services.to_vec()), &Numeric)
}

/// What the lines of a saved table ask for, in order. The word `ipvsadm` may stand before each; empty lines and those
/// that begin with `#` say nothing. `names` looks up the names of hosts and ports, such as [`System`](super::System).
///
/// # Errors
///
/// The first line that ipvsadm would refuse, or that changes nothing (`-L`, `-S`, `-R`, `-h`, `-v`).
///
/// ```
/// use lvs_std::ipvsadm::{Numeric, parse_save};
/// let saved = "-A -t 192.0.2.1:80 -s rr\n-a -t 192.0.2.1:80 -r 10.0.1.11:80 -g -w 1\n";
/// assert_eq!(parse_save(saved, &Numeric).unwrap().len(), 2);
/// let error = parse_save("\n-A -t 192.0.2.1:80 -w 1", &Numeric).unwrap_err();
/// assert_eq!(error.to_string(), "line 2: Illegal 'weight' option with the 'add-service' command");
/// ```
pub fn parse_save(saved: &str, names: &dyn Names) -> Result<Vec<Command>, SaveError> {
    let mut commands = Vec::new();
    for (at, line) in saved.lines().enumerate() {
        let words = words(line);
        if words.is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let line = at + 1;
        let command = ipvsadm::parse(words, names).map_err(|usage| SaveError { line, usage: Some(usage) })?;
        commands.push(request(&command).ok_or(SaveError { line, usage: None })?);
    }
    Ok(commands)
}

/// A line of a saved table that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaveError {
    line: usize,
    usage: Option<UsageError>,
}

impl SaveError {
    /// The line's number, from 1.
    #[must_use]
    pub const fn line(&self) -> usize {
        self.line
    }
}

impl fmt::Display for SaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.usage {
            Some(usage) => f.write_str(usage.to_string().trim_end()),
            None => f.write_str("this command changes nothing; a saved table has -A and -a"),
        }
    }
}

impl core::error::Error for SaveError {}

/// The words of a line, without `ipvsadm` wherever it stands.
pub(super) fn words(line: &str) -> Vec<&str> {
    line.split([' ', '\t', '\r']).filter(|word| !word.is_empty() && *word != "ipvsadm").collect()
}

/// Services and servers in the order in which they are given.
pub(super) fn text(entries: &[(ServiceReport, Vec<ServerReport>)], names: &dyn Names) -> String {
    let mut text = String::new();
    for (service, servers) in entries {
        let name = service_option(&service.name, names);
        text.push_str(&format!("-A {name} -s {}{}\n", service.spec.scheduler, options(service)));
        for server in servers {
            let at = endpoint(server.address, protocol(&service.name), names);
            let (method, weight) = (method_option(&server.spec), server.spec.weight);
            text.push_str(&format!(
                "-a {name} -r {at} {method} -w {weight}{}\n",
                tunnel_options(&server.spec)
            ));
        }
    }
    text
}

fn service_option(name: &ServiceName, names: &dyn Names) -> String {
    match *name {
        ServiceName::Address { protocol, address, port } => {
            let at = endpoint(SocketAddr::new(address, port), protocol, names);
            match protocol {
                17 => format!("-u {at}"),
                132 => format!("--sctp-service {at}"),
                _ => format!("-t {at}"),
            }
        }
        // A mark above 2^31 - 1 is negative there too, and cannot be restored.
        ServiceName::Mark { family: Family::V4, mark } => format!("-f {}", mark.cast_signed()),
        ServiceName::Mark { family: Family::V6, mark } => format!("-f {} -6", mark.cast_signed()),
    }
}

fn options(service: &ServiceReport) -> String {
    let mut text = String::new();
    let spec = &service.spec;
    if spec.flags & flags::PERSISTENT != 0 {
        text.push_str(&format!(" -p {}", spec.timeout));
        if let Some(mask) = table::mask(service) {
            text.push_str(&format!(" -M {mask}"));
        }
    }
    if let Some(engine) = &spec.engine {
        text.push_str(&format!(" --pe {engine}"));
    }
    if spec.flags & flags::ONE_PACKET != 0 {
        text.push_str(" -o");
    }
    if let Some(flags) = table::scheduler_flags(service) {
        text.push_str(&format!(" -b {flags}"));
    }
    text
}

const fn method_option(spec: &ServerSpec) -> &'static str {
    match spec.method & method::MASK {
        method::MASQUERADING => "-m",
        method::TUNNEL => "-i",
        _ => "-g",
    }
}

fn tunnel_options(spec: &ServerSpec) -> String {
    if spec.method & method::MASK != method::TUNNEL {
        return String::new();
    }
    let checksum = match spec.tunnel_flags {
        tunnel::CSUM => "--tun-csum",
        tunnel::REMCSUM => "--tun-remcsum",
        _ => "--tun-nocsum",
    };
    match spec.tunnel_type {
        tunnel::GUE => format!(" --tun-type gue --tun-port {} {checksum}", spec.tunnel_port),
        tunnel::GRE => format!(" --tun-type gre {checksum}"),
        _ => " --tun-type ipip".to_owned(),
    }
}
