//! A shortcut in the kernel for bulk TCP: established connections pass the director by, without a copy.
//!
//! A packet socket copies each frame to this process and back, which for merged segments of 64 KiB costs more than all else that is
//! done for them. A shortcut is a pair of small programs on each interface. When a connection has sent many merged frames, the worker
//! shows the programs how the director rewrites them: addresses, ports, checksums, MAC addresses, interface. From then on its segments
//! go from interface to interface as the kernel's own references, in both directions under NAT, in one under direct routing.
//!
//! The director stays in charge:
//!
//! * What opens or closes a connection (SYN, FIN, RST), and everything that is out of the ordinary (options of IP, fragments, too long,
//!   no hops left), still comes to it, and after a FIN or RST everything does.
//! * What is shown is learnt from a frame that the director itself has rewritten, and only if it explains every byte of that.
//! * Ten times a second, and before and after every command, what has passed is counted at connection, real server, service and
//!   director ([`Director::account_offloaded`]), which also moves deadlines; and whether the way is still the right one is asked. A server
//!   that is removed, a connection that is cut, a neighbour with a new MAC address end it.
//! * When the process ends, however it does, the programs are gone with it.
//! * Packets that were kept from the director and did not come to the program on the interface, because somebody put another
//!   one before it that takes them, are missed: within some tenths of a second if there are many. Then there is no shortcut any more.
//!
//! Such segments are not seen by wrappers of the devices ([`pcap::record`](crate::device::pcap::record) among them). With sync daemons
//! as master the director sees every packet, so nothing is shown.
//!
//! Works with [packet sockets](crate::device::packet), also with several of them for one interface. Needs Linux 6.6 or newer, and
//! `CAP_BPF` and `CAP_NET_ADMIN` of the machine itself.

mod flows;
mod maps;
mod program;
mod recognise;
mod route;
mod watch;

use core::fmt;
use core::ops::AddAssign;
use std::io;

use lvs_core::{Direction, Director, Forward, Method, Offloaded, Packet, Path, Store, Tick};
use lvs_forward::host::Host;
use lvs_forward::{Checksum, Forwarder, Frame, Outcome, PortId};

use self::flows::{Flows, Lesson};
use self::maps::Maps;
use self::recognise::Gate;
use self::route::{Head, Key, Route, Shape, key_of_answers};
use self::watch::Watch;
use crate::device::packet::Tap;
use crate::sys::bpf::{Attachment, Program, Purpose};

/// Programs on some interfaces, and what they have been shown; for one [worker](crate::worker::Worker::set_shortcut).
pub struct Shortcut {
    maps: Maps,
    /// By the ports' numbers.
    ports: Vec<Option<Port>>,
    flows: Flows,
    watch: Watch,
    /// Frames of the batch at hand that something is to be learnt from.
    samples: heapless::Vec<Sample, SAMPLES>,
    settled: Tick,
    /// Connections that wait to be settled since then.
    unsettled: usize,
    counters: ShortcutCounters,
}

struct Port {
    gate: Gate,
    /// Held for as long as it is to work. The filter belongs to its socket.
    _ingress: Attachment,
}

/// The beginning of a frame before the director saw it.
struct Sample {
    at: usize,
    head: Head,
    shape: Shape,
    key: Key,
}

/// What a shortcut did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShortcutCounters {
    /// Directions of connections that were shown to the kernel.
    pub shown: u64,
    /// Packets that passed, merged ones once each.
    pub packets: u64,
    /// Bytes of these IP packets.
    pub bytes: u64,
    /// Packets that were to pass and did not: another program at the interface has taken them, and TCP has sent them again. Once there
    /// are some, everything is the director's for good.
    pub lost: u64,
}

impl AddAssign for ShortcutCounters {
    /// What those of several workers did, together.
    fn add_assign(&mut self, other: Self) {
        let Self { shown, packets, bytes, lost } = other;
        self.shown += shown;
        self.packets += packets;
        self.bytes += bytes;
        self.lost += lost;
    }
}

impl Shortcut {
    /// One without ports, for at most so many connections at a time, at least 1. [`required_bytes`](Self::required_bytes) says what
    /// it takes.
    ///
    /// # Errors
    /// [`ShortcutError`], when the kernel does not let this process.
    pub fn new(connections: u16) -> Result<Self, ShortcutError> {
        let connections = u32::from(connections.max(1));
        let maps = Maps::new(connections).map_err(|source| ShortcutError { step: Step::Maps, source })?;
        Ok(Self {
            maps,
            ports: Vec::new(),
            flows: Flows::new(connections),
            watch: Watch::new(),
            samples: heapless::Vec::new(),
            settled: Tick::ZERO,
            unsettled: 0,
            counters: ShortcutCounters::default(),
        })
    }

    /// Puts the programs at a port's interface. Connections go by ports that have them, and by no others. To be called in the network
    /// namespace of the interface.
    ///
    /// # Errors
    /// [`ShortcutError`], when the kernel refuses them. The port works without.
    pub fn add_port(&mut self, port: PortId, tap: &Tap) -> Result<(), ShortcutError> {
        let gate = Gate { mac: tap.mac, chooses: tap.chooses, shares: tap.shares, interface: tap.interface };
        let failed = |step| move |source| ShortcutError { step, source };
        let load = |purpose, built: Option<Vec<_>>| {
            let built = built.ok_or(io::ErrorKind::InvalidData);
            built.map_err(io::Error::from).and_then(|program| Program::load(purpose, &program))
        };
        let filter = load(Purpose::Filter, program::filter(&gate, &self.maps));
        let ingress = load(Purpose::Ingress, program::ingress(&gate, &self.maps));
        let (filter, ingress) = (filter.map_err(failed(Step::Load))?, ingress.map_err(failed(Step::Load))?);
        let attached = Attachment::ingress(&ingress, tap.interface).map_err(failed(Step::Attach))?;
        filter.attach_to(tap.socket()).map_err(failed(Step::Attach))?;
        let at = usize::from(port.0);
        if self.ports.len() <= at {
            self.ports.resize_with(at + 1, || None);
        }
        self.ports[at] = Some(Port { gate, _ingress: attached });
        Ok(())
    }

    /// Bytes of this process that one for so many connections takes; the kernel's own for its map are not among them.
    #[must_use]
    pub const fn required_bytes(connections: u16) -> usize {
        Flows::required_bytes(connections as usize) + Watch::REQUIRED_BYTES + size_of::<Self>()
    }

    /// What it did so far.
    #[must_use]
    pub const fn counters(&self) -> ShortcutCounters {
        self.counters
    }

    /// Looks at frames before they are decided.
    pub(crate) fn look(&mut self, frames: &[Frame<'_>]) {
        self.samples.clear();
        if self.counters.lost > 0 {
            return;
        }
        let (curious, has_room) = (self.watch.is_curious(), self.flows.has_room());
        for (at, frame) in frames.iter().enumerate() {
            let merged = has_room && frame.offload.merged.is_some();
            if !merged && !curious {
                continue;
            }
            let Some(interface) = self.interface(frame.port) else { continue };
            let head = head(frame);
            let Some(shape) = Shape::of(&head) else { continue };
            let key = shape.key(&head, interface);
            if (curious && self.watch.wants(&key)) || (merged && self.watch.sees(&key)) {
                // Others will do as well another time.
                let _ = self.samples.push(Sample { at, head, shape, key });
            }
        }
    }

    /// Learns from the same frames after they were carried out.
    pub(crate) fn learn<S: Store, const A: usize, const N: usize>(
        &mut self,
        now: Tick,
        director: &mut Director<S>,
        forwarder: &mut Forwarder<A, N>,
        frames: &[Frame<'_>],
        outcomes: &[Outcome],
    ) {
        while let Some(sample) = self.samples.pop() {
            let (frame, outcome) = (frames.get(sample.at), outcomes.get(sample.at));
            if let (Some(frame), Some(Outcome::Send)) = (frame, outcome)
                && let Some(lesson) = self.lesson(now, director, forwarder.host_mut(), &sample, frame)
            {
                self.show(now, lesson);
            }
        }
    }

    /// What a frame teaches, if the director agrees that others like it go the same way.
    fn lesson<S: Store, const A: usize, const N: usize>(
        &self,
        now: Tick,
        director: &mut Director<S>,
        host: &mut Host<A, N>,
        sample: &Sample,
        frame: &Frame<'_>,
    ) -> Option<Lesson> {
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
        let forward = director.account_offloaded(now, &packet, Offloaded::default())?;
        match forward.method {
            Method::Nat | Method::Direct => {}
            Method::Bypass | Method::Local | Method::Tunnel(_) => return None,
        }
        let hop = match forward.direction {
            Direction::Request => forward.address(),
            Direction::Reply => destination,
        };
        let (port, mac, mtu) = host.way_to(now, hop)?;
        if host.owns(hop) || port != frame.port || mac != route.next() {
            return None;
        }
        let answers = route.is_nat().then(|| key_of_answers(&head(frame), sample.shape, interface));
        Some(Lesson { forward, packet, key: sample.key, answers, route, hop, port, interface, mtu })
    }

    fn show(&mut self, now: Tick, lesson: Lesson) {
        let (key, answers) = (lesson.key, lesson.answers);
        // When the map is full, or the kernel has no memory, the connection goes on as before.
        if self.flows.show(now, &self.maps, lesson).is_some() {
            self.counters.shown += 1;
            self.watch.has(&key);
            if let Some(answers) = answers
                && !self.flows.knows(&answers)
            {
                self.watch.want(answers);
            }
        }
    }

    /// Counts what has passed, and ends what is no longer right: of all connections if `at_once`, else of each ten times a second, a few at
    /// a time.
    pub(crate) fn settle<S: Store, const A: usize, const N: usize>(
        &mut self,
        now: Tick,
        director: &mut Director<S>,
        host: &mut Host<A, N>,
        at_once: bool,
    ) {
        if self.flows.is_empty() {
            return;
        }
        if at_once || now.millis_since(self.settled) >= SETTLE_MS {
            self.settled = now;
            self.unsettled = self.flows.len();
            self.watch.give_up();
        }
        if at_once {
            self.flows.rewind();
        }
        let most = if at_once { self.unsettled } else { self.unsettled.min(PIECE) };
        self.unsettled -= most;
        let mut count = |packet: &Packet, forward: &Forward, passed, hop| {
            let goes_on = director.account_offloaded_as(now, packet, forward, passed);
            let is_local = host.owns(packet.flow.addresses.destination());
            // Addresses come and go; what was for the director may be another host's now.
            let same = is_local == (packet.path == Path::Local) && !host.owns(hop);
            (goes_on && same).then(|| host.way_to(now, hop)).flatten()
        };
        let watch = &mut self.watch;
        self.flows.settle(now, most, &self.maps, &mut self.counters, &mut count, |key| watch.want(key));
        if self.counters.lost > 0 {
            self.flows.close(&self.maps);
        }
        self.flows.forget(now, &self.maps, &mut self.counters, &mut count);
    }

    /// From now on everything is the director's again.
    pub(crate) fn close(&mut self) {
        self.flows.close(&self.maps);
    }

    /// Whether connections still wait to be settled in this tenth of a second.
    pub(crate) const fn is_behind(&self) -> bool {
        self.unsettled > 0
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

impl Drop for Shortcut {
    fn drop(&mut self) {
        // The filters stay with their sockets, and would keep from the director what nobody forwards any more.
        self.close();
    }
}

impl fmt::Debug for Shortcut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shortcut").field("counters", &self.counters).finish_non_exhaustive()
    }
}

/// Why there is no shortcut.
#[derive(Debug)]
pub struct ShortcutError {
    step: Step,
    source: io::Error,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Attach,
    Load,
    Maps,
}

impl fmt::Display for ShortcutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, source } = self;
        match step {
            Step::Attach => {
                write!(f, "the shortcut's programs cannot be attached (Linux 6.6 or newer?): {source}")
            }
            Step::Load => write!(f, "the kernel refuses the shortcut's programs: {source}"),
            Step::Maps => {
                write!(
                    f,
                    "no shortcut, which takes CAP_BPF and CAP_NET_ADMIN of the machine itself: {source}"
                )
            }
        }
    }
}

impl core::error::Error for ShortcutError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Connections for which a director asks by default. Each command settles all of them, which takes the longer the more they are.
pub const CONNECTIONS: u16 = 256;
const SAMPLES: usize = 4;
const SETTLE_MS: u64 = 100;
/// Connections that are settled between two batches: some microseconds' work.
const PIECE: usize = 32;

#[cfg(test)]
mod tests;
