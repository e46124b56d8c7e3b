//! The director's ports: each interface of the configuration by the device that it is to have.

use core::net::IpAddr;

use lvs_core::Seed;
use lvs_forward::PortId;
use lvs_forward::host::{Host, MacAddress, Port, Prefix};

use super::StartError;
use crate::device::Device;
use crate::device::packet::{self, Fan, PacketOptions, Tap};
use crate::device::xdp::{self, AddressFilter, Attach, OpenError, Xdp, XdpOptions};
use crate::offload::{self, FlowOffload};
use crate::steering::Steer;

use crate::config::{Configuration, DeviceKind, Interface, Mac};

/// A host that a director becomes, with the seed of both.
pub(super) type SeededHost = (Seed, Box<Host>);

/// The devices in the order of the interfaces.
pub(super) struct Ports {
    /// The devices of each worker, in the order of the interfaces.
    pub(super) lines: Vec<Vec<Device>>,
    /// What tells the XDP program of addresses, if there is one.
    pub(super) filter: Option<AddressFilter>,
    /// What tells the kernel which frames are whose, if there are several workers.
    pub(super) fans: Vec<Fan>,
    /// What takes bulk transfers past each worker, or none.
    pub(super) offloads: Vec<FlowOffload>,
}

/// A device for each worker, with what the hosts have to know of its interface.
struct Opened {
    devices: Vec<Device>,
    mac: [u8; 6],
    mtu: usize,
    fan: Option<Fan>,
    /// Where each worker's offload can be put; empty where it cannot.
    taps: Vec<Tap>,
}

/// Opens the interfaces as the ports of the workers' hosts.
pub(super) fn open(
    configuration: &Configuration,
    steer: Steer,
    hosts: &mut [SeededHost],
) -> Result<Ports, StartError> {
    let interfaces = &configuration.interfaces;
    let known = configuration.initial_addresses();
    let (mut by_xdp, filter) = open_xdp(interfaces, steer.workers())?;
    let mut lines: Vec<Vec<Device>> = hosts.iter().map(|_| Vec::new()).collect();
    let (mut fans, mut offloads) = (Vec::new(), offloads(configuration, steer.workers()));
    for (interface, at) in interfaces.iter().zip(0..) {
        let xdp = by_xdp.iter().position(|(name, _)| *name == interface.name);
        let opened = match xdp {
            Some(xdp) => {
                warn_of_networks(configuration, interface);
                by_xdp.remove(xdp).1
            }
            None => open_packet(interface, steer, &known)?,
        };
        // A packet of IP is no longer than that, whatever the loopback interface says.
        let mtu = u16::try_from(opened.mtu).unwrap_or(u16::MAX);
        tracing::info!("{}: MAC address {}, MTU {mtu}", interface.name, MacAddress(opened.mac));
        for (_, host) in hosts.iter_mut() {
            add_port(host, interface, MacAddress(opened.mac), mtu)?;
        }
        lines.iter_mut().zip(opened.devices).for_each(|(line, device)| line.push(device));
        fans.extend(opened.fan);
        let mut taps = offloads.iter_mut().zip(&opened.taps);
        if let Err(error) = taps.try_for_each(|(offload, tap)| offload.add_port(PortId(at), tap)) {
            tracing::info!("bulk transfers are copied, because {error}");
            // All or none: a flow that comes by an interface with the offload may leave by one without it.
            offloads.clear();
        }
    }
    Ok(Ports { lines, filter, fans, offloads })
}

/// Makes an interface a port of a host, with what the host is on that network.
fn add_port(host: &mut Host, interface: &Interface, mac: MacAddress, mtu: u16) -> Result<(), StartError> {
    let name = &interface.name;
    let port = host.add_port(Port::ethernet(mac, mtu)).map_err(StartError::interface(name))?;
    for &(address, length) in &interface.addresses {
        let added = host.add_address(port, address, length);
        added.map_err(|error| StartError::Address { address, error: Box::new(error) })?;
    }
    for route in &interface.routes {
        if let Some(prefix) = Prefix::new(route.to.0, route.to.1) {
            host.add_route(prefix, Some(route.via), port).map_err(StartError::interface(name))?;
        }
    }
    Ok(())
}

/// One for each worker, if they are wanted and to be had.
fn offloads(configuration: &Configuration, workers: usize) -> Vec<FlowOffload> {
    let count = if configuration.workers.offload { workers } else { 0 };
    let made: Result<Vec<_>, _> = (0..count).map(|_| FlowOffload::new(offload::CONNECTIONS)).collect();
    made.unwrap_or_else(|error| {
        tracing::info!("bulk transfers are copied: {error}");
        Vec::new()
    })
}

fn open_packet(interface: &Interface, steer: Steer, known: &[IpAddr]) -> Result<Opened, StartError> {
    let options = PacketOptions { mac: mac_of(interface)?, ..PacketOptions::default() };
    if steer.workers() == 1 {
        let packet =
            packet::open(&interface.name, &options).map_err(StartError::interface(&interface.name))?;
        return Ok(Opened {
            devices: vec![packet.device],
            mac: packet.mac,
            mtu: packet.mtu,
            fan: None,
            taps: vec![packet.tap],
        });
    }
    let packet = packet::open_fanned(&interface.name, &options, steer, known);
    let packet = packet.map_err(StartError::interface(&interface.name))?;
    let (mac, mtu) = (packet.mac, packet.mtu);
    Ok(Opened { devices: packet.devices, mac, mtu, fan: Some(packet.fan), taps: packet.taps })
}

type ByXdp<'a> = (Vec<(&'a str, Opened)>, Option<AddressFilter>);

/// Opens those interfaces by `AF_XDP` that are to have it, and those that may, if nothing speaks against it. What
/// does is logged.
fn open_xdp(interfaces: &[Interface], workers: usize) -> Result<ByXdp<'_>, StartError> {
    let mut wanted: Vec<&Interface> = Vec::new();
    let mut optional = false;
    for interface in interfaces {
        match interface.device {
            DeviceKind::Packet => {}
            DeviceKind::Xdp => wanted.push(interface),
            DeviceKind::Auto if workers > 1 => {
                let name = &interface.name;
                tracing::info!("{name}: packet sockets, because AF_XDP cannot be shared by several workers");
            }
            DeviceKind::Auto => match xdp::assess(&interface.name) {
                Ok(hazards) if hazards.is_empty() => {
                    optional = true;
                    wanted.push(interface);
                }
                Ok(hazards) => {
                    for hazard in hazards {
                        tracing::info!("{}: packet sockets, because {hazard}", interface.name);
                    }
                }
                Err(error) => tracing::info!("packet sockets, because {error}"),
            },
        }
    }
    let opened = match open_together(&wanted, if optional { Attach::Native } else { Attach::Auto })? {
        Ok(opened) => opened,
        Err(error) if optional => {
            tracing::info!("packet sockets where there is a choice, because {error}");
            wanted.retain(|interface| interface.device == DeviceKind::Xdp);
            open_together(&wanted, Attach::Auto)?.map_err(StartError::interface(XDP))?
        }
        Err(error) => return Err(StartError::interface(XDP)(error)),
    };
    let Some((all, steering)) = opened else { return Ok((Vec::new(), None)) };
    let mut ports = Vec::new();
    for (interface, opened) in wanted.iter().zip(all) {
        describe(&interface.name, &opened);
        let Xdp { device, mac, mtu, .. } = opened;
        ports.push((
            interface.name.as_str(),
            Opened { devices: vec![device], mac, mtu, fan: None, taps: Vec::new() },
        ));
    }
    Ok((ports, Some(steering)))
}

type Together = Option<(Vec<Xdp>, AddressFilter)>;

/// Opens interfaces with one memory; inside, `None` when there are none.
fn open_together(
    interfaces: &[&Interface],
    attach: Attach,
) -> Result<Result<Together, OpenError>, StartError> {
    if interfaces.is_empty() {
        return Ok(Ok(None));
    }
    let mut ports = Vec::new();
    for interface in interfaces {
        ports.push((interface.name.as_str(), mac_of(interface)?));
    }
    let options = XdpOptions { attach, ..XdpOptions::default() };
    Ok(xdp::open(&ports, &options).map(Some))
}

fn describe(name: &str, opened: &Xdp) {
    let (runs, copies) = (
        if opened.native { "run by the driver" } else { "run by the kernel" },
        if opened.zero_copy { "nothing is copied" } else { "the kernel copies" },
    );
    tracing::info!("{name}: AF_XDP on {} queues, its program {runs}, {copies}", opened.queues);
    for hazard in &opened.hazards {
        tracing::warn!("{name}: {hazard}");
    }
}

/// The XDP program knows addresses, not networks.
fn warn_of_networks(configuration: &Configuration, interface: &Interface) {
    let network = configuration.marks.iter().map(|rule| rule.destination);
    let network = network.into_iter().find(|to| !matches!(to.len(), 32 | 128));
    if let (Mac::Same, Some(network)) = (interface.mac, network) {
        tracing::warn!(
            "{}: by AF_XDP with the interface's MAC address, packets to {network} do not come to the director but for \
             addresses that it answers for; give it a MAC address of its own",
            interface.name
        );
    }
}

fn mac_of(interface: &Interface) -> Result<Option<[u8; 6]>, StartError> {
    Ok(match interface.mac {
        Mac::Own => Some(packet::own_mac(&interface.name).map_err(StartError::interface(&interface.name))?),
        Mac::Same => None,
        Mac::Is(mac) => Some(mac.0),
    })
}

/// What interfaces that are opened together are named in errors.
const XDP: &str = "AF_XDP";
