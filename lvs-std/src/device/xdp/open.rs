//! From interfaces to ports: sockets, addresses, programs.

use core::net::IpAddr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::event::epoll;

use super::error::XdpStep;
use super::filter::AddressFilter;
use super::plan::Plan;
use super::program::{self, Maps, Station};
use super::receive::{Hold, Queue, Receiver};
use super::sockets::{self, Part, Sockets};
use super::{Attach, Fanned, Hazard, Mode, OpenError, Properties, Xdp, XdpOptions};
use crate::device::{Device, Fan, ReceiveCounters};
use crate::steering::Steer;
use crate::sys::bpf::{Attachment, Kind, Map, Program, Purpose};
use crate::sys::packet::PacketSocket;

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
    let filter = new_filter(ports)?;
    let opened = open_with(ports, options, &filter, &Steer::alone())?;
    Ok((opened.into_iter().filter_map(Xdp::of_one).collect(), filter))
}

/// Opens interfaces as [`open`] does, for as many workers as `steer` has. `addresses` are those of the director: what
/// goes there is a request. From here on, each port's [`Fan`] tells of them, and the filter of all others.
///
/// # Errors
/// As for [`open`], and when the addresses are more than the filter takes.
pub fn open_fanned(
    ports: &[(&str, Option<[u8; 6]>)],
    options: &XdpOptions,
    steer: &Steer,
    addresses: &[IpAddr],
) -> Result<(Vec<Fanned>, AddressFilter), OpenError> {
    let filter = new_filter(ports)?;
    tell_first(ports, &filter, addresses)?;
    Ok((open_with(ports, options, &filter, steer)?, filter))
}

/// Opens one more interface as a port of a director that has others, or had it before, for as many workers as `steer`
/// has: its program knows the addresses of this filter. It has a memory of its own, so that frames between it and the
/// other ports are copied once. `addresses` are those of the director.
///
/// # Errors
/// As for [`open_fanned`].
pub fn open_another_fanned(
    (name, mac): (&str, Option<[u8; 6]>),
    options: &XdpOptions,
    filter: &AddressFilter,
    (steer, addresses): (&Steer, &[IpAddr]),
) -> Result<Fanned, OpenError> {
    let ports = [(name, mac)];
    tell_first(&ports, filter, addresses)?;
    open_with(&ports, options, filter, steer)?.into_iter().next().ok_or_else(|| nothing(name))
}

/// What would go less well by `AF_XDP` on the interface `name` than by packet sockets, as far as that can be told
/// without opening it.
///
/// # Errors
/// When there is no such interface, when it is no Ethernet, or when its MTU is too large.
pub fn assess(name: &str) -> Result<Vec<Hazard>, OpenError> {
    Plan::new(name, None, &XdpOptions::default()).map(|plan| plan.hazards)
}

fn new_filter(ports: &[(&str, Option<[u8; 6]>)]) -> Result<AddressFilter, OpenError> {
    AddressFilter::new().map_err(OpenError::at(first_of(ports), XdpStep::Maps))
}

/// Tells of addresses before the first frame comes, so that it is steered as well.
fn tell_first(
    ports: &[(&str, Option<[u8; 6]>)],
    filter: &AddressFilter,
    addresses: &[IpAddr],
) -> Result<(), OpenError> {
    let failed = OpenError::at(first_of(ports), XdpStep::Maps);
    filter.set_own(addresses).map_err(|error| failed(io::Error::other(error)))
}

fn first_of<'a>(ports: &[(&'a str, Option<[u8; 6]>)]) -> &'a str {
    ports.first().map_or("", |(name, _)| name)
}

fn nothing(name: &str) -> OpenError {
    OpenError::at(name, XdpStep::Find)(io::ErrorKind::NotFound.into())
}

fn open_with(
    ports: &[(&str, Option<[u8; 6]>)],
    options: &XdpOptions,
    filter: &AddressFilter,
    steer: &Steer,
) -> Result<Vec<Fanned>, OpenError> {
    let plans =
        ports.iter().map(|(name, mac)| Plan::new(name, *mac, options)).collect::<Result<Vec<_>, _>>()?;
    let open_all = |zero_copy| {
        let opened = sockets::open(&plans, steer.workers(), zero_copy)?;
        let ports = plans.iter().zip(opened);
        ports
            .map(|(plan, sockets)| start(plan, filter, (options.attach, steer), sockets, zero_copy))
            .collect()
    };
    match options.mode {
        Mode::Copy => open_all(false),
        Mode::ZeroCopy => open_all(true),
        // Only whoever binds learns whether the drivers can.
        Mode::Auto => {
            open_all(true).or_else(
                |error: OpenError| {
                    if error.step() == XdpStep::Bind { open_all(false) } else { Err(error) }
                },
            )
        }
    }
}

/// The last steps: the program, which begins to send frames.
fn start(
    plan: &Plan<'_>,
    filter: &AddressFilter,
    (how, steer): (Attach, &Steer),
    Sockets { all, workers }: Sockets,
    zero_copy: bool,
) -> Result<Fanned, OpenError> {
    let memberships = join(plan)?;
    let map = Map::new(Kind::Sockets, 4, 4, all.len() as u32).map_err(plan.at(XdpStep::Maps))?;
    for (queue, worker, socket) in all {
        let place = queue * steer.workers() as u32 + worker as u32;
        let fd = socket.as_fd().as_raw_fd();
        map.set(&place.to_ne_bytes(), &fd.to_ne_bytes()).map_err(plan.at(XdpStep::Maps))?;
    }
    let station = match plan.mac {
        Some(mac) => Station::Own(mac),
        None => Station::Shared(plan.interface.mac),
    };
    let sets = filter.sets();
    let maps = Maps { v4: sets.v4.number(), v6: sets.v6.number(), sockets: map.number() };
    let instructions = program::build(station, maps, steer, plan.queues)
        .ok_or_else(|| plan.at(XdpStep::Load)(io::ErrorKind::InvalidData.into()))?;
    let program = Program::load(Purpose::Xdp, &instructions).map_err(plan.at(XdpStep::Load))?;
    let (attachment, native) = attach(plan, &program, how)?;
    let mut hazards = plan.hazards.clone();
    if !native {
        hazards.push(Hazard::Generic);
    }
    let hold = Arc::new(Hold { _attachment: attachment, _sockets: map, memberships });
    let mut devices = Vec::new();
    for Part { queues, transmitter } in workers {
        let any = any_of(&queues).map_err(plan.at(XdpStep::Wait))?;
        let receiver = Receiver {
            queues,
            next: 0,
            any,
            interface: plan.interface.index,
            detect: plan.detect,
            gone: false,
            counters: ReceiveCounters::default(),
            hold: hold.clone(),
        };
        devices.push(Device::new(receiver, transmitter));
    }
    let properties = Properties {
        mtu: plan.interface.mtu,
        mac: plan.mac.unwrap_or(plan.interface.mac),
        native,
        zero_copy,
        queues: plan.queues,
        hazards,
    };
    Ok(Fanned { devices, properties, fan: Fan::new(filter.clone()) })
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

/// A descriptor that is readable when one of several queues has frames (epoll(7)).
fn any_of(queues: &[Queue]) -> io::Result<Option<OwnedFd>> {
    if queues.len() < 2 {
        return Ok(None);
    }
    let any = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for queue in queues {
        epoll::add(&any, queue.as_fd(), epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
    }
    Ok(Some(any))
}
