//! Services between a configuration and the lines of `ipvsadm --save`.

use core::fmt::{self, Write as _};

use lvs_core::Family;
use lvs_core::method::MethodKind;

use super::Configuration;
use crate::control::{
    Command, DesiredServer, DesiredService, DesiredState, Errno, ServerReport, ServiceName, ServiceReport,
    Stats, convert, flags, method, tunnel, whole,
};
use crate::ipvsadm::{Names, SaveError, parse_save, save_text};

/// The services of a saved table as a part of a configuration: `[[service]]` tables, in the order of the lines.
///
/// `names` looks up the names of hosts and ports. Time-outs, daemons and counters are no services and are left out.
///
/// ```
/// use lvs_std::config::services_of_saved;
/// use lvs_std::ipvsadm::Numeric;
/// let toml = services_of_saved("-A -t 192.0.2.1:80 -s rr\n", &Numeric).unwrap();
/// assert!(toml.ends_with("\nprotocol = \"tcp\"\naddress = \"192.0.2.1\"\nport = 80\nscheduler = \"rr\"\n"));
/// ```
///
/// # Errors
///
/// A line that ipvsadm would refuse, or would be refused after the lines before it, or says what a configuration
/// cannot.
pub fn services_of_saved(saved: &str, names: &dyn Names) -> Result<String, ConvertError> {
    to_toml(&parse_save(saved, names)?)
}

/// Why the lines of a saved table are no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConvertError {
    /// A line is none that ipvsadm saves.
    Line(SaveError),
    /// A command that IPVS would refuse after those before it, and with which error.
    Refused(Box<Command>, Errno),
    /// No configuration can say this of a service; the second part says what.
    Unsayable(ServiceName, String),
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(error) => error.fmt(f),
            Self::Refused(command, errno) => write!(f, "{command:?}: {errno}"),
            Self::Unsayable(service, what) => write!(f, "{service}{what}"),
        }
    }
}

impl core::error::Error for ConvertError {}

impl From<SaveError> for ConvertError {
    fn from(error: SaveError) -> Self {
        Self::Line(error)
    }
}

/// Whether a text looks like what `ipvsadm --save` prints, rather than like a configuration: its first line that is
/// neither empty nor a comment begins with `-` or `ipvsadm`.
#[must_use]
pub fn is_saved(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.next().is_some_and(|line| line.starts_with('-') || line.starts_with("ipvsadm"))
}

impl Configuration {
    /// The services with their real servers as the lines of `ipvsadm --save --numeric`. What ipvsadm has no word for,
    /// such as checks, is left out.
    #[must_use]
    pub fn to_saved(&self) -> String {
        let entries: Vec<_> = self
            .services
            .iter()
            .map(|service| {
                let name = convert::name(service.key);
                let spec = convert::service_spec(name.family(), &service.config);
                let servers = service.servers.iter().map(|server| ServerReport {
                    address: server.address,
                    spec: convert::server_spec(server),
                    active: 0,
                    inactive: 0,
                    persistent: 0,
                    stats: Stats::default(),
                });
                (ServiceReport { name, spec, stats: Stats::default() }, servers.collect())
            })
            .collect();
        save_text(&entries)
    }
}

fn to_toml(commands: &[Command]) -> Result<String, ConvertError> {
    let mut desired = DesiredState::new();
    for command in commands {
        match command {
            Command::Table(change) => match desired.plan(change, false) {
                Ok(edit) => desired.note(edit),
                Err(errno) => return Err(ConvertError::Refused(Box::new(command.clone()), errno)),
            },
            // Time-outs, daemons and counters are no services.
            Command::Daemon(_) | Command::Setting(_) | Command::Zero(_) | Command::Query(_) => {}
        }
    }
    let mut text = String::from("# Services for a configuration, which begins with its [[interface]].\n");
    let mut services: Vec<_> = desired.services().collect();
    services.reverse();
    for (name, declared) in services {
        service(&mut text, name, declared)?;
    }
    Ok(text)
}

fn service(text: &mut String, name: ServiceName, declared: &DesiredService) -> Result<(), ConvertError> {
    let spec = &declared.spec;
    // Writing to a string cannot fail, here and below.
    let _ = match name {
        ServiceName::Address { protocol, address, port } => {
            let protocol = match protocol {
                6 => "tcp",
                17 => "udp",
                132 => "sctp",
                other => return unsayable(name, format!(": no director balances protocol {other}")),
            };
            writeln!(text, "\n[[service]]\nprotocol = \"{protocol}\"\naddress = \"{address}\"\nport = {port}")
        }
        ServiceName::Mark { family, mark } => {
            let family = if family == Family::V4 { "v4" } else { "v6" };
            writeln!(
                text,
                "\n# What is marked so is said by [[mark]].\n[[service]]\nmark = {mark}\nfamily = \"{family}\""
            )
        }
    };
    let _ = writeln!(text, "scheduler = \"{}\"", spec.scheduler);
    let set: Vec<&str> = [(flags::SCHED_1, "\"fallback\""), (flags::SCHED_2, "\"port\"")]
        .into_iter()
        .filter(|(bit, _)| spec.flags & bit != 0)
        .map(|(_, word)| word)
        .collect();
    if !set.is_empty() {
        let _ = writeln!(text, "flags = [{}]", set.join(", "));
    }
    if spec.flags & flags::ONE_PACKET != 0 {
        text.push_str("one-packet = true\n");
    }
    if spec.flags & flags::PERSISTENT != 0 {
        let _ = write!(text, "persistence = {{ timeout = {}", spec.timeout);
        if spec.netmask != whole(name.family()) {
            let length = match name.family() {
                Family::V4 if spec.netmask.leading_ones() == spec.netmask.count_ones() => {
                    spec.netmask.leading_ones()
                }
                Family::V4 => {
                    return unsayable(
                        name,
                        ": its mask has holes, which a configuration cannot say".to_owned(),
                    );
                }
                Family::V6 => spec.netmask,
            };
            let _ = write!(text, ", mask = {length}");
        }
        if let Some(engine) = &spec.engine {
            let _ = write!(text, ", engine = \"{engine}\"");
        }
        text.push_str(" }\n");
    }
    declared.servers.iter().rev().try_for_each(|of| server(text, name, of))
}

fn server(text: &mut String, service: ServiceName, server: &DesiredServer) -> Result<(), ConvertError> {
    let (address, port, spec) = (server.address.ip(), server.address.port(), &server.spec);
    let way = match MethodKind::from_number(spec.method) {
        Some(kind @ (MethodKind::Nat | MethodKind::Tunnel | MethodKind::Direct)) => kind.name(),
        Some(MethodKind::Local | MethodKind::Bypass) | None => {
            let what = format!(", {address}: a configuration has no method {}", spec.method);
            return unsayable(service, what);
        }
    };
    let _ = writeln!(text, "\n[[service.server]]\naddress = \"{address}\"");
    let own = match service {
        ServiceName::Address { port: of, .. } => port != of,
        ServiceName::Mark { .. } => port != 0,
    };
    if own {
        let _ = writeln!(text, "port = {port}");
    }
    let _ = writeln!(text, "method = \"{way}\"");
    if spec.method == method::TUNNEL {
        match spec.tunnel_type {
            tunnel::GUE => _ = writeln!(text, "tunnel = \"gue\"\ntunnel-port = {}", spec.tunnel_port),
            tunnel::GRE => text.push_str("tunnel = \"gre\"\n"),
            _ => {}
        }
        if spec.tunnel_flags & (tunnel::CSUM | tunnel::REMCSUM) != 0 {
            text.push_str("checksum = true\n");
        }
    }
    let _ = writeln!(text, "weight = {}", spec.weight);
    Ok(())
}

const fn unsayable(service: ServiceName, what: String) -> Result<(), ConvertError> {
    Err(ConvertError::Unsayable(service, what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvsadm::Numeric;

    const SAVED: &str = "\
-A -t 192.0.2.100:80 -s wrr -p 300 -M 255.255.255.0
-a -t 192.0.2.100:80 -r 10.0.1.11:8080 -m -w 3
-a -t 192.0.2.100:80 -r 10.0.1.12:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum
-A -u 192.0.2.100:53 -s sh -o -b sh-fallback,sh-port
-a -u 192.0.2.100:53 -r 10.0.1.13:53 -g -w 0
-A -t [2001:db8::1]:443 -s mh
-a -t [2001:db8::1]:443 -r [2001:db8:1::1]:443 -g -w 1
";

    #[test]
    fn what_was_saved_is_the_same_after_a_configuration() {
        let toml = services_of_saved(SAVED, &Numeric).unwrap();
        let head = "[[interface]]\nname = \"eth0\"\n\
                    addresses = [\"10.0.1.254/24\", \"192.0.2.254/24\", \"2001:db8:1::fe/64\"]\n";
        let configuration =
            Configuration::parse(&format!("{head}{toml}")).map_err(|error| error.show("").to_string());
        assert_eq!(configuration.unwrap().to_saved(), SAVED, "{toml}");
        assert!(is_saved(SAVED) && is_saved("# by hand\nipvsadm -C\n") && !is_saved(head));
    }

    #[test]
    fn what_a_configuration_cannot_say_is_refused_by_name() {
        let refusal = |saved| services_of_saved(saved, &Numeric).unwrap_err().to_string();
        let text = refusal("-A -t 192.0.2.1:80 -s rr -p 9 -M 255.0.255.0");
        assert_eq!(text, "TCP 192.0.2.1:80: its mask has holes, which a configuration cannot say");
    }
}
