//! What ipvsadm's command line asks for, as commands of the interface that a director has.

use core::net::IpAddr;

use crate::control::convert::name;
use crate::control::{
    Command, DaemonCommand, DaemonSpec, Role, ServerSpec, ServiceSpec, Setting, TableCommand, Timeouts,
    flags, method, tunnel, whole,
};
use lvs_core::{Family, Method, ServiceKey, Tunnel};

use super::{Daemon, Mask, ServerOptions, ServiceOptions};
use crate::ipvsadm;

/// The command that carries this one out; `None` for those that only show something (`-L`, `-S`, `-h`, `-v`) and for
/// `-R`.
///
/// ```
/// use lvs_std::ipvsadm::{Numeric, parse, request};
/// use lvs_std::control::{Command, ServiceName, TableCommand};
/// let line = parse(["-D", "-t", "10.99.0.1:80"], &Numeric).unwrap();
/// let service = ServiceName::tcp("10.99.0.1:80".parse().unwrap());
/// assert_eq!(request(&line), Some(Command::Table(TableCommand::DelService(service))));
/// ```
#[must_use]
pub fn request(line: &ipvsadm::Command) -> Option<Command> {
    use ipvsadm::Command as Line;
    Some(match line {
        Line::AddService(key, options) => {
            Command::Table(TableCommand::NewService(name(*key), service(*key, options)))
        }
        Line::EditService(key, options) => {
            Command::Table(TableCommand::SetService(name(*key), service(*key, options), ALL_FLAGS))
        }
        Line::DeleteService(key) => Command::Table(TableCommand::DelService(name(*key))),
        Line::Clear => Command::Table(TableCommand::Flush),
        Line::AddServer(key, options) => {
            Command::Table(TableCommand::NewServer(name(*key), options.address, server(options)))
        }
        Line::EditServer(key, options) => {
            Command::Table(TableCommand::SetServer(name(*key), options.address, server(options)))
        }
        Line::DeleteServer(key, address) => Command::Table(TableCommand::DelServer(name(*key), *address)),
        Line::Zero(key) => Command::Zero(key.map(name)),
        Line::Set { tcp, tcp_fin, udp } => {
            Command::Setting(Setting::Timeouts(Timeouts { tcp: *tcp, tcp_fin: *tcp_fin, udp: *udp }))
        }
        Line::StartDaemon(role, options) => Command::Daemon(DaemonCommand::Start(daemon(*role, options))),
        Line::StopDaemon(role) => Command::Daemon(DaemonCommand::Stop(side(*role))),
        Line::Restore | Line::Save { .. } | Line::List(_) | Line::Help | Line::Version => return None,
    })
}

fn service(key: ServiceKey, options: &ServiceOptions) -> ServiceSpec {
    let bits = [flags::SCHED_1, flags::SCHED_2, flags::SCHED_3];
    let mut spec = ServiceSpec::new(key.family(), options.scheduler.clone());
    spec.flags = bits.iter().zip(options.flags).filter(|(_, on)| *on).map(|(bit, _)| bit).sum();
    if options.one_packet {
        spec.flags |= flags::ONE_PACKET;
    }
    if let Some(persistence) = options.persistence {
        spec.flags |= flags::PERSISTENT;
        spec.timeout = persistence.timeout;
        spec.netmask = match (persistence.mask, key.family()) {
            (Mask::V4(bits), Family::V4) => bits.to_bits(),
            (Mask::V6(len), Family::V6) => len.into(),
            // A mask of the other family was forgotten when the line was read.
            (Mask::V4(_), Family::V6) | (Mask::V6(_), Family::V4) => whole(key.family()),
        };
    }
    spec.engine = options.engine.clone().filter(|engine| !engine.is_empty());
    spec
}

fn server(options: &ServerOptions) -> ServerSpec {
    let way = match options.method {
        Method::Nat => method::MASQUERADING,
        Method::Direct => method::DIRECT,
        Method::Tunnel(_) => method::TUNNEL,
        Method::Local => method::LOCAL,
        Method::Bypass => method::BYPASS,
    };
    // The command line has no more than 31 bits for it.
    let weight = i32::try_from(options.weight.get()).unwrap_or(i32::MAX);
    let mut spec = ServerSpec::new(way, weight);
    (spec.upper, spec.lower) = (options.upper, options.lower);
    let checksum = |asked: bool| match (options.remote_checksum, asked) {
        (true, _) => tunnel::REMCSUM,
        (false, true) => tunnel::CSUM,
        (false, false) => 0,
    };
    match options.method {
        Method::Tunnel(Tunnel::Gue { port, checksum: asked }) => {
            spec.tunnel_type = tunnel::GUE;
            spec.tunnel_port = port;
            spec.tunnel_flags = checksum(asked);
        }
        Method::Tunnel(Tunnel::Gre { checksum: asked }) => {
            spec.tunnel_type = tunnel::GRE;
            spec.tunnel_flags = checksum(asked);
        }
        Method::Tunnel(Tunnel::IpIp) | Method::Nat | Method::Direct | Method::Local | Method::Bypass => {}
    }
    spec
}

fn daemon(role: ipvsadm::Role, options: &Daemon) -> DaemonSpec {
    DaemonSpec {
        role: side(role),
        interface: options.interface.clone(),
        sync_id: options.sync_id.into(),
        max_len: options.max_len,
        group: options.group.filter(|group: &IpAddr| !group.is_unspecified()),
        port: options.port,
        ttl: options.ttl,
    }
}

const fn side(role: ipvsadm::Role) -> Role {
    match role {
        ipvsadm::Role::Master => Role::Master,
        ipvsadm::Role::Backup => Role::Backup,
    }
}

/// `-E` says all of a service's flags.
const ALL_FLAGS: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use crate::control::ServiceName;

    use super::*;
    use crate::ipvsadm::{Numeric, parse};

    fn asked(line: &str) -> Command {
        request(&parse(line.split_whitespace(), &Numeric).unwrap()).unwrap()
    }

    #[test]
    fn a_service_has_all_that_the_line_says() {
        let line = "-A -u 10.99.0.1:53 -s mh -b mh-fallback,flag-3 -o -p 30 -M 255.255.255.0 --pe sip";
        let Command::Table(TableCommand::NewService(name, spec)) = asked(line) else { panic!() };
        assert_eq!(name, ServiceName::udp("10.99.0.1:53".parse().unwrap()));
        let flags = flags::PERSISTENT | flags::ONE_PACKET | flags::SCHED_1 | flags::SCHED_3;
        let expected = ServiceSpec {
            scheduler: "mh".to_owned(),
            flags,
            timeout: 30,
            netmask: 0xffff_ff00,
            engine: Some("sip".to_owned()),
        };
        assert_eq!(spec, expected);
    }

    #[test]
    fn without_persistence_a_mask_says_nothing() {
        let Command::Table(TableCommand::NewService(_, spec)) = asked("-A -t 10.99.0.1:80 -M 255.255.255.0")
        else {
            panic!()
        };
        assert_eq!(spec, ServiceSpec::new(Family::V4, "wlc"));
    }

    #[test]
    fn remote_checksums_are_told_from_plain_ones() {
        let flags = |line: &str| {
            let Command::Table(TableCommand::SetServer(_, _, spec)) = asked(line) else { panic!() };
            (spec.tunnel_type, spec.tunnel_port, spec.tunnel_flags)
        };
        let line = "-e -t 10.99.0.1:80 -r 10.0.1.11 -i --tun-type gue --tun-port 6080";
        assert_eq!(flags(line), (1, 6080, 0));
        assert_eq!(flags(&format!("{line} --tun-csum")), (1, 6080, 1));
        assert_eq!(flags(&format!("{line} --tun-remcsum")), (1, 6080, 2));
        assert_eq!(flags("-e -t 10.99.0.1:80 -r 10.0.1.11 -i --tun-type gre --tun-csum"), (2, 0, 1));
    }
}
