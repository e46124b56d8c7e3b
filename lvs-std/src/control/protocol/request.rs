//! Commands on the wire.

use super::attribute::{Writer, attributes, u32};
use super::nest::{Dest, Service, read_daemon, write_daemon, write_dest, write_name, write_spec};
use super::{Header, Message, attr, cmd, flag, kind, message};
use crate::control::{Command, DaemonSpec, Errno, Role, ServiceName, Timeouts};

/// What a message to the family `IPVS` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// This.
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

/// Reads a message whose command [exists].
pub(crate) fn read(message: &Message<'_>) -> Asked {
    let command = message.command().unwrap_or_default();
    let parts = match Parts::read(message.attributes()) {
        Ok(parts) => parts,
        // A dump does not look at what it does not need.
        Err(_) if is_dump(message.header) => Parts::default(),
        Err(errno) => return Asked::Refused(errno),
    };
    if is_dump(message.header) {
        return match command {
            cmd::GET_SERVICE => Asked::Command(Command::Services),
            cmd::GET_DAEMON => Asked::Command(Command::Daemons),
            _ => parts
                .service()
                .and_then(|set| set.name())
                .map_or(Asked::Nothing, |name| Asked::Command(Command::Servers(name))),
        };
    }
    parts.command(command).unwrap_or_else(Asked::Refused)
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
                Command::NewService(name, set.spec()?.0)
            }
            cmd::SET_SERVICE => {
                let set = self.service()?;
                let name = set.name()?;
                let (spec, mask) = set.spec()?;
                Command::SetService(name, spec, mask)
            }
            cmd::DEL_SERVICE => Command::DelService(self.name()?),
            cmd::GET_SERVICE => Command::GetService(self.name()?),
            cmd::NEW_DEST => {
                return self.on_server(|name, dest| {
                    Ok(Command::NewServer(name, dest.address(name.family())?, dest.spec()?))
                });
            }
            cmd::SET_DEST => {
                return self.on_server(|name, dest| {
                    Ok(Command::SetServer(name, dest.address(name.family())?, dest.spec()?))
                });
            }
            cmd::DEL_DEST => {
                return self
                    .on_server(|name, dest| Ok(Command::DelServer(name, dest.address(name.family())?)));
            }
            cmd::NEW_DAEMON => Command::NewDaemon(self.daemon(true)?),
            cmd::DEL_DAEMON => Command::DelDaemon(self.daemon(false)?.role),
            cmd::SET_CONFIG => Command::SetTimeouts(self.timeouts),
            cmd::GET_CONFIG => Command::GetTimeouts,
            cmd::GET_INFO => Command::GetInfo,
            cmd::ZERO if self.service.is_none() => Command::Zero(None),
            cmd::ZERO => Command::Zero(Some(self.name()?)),
            cmd::FLUSH => Command::Flush,
            _ => return Err(Errno::Unsupported),
        }))
    }
}

/// Writes a command, as a client sends it.
pub(crate) fn write(command: &Command, sequence: u32) -> Vec<u8> {
    let mut set = Writer::new();
    let (number, dump) = match command {
        Command::NewService(name, spec) => {
            (service(&mut set, *name, Some((spec, u32::MAX)), cmd::NEW_SERVICE), false)
        }
        Command::SetService(name, spec, mask) => {
            (service(&mut set, *name, Some((spec, *mask)), cmd::SET_SERVICE), false)
        }
        Command::DelService(name) => (service(&mut set, *name, None, cmd::DEL_SERVICE), false),
        Command::GetService(name) => (service(&mut set, *name, None, cmd::GET_SERVICE), false),
        Command::Services => (cmd::GET_SERVICE, true),
        Command::NewServer(name, address, spec) => {
            service(&mut set, *name, None, 0);
            set.nest(attr::DEST, |set| write_dest(set, *address, Some(spec)));
            (cmd::NEW_DEST, false)
        }
        Command::SetServer(name, address, spec) => {
            service(&mut set, *name, None, 0);
            set.nest(attr::DEST, |set| write_dest(set, *address, Some(spec)));
            (cmd::SET_DEST, false)
        }
        Command::DelServer(name, address) => {
            service(&mut set, *name, None, 0);
            set.nest(attr::DEST, |set| write_dest(set, *address, None));
            (cmd::DEL_DEST, false)
        }
        Command::Servers(name) => (service(&mut set, *name, None, cmd::GET_DEST), true),
        Command::NewDaemon(spec) => {
            write_daemon(&mut set, spec);
            (cmd::NEW_DAEMON, false)
        }
        Command::DelDaemon(role) => {
            write_daemon(&mut set, &only(*role));
            (cmd::DEL_DAEMON, false)
        }
        Command::Daemons => (cmd::GET_DAEMON, true),
        Command::SetTimeouts(timeouts) => {
            write_timeouts(&mut set, *timeouts);
            (cmd::SET_CONFIG, false)
        }
        Command::GetTimeouts => (cmd::GET_CONFIG, false),
        Command::GetInfo => (cmd::GET_INFO, false),
        Command::Zero(None) => (cmd::ZERO, false),
        Command::Zero(Some(name)) => (service(&mut set, *name, None, cmd::ZERO), false),
        Command::Flush => (cmd::FLUSH, false),
    };
    let form = if dump { flag::DUMP } else { 0 };
    let flags = flag::REQUEST | flag::ACK | form;
    let header = Header { kind: kind::IPVS, flags, sequence, port: 0 };
    message(header, number, 1, &set.into_bytes())
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
            Command::NewService(name, spec.clone()),
            Command::SetService(name, spec, u32::MAX),
            Command::NewService(six, phone),
            Command::DelService(mark),
            Command::GetService(mark),
            Command::Services,
            Command::NewServer(six, "10.0.0.1:80".parse().unwrap(), server),
            Command::SetServer(name, "10.0.0.1:80".parse().unwrap(), server),
            Command::DelServer(mark, "[2001:db8::2]:0".parse().unwrap()),
            Command::Servers(six),
            Command::NewDaemon(daemon),
            Command::DelDaemon(Role::Master),
            Command::Daemons,
            Command::SetTimeouts(Timeouts { tcp: 1, tcp_fin: 0, udp: 3 }),
            Command::GetTimeouts,
            Command::GetInfo,
            Command::Zero(None),
            Command::Zero(Some(six)),
            Command::Flush,
        ];
        for command in commands {
            let bytes = write(&command, 9);
            let got = messages(&bytes).next().map(|message| read(&message));
            assert_eq!(got, Some(Asked::Command(command)));
        }
    }
}
