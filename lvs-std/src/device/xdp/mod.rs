//! An interface as a device: `AF_XDP` sockets, before the kernel's own stack.
//!
//! # How frames come in
//! A small program, which the driver runs on each frame ([native](Attach::Native)) or the kernel before its stack
//! ([generic](Attach::Generic)), sends the director's frames to a socket and leaves all others to the kernel. So,
//! unlike with [packet sockets](super::packet), each frame has one owner: the machine keeps its own address, its
//! routing and its services on the same interface, and nothing is copied for it that the director takes.
//!
//! The director's are: every frame to its own MAC address; ARP and neighbour solicitations for its addresses, and
//! announcements of its real servers and gateways. Where it has no MAC address of its own, IP packets to its addresses,
//! and those from its real servers that are not to an address of the machine's. Which addresses these are,
//! [`AddressFilter`] tells the program, at any time.
//!
//! # How frames go out
//! All ports that are [opened](open()) together share one memory for frames. A frame that comes in by one of them is
//! edited where it lies, and where it lies it is handed to the socket by which it leaves
//! ([`Transmit::hand_over`](super::Transmit::hand_over)): the director never copies it. What it makes itself, pieces
//! and answers, is copied once. One system call sends a batch.
//!
//! Where the driver can ([zero copy](Mode::ZeroCopy)), the interface itself reads and writes that memory; elsewhere the
//! kernel copies each frame between it and a buffer of its own.
//!
//! # Several workers
//! [`open_fanned`] opens interfaces for several workers, each with a socket of its own at every queue. The program
//! computes the function [`Steer`](crate::steering::Steer) and hands each frame's descriptor to its worker's socket, so
//! that a frame of NAT meets the worker of its connection whichever queue it comes by. Nobody hands it on afterwards.
//! The rings of free and of sent chunks, of which a queue has one each, are used by turns.
//!
//! # What it cannot do
//! `AF_XDP` hands over bytes and nothing else. The ends of veth and TAP interfaces leave checksums to be finished by
//! whoever sends the packet to a real wire; such a packet looks like a broken one. [`Hazard::PartialChecksums`] says
//! so, and [`PartialChecksums`] what is done about it. Frames are at most as long as the MTU: segments are not merged,
//! so bulk traffic between virtual machines or containers goes faster by packet sockets.
//!
//! Needs Linux 5.10, and `CAP_NET_ADMIN`, `CAP_NET_RAW` and `CAP_BPF` (`CAP_SYS_ADMIN` before 5.8) in the machine's own
//! user namespace: a container's root does not have them.

mod checksum;
mod error;
mod filter;
mod open;
mod plan;
mod program;
mod receive;
mod sockets;
mod transmit;
mod turns;

use core::fmt;

pub use self::error::OpenError;
pub use self::filter::{AddressClass, AddressFilter, AddressFilterError};
pub use self::open::{assess, open, open_another_fanned, open_fanned};
use super::{Device, Fan};

/// How interfaces are to be used.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct XdpOptions {
    /// Who runs the program that picks frames. Default: [`Attach::Auto`].
    pub attach: Attach,
    /// Who copies frames. Default: [`Mode::Auto`].
    pub mode: Mode,
    /// What to make of checksums that look unfinished. Default: [`PartialChecksums::Detect`].
    pub partial_checksums: PartialChecksums,
    /// Frames that one queue of an interface has room for, including those that are being sent on: rounded up to a
    /// power of two, 2 KiB each with an ordinary MTU. Default: 4,096.
    pub receive_frames: u32,
    /// Frames of its own that each worker has room for at a port: the director's answers, and pieces. Rounded up to a
    /// power of two. Default: 1,024.
    pub transmit_frames: u32,
    /// The most queues that are served, each by a socket for each worker; further ones are the kernel's. Default: 64.
    pub queues: u32,
}

impl Default for XdpOptions {
    fn default() -> Self {
        Self {
            attach: Attach::Auto,
            mode: Mode::Auto,
            partial_checksums: PartialChecksums::Detect,
            receive_frames: 4_096,
            transmit_frames: 1_024,
            queues: 64,
        }
    }
}

/// Who runs the program that picks frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are these two ways, and the choice between them")]
pub enum Attach {
    /// The driver if it can, otherwise the kernel.
    Auto,
    /// The driver, before it makes a packet of the kernel's.
    Native,
    /// The kernel, with any driver, after it made a packet of its own: slower.
    Generic,
}

/// Who copies frames between the interface and the memory of the sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are these two ways, and the choice between them")]
pub enum Mode {
    /// Nobody if all drivers can, otherwise the kernel.
    Auto,
    /// The kernel.
    Copy,
    /// Nobody: every driver must be able to.
    ZeroCopy,
}

/// What to make of a packet whose checksum is exactly what a sender's kernel writes when it leaves the rest to the
/// interface.
///
/// To be told from a broken packet, it has to be taken for what it looks like. Of packets that were damaged on the way,
/// one in 65,536 looks like it by chance and would be repaired; as many get through by a checksum that happens to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing else to be done")]
pub enum PartialChecksums {
    /// Finishes it on interfaces whose other end is a kernel ([`Hazard::PartialChecksums`]).
    Detect,
    /// Finishes it on every interface.
    Finish,
    /// Sends it on as it is; the receiver will drop it.
    Ignore,
}

/// An opened interface: the device, and how it came to be.
#[derive(Debug)]
#[non_exhaustive]
pub struct Xdp {
    /// The device.
    pub device: Device,
    /// How it came to be.
    pub properties: Properties,
}

impl Xdp {
    /// What was opened for one worker.
    fn of_one(Fanned { devices, properties, fan: _ }: Fanned) -> Option<Self> {
        Some(Self { device: devices.into_iter().next()?, properties })
    }
}

/// An interface that was opened for several workers.
#[derive(Debug)]
#[non_exhaustive]
pub struct Fanned {
    /// A device for each worker, in their order.
    pub devices: Vec<Device>,
    /// How they came to be.
    pub properties: Properties,
    /// What tells the kernel which frames go to which worker. All ports that were opened together are told by any of
    /// theirs.
    pub fan: Fan,
}

/// What an opened interface is like.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Properties {
    /// The longest IP packet that the interface sends.
    pub mtu: usize,
    /// The MAC address to use as one's own: the one asked for, or else the interface's.
    pub mac: [u8; 6],
    /// Whether the driver runs the program.
    pub native: bool,
    /// Whether the interface reads and writes the memory itself.
    pub zero_copy: bool,
    /// How many queues there are, each with a socket for each worker.
    pub queues: u32,
    /// What to be aware of.
    pub hazards: Vec<Hazard>,
}

/// What goes less well by `AF_XDP` than it would by packet sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hazard {
    /// The other end of the interface is a kernel on this machine, which leaves checksums unfinished, and hands over
    /// segments one by one that it could merge. The driver's name is inside.
    PartialChecksums(String),
    /// The program is not run by the driver: merged segments that the kernel takes for one packet are lost. Turn
    /// merging off (`ethtool -K NAME gro off lro off`, and `tso off gso off` at a virtual interface's other end).
    Generic,
    /// The interface has more queues than are served; this many in all.
    Queues(u32),
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartialChecksums(driver) => write!(
                f,
                "the other end of this `{driver}` interface is a kernel that leaves checksums unfinished; packet \
                 sockets carry that, and merged segments"
            ),
            Self::Generic => f.write_str(
                "the driver does not run the program: merged segments are lost, turn merging off with ethtool",
            ),
            Self::Queues(all) => write!(f, "not all of its {all} queues are served"),
        }
    }
}
