//! An interface as a device: `AF_PACKET` sockets with memory-mapped rings.
//!
//! # How frames come in
//! The kernel writes each frame into a slot of a ring that it shares with this process (`TPACKET_V2`). The frame is
//! lent where it lies and edited there. Slots are long enough for a merged frame of 64 KiB; that costs 64 KiB of locked
//! memory per slot ([`PacketOptions::receive_slots`]). The virtio-net header before it says what is unfinished, and a
//! VLAN tag that the kernel took out is put back. [`SlotLength`] has the other way: shorter slots and more of them.
//!
//! Interfaces can be told to merge beyond 64 KiB (`gro_max_size` and others of ip-link(8)). Such a frame waits at the
//! socket (`PACKET_COPY_THRESH`), takes a system call, and is lent as several merged frames whose lengths IP can say
//! ([`Parts`](lvs_forward::output::Parts)), so whoever handles frames meets nothing new.
//!
//! # How frames go out
//! A frame of ordinary length is copied into a second ring, and one system call per batch sends all. A longer one
//! (merged) is sent by a call of its own, from where it lies: the kernel would otherwise keep its 16 pages of the
//! ring busy until the receiver is done, or copy them once more when the receiver is on this machine, and a ring
//! with room for many such frames takes a lot of memory for a system call that one frame of 40 segments pays anyway.
//! What is in the ring is sent first, so frames leave in order.
//!
//! # What the kernel does besides
//! A packet socket gets copies: the kernel's own stack sees every frame too. A director with a MAC address of its own
//! ([`PacketOptions::mac`]) is left alone: the kernel takes those frames for another host's and is silent, while
//! the interface's address stays the machine's. Without one, the kernel answers for everything addressed to itself
//! (TCP resets, ICMP errors) unless it is told not to.
//!
//! With the queueing discipline bypassed (the default), frames sent are not seen by traffic control, nor by
//! `tcpdump` on this machine; [`pcap::record`](crate::device::pcap::record) shows them.
//!
//! An interface that goes down loses the frames that wait to be sent (counted as
//! [`down`](crate::device::TransmitCounters::down)); when it comes up again, all goes on.
//!
//! # Several workers
//! [`open_fanned`] opens an interface for each of several workers. The kernel gives each frame to one of them
//! (`PACKET_FANOUT`), by a classic BPF program that is the function [`Steer`](crate::steering::Steer).
//!
//! Needs `CAP_NET_RAW` in the user namespace that owns the network namespace.

mod fan;
mod receive;
mod transmit;

use core::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

pub use self::fan::{Fanned, open_fanned};
use self::receive::Receiver;
use self::transmit::Transmitter;
use crate::device::Device;
use crate::sys::interface::Interface;
use crate::sys::packet::PacketSocket;

/// How an interface is to be used.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PacketOptions {
    /// The director's own MAC address on this interface. Frames to other hosts are then kept out of the ring by the
    /// kernel, and the interface is asked to let this address through (real ones filter; a bridge or a hypervisor may
    /// filter too, which cannot be changed from here). `None`, the default: every frame that the interface takes.
    pub mac: Option<[u8; 6]>,
    /// Asks the interface for frames to every multicast group. A director that owns IPv6 addresses needs it to hear
    /// neighbour solicitations (RFC 4291 §2.7.1). Default: true.
    pub all_multicast: bool,
    /// Slots of the receiving ring, 64 KiB each if they take every frame; rounded up to whole mebibytes. They bridge
    /// the time in which the worker does something else; when they are full, frames are
    /// [`lost`](crate::device::ReceiveCounters::lost). Default: 510, which are 34 MiB.
    pub receive_slots: usize,
    /// How long the slots of the receiving ring are. Default: for every frame.
    pub slot_length: SlotLength,
    /// Slots of the sending ring, each for a frame of the interface's MTU. Default: 1024, which are 2 MiB at 1500.
    pub transmit_slots: usize,
    /// Hands frames to the driver without traffic control (`PACKET_QDISC_BYPASS`): faster, but a busy interface
    /// loses frames rather than queueing them. Default: true.
    pub bypass_queueing: bool,
}

impl Default for PacketOptions {
    fn default() -> Self {
        Self {
            mac: None,
            all_multicast: true,
            receive_slots: 510,
            slot_length: SlotLength::Longest,
            transmit_slots: 1_024,
            bypass_queueing: true,
        }
    }
}

/// What a slot of the receiving ring takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum SlotLength {
    /// Every frame, merged ones of 64 KiB too.
    #[default]
    Longest,
    /// A frame of the interface's MTU. Many more slots find room then: some 1.7 KiB each at 1500, so 8,190 in 13 MiB.
    /// They bridge milliseconds of short frames in which the worker has no processor. A longer frame waits at the
    /// socket (`PACKET_COPY_THRESH`) and takes a system call, which makes bulk transfers slower where interfaces merge.
    /// For some 16 MiB of such frames to wait, this process needs `CAP_NET_ADMIN` of the machine itself; without it,
    /// `net.core.rmem_max` says how many can, and others are [`cut`](crate::device::ReceiveCounters::cut).
    Mtu,
}

/// An opened interface: the device, and what the kernel says of the interface.
#[derive(Debug)]
#[non_exhaustive]
pub struct Packet {
    /// The device.
    pub device: Device,
    /// The longest IP packet that the interface sends.
    pub mtu: usize,
    /// The MAC address to use as one's own: the one asked for, or else the interface's.
    pub mac: [u8; 6],
    /// Where a [`FlowOffload`](crate::offload::FlowOffload) can be put.
    pub tap: Tap,
}

/// Where frames come to a packet socket: what a [`FlowOffload`](crate::offload::FlowOffload) needs to know of it.
#[derive(Debug)]
pub struct Tap {
    socket: PacketSocket,
    pub(crate) interface: u32,
    /// The director's MAC address there.
    pub(crate) mac: [u8; 6],
    /// Whether only frames to that one and to groups come in.
    pub(crate) chooses: bool,
    /// Whether it is one of several that share frames.
    pub(crate) shares: bool,
}

impl Tap {
    fn new(
        receiver: &Receiver,
        interface: &Interface,
        options: &PacketOptions,
        shares: bool,
    ) -> io::Result<Self> {
        Ok(Self {
            socket: receiver.socket().again()?,
            interface: interface.index,
            mac: options.mac.unwrap_or(interface.mac),
            chooses: options.mac.is_some(),
            shares,
        })
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Opens the Ethernet interface `name` of this network namespace as a device.
///
/// # Errors
/// When there is no such interface, when it is no Ethernet, or when the kernel refuses: the error says at which step.
pub fn open(name: &str, options: &PacketOptions) -> Result<Packet, OpenError> {
    let failed = |step| move |source| OpenError { interface: name.into(), step, source };
    let interface = Interface::named(name).map_err(failed(OpenStep::Find))?;
    if ![libc::ARPHRD_ETHER, libc::ARPHRD_LOOPBACK].contains(&interface.hardware) {
        let source = io::Error::from(io::ErrorKind::Unsupported);
        return Err(failed(OpenStep::Ethernet)(source));
    }
    let receive =
        Receiver::open(&interface, options, false).map_err(|(step, source)| failed(step)(source))?;
    let transmit = Transmitter::open(&interface, options).map_err(|(step, source)| failed(step)(source))?;
    let tap = Tap::new(&receive, &interface, options, false).map_err(failed(OpenStep::Socket))?;
    Ok(Packet {
        device: Device::new(receive, transmit),
        mtu: interface.mtu,
        mac: options.mac.unwrap_or(interface.mac),
        tap,
    })
}

/// A MAC address for a director of its own on the Ethernet interface `name` of this network namespace: derived from the
/// interface's, so that it is the same each time, and locally administered, so that no vendor has given it to anyone.
///
/// # Errors
/// When there is no such interface, or when it is no Ethernet.
pub fn own_mac(name: &str) -> Result<[u8; 6], OpenError> {
    let failed = |step, source| OpenError { interface: name.into(), step, source };
    let interface = Interface::named(name).map_err(|error| failed(OpenStep::Find, error))?;
    if interface.hardware != libc::ARPHRD_ETHER {
        return Err(failed(OpenStep::Ethernet, io::ErrorKind::Unsupported.into()));
    }
    Ok(derive_mac(interface.mac))
}

/// Bit 1 of the first byte marks a locally administered address, bit 0 a group's (IEEE 802 §8). An interface of a
/// virtual machine often has that mark already, so the other bytes change as well.
fn derive_mac([a, b, c, d, e, f]: [u8; 6]) -> [u8; 6] {
    [(a | 2) & !1, b ^ b'L', c ^ b'V', d ^ b'S', e, f]
}

/// Why an interface could not be opened.
#[derive(Debug)]
pub struct OpenError {
    interface: String,
    step: OpenStep,
    source: io::Error,
}

#[derive(Clone, Copy, Debug)]
enum OpenStep {
    Bind,
    Ethernet,
    Fan,
    Find,
    Membership,
    Option,
    ReceiveRing,
    Socket,
    TransmitRing,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, step, source } = self;
        write!(f, "interface `{interface}`: ")?;
        match step {
            OpenStep::Bind => write!(f, "cannot bind a packet socket to it: {source}"),
            OpenStep::Ethernet => f.write_str("it is no Ethernet; use a TUN device for bare IP"),
            OpenStep::Fan => write!(f, "its frames cannot be shared out over workers: {source}"),
            OpenStep::Find => write!(f, "cannot be found in this network namespace: {source}"),
            OpenStep::Membership => write!(f, "it does not let foreign addresses through: {source}"),
            OpenStep::Option => {
                write!(f, "a packet socket option is refused (Linux 4.20 or newer?): {source}")
            }
            OpenStep::ReceiveRing => {
                write!(f, "no memory for its receiving ring, ask for fewer slots: {source}")
            }
            OpenStep::Socket => write!(f, "cannot open a packet socket, which takes CAP_NET_RAW: {source}"),
            OpenStep::TransmitRing => {
                write!(f, "no memory for its sending ring, ask for fewer slots: {source}")
            }
        }
    }
}

impl core::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_mac_is_local_and_another_hosts() {
        for mac in [[0, 0x1b, 0x21, 1, 2, 3], [2, 0, 0, 0, 0, 1], [0xff; 6]] {
            let own = derive_mac(mac);
            assert_eq!(own[0] & 3, 2);
            assert_ne!(own, mac);
            assert_eq!(derive_mac(mac), own);
        }
    }

    #[test]
    fn unknown_interface_is_named_in_the_error() {
        let error = open("nosuchdevice", &PacketOptions::default()).unwrap_err();
        assert!(error.to_string().starts_with("interface `nosuchdevice`: cannot be found"), "{error}");
    }
}
