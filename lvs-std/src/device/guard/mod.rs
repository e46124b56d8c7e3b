//! A guest on the machine's interface: what is the director's is kept from the machine's kernel.
//!
//! A packet socket gets copies of frames, and the kernel's own stack sees each of them too. Where the director has the
//! interface's MAC address, the kernel would answer for the same address (a TCP reset for a port at which nobody
//! listens), or forward what real servers answer as it is. A guard drops these frames behind the packet socket and
//! before the kernel's stack, by an nftables table of the family `netdev` at the ingress hook of each interface:
//!
//! ```text
//! to a service's address and port                                   -> dropped
//! an ICMP error about what a service's address and port sent        -> dropped
//! a ping to an address that the director answers for                -> dropped
//! from a real server's address and port (NAT), not to this machine  -> dropped
//! everything else: the machine's own, ARP, other VLANs              -> the kernel's
//! ```
//!
//! The table belongs to a socket of this process (`NFT_TABLE_F_OWNER`), so it is gone when the process is, however that
//! ends. Nothing is sent by the kernel in the director's place, and nothing that is the machine's own is touched: its
//! connections to the same real servers, checks among them, go on.
//!
//! Needs Linux 5.12 with nftables, and `CAP_NET_ADMIN` in the user namespace that owns the network namespace.

mod message;

use core::fmt;
use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

use netlink_packet_core::{NLMSG_ERROR, NetlinkBuffer};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use self::message::{Attributes, Batch, Comparison, From, Kind, LIST_ELEMENT, Rule};
use crate::device::mark::MarkRule;

/// Keeps from the kernel what is the director's, on some interfaces, as long as this value lives.
pub struct KernelGuard {
    socket: Socket,
    table: Table,
    /// What the kernel's sets have.
    known: BTreeSet<Entry>,
}

/// What a guard keeps from the kernel, or leaves to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a guard has a rule for each")]
pub enum Entry {
    /// An address and port of a service, by the IANA number of the protocol; port 0 stands for all of the protocol.
    Service(u8, IpAddr, u16),
    /// An address of a service whose protocol agrees on further ports (FTP): TCP to ports from 1024 on.
    Further(IpAddr),
    /// What a real server's address and port send, by NAT.
    Server(u8, IpAddr, u16),
    /// All that a real server sends, by NAT: of a service for all ports, or by mark.
    Peer(IpAddr),
    /// An address for which the director answers pings.
    Answered(IpAddr),
    /// An address of this machine: what real servers send to it is the kernel's.
    Machine(IpAddr),
}

/// An interface that the director shares with the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "made by whoever opens a guard")]
pub struct Guarded {
    /// The interface's name, at most 15 bytes.
    pub interface: String,
    /// The VLANs whose frames are the director's, `None` for frames without a tag. Others are the kernel's: it may have
    /// interfaces for them, and so may the director.
    pub vlans: Vec<Option<u16>>,
}

impl KernelGuard {
    /// A guard of these interfaces of the calling thread's network namespace. Packets to which one of the mark rules
    /// applies are the director's as well.
    ///
    /// # Errors
    /// [`GuardError`].
    pub fn open(interfaces: &[Guarded], marks: &[MarkRule]) -> Result<Self, GuardError> {
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(GuardError)?;
        socket.bind_auto().map_err(GuardError)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(GuardError)?;
        socket.set_non_blocking(true).map_err(GuardError)?;
        // An answer does not repeat what is refused.
        socket.set_cap_ack(true).map_err(GuardError)?;
        let mut address = SocketAddr::new(0, 0);
        socket.get_address(&mut address).map_err(GuardError)?;
        // A guard takes the place of an earlier one of the same process, which is there until it has: so each has a
        // name of its own.
        let table = Table(format!("director-{}", address.port_number()));
        let guard = Self { socket, table, known: BTreeSet::new() };
        guard.carry_out(guard.table.build(interfaces))?;
        for guarded in interfaces {
            let mut batch = Batch::new();
            guard.table.leave_other_vlans(&mut batch, guarded);
            guard.carry_out(batch)?;
        }
        let by_family = interfaces.iter().flat_map(|of| [V4, V6].map(|layout| (&of.interface, layout)));
        // Each in batches of its own, as a socket takes no message that is longer than its buffer.
        for (interface, layout) in by_family {
            let mut batch = Batch::new();
            guard.table.rules(&mut batch, interface, &layout);
            guard.carry_out(batch)?;
            let of_family = |rule: &&MarkRule| rule.destination.address().is_ipv4() == layout.is_v4;
            let marks: Vec<&MarkRule> = marks.iter().filter(of_family).collect();
            for piece in marks.chunks(MOST_RULES) {
                let mut batch = Batch::new();
                for rule in piece {
                    guard.table.rule(&mut batch, interface, &layout, |to| mark(to, &layout, rule));
                }
                guard.carry_out(batch)?;
            }
        }
        Ok(guard)
    }

    /// Makes these all that it knows.
    ///
    /// # Errors
    /// [`GuardError`]; a part may be in effect then.
    pub fn set(&mut self, wanted: BTreeSet<Entry>) -> Result<(), GuardError> {
        let new: Vec<Entry> = wanted.difference(&self.known).copied().collect();
        let gone: Vec<Entry> = self.known.difference(&wanted).copied().collect();
        for (kind, entries) in [(Kind::NewElements, new), (Kind::DeleteElements, gone)] {
            let mut by_set = BTreeMap::<&str, Vec<(Entry, Vec<u8>)>>::new();
            for entry in entries {
                let (set, key) = entry.place();
                by_set.entry(set).or_default().push((entry, key));
            }
            for (set, keys) in by_set {
                for piece in keys.chunks(MOST_ELEMENTS) {
                    let mut batch = Batch::new();
                    batch.push(kind, |message| self.table.elements(message, set, piece));
                    self.carry_out(batch)?;
                    for (entry, _) in piece {
                        if kind == Kind::NewElements {
                            self.known.insert(*entry);
                        } else {
                            self.known.remove(entry);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Has the kernel carry out a batch.
    fn carry_out(&self, batch: Batch) -> Result<(), GuardError> {
        self.socket.send(&batch.finish(), 0).map_err(GuardError)?;
        // The kernel has answered when the batch is sent. How often depends on where it has failed: once for all of it,
        // once for each message that it refuses, or both. So all that is there is read, and the first refusal counts.
        let (mut done, mut refused) = (false, None);
        let mut answer = Vec::with_capacity(ROOM);
        loop {
            answer.clear();
            match self.socket.recv(&mut answer, 0) {
                Ok(_) => match outcome(&answer) {
                    Some(0) => done = true,
                    Some(number) => _ = refused.get_or_insert(number),
                    None => {}
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // More refusals than there is room for.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    refused.get_or_insert(libc::ENOBUFS);
                }
                Err(error) => return Err(GuardError(error)),
            }
        }
        match refused {
            Some(number) => Err(GuardError(io::Error::from_raw_os_error(number))),
            None if done => Ok(()),
            None => Err(GuardError(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

/// What an answer says: the number of an error, 0 for none. `None` if it says something else.
fn outcome(answer: &[u8]) -> Option<i32> {
    let message = NetlinkBuffer::new_checked(answer).ok()?;
    let number = i32::from_ne_bytes(*message.payload().first_chunk()?);
    (message.message_type() == NLMSG_ERROR).then_some(number.saturating_neg())
}

impl fmt::Debug for KernelGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelGuard").field("entries", &self.known.len()).finish_non_exhaustive()
    }
}

/// A guard's table, by its name.
struct Table(String);

impl Table {
    /// The table with its sets, and a chain for each interface, all without content.
    fn build(&self, interfaces: &[Guarded]) -> Batch {
        let mut batch = Batch::new();
        batch.push(Kind::NewTable, |message| _ = message.text(1, &self.0).number(2, OWNED));
        for (number, (set, length, shown)) in (1..).zip(SETS) {
            batch.push(Kind::NewSet, |message| {
                message.text(1, &self.0).text(2, set).number(3, 0);
                message.number(4, shown).number(5, length).number(10, number);
            });
        }
        for Guarded { interface, .. } in interfaces {
            batch.push(Kind::NewChain, |message| {
                message.text(1, &self.0).text(3, interface).nest(4, |hook| {
                    hook.number(1, 0).number(2, PRIORITY.cast_unsigned()).text(3, interface);
                });
                message.number(5, 1).text(7, "filter");
            });
        }
        batch
    }

    /// Rules before all others, by which frames of other VLANs are left to the kernel. The kernel has taken a tag off
    /// the frame, and shows it in its place to whoever loads that.
    fn leave_other_vlans(&self, batch: &mut Batch, guarded: &Guarded) {
        let Guarded { interface, vlans } = guarded;
        if !vlans.contains(&None) {
            self.bare_rule(batch, interface, |to| {
                to.load(0, From::Link, ETHER_TYPE, 2).compare(Comparison::IsNot, &VLAN).leave_it();
            });
        }
        self.bare_rule(batch, interface, |to| {
            to.load(0, From::Link, ETHER_TYPE, 2).compare(Comparison::Is, &SERVICE_VLAN).leave_it();
        });
        self.bare_rule(batch, interface, |to| {
            to.load(0, From::Link, ETHER_TYPE, 2).compare(Comparison::Is, &VLAN);
            to.load(0, From::Link, TAG, 2).mask(&VLAN_ID);
            for vlan in vlans {
                // A tag with the number 0 counts as none.
                to.compare(Comparison::IsNot, &vlan.unwrap_or(0).to_be_bytes());
            }
            to.leave_it();
        });
    }

    fn rules(&self, batch: &mut Batch, interface: &str, layout: &Layout) {
        let Layout { family, source, destination, address, words, .. } = *layout;
        let mut rule = |fill: &dyn Fn(&mut Rule<'_, '_>)| self.rule(batch, interface, layout, |to| fill(to));
        let set = |name: &str| format!("{name}{family}");
        rule(&|to| {
            to.load_protocol(0).load(1, From::Network, destination, address).load(
                1 + words,
                From::Transport,
                2,
                2,
            );
            to.is_in(&set("services"), true).drop_it();
        });
        rule(&|to| {
            to.load_protocol(0).load(1, From::Network, destination, address);
            to.is_in(&set("wide"), true).drop_it();
        });
        rule(&|to| {
            to.load_protocol(0).compare(Comparison::Is, &[6]);
            to.load(0, From::Transport, 2, 2).compare(Comparison::AtLeast, &1_024_u16.to_be_bytes());
            to.load(0, From::Network, destination, address).is_in(&set("further"), true).drop_it();
        });
        rule(&|to| {
            to.load_protocol(0).load(1, From::Network, source, address).load(
                1 + words,
                From::Transport,
                0,
                2,
            );
            to.is_in(&set("servers"), true);
            to.load(0, From::Network, destination, address).is_in(&set("machine"), false).drop_it();
        });
        rule(&|to| {
            to.load(0, From::Network, source, address).is_in(&set("peers"), true);
            to.load(0, From::Network, destination, address).is_in(&set("machine"), false).drop_it();
        });
        rule(&|to| {
            to.load_protocol(0).compare(Comparison::Is, &[layout.icmp]);
            to.load(0, From::Transport, 0, 1).compare(Comparison::Is, &[layout.echo]);
            to.load(0, From::Network, destination, address).is_in(&set("answered"), true).drop_it();
        });
        for (how, kind) in layout.errors {
            rule(&|to| {
                to.load_protocol(0).compare(Comparison::Is, &[layout.icmp]);
                to.load(0, From::Transport, 0, 1).compare(*how, &[*kind]);
                // The packet that it is about begins behind 8 bytes; its ports, where it has no options.
                to.load(0, From::Transport, 8 + layout.protocol, 1);
                to.load(1, From::Transport, 8 + source, address);
                to.load(1 + words, From::Transport, 8 + layout.header, 2);
                to.is_in(&set("services"), true).drop_it();
            });
        }
    }

    fn rule(
        &self,
        batch: &mut Batch,
        interface: &str,
        layout: &Layout,
        fill: impl FnOnce(&mut Rule<'_, '_>),
    ) {
        self.bare_rule(batch, interface, |rule| {
            rule.ether_type(layout.ether_type);
            fill(rule);
        });
    }

    fn bare_rule(&self, batch: &mut Batch, interface: &str, fill: impl FnOnce(&mut Rule<'_, '_>)) {
        batch.push(Kind::NewRule, |message| {
            message.text(1, &self.0).text(2, interface).nest(4, |expressions| fill(&mut Rule(expressions)));
        });
    }

    fn elements(&self, message: &mut Attributes<'_>, set: &str, keys: &[(Entry, Vec<u8>)]) {
        message.text(1, &self.0).text(2, set).nest(3, |list| {
            for (_, key) in keys {
                list.nest(LIST_ELEMENT, |element| {
                    element.nest(1, |value| _ = value.bytes(1, key));
                });
            }
        });
    }
}

/// A rule for what a mark rule applies to.
fn mark(to: &mut Rule<'_, '_>, layout: &Layout, rule: &MarkRule) {
    let (address, prefix) = (octets(rule.destination.address()), usize::from(rule.destination.len()));
    let mask: Vec<u8> = (0..address.len())
        .map(|byte| !0xff_u8.checked_shr(prefix.saturating_sub(byte * 8).min(8) as u32).unwrap_or(0))
        .collect();
    let network: Vec<u8> = address.iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
    to.load(0, From::Network, layout.destination, layout.address).mask(&mask);
    to.compare(Comparison::Is, &network);
    if let Some(protocol) = rule.protocol {
        to.load_protocol(0).compare(Comparison::Is, &[protocol.number()]);
    }
    if rule.ports != (0..=u16::MAX) {
        to.load(0, From::Transport, 2, 2).compare(Comparison::AtLeast, &rule.ports.start().to_be_bytes());
        to.compare(Comparison::AtMost, &rule.ports.end().to_be_bytes());
    }
    to.drop_it();
}

/// Where a family's headers have what.
struct Layout {
    is_v4: bool,
    family: char,
    ether_type: u16,
    /// Where the protocol, the source and the destination are, how long an address is, in bytes and in words, and how
    /// long the header without options.
    protocol: u32,
    source: u32,
    destination: u32,
    address: u32,
    words: u32,
    header: u32,
    icmp: u8,
    echo: u8,
    errors: &'static [(Comparison, u8)],
}

/// RFC 791 §3.1, RFC 792.
const V4: Layout = Layout {
    is_v4: true,
    family: '4',
    ether_type: 0x0800,
    protocol: 9,
    source: 12,
    destination: 16,
    address: 4,
    words: 1,
    header: 20,
    icmp: 1,
    echo: 8,
    errors: &[(Comparison::Is, 3), (Comparison::Is, 11), (Comparison::Is, 12)],
};
/// RFC 8200 §3, RFC 4443 §2.1: errors are the types below 128.
const V6: Layout = Layout {
    is_v4: false,
    family: '6',
    ether_type: 0x86dd,
    protocol: 6,
    source: 8,
    destination: 24,
    address: 16,
    words: 4,
    header: 40,
    icmp: 58,
    echo: 128,
    errors: &[(Comparison::Below, 128)],
};

/// The sets, with the length of their keys and what nft(8) shows the keys as.
const SETS: [(&str, u32, u32); 14] = [
    ("services4", 12, PROTOCOL << 12 | ADDRESS << 6 | PORT),
    ("services6", 24, PROTOCOL << 12 | ADDRESS6 << 6 | PORT),
    ("wide4", 8, PROTOCOL << 6 | ADDRESS),
    ("wide6", 20, PROTOCOL << 6 | ADDRESS6),
    ("further4", 4, ADDRESS),
    ("further6", 16, ADDRESS6),
    ("servers4", 12, PROTOCOL << 12 | ADDRESS << 6 | PORT),
    ("servers6", 24, PROTOCOL << 12 | ADDRESS6 << 6 | PORT),
    ("peers4", 4, ADDRESS),
    ("peers6", 16, ADDRESS6),
    ("answered4", 4, ADDRESS),
    ("answered6", 16, ADDRESS6),
    ("machine4", 4, ADDRESS),
    ("machine6", 16, ADDRESS6),
];

impl Entry {
    /// The set that it belongs to, and its key there.
    fn place(&self) -> (&'static str, Vec<u8>) {
        let pick = |address: &IpAddr, of_v4, of_v6| if address.is_ipv4() { of_v4 } else { of_v6 };
        // Each part of a key fills whole registers.
        let with_port = |protocol: &u8, address: &IpAddr, port: &u16| {
            [&[*protocol, 0, 0, 0], &*octets(*address), &port.to_be_bytes(), &[0, 0]].concat()
        };
        match self {
            Self::Service(protocol, address, 0) => {
                let key = [&[*protocol, 0, 0, 0], &*octets(*address)].concat();
                (pick(address, "wide4", "wide6"), key)
            }
            Self::Service(protocol, address, port) => {
                (pick(address, "services4", "services6"), with_port(protocol, address, port))
            }
            Self::Further(address) => (pick(address, "further4", "further6"), octets(*address)),
            Self::Server(protocol, address, port) => {
                (pick(address, "servers4", "servers6"), with_port(protocol, address, port))
            }
            Self::Peer(address) => (pick(address, "peers4", "peers6"), octets(*address)),
            Self::Answered(address) => (pick(address, "answered4", "answered6"), octets(*address)),
            Self::Machine(address) => (pick(address, "machine4", "machine6"), octets(*address)),
        }
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Why nothing is kept from the kernel.
#[derive(Debug)]
pub struct GuardError(io::Error);

impl fmt::Display for GuardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(error) = self;
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => f.write_str(
                "this process may not keep frames from the machine's kernel; grant CAP_NET_ADMIN, use AF_XDP sockets \
                 (device = \"xdp\"), or give the director a MAC address of its own",
            ),
            Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP) => write!(
                f,
                "the machine's kernel cannot keep frames from itself, which takes nftables (Linux 5.12): {error}; use \
                 AF_XDP sockets (device = \"xdp\"), or give the director a MAC address of its own"
            ),
            _ => write!(f, "nftables refuses what keeps frames from the machine's kernel: {error}"),
        }
    }
}

impl core::error::Error for GuardError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Where a frame has its type and what follows a type that means a tag (IEEE 802.1Q).
const ETHER_TYPE: u32 = 12;
const TAG: u32 = 14;
const VLAN: [u8; 2] = 0x8100_u16.to_be_bytes();
const SERVICE_VLAN: [u8; 2] = 0x88a8_u16.to_be_bytes();
const VLAN_ID: [u8; 2] = 0x0fff_u16.to_be_bytes();
/// What nft(8) calls `inet_proto`, `ipv4_addr`, `ipv6_addr` and `inet_service`.
const PROTOCOL: u32 = 12;
const ADDRESS: u32 = 7;
const ADDRESS6: u32 = 8;
const PORT: u32 = 13;
/// `NFT_TABLE_F_OWNER`.
const OWNED: u32 = 2;
/// Before other tables at the same hook.
const PRIORITY: i32 = -500;
/// Elements in a message: what the length of an attribute can say.
const MOST_ELEMENTS: usize = 1_000;
/// Rules in a batch: each has some 500 bytes.
const MOST_RULES: usize = 64;
/// More than the longest answer.
const ROOM: usize = 8_192;
