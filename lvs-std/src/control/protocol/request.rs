//! Commands on the wire.

use super::attribute::{Writer, attributes, string, u32};
use super::nest::{Dest, Service, read_daemon, write_daemon, write_dest, write_name, write_spec};
use super::{Header, Message, attr, cmd, file, flag, kind, message};
use crate::control::{
    Command, DaemonCommand, DaemonSpec, Errno, Query, Role, ServiceName, Setting, TableCommand, Timeouts,
};

use crate::control::sysctl::Switch;

/// What a message to the family `IPVS` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// One command.
    Command(Command),
    /// A listing that has nothing in it, whatever there is.
    Nothing,
    /// Something that cannot be.
    Refused(Errno),
    /// Something that cannot be; but if there is no such service, that is said instead.
    RefusedIf(ServiceName, Errno),
}

/// Whether the family has this command in this form, so that it is worth asking who the client is.
pub(crate) const fn exists(command: u8, dump: bool) -> bool {
    match (command, dump) {
        (cmd::GET_SERVICE, _) | (cmd::GET_DEST | cmd::GET_DAEMON, true) => true,
        (cmd::GET_DEST | cmd::GET_DAEMON | cmd::SET_INFO, false) => false,
        (command, dump) => !dump && command >= cmd::NEW_SERVICE && command <= cmd::FLUSH,
    }
}

/// Whether a message is the request for a dump. One of the two bits alone is not.
pub(crate) const fn is_dump(header: Header) -> bool {
    header.flags & flag::DUMP == flag::DUMP
}

/// Reads a message whose command [exists]; one that writes to a file is that of a switch, as a journal has them.
pub(crate) fn read(message: &Message<'_>) -> Asked {
    if message.header.kind == kind::FILES {
        return read_file_message(message).unwrap_or_else(Asked::Refused);
    }
    let command = message.command().unwrap_or_default();
    let parts = match Parts::read(message.attributes()) {
        Ok(parts) => parts,
        // A dump does not look at what it does not need.
        Err(_) if is_dump(message.header) => Parts::default(),
        Err(errno) => return Asked::Refused(errno),
    };
    if is_dump(message.header) {
        return match command {
            cmd::GET_SERVICE => Asked::Command(Command::Query(Query::Services)),
            cmd::GET_DAEMON => Asked::Command(Command::Query(Query::Daemons)),
            _ => parts
                .service()
                .and_then(|set| set.name())
                .map_or(Asked::Nothing, |name| Asked::Command(Command::Query(Query::Servers(name)))),
        };
    }
    parts.command(command).unwrap_or_else(Asked::Refused)
}

fn read_file_message(message: &Message<'_>) -> Result<Asked, Errno> {
    let part =
        |wanted| attributes(message.attributes()).find_map(|(kind, value)| (kind == wanted).then_some(value));
    let path = part(file::PATH).and_then(|value| string(value, LONGEST_PATH)).ok_or(Errno::Invalid)?;
    match message.command() {
        Some(file::WRITE) => write_of_file(&path, part(file::DATA).unwrap_or_default()).map(Asked::Command),
        Some(file::READ) => {
            let switch = Switch::at(&path).ok_or(Errno::NoEntry)?;
            Ok(Asked::Command(Query::Sysctl(switch.name.to_owned()).into()))
        }
        _ => Err(Errno::Unsupported),
    }
}

/// The command that a write to a file is.
pub(crate) fn write_of_file(path: &str, text: &[u8]) -> Result<Command, Errno> {
    let switch = Switch::at(path).ok_or(Errno::NoEntry)?;
    let text = core::str::from_utf8(text).map_err(|_| Errno::Invalid)?;
    Ok(Setting::Sysctl(switch.name.to_owned(), text.trim().to_owned()).into())
}

/// The first-level attributes of a message.
#[derive(Default)]
struct Parts<'a> {
    service: Option<&'a [u8]>,
    dest: Option<&'a [u8]>,
    daemon: Option<&'a [u8]>,
    timeouts: Timeouts,
}

impl<'a> Parts<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Errno> {
        let mut parts = Parts::default();
        for (kind, value) in attributes(bytes) {
            // A set is empty or has room for an attribute's header.
            let set = || if matches!(value.len(), 1..4) { Err(Errno::Range) } else { Ok(Some(value)) };
            match kind {
                attr::SERVICE => parts.service = set()?,
                attr::DEST => parts.dest = set()?,
                attr::DAEMON => parts.daemon = set()?,
                attr::TIMEOUT_TCP => parts.timeouts.tcp = u32(value).ok_or(Errno::Range)?,
                attr::TIMEOUT_TCP_FIN => parts.timeouts.tcp_fin = u32(value).ok_or(Errno::Range)?,
                attr::TIMEOUT_UDP => parts.timeouts.udp = u32(value).ok_or(Errno::Range)?,
                _ => {}
            }
        }
        Ok(parts)
    }

    fn service(&self) -> Result<Service, Errno> {
        Service::read(self.service.ok_or(Errno::Invalid)?)
    }

    fn name(&self) -> Result<ServiceName, Errno> {
        self.service()?.name()
    }

    fn daemon(&self, whole: bool) -> Result<DaemonSpec, Errno> {
        read_daemon(self.daemon.ok_or(Errno::Invalid)?, whole)
    }

    /// A command about a server: its service is looked for before the server's set is read.
    fn on_server(
        &self,
        make: impl FnOnce(ServiceName, &Dest) -> Result<Command, Errno>,
    ) -> Result<Asked, Errno> {
        let name = self.name()?;
        let made = self.dest.ok_or(Errno::Invalid).and_then(Dest::read).and_then(|dest| make(name, &dest));
        Ok(match made {
            Ok(command) => Asked::Command(command),
            Err(errno) => Asked::RefusedIf(name, errno),
        })
    }

    fn command(&self, command: u8) -> Result<Asked, Errno> {
        Ok(Asked::Command(match command {
            cmd::NEW_SERVICE => {
                let set = self.service()?;
                let name = set.name()?;
                Command::Table(TableCommand::NewService(name, set.spec()?.0))
            }
            cmd::SET_SERVICE => {
                let set = self.service()?;
                let name = set.name()?;
                let (spec, mask) = set.spec()?;
                Command::Table(TableCommand::SetService(name, spec, mask))
            }
            cmd::DEL_SERVICE => Command::Table(TableCommand::DelService(self.name()?)),
            cmd::GET_SERVICE => Command::Query(Query::Service(self.name()?)),
            cmd::NEW_DEST => {
                return self.on_server(|name, dest| {
                    Ok(Command::Table(TableCommand::NewServer(
                        name,
                        dest.address(name.family())?,
                        dest.spec()?,
                    )))
                });
            }
            cmd::SET_DEST => {
                return self.on_server(|name, dest| {
                    Ok(Command::Table(TableCommand::SetServer(
                        name,
                        dest.address(name.family())?,
                        dest.spec()?,
                    )))
                });
            }
            cmd::DEL_DEST => {
                return self.on_server(|name, dest| {
                    Ok(Command::Table(TableCommand::DelServer(name, dest.address(name.family())?)))
                });
            }
            cmd::NEW_DAEMON => Command::Daemon(DaemonCommand::Start(self.daemon(true)?)),
            cmd::DEL_DAEMON => Command::Daemon(DaemonCommand::Stop(self.daemon(false)?.role)),
            cmd::SET_CONFIG => Command::Setting(Setting::Timeouts(self.timeouts)),
            cmd::GET_CONFIG => Command::Query(Query::Timeouts),
            cmd::GET_INFO => Command::Query(Query::Info),
            cmd::ZERO if self.service.is_none() => Command::Zero(None),
            cmd::ZERO => Command::Zero(Some(self.name()?)),
            cmd::FLUSH => Command::Table(TableCommand::Flush),
            _ => return Err(Errno::Unsupported),
        }))
    }
}

/// Writes a command, as a client sends it.
pub(crate) fn write(command: &Command, sequence: u32) -> Vec<u8> {
    let path = |name: &str| Switch::find(name).map_or_else(|| name.to_owned(), Switch::path);
    let mut set = Writer::new();
    let (number, dump) = match command {
        Command::Table(TableCommand::NewService(name, spec)) => {
            (service(&mut set, *name, Some((spec, u32::MAX)), cmd::NEW_SERVICE), false)
        }
        Command::Table(TableCommand::SetService(name, spec, mask)) => {
            (service(&mut set, *name, Some((spec, *mask)), cmd::SET_SERVICE), false)
        }
        Command::Table(TableCommand::DelService(name)) => {
            (service(&mut set, *name, None, cmd::DEL_SERVICE), false)
        }
        Command::Query(Query::Service(name)) => (service(&mut set, *name, None, cmd::GET_SERVICE), false),
        Command::Query(Query::Services) => (cmd::GET_SERVICE, true),
        Command::Table(TableCommand::NewServer(name, address, spec)) => {
            service(&mut set, *name, None, 0);
            set.nest(attr::DEST, |set| write_dest(set, *address, Some(spec)));
            (cmd::NEW_DEST, false)
        }
        Command::Table(TableCommand::SetServer(name, address, spec)) => {
            service(&mut set, *name, None, 0);
            set.nest(attr::DEST, |set| write_dest(set, *address, Some(spec)));
            (cmd::SET_DEST, false)
        }
        Command::Table(TableCommand::DelServer(name, address)) => {
            service(&mut set, *name, None, 0);
            set.nest(attr::DEST, |set| write_dest(set, *address, None));
            (cmd::DEL_DEST, false)
        }
        Command::Query(Query::Servers(name)) => (service(&mut set, *name, None, cmd::GET_DEST), true),
        Command::Daemon(DaemonCommand::Start(spec)) => {
            write_daemon(&mut set, spec);
            (cmd::NEW_DAEMON, false)
        }
        Command::Daemon(DaemonCommand::Stop(role)) => {
            write_daemon(&mut set, &only(*role));
            (cmd::DEL_DAEMON, false)
        }
        Command::Query(Query::Daemons) => (cmd::GET_DAEMON, true),
        Command::Setting(Setting::Timeouts(timeouts)) => {
            write_timeouts(&mut set, *timeouts);
            (cmd::SET_CONFIG, false)
        }
        Command::Query(Query::Timeouts) => (cmd::GET_CONFIG, false),
        Command::Query(Query::Info) => (cmd::GET_INFO, false),
        Command::Zero(None) => (cmd::ZERO, false),
        Command::Zero(Some(name)) => (service(&mut set, *name, None, cmd::ZERO), false),
        Command::Table(TableCommand::Flush) => (cmd::FLUSH, false),
        // The family has no command for switches: they are files.
        Command::Setting(Setting::Sysctl(name, value)) => {
            return write_file_message(file::WRITE, &path(name), Some(value.as_bytes()), sequence);
        }
        Command::Query(Query::Sysctl(name)) => {
            return write_file_message(file::READ, &path(name), None, sequence);
        }
    };
    let form = if dump { flag::DUMP } else { 0 };
    let flags = flag::REQUEST | flag::ACK | form;
    let header = Header { kind: kind::IPVS, flags, sequence, port: 0 };
    message(header, number, 1, &set.into_bytes())
}

/// Writes a message about a file, as a client sends it.
pub(crate) fn write_file_message(command: u8, path: &str, text: Option<&[u8]>, sequence: u32) -> Vec<u8> {
    let mut set = Writer::new();
    set.string(file::PATH, path);
    if let Some(text) = text {
        set.put(file::DATA, text);
    }
    let header = Header { kind: kind::FILES, flags: flag::REQUEST | flag::ACK, sequence, port: 0 };
    message(header, command, 1, &set.into_bytes())
}

/// Writes the three time-outs.
pub(super) fn write_timeouts(to: &mut Writer, timeouts: Timeouts) {
    to.u32(attr::TIMEOUT_TCP, timeouts.tcp)
        .u32(attr::TIMEOUT_TCP_FIN, timeouts.tcp_fin)
        .u32(attr::TIMEOUT_UDP, timeouts.udp);
}

fn service(
    to: &mut Writer,
    name: ServiceName,
    spec: Option<(&crate::control::ServiceSpec, u32)>,
    number: u8,
) -> u8 {
    to.nest(attr::SERVICE, |set| {
        write_name(set, name);
        if let Some((spec, mask)) = spec {
            write_spec(set, name.family(), spec, mask);
        }
    });
    number
}

/// The longest path that is looked at.
pub(super) const LONGEST_PATH: usize = 255;

const fn only(role: Role) -> DaemonSpec {
    DaemonSpec {
        role,
        interface: String::new(),
        sync_id: 0,
        max_len: None,
        group: None,
        port: None,
        ttl: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages;
    use super::*;
    use crate::control::{ServerSpec, ServiceSpec, method};
    use lvs_core::Family;

    #[test]
    fn a_command_is_read_as_it_was_written() {
        let name = ServiceName::tcp("10.99.0.1:80".parse().unwrap());
        let six = ServiceName::udp("[2001:db8::1]:53".parse().unwrap());
        let mark = ServiceName::Mark { family: Family::V6, mark: 7 };
        let mut spec = ServiceSpec::new(Family::V4, "wrr");
        (spec.flags, spec.timeout, spec.netmask) = (1, 50, 0xffff_ff00);
        let mut phone = ServiceSpec::new(Family::V6, "rr");
        phone.engine = Some("sip".to_owned());
        let mut server = ServerSpec::new(method::TUNNEL, 3);
        (server.tunnel_type, server.tunnel_port, server.tunnel_flags) = (1, 6080, 1);
        let daemon = DaemonSpec {
            role: Role::Backup,
            interface: "eth0".to_owned(),
            sync_id: 300,
            max_len: Some(1_400),
            group: Some("ff02::51".parse().unwrap()),
            port: Some(8_849),
            ttl: Some(3),
        };
        let commands = [
            Command::Table(TableCommand::NewService(name, spec.clone())),
            Command::Table(TableCommand::SetService(name, spec, u32::MAX)),
            Command::Table(TableCommand::NewService(six, phone)),
            Command::Table(TableCommand::DelService(mark)),
            Command::Query(Query::Service(mark)),
            Command::Query(Query::Services),
            Command::Table(TableCommand::NewServer(six, "10.0.0.1:80".parse().unwrap(), server)),
            Command::Table(TableCommand::SetServer(name, "10.0.0.1:80".parse().unwrap(), server)),
            Command::Table(TableCommand::DelServer(mark, "[2001:db8::2]:0".parse().unwrap())),
            Command::Query(Query::Servers(six)),
            Command::Daemon(DaemonCommand::Start(daemon)),
            Command::Daemon(DaemonCommand::Stop(Role::Master)),
            Command::Query(Query::Daemons),
            Command::Setting(Setting::Timeouts(Timeouts { tcp: 1, tcp_fin: 0, udp: 3 })),
            Command::Query(Query::Timeouts),
            Command::Query(Query::Info),
            Setting::Sysctl("sloppy_tcp".to_owned(), "1".to_owned()).into(),
            Setting::Sysctl("net.ipv4.icmp_ratelimit".to_owned(), "50".to_owned()).into(),
            Query::Sysctl("drop_entry".to_owned()).into(),
            Command::Zero(None),
            Command::Zero(Some(six)),
            Command::Table(TableCommand::Flush),
        ];
        for command in commands {
            let bytes = write(&command, 9);
            let got = messages(&bytes).next().map(|message| read(&message));
            assert_eq!(got, Some(Asked::Command(command)));
        }
    }
}
