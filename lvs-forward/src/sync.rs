//! The sync daemon's datagrams as frames: what directors tell each other about connections.
//!
//! [`SyncDaemon`] is to messages what [`Forwarder`](crate::Forwarder) is to packets: no sockets, frames in and out. A
//! master is handed the director's [`Event::Sync`](lvs_core::Event::Sync), a backup every frame that the forwarder
//! [passed](crate::Outcome::Pass). At the other end there may be Linux machines: the messages are the kernel's.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, UdpHeader, UdpSlice};
use lvs_core::packet::Addresses;
use lvs_core::service::PersistenceEngine;
use lvs_core::sync::{Master, SyncEntry, Version, decode};
use lvs_core::{Director, Family, Store, Tick};

use crate::checksum::Sum;
use crate::frame::{Frame, HEADROOM, PortId};
use crate::header::layout::Fragment;
use crate::header::{ethernet, protocol};
use crate::host::{Host, Port};
use crate::parse::{Link, Located, locate};

/// How directors reach each other (ipvsadm `--start-daemon`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyncOptions {
    /// The port that messages leave and come in by (`--mcast-interface`).
    pub port: PortId,
    /// The multicast group that they go to. Default 224.0.0.81, which Linux uses.
    pub group: IpAddr,
    /// The UDP port. Default 8848.
    pub udp_port: u16,
    /// TTL or hop limit. Default 1: they stay on the link, because nothing proves who sent them.
    pub ttl: u8,
    /// Which directors belong together (`--syncid`). A backup with 0, the default, listens to all.
    pub syncid: u8,
    /// The longest message in bytes, at most 1,472. Default what fits into 1,500 bytes: 1,472, or 1,452 over IPv6.
    pub longest: usize,
    /// The format of messages that are sent. Default version 1.
    pub version: Version,
    /// Whether messages are sent.
    pub master: bool,
    /// Whether messages are listened to.
    pub backup: bool,
}

impl SyncOptions {
    /// The defaults of Linux, on this port, for a master, a backup or both.
    #[must_use]
    pub const fn new(port: PortId, master: bool, backup: bool) -> Self {
        Self {
            port,
            group: IpAddr::V4(Ipv4Addr::new(224, 0, 0, 81)),
            udp_port: 8_848,
            ttl: 1,
            syncid: 0,
            longest: 1_472,
            version: Version::One,
            master,
            backup,
        }
    }
}

/// What a [`SyncDaemon`] did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyncCounters {
    /// Messages sent.
    pub sent: u64,
    /// Entries that no message has a place for: IPv6 ones in version 0.
    pub unsendable: u64,
    /// Messages lost, because nobody took those before them or the port has no address of the group's family.
    pub lost: u64,
    /// Messages received.
    pub received: u64,
    /// How many of the received datagrams are no message, are of another syncid, or end in the middle of an entry.
    pub malformed: u64,
    /// Entries taken over.
    pub applied: u64,
    /// Entries that were not: of protocols, states or engines that are not known here, or without room for them.
    pub refused: u64,
}

/// Sends and receives connections.
#[derive(Clone, Debug)]
pub struct SyncDaemon {
    options: SyncOptions,
    master: Master,
    counters: SyncCounters,
    source_port: u16,
    identification: u16,
}

impl SyncDaemon {
    /// A daemon that starts now. `source_port` is the UDP port that messages come from; backups do not look at it.
    #[must_use]
    pub const fn new(now: Tick, options: SyncOptions, source_port: u16) -> Self {
        let fitting = match options.group {
            IpAddr::V4(_) => 1_472,
            IpAddr::V6(_) => 1_452,
        };
        let longest = if options.longest < fitting { options.longest } else { fitting };
        Self {
            master: Master::new(now, options.version, options.syncid, longest),
            options,
            counters: SyncCounters {
                sent: 0,
                unsendable: 0,
                lost: 0,
                received: 0,
                malformed: 0,
                applied: 0,
                refused: 0,
            },
            source_port,
            identification: source_port,
        }
    }

    /// How it reaches others.
    #[must_use]
    pub const fn options(&self) -> &SyncOptions {
        &self.options
    }

    /// What it did so far.
    #[must_use]
    pub const fn counters(&self) -> SyncCounters {
        SyncCounters { lost: self.counters.lost + self.master.lost(), ..self.counters }
    }

    /// From now on messages are of this version.
    pub const fn set_version(&mut self, version: Version) {
        self.master.set_version(version);
    }

    /// Takes an entry that the director wants backups to know. Nothing happens unless this is a master.
    pub fn tell<S: Store>(&mut self, director: &Director<S>, now: Tick, entry: &SyncEntry) {
        if !self.options.master {
            return;
        }
        let call = entry.engine.and_then(|id| director.call(id)).map(|call| (PersistenceEngine::Sip, call));
        if self.master.push(now, entry, call).is_err() {
            self.counters.unsendable += 1;
        }
    }

    /// Looks whether a frame is a message, and takes its entries over if so. Says whether it was one.
    pub fn receive<S: Store>(
        &mut self,
        director: &mut Director<S>,
        host: &Host,
        now: Tick,
        frame: &Frame<'_>,
    ) -> bool {
        // Messages come by one port: who can send on another must not be able to make connections up.
        if !self.options.backup || frame.port != self.options.port {
            return false;
        }
        let Some(link) = host.port(frame.port).map(Port::link) else { return false };
        let Some(message) = self.message(frame, link) else { return false };
        self.counters.received += 1;
        let Ok(entries) = decode(message, self.options.syncid) else {
            self.counters.malformed += 1;
            return true;
        };
        for received in entries {
            match received {
                Ok(received) => {
                    let call = received.engine.map(|(_, data)| data);
                    match director.apply_sync(now, &received.entry, call) {
                        Ok(()) => self.counters.applied += 1,
                        Err(_) => self.counters.refused += 1,
                    }
                }
                Err(error) if error.ends_message() => self.counters.malformed += 1,
                Err(_) => self.counters.refused += 1,
            }
        }
        true
    }

    /// The payload of a frame that is for this daemon.
    fn message<'f>(&self, frame: &'f Frame<'_>, link: Link) -> Option<&'f [u8]> {
        let Ok(Located::Ip(layout)) = locate(frame, link) else { return None };
        let bytes = frame.bytes();
        let addresses = layout.addresses(bytes)?;
        if layout.protocol() != protocol::UDP
            || layout.fragment() != Fragment::Whole
            || addresses.destination() != self.options.group
        {
            return None;
        }
        let segment = bytes.get(layout.transport()..layout.end())?;
        let datagram = UdpSlice::from_slice(segment).ok()?;
        if datagram.destination_port() != self.options.udp_port {
            return None;
        }
        let pseudo = match addresses {
            Addresses::V4 { source, destination } => {
                Sum::pseudo_v4(source, destination, protocol::UDP, datagram.slice().len())
            }
            Addresses::V6 { source, destination } => {
                Sum::pseudo_v6(source, destination, protocol::UDP, datagram.slice().len())
            }
        };
        // RFC 768 allows none over IPv4, RFC 8200 §8.1 forbids that over IPv6.
        let unsummed = datagram.checksum() == 0 && layout.family() == Family::V4;
        let right = unsummed || pseudo.bytes(datagram.slice()).fold() == 0xffff;
        right.then(|| datagram.payload())
    }

    /// The next message that is to be sent, as a frame in `buffer` (which has to have room for [`HEADROOM`] and 1,500
    /// bytes). Ask until there is none, and that at least every 20 ms while this is a master.
    pub fn poll<'b>(&mut self, host: &Host, now: Tick, buffer: &'b mut [u8]) -> Option<Frame<'b>> {
        let port = self.options.port;
        let link = host.port(port).map(|port| (port.link(), port.mac()));
        let source = host.source(port, Family::of(self.options.group));
        // Taken even when it cannot be sent: a queue that waits for an address would only grow old.
        let message = self.master.poll(now)?;
        self.identification = self.identification.wrapping_add(1);
        let written = match (link, source) {
            (Some((link, mac)), Some(source)) => {
                let envelope = Envelope {
                    source,
                    group: self.options.group,
                    ports: (self.source_port, self.options.udp_port),
                    ttl: self.options.ttl,
                    identification: self.identification,
                };
                envelope.write(buffer, message, (link == Link::Ethernet).then_some(mac.0))
            }
            (None, _) | (_, None) => None,
        };
        let Some((start, end)) = written else {
            self.counters.lost += 1;
            return None;
        };
        self.counters.sent += 1;
        Frame::new(buffer, start, end, port)
    }
}

/// What goes around a message.
struct Envelope {
    source: IpAddr,
    group: IpAddr,
    ports: (u16, u16),
    ttl: u8,
    identification: u16,
}

impl Envelope {
    /// Writes a frame; where it starts and ends. With a `mac` it begins with an Ethernet header.
    fn write(&self, buffer: &mut [u8], message: &[u8], mac: Option<[u8; 6]>) -> Option<(usize, usize)> {
        let start = HEADROOM;
        let mut at = start;
        let mut put = |bytes: &[u8]| {
            buffer.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
            at += bytes.len();
            Some(())
        };
        if let Some(mac) = mac {
            let (group, kind) = self.link();
            put(&group)?;
            put(&mac)?;
            put(&kind.to_be_bytes())?;
        }
        let (from, to) = self.ports;
        match (self.source, self.group) {
            (IpAddr::V4(source), IpAddr::V4(group)) => {
                let len = u16::try_from(UdpHeader::LEN + message.len()).ok()?;
                let mut header =
                    Ipv4Header::new(len, self.ttl, IpNumber::UDP, source.octets(), group.octets()).ok()?;
                (header.dont_fragment, header.identification) = (false, self.identification);
                header.header_checksum = header.calc_header_checksum();
                put(&header.to_bytes())?;
                put(&UdpHeader::with_ipv4_checksum(from, to, &header, message).ok()?.to_bytes())?;
            }
            (IpAddr::V6(source), IpAddr::V6(group)) => {
                let header = Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: u16::try_from(UdpHeader::LEN + message.len()).ok()?,
                    next_header: IpNumber::UDP,
                    hop_limit: self.ttl,
                    source: source.octets(),
                    destination: group.octets(),
                };
                put(&header.to_bytes())?;
                put(&UdpHeader::with_ipv6_checksum(from, to, &header, message).ok()?.to_bytes())?;
            }
            (IpAddr::V4(_) | IpAddr::V6(_), _) => return None,
        }
        put(message)?;
        Some((start, at))
    }

    /// The group's link-layer address (RFC 1112 §6.4, RFC 2464 §7), and the Ethernet type.
    fn link(&self) -> ([u8; 6], u16) {
        match self.group {
            IpAddr::V4(group) => {
                let [_, a, b, c] = group.octets();
                ([0x01, 0x00, 0x5e, a & 0x7f, b, c], ethernet::TYPE_IPV4)
            }
            IpAddr::V6(group) => {
                let [.., a, b, c, d] = Ipv6Addr::octets(&group);
                ([0x33, 0x33, a, b, c, d], ethernet::TYPE_IPV6)
            }
        }
    }
}
