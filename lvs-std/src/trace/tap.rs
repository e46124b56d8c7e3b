//! The sending halves of ports with an ear at them.

use std::time::SystemTime;

use lvs_core::{Content, Flow};
use lvs_forward::engine::{NoPort, PortForm, Ports};
use lvs_forward::parse::{Link, Meaning, Parsed, parse};
use lvs_forward::{Frame, PortId};

use super::Tracer;
use super::chunk::{Entry, Kind};

/// Records what is sent, and sends it.
pub(crate) struct Tap<'t, 'p, P> {
    ports: &'p mut P,
    tracer: &'t mut Tracer,
    id: u64,
    kind: Kind,
    time: SystemTime,
    /// Whether the filter means the packet, as it came or as it left.
    pub(super) wanted: bool,
    /// The flow of what was sent first.
    pub(super) flow: Option<Flow>,
    /// Records that found no room.
    pub(super) lost: u64,
}

impl<'t, 'p, P: Ports> Tap<'t, 'p, P> {
    pub(super) const fn new(
        ports: &'p mut P,
        tracer: &'t mut Tracer,
        (id, kind, time): (u64, Kind, SystemTime),
        wanted: bool,
    ) -> Self {
        Self { ports, tracer, id, kind, time, wanted, flow: None, lost: 0 }
    }

    fn record(&mut self, frame: &Frame<'_>) {
        let link = self.ports.form(frame.port).map_or(Link::Ethernet, |form| form.link);
        let flow = flow_of(frame, link);
        self.flow = self.flow.or(flow);
        let meant = self.tracer.is_meant(flow.as_ref());
        self.wanted |= meant;
        if self.kind == Kind::Own {
            if !meant {
                return;
            }
            // Each is a packet of its own.
            self.id = self.tracer.next;
            self.tracer.next += 1;
        }
        let entry = Entry::of(frame, link, self.kind, self.id, self.time);
        if !self.tracer.chunk.as_mut().is_some_and(|chunk| chunk.push(entry, frame.bytes())) {
            self.lost += 1;
            if self.kind == Kind::Own {
                self.tracer.ring.lose(1);
            }
        }
    }
}

impl<P: Ports> Ports for Tap<'_, '_, P> {
    fn form(&self, port: PortId) -> Option<PortForm> {
        self.ports.form(port)
    }

    fn transmit(&mut self, frame: &Frame<'_>) -> Result<(), NoPort> {
        self.record(frame);
        self.ports.transmit(frame)
    }

    fn hand_over(&mut self, frame: &Frame<'_>) -> Result<(), NoPort> {
        self.record(frame);
        self.ports.hand_over(frame)
    }
}

/// The flow of a frame's packet, or of the packet that an ICMP error is about.
pub(super) fn flow_of(frame: &Frame<'_>, link: Link) -> Option<Flow> {
    match parse(frame, link) {
        Ok(Parsed::Ip(_, Meaning::Flow(packet))) if packet.content != Content::Ipsec => Some(packet.flow),
        Ok(Parsed::Ip(_, Meaning::Error(packet, _))) => Some(packet.flow),
        Ok(Parsed::Ip(..) | Parsed::Arp(_) | Parsed::Foreign) | Err(_) => None,
    }
}
