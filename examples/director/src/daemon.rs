//! Sync daemons: what a director tells others about its connections, and what it hears from them, as frames.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    IpHeaders, IpNumber, Ipv4Header, Ipv6Header, NetSlice, PacketBuilder, SlicedPacket, TransportSlice,
};
use lvs_core::sync::{Master, Version, decode};
use lvs_core::{Director, Event, Family, ServiceKey, Store, Tick};
use lvs_forward::PortId;
use lvs_forward::host::MacAddress;

use crate::ipvsadm::control::ControlError;
use crate::ipvsadm::{self, Command, Role};

/// The daemons of one director: a master, a backup, both or none.
#[derive(Debug, Default)]
pub(crate) struct Daemons {
    master: Option<(Box<Master>, Running)>,
    backup: Option<Running>,
}

/// An interface that messages can go by.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) port: PortId,
    pub(crate) mac: MacAddress,
    pub(crate) mtu: u16,
    /// The director's own addresses there.
    pub(crate) addresses: Vec<IpAddr>,
}

/// A daemon at work.
#[derive(Clone, Debug)]
struct Running {
    interface: Interface,
    sync_id: u8,
    max_len: u16,
    group: IpAddr,
    port: u16,
    ttl: u8,
}

impl Daemons {
    /// Starts or stops a daemon; `None` for every other command.
    pub(crate) fn carry_out<S: Store>(
        &mut self,
        director: &mut Director<S>,
        now: Tick,
        interfaces: &[Interface],
        command: &Command,
    ) -> Option<Result<(), ControlError>> {
        let done = match command {
            Command::StartDaemon(role, daemon) => self.start(director, now, interfaces, *role, daemon),
            Command::StopDaemon(role) => self.stop(*role),
            Command::AddServer(key, server) | Command::EditServer(key, server) => {
                let mixed = Family::of(server.address.ip()) != key.family();
                // No message has a place for such a server (`EINVAL`).
                return (mixed && self.is_running()).then_some(Err(ControlError::Invalid));
            }
            Command::AddService(..)
            | Command::EditService(..)
            | Command::DeleteService(_)
            | Command::Clear
            | Command::Restore
            | Command::Save { .. }
            | Command::DeleteServer(..)
            | Command::List(_)
            | Command::Zero(_)
            | Command::Set { .. }
            | Command::Help
            | Command::Version => return None,
        };
        director.set_sync_role(self.master.is_some(), self.backup.is_some());
        Some(done)
    }

    fn start<S: Store>(
        &mut self,
        director: &Director<S>,
        now: Tick,
        interfaces: &[Interface],
        role: Role,
        daemon: &ipvsadm::Daemon,
    ) -> Result<(), ControlError> {
        let runs = match role {
            Role::Master => self.master.is_some(),
            Role::Backup => self.backup.is_some(),
        };
        if runs {
            return Err(ControlError::DaemonRuns);
        }
        let interface = interfaces.iter().find(|interface| interface.name == daemon.interface);
        let interface = interface.ok_or(ControlError::NoDevice)?.clone();
        if director.services().map(lvs_core::Service::key).any(|key| has_mixed_servers(director, key)) {
            return Err(ControlError::Invalid);
        }
        let group = daemon.group.unwrap_or(DEFAULT_GROUP);
        let headers = if group.is_ipv4() { 28 } else { 48 };
        let running = Running {
            max_len: daemon.max_len.unwrap_or_else(|| interface.mtu.saturating_sub(headers)),
            interface,
            sync_id: daemon.sync_id,
            group,
            port: daemon.port.unwrap_or(DEFAULT_PORT),
            ttl: daemon.ttl.unwrap_or(1),
        };
        match role {
            Role::Master => {
                let version = version(director);
                let master = Master::new(now, version, running.sync_id, running.max_len.into());
                self.master = Some((Box::new(master), running));
            }
            Role::Backup => self.backup = Some(running),
        }
        Ok(())
    }

    fn stop(&mut self, role: Role) -> Result<(), ControlError> {
        let stopped = match role {
            Role::Master => self.master.take().is_some(),
            Role::Backup => self.backup.take().is_some(),
        };
        if stopped { Ok(()) } else { Err(ControlError::NoDaemon) }
    }

    const fn is_running(&self) -> bool {
        self.master.is_some() || self.backup.is_some()
    }

    /// Takes the director's events, and puts those that are for others into messages.
    pub(crate) fn collect<S: Store>(&mut self, director: &mut Director<S>, now: Tick) {
        while let Some(event) = director.poll_event() {
            let (Event::Sync(entry), Some((master, _))) = (event, &mut self.master) else { continue };
            let template =
                entry.engine.and_then(|id| director.templates(now).find(|template| template.id == id));
            let call = template.and_then(|template| template.call);
            master.set_version(version(director));
            // What a version has no place for is not told.
            let _ = master.push(now, &entry, call.map(|call| (lvs_core::Engine::Sip, call)));
        }
    }

    /// The next message that is to go by now, as a frame.
    pub(crate) fn poll(&mut self, now: Tick) -> Option<(PortId, Vec<u8>)> {
        let (master, running) = self.master.as_mut()?;
        let message = master.poll(now)?;
        Some((running.interface.port, running.frame(message)?))
    }

    /// Whether a frame that came in is a message for the backup.
    pub(crate) fn is_message(&self, port: PortId, frame: &[u8]) -> bool {
        self.backup.as_ref().is_some_and(|running| running.message(port, frame).is_some())
    }

    /// Takes over what a message says.
    pub(crate) fn receive<S: Store>(
        &self,
        director: &mut Director<S>,
        now: Tick,
        port: PortId,
        frame: &[u8],
    ) {
        let Some(running) = &self.backup else { return };
        let Some(message) = running.message(port, frame) else { return };
        // Faulty messages and entries are left out; the next ones may be right.
        let Ok(entries) = decode(message, running.sync_id) else { return };
        for received in entries.flatten() {
            let _ = director.apply_sync(now, &received.entry, received.engine.map(|(_, data)| data));
        }
    }
}

impl Running {
    /// A message as a multicast datagram.
    fn frame(&self, message: &[u8]) -> Option<Vec<u8>> {
        let udp_len = u16::try_from(message.len() + UDP_HEADER).ok()?;
        let own = |wanted: Family| {
            self.interface.addresses.iter().copied().find(|&address| Family::of(address) == wanted)
        };
        let (to, ip) = match self.group {
            IpAddr::V4(group) => {
                let Some(IpAddr::V4(source)) = own(Family::V4) else { return None };
                let header =
                    Ipv4Header::new(udp_len, self.ttl, IpNumber::UDP, source.octets(), group.octets())
                        .ok()?;
                let header = Ipv4Header { dont_fragment: false, ..header };
                (group_mac_v4(group), IpHeaders::Ipv4(header, Default::default()))
            }
            IpAddr::V6(group) => {
                let Some(IpAddr::V6(source)) = own(Family::V6) else { return None };
                let header = Ipv6Header {
                    hop_limit: self.ttl,
                    next_header: IpNumber::UDP,
                    payload_length: udp_len,
                    source: source.octets(),
                    destination: group.octets(),
                    ..Ipv6Header::default()
                };
                (group_mac_v6(group), IpHeaders::Ipv6(header, Default::default()))
            }
        };
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2(self.interface.mac.0, to).ip(ip).udp(SOURCE_PORT, self.port);
        builder.write(&mut frame, message).ok()?;
        Some(frame)
    }

    /// The message in a frame, if it is one for this daemon.
    fn message<'a>(&self, port: PortId, frame: &'a [u8]) -> Option<&'a [u8]> {
        if port != self.interface.port {
            return None;
        }
        let packet = SlicedPacket::from_ethernet(frame).ok()?;
        let to = match packet.net? {
            NetSlice::Ipv4(ip) => IpAddr::V4(ip.header().destination_addr()),
            NetSlice::Ipv6(ip) => IpAddr::V6(ip.header().destination_addr()),
            NetSlice::Arp(_) => return None,
        };
        match packet.transport? {
            TransportSlice::Udp(udp) if to == self.group && udp.destination_port() == self.port => {
                Some(udp.payload())
            }
            TransportSlice::Udp(_)
            | TransportSlice::Igmp(_)
            | TransportSlice::Tcp(_)
            | TransportSlice::Icmpv4(_)
            | TransportSlice::Icmpv6(_) => None,
        }
    }
}

fn version<S: Store>(director: &Director<S>) -> Version {
    match director.config().tuning.sync_version {
        0 => Version::Zero,
        _ => Version::One,
    }
}

fn has_mixed_servers<S: Store>(director: &Director<S>, key: ServiceKey) -> bool {
    director.servers(key).any(|(_, server)| Family::of(server.address().ip()) != key.family())
}

/// The link-layer address of a group (RFC 1112 §6.4).
const fn group_mac_v4(group: Ipv4Addr) -> [u8; 6] {
    let [_, b, c, d] = group.octets();
    [0x01, 0x00, 0x5e, b & 0x7f, c, d]
}

/// The same for IPv6 (RFC 2464 §7).
const fn group_mac_v6(group: Ipv6Addr) -> [u8; 6] {
    let [a, b, c, d] = (group.to_bits() as u32).to_be_bytes();
    [0x33, 0x33, a, b, c, d]
}

/// IPVS's group, which nobody else uses.
const DEFAULT_GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 81));
const DEFAULT_PORT: u16 = 8_848;
/// Any would do: the kernel takes a free one.
const SOURCE_PORT: u16 = 40_000;
const UDP_HEADER: usize = 8;
