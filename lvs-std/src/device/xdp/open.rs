//! From interfaces to ports: memory, sockets, programs.

use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use rustix::event::epoll;

use super::error::XdpStep;
use super::filter::AddressFilter;
use super::program::{self, Station};
use super::receive::{Hold, Queue, Receiver};
use super::transmit::Transmitter;
use super::{Attach, Hazard, Mode, OpenError, PartialChecksums, Xdp, XdpOptions};
use crate::device::{Device, ReceiveCounters};
use crate::sys::bpf::{Attachment, Kind, Map, Program, Purpose};
use crate::sys::ethtool;
use crate::sys::interface::Interface;
use crate::sys::packet::PacketSocket;
use crate::sys::xsk::{
    Chunk, CompletionRing, FillRing, ReceiveRing, Sharing, Sizes, TransmitRing, Umem, XdpSocket,
};

/// Opens Ethernet interfaces of this network namespace as the ports of one director, with one memory for all. Each is
/// given by its name, and by the director's own MAC address on it; `None` shares the interface's with the machine.
///
/// The [`AddressFilter`] knows no address yet, so only frames to MAC addresses of its own reach the director until it
/// is told. The programs go with the devices; nothing stays behind, however the process ends.
///
/// # Errors
/// When an interface does not exist, is no Ethernet, has a program already, or when the kernel refuses: the error says
/// at which step.
pub fn open(
    ports: &[(&str, Option<[u8; 6]>)],
    options: &XdpOptions,
) -> Result<(Vec<Xdp>, AddressFilter), OpenError> {
    let filter = AddressFilter::new()
        .map_err(OpenError::at(ports.first().map_or("", |(name, _)| name), XdpStep::Maps))?;
    let opened = open_with(ports, options, &filter)?;
    Ok((opened, filter))
}

/// Opens one more interface as a port of a director that has others, or had it before: its program knows the addresses
/// of this filter. It has a memory of its own, so that frames between it and the other ports are copied once.
///
/// # Errors
/// As for [`open`].
pub fn open_another(
    name: &str,
    mac: Option<[u8; 6]>,
    options: &XdpOptions,
    filter: &AddressFilter,
) -> Result<Xdp, OpenError> {
    let opened = open_with(&[(name, mac)], options, filter)?;
    let unexpected = || OpenError::at(name, XdpStep::Find)(io::ErrorKind::NotFound.into());
    opened.into_iter().next().ok_or_else(unexpected)
}

fn open_with(
    ports: &[(&str, Option<[u8; 6]>)],
    options: &XdpOptions,
    filter: &AddressFilter,
) -> Result<Vec<Xdp>, OpenError> {
    let plans =
        ports.iter().map(|(name, mac)| Plan::new(name, *mac, options)).collect::<Result<Vec<_>, _>>()?;
    match options.mode {
        Mode::Copy => open_all(&plans, filter, options, false),
        Mode::ZeroCopy => open_all(&plans, filter, options, true),
        // Only whoever binds learns whether the drivers can.
        Mode::Auto => open_all(&plans, filter, options, true).or_else(|error| {
            if error.step() == XdpStep::Bind { open_all(&plans, filter, options, false) } else { Err(error) }
        }),
    }
}

/// What would go less well by `AF_XDP` on the interface `name` than by packet sockets, as far as that can be told
/// without opening it.
///
/// # Errors
/// When there is no such interface, when it is no Ethernet, or when its MTU is too large.
pub fn assess(name: &str) -> Result<Vec<Hazard>, OpenError> {
    Plan::new(name, None, &XdpOptions::default()).map(|plan| plan.hazards)
}

/// What is known of a port before anything is opened.
struct Plan<'a> {
    name: &'a str,
    interface: Interface,
    mac: Option<[u8; 6]>,
    queues: u32,
    /// Frames per queue and of the port's own.
    frames: (u32, u32),
    detect: bool,
    hazards: Vec<Hazard>,
}

impl<'a> Plan<'a> {
    fn new(name: &'a str, mac: Option<[u8; 6]>, options: &XdpOptions) -> Result<Self, OpenError> {
        let interface = Interface::named(name).map_err(OpenError::at(name, XdpStep::Find))?;
        let refused = |step| OpenError::at(name, step)(io::ErrorKind::Unsupported.into());
        if interface.hardware != libc::ARPHRD_ETHER {
            return Err(refused(XdpStep::Ethernet));
        }
        if interface.mtu > LARGEST_MTU {
            return Err(refused(XdpStep::Mtu));
        }
        // A driver that has no name or no queues that it could tell of is as good as any.
        let driver = ethtool::driver(name).unwrap_or_default();
        let all = ethtool::receive_queues(name).unwrap_or(1);
        let queues = all.min(options.queues.max(1));
        let mut hazards = Vec::new();
        let virtual_wire = LEAVE_CHECKSUMS.contains(&driver.as_str());
        if virtual_wire {
            hazards.push(Hazard::PartialChecksums(driver));
        }
        if queues < all {
            hazards.push(Hazard::Queues(all));
        }
        let detect = match options.partial_checksums {
            PartialChecksums::Detect => virtual_wire,
            PartialChecksums::Finish => true,
            PartialChecksums::Ignore => false,
        };
        let frames = [options.receive_frames, options.transmit_frames]
            .map(|frames| frames.clamp(FEWEST_FRAMES, MOST_FRAMES).next_power_of_two());
        Ok(Self { name, interface, mac, queues, frames: frames.into(), detect, hazards })
    }

    const fn frames(&self) -> u32 {
        self.queues * self.frames.0 + self.frames.1
    }

    fn at(&self, step: XdpStep) -> impl FnOnce(io::Error) -> OpenError {
        OpenError::at(self.name, step)
    }
}

/// Opens all ports in one mode.
fn open_all(
    plans: &[Plan<'_>],
    filter: &AddressFilter,
    options: &XdpOptions,
    zero_copy: bool,
) -> Result<Vec<Xdp>, OpenError> {
    let Some(first) = plans.first() else { return Ok(Vec::new()) };
    // All ports share one memory, so its chunks have to take the frames of the port with the largest MTU.
    let ordinary = plans.iter().all(|plan| plan.interface.mtu <= ORDINARY_MTU);
    let chunk = if ordinary { SMALL_CHUNK } else { LARGE_CHUNK };
    let all = plans.iter().map(Plan::frames).fold(0, u32::saturating_add);
    let (umem, mut chunks) = Umem::new(chunk, all).map_err(first.at(XdpStep::Memory))?;
    let mut sockets: Vec<Arc<XdpSocket>> = Vec::new();
    let mut opened = Vec::new();
    for plan in plans {
        let mut queues = Vec::new();
        let mut transmitter = None;
        for number in 0..plan.queues {
            let sharing = match sockets.first() {
                Some(first) => Sharing::With(first),
                None => Sharing::First { zero_copy },
            };
            let sizes = Sizes {
                receive: plan.frames.0,
                fill: plan.frames.0,
                // Only the first queue sends, maybe everything that there is.
                transmit: if number == 0 { TRANSMIT_RING } else { 0 },
                completion: if number == 0 { all.next_power_of_two() } else { FEWEST_FRAMES },
            };
            let step = |error: io::Error| match error.raw_os_error() {
                Some(libc::EPERM | libc::EAFNOSUPPORT) => plan.at(XdpStep::Socket)(error),
                _ => plan.at(XdpStep::Register)(error),
            };
            let (socket, rings) = XdpSocket::new(&umem, sizes, sharing).map_err(step)?;
            bind(&socket, plan.interface.index, number, sharing).map_err(plan.at(XdpStep::Bind))?;
            let socket = Arc::new(socket);
            sockets.push(socket.clone());
            if let Some((ring, completion)) = rings.transmit {
                let free = take(&mut chunks, plan.frames.1);
                transmitter = Some(transmitter_of(plan, &socket, ring, completion, free));
            }
            let own = take(&mut chunks, plan.frames.0);
            queues.push(queue_of(socket, rings.receive, rings.fill, own));
        }
        if let Some(transmitter) = transmitter {
            opened.push(start(plan, filter, options, queues, transmitter, zero_copy)?);
        }
    }
    Ok(opened)
}

/// Binds a socket. The kernel frees a queue a moment after the socket is closed that had it.
fn bind(socket: &XdpSocket, interface: u32, queue: u32, sharing: Sharing<'_>) -> io::Result<()> {
    let mut attempts = 0;
    loop {
        match socket.bind(interface, queue, sharing) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && attempts < BUSY_ATTEMPTS => {
                attempts += 1;
                thread::sleep(BUSY_WAIT);
            }
            result => return result,
        }
    }
}

fn queue_of(
    socket: Arc<XdpSocket>,
    receive: ReceiveRing,
    fill: FillRing,
    chunks: Vec<Chunk>,
) -> (Arc<XdpSocket>, Queue) {
    (socket.clone(), Queue::new(socket, receive, fill, chunks))
}

fn transmitter_of(
    plan: &Plan<'_>,
    socket: &Arc<XdpSocket>,
    ring: TransmitRing,
    completion: CompletionRing,
    free: Vec<Chunk>,
) -> Transmitter {
    Transmitter::new(socket.clone(), ring, completion, free, plan.interface.mtu + LINK)
}

/// The last steps: the program, which begins to send frames.
fn start(
    plan: &Plan<'_>,
    filter: &AddressFilter,
    options: &XdpOptions,
    queues: Vec<(Arc<XdpSocket>, Queue)>,
    transmitter: Transmitter,
    zero_copy: bool,
) -> Result<Xdp, OpenError> {
    let memberships = join(plan)?;
    let sockets = Map::new(Kind::Sockets, 4, 4, plan.queues).map_err(plan.at(XdpStep::Maps))?;
    for (number, (socket, _)) in (0_u32..).zip(&queues) {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket.as_fd());
        sockets.set(&number.to_ne_bytes(), &fd.to_ne_bytes()).map_err(plan.at(XdpStep::Maps))?;
    }
    let station = match plan.mac {
        Some(mac) => Station::Own(mac),
        None => Station::Shared(plan.interface.mac),
    };
    let sets = filter.sets();
    let instructions = program::build(station, &sets.v4, &sets.v6, &sockets, program::PASS)
        .ok_or_else(|| plan.at(XdpStep::Load)(io::ErrorKind::InvalidData.into()))?;
    let program = Program::load(Purpose::Xdp, &instructions).map_err(plan.at(XdpStep::Load))?;
    let (attachment, native) = attach(plan, &program, options.attach)?;
    let any = if queues.len() > 1 { Some(any_of(&queues).map_err(plan.at(XdpStep::Wait))?) } else { None };
    let mut hazards = plan.hazards.clone();
    if !native {
        hazards.push(Hazard::Generic);
    }
    let receiver = Receiver {
        queues: queues.into_iter().map(|(_, queue)| queue).collect(),
        next: 0,
        any,
        interface: plan.interface.index,
        detect: plan.detect,
        gone: false,
        counters: ReceiveCounters::default(),
        hold: Hold { _attachment: attachment, _sockets: sockets, memberships },
    };
    Ok(Xdp {
        device: Device::new(receiver, transmitter),
        mtu: plan.interface.mtu,
        mac: plan.mac.unwrap_or(plan.interface.mac),
        native,
        zero_copy,
        queues: plan.queues,
        hazards,
    })
}

fn attach(plan: &Plan<'_>, program: &Program, how: Attach) -> Result<(Attachment, bool), OpenError> {
    let attach = |native| Attachment::new(program, plan.interface.index, native).map(|done| (done, native));
    match how {
        Attach::Native => attach(true),
        Attach::Generic => attach(false),
        // Every interface takes a program at the generic hook, but each frame has a socket buffer by then: slower.
        Attach::Auto => attach(true).or_else(|_| attach(false)),
    }
    .map_err(plan.at(XdpStep::Attach))
}

/// Asks the interface for frames that it would filter out: those to the director's own address, and to groups (RFC 4291
/// §2.7.1: neighbour solicitations).
fn join(plan: &Plan<'_>) -> Result<PacketSocket, OpenError> {
    let socket = PacketSocket::open(plan.interface.index).map_err(plan.at(XdpStep::Socket))?;
    if let Some(mac) = plan.mac.filter(|mac| *mac != plan.interface.mac)
        && socket.join(libc::PACKET_MR_UNICAST, &mac).is_err()
    {
        // An interface that cannot filter for a second address is asked for all frames. The program sorts them out.
        socket.join(libc::PACKET_MR_PROMISC, &[]).map_err(plan.at(XdpStep::Membership))?;
    }
    socket.join(libc::PACKET_MR_ALLMULTI, &[]).map_err(plan.at(XdpStep::Membership))?;
    Ok(socket)
}

/// A descriptor that is readable when one of the queues has frames (epoll(7)).
fn any_of(queues: &[(Arc<XdpSocket>, Queue)]) -> io::Result<OwnedFd> {
    let any = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (socket, _) in queues {
        epoll::add(&any, socket.as_fd(), epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
    }
    Ok(any)
}

/// The last `count` of the chunks, which are as many as were planned.
fn take(chunks: &mut Vec<Chunk>, count: u32) -> Vec<Chunk> {
    chunks.split_off(chunks.len().saturating_sub(count as usize))
}

/// Drivers whose interfaces end at a kernel: `TUN`/`TAP`, and the drivers of virtual wires between network namespaces.
const LEAVE_CHECKSUMS: [&str; 2] = ["veth", "tun"];
/// Room for link headers: Ethernet and two VLAN tags.
const LINK: usize = 22;
/// What the kernel leaves free before each frame (`XDP_PACKET_HEADROOM`).
const KERNEL_HEADROOM: usize = 256;
const SMALL_CHUNK: usize = 2_048;
const LARGE_CHUNK: usize = 4_096;
const ORDINARY_MTU: usize = SMALL_CHUNK - KERNEL_HEADROOM - LINK;
const LARGEST_MTU: usize = LARGE_CHUNK - KERNEL_HEADROOM - LINK;
/// How often, and after how long, a queue is tried again that is taken.
const BUSY_ATTEMPTS: u32 = 50;
const BUSY_WAIT: Duration = Duration::from_millis(5);
const FEWEST_FRAMES: u32 = 64;
const MOST_FRAMES: u32 = 1 << 16;
/// Frames that can wait to be sent.
const TRANSMIT_RING: u32 = 2_048;
