//! An offload in the kernel for bulk TCP: established connections pass the director by, without a copy.
//!
//! A packet socket copies each frame to this process and back, which for merged segments of 64 KiB costs more than all
//! else that is done for them. An offload is a pair of small programs on each interface. When a connection has sent
//! many merged frames, the worker shows the programs how the director rewrites them: addresses, ports, checksums, MAC
//! addresses, interface. From then on its segments go from interface to interface as the kernel's own references, in
//! both directions under NAT, in one under direct routing.
//!
//! The director stays in charge:
//!
//! * What opens or closes a connection (SYN, FIN, RST), and everything that is out of the ordinary (options of IP,
//!   fragments, too long, no hops left), still comes to it, and after a FIN or RST everything does. A
//!   FIN or RST behind options of IP takes a tenth of a second to do that.
//! * What is installed is learnt from a frame that the director itself has rewritten, and only if it explains every
//!   byte of that.
//! * Ten times a second, and before and after every command, what has passed is counted at connection, real server,
//!   service and director ([`Director::account_offloaded`]), which also moves deadlines; and whether the way is still
//!   the right one is asked. A server that is removed, a connection that is cut, a neighbour with a new MAC address end
//!   it.
//! * When the process ends, however it does, the programs are gone with it.
//! * Packets that were kept from the director and did not come to the program on the interface, because somebody put
//!   another one before it that takes them, are missed: within some tenths of a second if there are many. Then there is
//!   no offload any more.
//!
//! Such segments are not seen by wrappers of the devices ([`pcap::record`](crate::device::pcap::record) among them).
//! With sync daemons as master the director sees every packet, so nothing is installed.
//!
//! Works with [packet sockets](crate::device::packet), also with several of them for one interface. Needs Linux 6.6 or
//! newer, and `CAP_BPF` and `CAP_NET_ADMIN` of the machine itself.

mod elephants;
mod flows;
mod maps;
mod program;
mod recognise;
mod route;
#[cfg(any(test, feature = "lab"))]
pub mod simulation;

use core::fmt;
use core::ops::AddAssign;
use std::io;

use lvs_core::conn::Offloaded;
use lvs_core::{Direction, Director, Forward, Method, Packet, Path, Store, Tick};
use lvs_forward::host::Host;
use lvs_forward::{Checksum, Forwarder, Frame, Outcome, PortId};

use self::elephants::Elephants;
use self::flows::{FlowRule, Flows};
use self::maps::Maps;
use self::recognise::Gate;
use self::route::{Head, Key, Route, Shape, key_of_answers};
use crate::device::packet::Tap;
use crate::sys::bpf::{Attachment, Program, Purpose};

/// Programs on some interfaces, and what they have been installed; for one
/// [worker](crate::worker::Worker::set_offload).
pub struct FlowOffload {
    maps: Maps,
    /// By the ports' numbers.
    ports: Vec<Option<Port>>,
    flows: Flows,
    elephants: Elephants,
    /// Frames of the batch at hand that something is to be learnt from.
    samples: heapless::Vec<Sample, SAMPLES>,
    synced: Tick,
    /// Connections that wait to be synced since then.
    unsynced: usize,
    counters: FlowOffloadCounters,
}

struct Port {
    gate: Gate,
    /// Held for as long as it is to work; none where the kernel is simulated. The filter belongs to its socket.
    _ingress: Option<Attachment>,
}

/// The beginning of a frame before the director saw it.
struct Sample {
    at: usize,
    head: Head,
    shape: Shape,
    key: Key,
}

/// What an offload did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlowOffloadCounters {
    /// Directions of connections that were installed to the kernel.
    pub installed: u64,
    /// Packets that passed, merged ones once each.
    pub packets: u64,
    /// Bytes of these IP packets.
    pub bytes: u64,
    /// Packets that were to pass and did not: another program at the interface has taken them, and TCP has sent them
    /// again. Once there are some, everything is the director's for good.
    pub lost: u64,
}

impl AddAssign for FlowOffloadCounters {
    /// What those of several workers did, together.
    fn add_assign(&mut self, other: Self) {
        let Self { installed, packets, bytes, lost } = other;
        self.installed += installed;
        self.packets += packets;
        self.bytes += bytes;
        self.lost += lost;
    }
}

impl FlowOffload {
    /// One without ports, for at most so many connections at a time, at least 1.
    /// [`required_bytes`](Self::required_bytes) says what it takes.
    ///
    /// # Errors
    /// [`FlowOffloadError`], when the kernel does not let this process.
    pub fn new(connections: u16) -> Result<Self, FlowOffloadError> {
        let connections = u32::from(connections.max(1));
        let maps =
            Maps::new(connections).map_err(|source| FlowOffloadError { step: SetupStep::Maps, source })?;
        Ok(Self::over(maps, connections))
    }

    fn over(maps: Maps, connections: u32) -> Self {
        Self {
            maps,
            ports: Vec::new(),
            flows: Flows::new(connections),
            elephants: Elephants::new(),
            samples: heapless::Vec::new(),
            synced: Tick::ZERO,
            unsynced: 0,
            counters: FlowOffloadCounters::default(),
        }
    }

    /// Puts the programs at a port's interface. Connections go by ports that have them, and by no others. To be called
    /// in the network namespace of the interface.
    ///
    /// # Errors
    /// [`FlowOffloadError`], when the kernel refuses them. The port works without.
    pub fn add_port(&mut self, port: PortId, tap: &Tap) -> Result<(), FlowOffloadError> {
        let gate = Gate { mac: tap.mac, chooses: tap.chooses, shares: tap.shares, interface: tap.interface };
        let failed = |step| move |source| FlowOffloadError { step, source };
        let load = |purpose, built: Option<Vec<_>>| {
            let built = built.ok_or(io::ErrorKind::InvalidData);
            built.map_err(io::Error::from).and_then(|program| Program::load(purpose, &program))
        };
        let numbers = self.maps.numbers();
        // Both programs are loaded before one is attached. A filter alone would keep frames from the director that
        // nobody forwards.
        let filter = load(Purpose::Filter, program::filter(&gate, &numbers));
        let ingress = load(Purpose::Ingress, program::ingress(&gate, &numbers));
        let (filter, ingress) =
            (filter.map_err(failed(SetupStep::Load))?, ingress.map_err(failed(SetupStep::Load))?);
        // The forwarding program comes first for that reason, too: the filter leaves nothing out before it is there.
        let attached = Attachment::ingress(&ingress, tap.interface).map_err(failed(SetupStep::Attach))?;
        filter.attach_to(tap.socket()).map_err(failed(SetupStep::Attach))?;
        self.set_port(port, Port { gate, _ingress: Some(attached) });
        Ok(())
    }

    fn set_port(&mut self, port: PortId, with: Port) {
        let at = usize::from(port.0);
        if self.ports.len() <= at {
            self.ports.resize_with(at + 1, || None);
        }
        self.ports[at] = Some(with);
    }

    /// Takes the programs from a port whose interface is gone or is left. Connections go on by the director.
    pub(crate) fn remove_port<S: Store>(&mut self, port: PortId, director: &mut Director<S>, now: Tick) {
        let Some(place) = self.ports.get_mut(usize::from(port.0)) else { return };
        if place.take().is_none() {
            return;
        }
        // Any of them may come or leave by this port, and all are learnt again soon.
        let Self { flows, maps, counters, .. } = self;
        let count = |packet: &Packet, forward: &Forward, passed, _| {
            director.account_offloaded(now, packet, Some(forward), passed);
            None
        };
        flows.rewind();
        flows.sync_counters(now, flows.len(), maps, counters, count, |_| {});
    }

    /// Bytes of this process that one for so many connections takes; the kernel's own for its map are not among them.
    #[must_use]
    pub const fn required_bytes(connections: u16) -> usize {
        Flows::required_bytes(connections as usize) + Elephants::REQUIRED_BYTES + size_of::<Self>()
    }

    /// What it did so far.
    #[must_use]
    pub const fn counters(&self) -> FlowOffloadCounters {
        self.counters
    }

    /// Looks at frames before they are decided.
    pub(crate) fn look(&mut self, frames: &[Frame<'_>]) {
        self.samples.clear();
        if self.counters.lost > 0 {
            return;
        }
        let (curious, has_room) = (self.elephants.is_curious(), self.flows.has_room());
        for (at, frame) in frames.iter().enumerate() {
            // A merged frame is the sign of a bulk transfer. Single segments cost the director too little to be worth
            // an offload.
            let merged = has_room && frame.offload.merged.is_some();
            if !merged && !curious {
                continue;
            }
            let Some(interface) = self.interface(frame.port) else { continue };
            let head = head(frame);
            let Some(shape) = Shape::of(&head) else { continue };
            let key = shape.key(&head, interface);
            if (curious && self.elephants.wants(&key)) || (merged && self.elephants.sees(&key)) {
                // Others will do as well another time.
                let _ = self.samples.push(Sample { at, head, shape, key });
            }
        }
    }

    /// Learns from the same frames after they were carried out.
    pub(crate) fn learn<S: Store>(
        &mut self,
        now: Tick,
        director: &mut Director<S>,
        forwarder: &mut Forwarder,
        frames: &[Frame<'_>],
        outcomes: &[Outcome],
    ) {
        while let Some(sample) = self.samples.pop() {
            let (frame, outcome) = (frames.get(sample.at), outcomes.get(sample.at));
            if let (Some(frame), Some(Outcome::Send)) = (frame, outcome)
                && let Some(rule) = self.rule(now, director, forwarder.host_mut(), &sample, frame)
            {
                self.install(now, rule);
            }
        }
    }

    /// What a frame teaches, if the director agrees that others like it go the same way.
    fn rule<S: Store>(
        &self,
        now: Tick,
        director: &mut Director<S>,
        host: &mut Host,
        sample: &Sample,
        frame: &Frame<'_>,
    ) -> Option<FlowRule> {
        let interface = self.interface(frame.port)?;
        let partial = match frame.offload.checksum {
            Checksum::Complete => false,
            Checksum::Partial { .. } => true,
        };
        let route = Route::learn(&sample.head, &head(frame), partial)?;
        let mut packet = sample.shape.packet(&sample.head)?;
        let destination = packet.flow.addresses.destination();
        if !host.owns(destination) {
            packet.path = Path::Through;
        }
        let forward = director.account_offloaded(now, &packet, None, Offloaded::default())?;
        match forward.method {
            Method::Nat | Method::Direct => {}
            Method::Bypass | Method::Local | Method::Tunnel(_) => return None,
        }
        let hop = match forward.direction {
            Direction::Request => forward.address(),
            Direction::Reply => destination,
        };
        // The frame shows how packets went a moment ago. Unless the host would send the next one that way too, it is no
        // use.
        let (port, mac, mtu) = host.way_to(now, hop)?;
        if host.owns(hop) || port != frame.port || mac != route.next() {
            return None;
        }
        let answers = route.is_nat().then(|| key_of_answers(&head(frame), sample.shape, interface));
        Some(FlowRule { forward, packet, key: sample.key, answers, route, hop, port, interface, mtu })
    }

    fn install(&mut self, now: Tick, rule: FlowRule) {
        let (key, answers) = (rule.key, rule.answers);
        // When the map is full, or the kernel has no memory, the connection goes on as before.
        if self.flows.install(now, &self.maps, rule).is_some() {
            self.counters.installed += 1;
            self.elephants.has(&key);
            if let Some(answers) = answers
                && !self.flows.knows(&answers)
            {
                self.elephants.want(answers);
            }
        }
    }

    /// Counts what has passed, and ends what is no longer right: of all connections if `at_once`, else of each ten
    /// times a second, a few at a time.
    pub(crate) fn sync_counters<S: Store>(
        &mut self,
        now: Tick,
        director: &mut Director<S>,
        host: &mut Host,
        at_once: bool,
    ) {
        if self.flows.is_empty() {
            return;
        }
        if at_once || now.millis_since(self.synced) >= SYNC_MS {
            self.synced = now;
            self.unsynced = self.flows.len();
            self.elephants.give_up();
        }
        if at_once {
            self.flows.rewind();
        }
        let most = if at_once { self.unsynced } else { self.unsynced.min(PIECE) };
        self.unsynced -= most;
        let mut count = |packet: &Packet, forward: &Forward, passed, hop| {
            let goes_on = director.account_offloaded(now, packet, Some(forward), passed).is_some();
            let is_local = host.owns(packet.flow.addresses.destination());
            // Addresses come and go; what was for the director may be another host's now.
            let same = is_local == (packet.path == Path::Local) && !host.owns(hop);
            (goes_on && same).then(|| host.way_to(now, hop)).flatten()
        };
        let elephants = &mut self.elephants;
        self.flows
            .sync_counters(now, most, &self.maps, &mut self.counters, &mut count, |key| elephants.want(key));
        if self.counters.lost > 0 {
            self.flows.close(&self.maps);
        }
        self.flows.forget(now, &self.maps, &mut self.counters, &mut count);
    }

    /// From now on everything is the director's again.
    pub(crate) fn close(&mut self) {
        self.flows.close(&self.maps);
    }

    /// Whether connections still wait to be synced in this tenth of a second.
    pub(crate) const fn is_behind(&self) -> bool {
        self.unsynced > 0
    }

    fn interface(&self, port: PortId) -> Option<u32> {
        self.ports.get(usize::from(port.0))?.as_ref().map(|port| port.gate.interface)
    }
}

/// The beginning of a frame, with zeros behind a short one.
fn head(frame: &Frame<'_>) -> Head {
    let mut head = [0; size_of::<Head>()];
    let bytes = frame.bytes();
    let len = bytes.len().min(head.len());
    head[..len].copy_from_slice(&bytes[..len]);
    head
}

impl Drop for FlowOffload {
    fn drop(&mut self) {
        // The filters stay with their sockets, and would keep from the director what nobody forwards any more.
        self.close();
    }
}

impl fmt::Debug for FlowOffload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowOffload").field("counters", &self.counters).finish_non_exhaustive()
    }
}

/// Why there is no offload.
#[derive(Debug)]
pub struct FlowOffloadError {
    step: SetupStep,
    source: io::Error,
}

#[derive(Clone, Copy, Debug)]
enum SetupStep {
    Attach,
    Load,
    Maps,
}

impl fmt::Display for FlowOffloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, source } = self;
        match step {
            SetupStep::Attach => {
                write!(f, "the offload's programs cannot be attached (Linux 6.6 or newer?): {source}")
            }
            SetupStep::Load => write!(f, "the kernel refuses the offload's programs: {source}"),
            SetupStep::Maps => {
                write!(f, "no offload, which takes CAP_BPF and CAP_NET_ADMIN of the machine itself: {source}")
            }
        }
    }
}

impl core::error::Error for FlowOffloadError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Connections for which a director asks by default. Each command settles all of them, which takes the longer the more
/// they are.
pub const CONNECTIONS: u16 = 256;
const SAMPLES: usize = 4;
const SYNC_MS: u64 = 100;
/// Connections that are synced between two batches: some microseconds' work.
const PIECE: usize = 32;

#[cfg(test)]
mod tests;
