//! What a frame is to this host, before anything is changed.

use lvs_core::{Addresses, Family, Packet, Path};

use super::Forwarder;
use crate::frame::Frame;
use crate::host::{LinkDestination, is_martian};
use crate::icmp::tunnel::TunnelError;
use crate::icmp::{Embedded, v4, v6};
use crate::layout::Layout;
use crate::parse::{Meaning, Parsed, parse};
use crate::reason::{DropReason, PassReason};

/// What is to be done with a frame, as far as its own bytes and the host's addresses tell.
#[derive(Clone, Copy, Debug)]
pub(super) enum Task {
    /// An ARP packet at this offset.
    Arp(usize),
    /// A neighbour solicitation or advertisement.
    Discovery(Layout),
    Drop(DropReason),
    /// A ping for an own address.
    Echo(Layout),
    /// An ICMP error for the director to decide.
    Error(Layout, Embedded),
    /// A packet for the director to decide.
    Flow(Layout),
    Pass(PassReason),
    /// Neither for an own address nor of a protocol that is balanced.
    Through(Layout),
    /// An ICMP error about a tunnel of ours, for the director to decide.
    Tunnel(Layout, TunnelError),
}

impl Task {
    /// Whether a verdict of the director's belongs to it.
    pub(super) const fn is_decided(&self) -> bool {
        match self {
            Self::Error(..) | Self::Flow(_) | Self::Tunnel(..) => true,
            Self::Arp(_)
            | Self::Discovery(_)
            | Self::Drop(_)
            | Self::Echo(_)
            | Self::Pass(_)
            | Self::Through(_) => false,
        }
    }
}

impl<const A: usize, const N: usize> Forwarder<A, N> {
    /// Looks at a frame. There is a packet exactly when the task is [decided](Task::is_decided).
    #[inline]
    pub(super) fn classify(&self, frame: &Frame<'_>) -> (Task, Option<Packet>) {
        let Some(port) = self.host.port(frame.port) else {
            return (Task::Drop(DropReason::NoPort), None);
        };
        let group = match self.host.link_destination(port, frame) {
            LinkDestination::Us => false,
            LinkDestination::Group => true,
            LinkDestination::Another => return (Task::Drop(DropReason::NotForUs), None),
        };
        let (layout, meaning) = match parse(frame, port.link()) {
            Ok(Parsed::Ip(layout, meaning)) => (layout, meaning),
            Ok(Parsed::Arp(at)) => return (Task::Arp(at), None),
            Ok(Parsed::Foreign) => return (Task::Pass(PassReason::Protocol), None),
            // Noise that is for everybody is not our loss.
            Err(malformed) => return (Task::Drop(malformed.into()), None),
        };
        if let Meaning::Control(v6::SOLICITATION | v6::ADVERTISEMENT) = meaning
            && layout.family == Family::V6
        {
            return (Task::Discovery(layout), None);
        }
        if group {
            return (Task::Pass(PassReason::Group), None);
        }
        match meaning {
            Meaning::Flow(mut packet) => {
                if is_martian(&packet.flow.addresses) {
                    return (Task::Drop(DropReason::Martian), None);
                }
                packet.path = self.path(&packet.flow.addresses);
                (Task::Flow(layout), Some(packet))
            }
            Meaning::Error(..) | Meaning::Wrapped(_) | Meaning::Control(_) | Meaning::Other => {
                self.classify_rare(frame, layout, meaning)
            }
        }
    }

    fn classify_rare(&self, frame: &Frame<'_>, layout: Layout, meaning: Meaning) -> (Task, Option<Packet>) {
        let bytes = frame.bytes();
        let Some(addresses) = layout.addresses(bytes).filter(|addresses| !is_martian(addresses)) else {
            return (Task::Drop(DropReason::Martian), None);
        };
        let path = self.path(&addresses);
        if path == Path::Local
            && let Meaning::Error(_, embedded) | Meaning::Wrapped(embedded) = meaning
            && let Some((packet, error)) = TunnelError::find(bytes, &layout, &embedded)
            && self.host.owns(packet.flow.addresses.destination())
        {
            return (Task::Tunnel(layout, error), Some(packet));
        }
        let task = match (meaning, path) {
            (Meaning::Error(mut packet, embedded), path) => {
                packet.path = path;
                return (Task::Error(layout, embedded), Some(packet));
            }
            (Meaning::Control(kind), Path::Local) if kind == echo_request(layout.family) => {
                Task::Echo(layout)
            }
            (Meaning::Control(_) | Meaning::Other | Meaning::Wrapped(_) | Meaning::Flow(_), Path::Local) => {
                Task::Pass(PassReason::Protocol)
            }
            (
                Meaning::Control(_) | Meaning::Other | Meaning::Wrapped(_) | Meaning::Flow(_),
                Path::Through,
            ) => Task::Through(layout),
        };
        (task, None)
    }

    #[inline]
    pub(super) fn path(&self, addresses: &Addresses) -> Path {
        if self.host.addresses.is_destination(addresses) { Path::Local } else { Path::Through }
    }
}

const fn echo_request(family: Family) -> u8 {
    match family {
        Family::V4 => v4::ECHO_REQUEST,
        Family::V6 => v6::ECHO_REQUEST,
    }
}
