//! `director convert`: services between the director's own TOML and the lines of `ipvsadm --save`.

use core::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use lvs_core::Family;
use lvs_std::control::{
    Command, DesiredServer, DesiredService, DesiredState, ServerReport, ServiceName, ServiceReport, Stats,
    convert, flags, method, tunnel, whole,
};
use lvs_std::ipvsadm::{System, parse_save, save_text};
use lvs_support::print;

use lvs_std::config::Configuration;

/// Prints the services of a file in the other format: those of a configuration as ipvsadm's lines, ipvsadm's lines as a part of a
/// configuration.
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
        parse_save(&text, &System)
            .map_err(|error| format!("{name}, {error}"))
            .and_then(|commands| to_toml(&commands))
    } else {
        let configuration = Configuration::parse(&text);
        configuration.map(|of| to_saved(&of)).map_err(|error| error.show(&name.to_string()).to_string())
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

/// Whether a text looks like what ipvsadm saves.
fn is_saved(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.next().is_some_and(|line| line.starts_with('-') || line.starts_with("ipvsadm"))
}

fn to_saved(configuration: &Configuration) -> String {
    let entries: Vec<_> = configuration
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

fn to_toml(commands: &[Command]) -> Result<String, String> {
    let mut desired = DesiredState::new();
    for command in commands {
        match desired.plan(command, false) {
            Some(Ok(edit)) => desired.note(edit),
            Some(Err(errno)) => return Err(format!("{command:?}: {errno}")),
            // Time-outs, daemons and counters are no services.
            None => {}
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

fn service(text: &mut String, name: ServiceName, declared: &DesiredService) -> Result<(), String> {
    let spec = &declared.spec;
    // Writing to a string cannot fail, here and below.
    let _ = match name {
        ServiceName::Address { protocol, address, port } => {
            let protocol = match protocol {
                6 => "tcp",
                17 => "udp",
                132 => "sctp",
                other => return Err(format!("{name}: no director balances protocol {other}")),
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
                    return Err(format!("{name}: its mask has holes, which a configuration cannot say"));
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

fn server(text: &mut String, service: ServiceName, server: &DesiredServer) -> Result<(), String> {
    let (address, port, spec) = (server.address.ip(), server.address.port(), &server.spec);
    let way = match spec.method {
        method::MASQUERADING => "nat",
        method::TUNNEL => "tun",
        method::DIRECT => "dr",
        other => return Err(format!("{service}, {address}: a configuration has no method {other}")),
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let toml = to_toml(&parse_save(SAVED, &System).unwrap()).unwrap();
        let head = "[[interface]]\nname = \"eth0\"\naddresses = [\"10.0.1.254/24\", \"192.0.2.254/24\", \"2001:db8:1::fe/64\"]\n";
        let configuration =
            Configuration::parse(&format!("{head}{toml}")).map_err(|error| error.show("").to_string());
        assert_eq!(to_saved(&configuration.unwrap()), SAVED, "{toml}");
        assert!(is_saved(SAVED) && is_saved("# by hand\nipvsadm -C\n") && !is_saved(head));
    }

    #[test]
    fn what_a_configuration_cannot_say_is_refused_by_name() {
        let refusal = |saved| to_toml(&parse_save(saved, &System).unwrap()).unwrap_err();
        let text = refusal("-A -t 192.0.2.1:80 -s rr -p 9 -M 255.0.255.0");
        assert_eq!(text, "TCP 192.0.2.1:80: its mask has holes, which a configuration cannot say");
    }
}
