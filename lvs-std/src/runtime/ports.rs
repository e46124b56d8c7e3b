//! The director's ports: each interface of the configuration by the device that it is to have.

use core::error::Error;
use core::net::IpAddr;

use lvs_core::Seed;
use lvs_forward::PortId;
use lvs_forward::host::{Host, MAX_PORTS, MacAddress, Port, Prefix};
use lvs_forward::parse::Link;

use super::StartError;
use crate::config::{Configuration, DeviceKind, Interface, Mac};
use crate::device::mark::{self, MarkRule};
use crate::device::packet::{self, PacketOptions, Tap};
use crate::device::xdp::{self, AddressFilter, Attach, OpenError, XdpOptions};
use crate::device::{Device, Fan};
use crate::offload::{self, FlowOffload};
use crate::steering::Steer;
use crate::sys::interface;
use crate::worker::NewDevices;

/// A host that a director becomes, with the seed of both.
pub(super) type SeededHost = (Seed, Box<Host>);

/// The devices in the order of the interfaces.
pub(super) struct Ports {
    /// The devices of each worker, in the order of the interfaces.
    pub(super) lines: Vec<Vec<Device>>,
    /// What tells the kernel which frames are whose, if there are several workers.
    pub(super) fans: Vec<(PortId, Fan)>,
    /// What takes bulk transfers past each worker, or none.
    pub(super) offloads: Vec<FlowOffload>,
    /// The interfaces that were opened, each with whether that was by `AF_XDP`; `None` for one that is not there yet.
    pub(super) found: Vec<Option<(interface::Interface, bool)>>,
    /// What opens interfaces later.
    pub(super) opener: PortOpener,
}

/// A device for each worker, with what the hosts have to know of its interface.
pub(super) struct Opened {
    devices: Vec<Device>,
    mac: [u8; 6],
    mtu: usize,
    fan: Option<Fan>,
    /// Where each worker's offload can be put; empty where it cannot.
    taps: Vec<Tap>,
    /// Whether they are `AF_XDP` sockets.
    by_xdp: bool,
}

/// Opens the interfaces as the ports of the workers' hosts. One that is not there, or not yet usable, has a place
/// without a device.
pub(super) fn open(
    configuration: &Configuration,
    steer: Steer,
    hosts: &mut [SeededHost],
) -> Result<Ports, StartError> {
    let known = configuration.initial_addresses();
    let present: Vec<Option<interface::Interface>> = configuration.interfaces.iter().map(find).collect();
    let there: Vec<&Interface> = configuration
        .interfaces
        .iter()
        .zip(&present)
        .filter(|(_, found)| found.is_some())
        .map(|(it, _)| it)
        .collect();
    let (mut by_xdp, filter) = open_xdp(&there, &steer, &known)?;
    let mut lines: Vec<Vec<Device>> = hosts.iter().map(|_| Vec::new()).collect();
    let (mut fans, mut offloads) = (Vec::new(), offloads(configuration, steer.workers()));
    let mut all = Vec::new();
    for ((interface, found), at) in configuration.interfaces.iter().zip(present).zip(0..) {
        let port = PortId(at);
        let xdp = by_xdp.iter().position(|(name, _)| *name == interface.name);
        let opened = match xdp {
            Some(xdp) => {
                warn_of_networks(configuration, interface);
                Some(by_xdp.remove(xdp).1)
            }
            None if found.is_some() => Some(open_packet(interface, &interface.name, steer, &known)?),
            None => None,
        };
        all.push(found.zip(opened.as_ref().map(|opened| opened.by_xdp)));
        let facts = opened.as_ref().map_or_else(|| placeholder(interface, port), Opened::port);
        if opened.is_some() {
            tracing::info!("{}: MAC address {}, MTU {}", interface.name, facts.mac(), facts.mtu());
        }
        for (_, host) in hosts.iter_mut() {
            add_port(host, interface, facts)?;
        }
        let (devices, fan, taps) = opened.map_or_else(
            || (hosts.iter().map(|_| Device::absent()).collect(), None, Vec::new()),
            |opened| (opened.devices, opened.fan, opened.taps),
        );
        let devices = devices.into_iter().map(|device| marked(device, &configuration.marks));
        lines.iter_mut().zip(devices).for_each(|(line, device)| line.push(device));
        fans.extend(fan.map(|fan| (port, fan)));
        let mut taps = offloads.iter_mut().zip(&taps);
        if let Err(error) = taps.try_for_each(|(offload, tap)| offload.add_port(port, tap)) {
            tracing::info!("bulk transfers are copied, because {error}");
            // All or none: a flow that comes by an interface with the offload may leave by one without it.
            offloads.clear();
        }
    }
    if local(configuration).is_some() {
        for ((_, host), line) in hosts.iter_mut().zip(&mut lines) {
            // No packet is too long for this machine itself (IPVS does not test it either), and the least MTU of all
            // ports must stay that of the interfaces.
            host.add_port(Port::bare(u16::MAX)).map_err(StartError::interface("this machine's stack"))?;
            line.push(Device::absent());
        }
    }
    let opener = PortOpener { steer, marks: configuration.marks.clone(), filter };
    Ok(Ports { lines, fans, offloads, found: all, opener })
}

/// The port behind the interfaces' ones, for real servers that are this machine itself. Its place is empty until there
/// is such a server. `None` when the interfaces take all ports.
pub(super) fn local(configuration: &Configuration) -> Option<PortId> {
    let at = configuration.interfaces.len();
    (at < MAX_PORTS).then_some(PortId(at as u8))
}

impl Opened {
    /// What the hosts have to know.
    fn port(&self) -> Port {
        // A packet of IP is no longer than that, whatever the loopback interface says.
        Port::ethernet(MacAddress(self.mac), port_mtu(self.mtu))
    }
}

/// What an interface's MTU is to a host.
pub(super) fn port_mtu(mtu: usize) -> u16 {
    u16::try_from(mtu).unwrap_or(u16::MAX)
}

/// An interface that can be opened now. A socket of `AF_XDP` can only be bound to one that is up.
fn find(interface: &Interface) -> Option<interface::Interface> {
    let found = interface::Interface::named(&interface.name).ok()?;
    (found.up || interface.device == DeviceKind::Packet).then_some(found)
}

/// What the place of an interface is for the hosts until the interface is there: nothing comes or goes by it.
fn placeholder(interface: &Interface, port: PortId) -> Port {
    let mac = match interface.mac {
        Mac::Is(mac) => mac,
        Mac::Own | Mac::Same => MacAddress([2, 0, 0, 0, 0, port.0]),
    };
    Port::ethernet(mac, USUAL_MTU)
}

/// The device, whose frames are marked if there are rules for that.
fn marked(device: Device, rules: &[MarkRule]) -> Device {
    if rules.is_empty() { device } else { mark::marked(device, Link::Ethernet, rules.to_vec()) }
}

/// Makes an interface a port of a host, with what the host is on that network.
fn add_port(host: &mut Host, interface: &Interface, port: Port) -> Result<(), StartError> {
    let name = &interface.name;
    let port = interface.vlan.map_or(port, |vlan| port.with_vlan(vlan));
    let port = host.add_port(port).map_err(StartError::interface(name))?;
    for &(address, length) in &interface.addresses {
        let added = host.add_address(port, address, length);
        added.map_err(|error| StartError::Address { address, error: Box::new(error) })?;
    }
    for route in &interface.routes {
        if let Some(prefix) = Prefix::new(route.to.0, route.to.1) {
            host.add_route(prefix, route.via, port).map_err(StartError::interface(name))?;
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

/// Opens interfaces while the director runs.
pub(super) struct PortOpener {
    steer: Steer,
    marks: Vec<MarkRule>,
    /// What tells the XDP programs of addresses, if there are any.
    pub(super) filter: Option<AddressFilter>,
}

impl PortOpener {
    /// Opens an interface that is called `name` now. `by_xdp` says by which kind of device it was used before, if it
    /// was. Returns whether it is used by `AF_XDP` now.
    pub(super) fn open(
        &mut self,
        (interface, name): (&Interface, &str),
        by_xdp: Option<bool>,
        addresses: &[IpAddr],
    ) -> Result<(NewDevices, bool), Box<dyn Error>> {
        let wanted = match (interface.device, by_xdp) {
            (DeviceKind::Packet, _) => false,
            (DeviceKind::Xdp, _) => true,
            (DeviceKind::Auto, Some(before)) => before,
            (DeviceKind::Auto, None) => xdp::assess(name).is_ok_and(|found| found.is_empty()),
        };
        let opened = if wanted {
            self.open_xdp(interface, name, addresses)?
        } else {
            open_packet(interface, name, self.steer, addresses)?
        };
        let (port, by_xdp) = (opened.port(), opened.by_xdp);
        let Opened { devices, fan, taps, .. } = opened;
        let devices = devices.into_iter().map(|device| marked(device, &self.marks)).collect();
        Ok((NewDevices { devices, port, taps, fan }, by_xdp))
    }

    fn open_xdp(
        &mut self,
        interface: &Interface,
        name: &str,
        addresses: &[IpAddr],
    ) -> Result<Opened, Box<dyn Error>> {
        let (port, options) = ((name, mac_of(interface, name)?), XdpOptions::default());
        let opened = match &self.filter {
            Some(filter) => xdp::open_another_fanned(port, &options, filter, (&self.steer, addresses))?,
            None => {
                let (opened, filter) = xdp::open_fanned(&[port], &options, &self.steer, addresses)?;
                self.filter = Some(filter);
                opened.into_iter().next().ok_or("no device")?
            }
        };
        describe(name, &opened.properties);
        Ok(opened.into())
    }
}

impl From<xdp::Fanned> for Opened {
    fn from(xdp::Fanned { devices, properties, fan, .. }: xdp::Fanned) -> Self {
        let xdp::Properties { mac, mtu, .. } = properties;
        Self { devices, mac, mtu, fan: Some(fan), taps: Vec::new(), by_xdp: true }
    }
}

fn open_packet(
    interface: &Interface,
    name: &str,
    steer: Steer,
    known: &[IpAddr],
) -> Result<Opened, StartError> {
    let options = PacketOptions { mac: mac_of(interface, name)?, ..PacketOptions::default() };
    if steer.workers() == 1 {
        let packet = packet::open(name, &options).map_err(StartError::interface(name))?;
        let (mac, mtu) = (packet.mac, packet.mtu);
        let (devices, taps) = (vec![packet.device], vec![packet.tap]);
        return Ok(Opened { devices, mac, mtu, fan: None, taps, by_xdp: false });
    }
    let packet = packet::open_fanned(name, &options, steer, known);
    let packet = packet.map_err(StartError::interface(name))?;
    let (mac, mtu) = (packet.mac, packet.mtu);
    let (devices, fan, taps) = (packet.devices, Some(packet.fan), packet.taps);
    Ok(Opened { devices, mac, mtu, fan, taps, by_xdp: false })
}

type ByXdp<'a> = (Vec<(&'a str, Opened)>, Option<AddressFilter>);

/// Opens those interfaces by `AF_XDP` that are to have it, and those that may, if nothing speaks against it. What
/// does is logged.
fn open_xdp<'a>(
    interfaces: &[&'a Interface],
    steer: &Steer,
    known: &[IpAddr],
) -> Result<ByXdp<'a>, StartError> {
    let mut wanted: Vec<&Interface> = Vec::new();
    let mut optional = false;
    for interface in interfaces {
        match interface.device {
            DeviceKind::Packet => {}
            DeviceKind::Xdp => wanted.push(interface),
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
    let open_all = |wanted: &[&Interface], attach| open_together(wanted, attach, steer, known);
    let opened = match open_all(&wanted, if optional { Attach::Native } else { Attach::Auto })? {
        Ok(opened) => opened,
        Err(error) if optional => {
            tracing::info!("packet sockets where there is a choice, because {error}");
            wanted.retain(|interface| interface.device == DeviceKind::Xdp);
            open_all(&wanted, Attach::Auto)?.map_err(StartError::interface(XDP))?
        }
        Err(error) => return Err(StartError::interface(XDP)(error)),
    };
    let Some((all, steering)) = opened else { return Ok((Vec::new(), None)) };
    let mut ports = Vec::new();
    for (interface, opened) in wanted.iter().zip(all) {
        describe(&interface.name, &opened.properties);
        ports.push((interface.name.as_str(), opened.into()));
    }
    Ok((ports, Some(steering)))
}

type Together = Option<(Vec<xdp::Fanned>, AddressFilter)>;

/// Opens interfaces with one memory; inside, `None` when there are none.
fn open_together(
    interfaces: &[&Interface],
    attach: Attach,
    steer: &Steer,
    known: &[IpAddr],
) -> Result<Result<Together, OpenError>, StartError> {
    if interfaces.is_empty() {
        return Ok(Ok(None));
    }
    let mut ports = Vec::new();
    for interface in interfaces {
        ports.push((interface.name.as_str(), mac_of(interface, &interface.name)?));
    }
    let options = XdpOptions { attach, ..XdpOptions::default() };
    Ok(xdp::open_fanned(&ports, &options, steer, known).map(Some))
}

/// The configuration with the kind of device that each interface was opened by, where it left the choice.
pub(super) fn as_opened(
    configuration: &Configuration,
    found: &[Option<(interface::Interface, bool)>],
) -> Configuration {
    let mut configuration = configuration.clone();
    for (interface, found) in configuration.interfaces.iter_mut().zip(found) {
        if let Some((_, by_xdp)) = found {
            interface.device = if *by_xdp { DeviceKind::Xdp } else { DeviceKind::Packet };
        }
    }
    configuration
}

fn describe(name: &str, opened: &xdp::Properties) {
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

/// The director's own MAC address on an interface that is called `name` now; `None` if it shares the interface's.
fn mac_of(interface: &Interface, name: &str) -> Result<Option<[u8; 6]>, StartError> {
    Ok(match interface.mac {
        Mac::Own => Some(packet::own_mac(name).map_err(StartError::interface(name))?),
        Mac::Same => None,
        Mac::Is(mac) => Some(mac.0),
    })
}

/// What interfaces that are opened together are named in errors.
const XDP: &str = "AF_XDP";
/// The MTU of Ethernet, for an interface that is not there to be asked.
const USUAL_MTU: u16 = 1_500;
