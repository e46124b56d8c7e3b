//! What a frame is to this host, before anything is changed.

use lvs_core::packet::Addresses;
use lvs_core::{Family, Packet, Path, Protocol};

use super::task::{ForwardingError, Task};
use crate::forwarder::Forwarder;
use crate::frame::Frame;
use crate::header::address::{destination_bits, is_from_loopback, is_martian, stays};
use crate::header::icmp::{v4, v6};
use crate::header::layout::{Fragment, Layout};
use crate::header::{ipv6, protocol};
use crate::host::LinkDestination;
use crate::icmp::answer::TIMESTAMPS_LEN;
use crate::icmp::tunnel::TunnelError;
use crate::output::size;
use crate::parse::{Located, Meaning, control, flow, ipsec, locate};
use crate::reason::{DropReason, PassReason};
use crate::reassembly::FragmentFields;

impl Forwarder {
    /// Looks at a frame. A packet is handed to `decide` when the director has to decide about the task.
    #[inline]
    pub(crate) fn classify(&self, frame: &Frame<'_>, decide: impl FnOnce(Packet)) -> Task {
        let Some(port) = self.host.port(frame.port) else {
            return Task::Drop(DropReason::NoPort);
        };
        let group = match self.host.link_destination(port, frame) {
            LinkDestination::Us => false,
            LinkDestination::Group => true,
            LinkDestination::Another => return Task::Drop(DropReason::NotForUs),
            LinkDestination::OtherNetwork => return Task::Drop(DropReason::Vlan),
        };
        let layout = match locate(frame, port.link()) {
            Ok(Located::Ip(layout)) => layout,
            Ok(Located::Arp(at)) => return Task::Arp(at),
            Ok(Located::Foreign) => return Task::Pass(PassReason::Protocol),
            Err(malformed) => return Task::Drop(malformed.into()),
        };
        // An atomic fragment (RFC 6946) is whole, but its fragment header hides the transport from the rest of this
        // code.
        let split = layout.fragment != Fragment::Whole;
        if (split || layout.family == Family::V6 && layout.header_len() > ipv6::LEN)
            && let Some(task) = self.classify_fragment(frame, &layout, group)
        {
            return task;
        }
        // An own address is never a group's, so that no group packet is balanced.
        let found = match Protocol::from_number(layout.protocol) {
            Some(_) if group => return Task::Pass(PassReason::Group),
            Some(balanced) => flow(frame, &layout, balanced),
            None => match ipsec(frame, &layout) {
                Some(_) if group => return Task::Pass(PassReason::Group),
                Some(packet) => Ok(packet),
                None => return self.classify_control(frame, layout, group, decide),
            },
        };
        match found {
            Ok(mut packet) => {
                packet.path = self.path_of(frame, &packet.flow.addresses);
                if self.is_impossible(frame, &packet.flow.addresses, packet.path) {
                    return Task::Drop(DropReason::Martian);
                }
                if packet.path == Path::Through
                    && let Some(error) = self.forwarding_error(frame, &layout, &packet.flow.addresses)
                {
                    return Task::CannotForward(layout, error);
                }
                decide(packet);
                Task::Flow(layout)
            }
            Err(malformed) => Task::Drop(malformed.into()),
        }
    }

    /// What Linux's forwarding refuses before IPVS sees it, so that it counts for no connection.
    pub(crate) fn forwarding_error(
        &self,
        frame: &Frame<'_>,
        layout: &Layout,
        addresses: &Addresses,
    ) -> Option<ForwardingError> {
        // What this machine sends has been through no router yet.
        let from_here = self.is_from_here(frame);
        if !from_here && layout.ttl(frame.bytes()).is_none_or(|ttl| ttl <= 1) {
            return (!stays(addresses)).then_some(ForwardingError::TimeExceeded);
        }
        let size = size(frame, layout)?;
        // Nearly every packet fits through every port, and the look for its route is saved.
        if size <= usize::from(self.host.least_mtu()) {
            return None;
        }
        let mtu = self.host.route(addresses.destination())?.mtu;
        (size > usize::from(mtu) && layout.dont_fragment(frame.bytes()))
            .then_some(ForwardingError::TooBig(mtu))
    }

    /// A fragment that has to wait for the others. Linux puts together all IPv6 fragments, and of IPv4 what is for
    /// itself or of a protocol that IPVS looks at.
    #[inline(never)]
    fn classify_fragment(&self, frame: &Frame<'_>, layout: &Layout, group: bool) -> Option<Task> {
        FragmentFields::of(frame.bytes(), layout)?;
        let addresses = layout.addresses(frame.bytes())?;
        if group {
            return Some(Task::Pass(PassReason::Group));
        }
        let path = self.path_of(frame, &addresses);
        if self.is_impossible(frame, &addresses, path) {
            return Some(Task::Drop(DropReason::Martian));
        }
        let waits = layout.family == Family::V6
            || path != Path::Through
            || layout.protocol == protocol::ICMP
            || Protocol::from_number(layout.protocol).is_some();
        waits.then_some(Task::Fragment(*layout))
    }

    #[inline(never)]
    fn classify_control(
        &self,
        frame: &Frame<'_>,
        layout: Layout,
        group: bool,
        decide: impl FnOnce(Packet),
    ) -> Task {
        let bytes = frame.bytes();
        let meaning = match control(frame, &layout) {
            Ok(meaning) => meaning,
            Err(malformed) => return Task::Drop(malformed.into()),
        };
        if let (Meaning::Control(v6::SOLICITATION | v6::ADVERTISEMENT), Family::V6) = (meaning, layout.family)
        {
            return Task::Discovery(layout);
        }
        if group {
            return Task::Pass(PassReason::Group);
        }
        let Some(addresses) = layout.addresses(bytes) else { return Task::Drop(DropReason::Malformed) };
        let path = self.path_of(frame, &addresses);
        if self.is_impossible(frame, &addresses, path) {
            return Task::Drop(DropReason::Martian);
        }
        // The outer source of our tunnels is an own address, so that errors about them come to this host.
        #[cfg(feature = "tunnel")]
        if path == Path::Local
            && let Meaning::Error(_, embedded) | Meaning::Wrapped(embedded) = meaning
            && let Some((packet, _)) = TunnelError::find(bytes, &layout, &embedded)
            && self.host.owns(packet.flow.addresses.destination())
        {
            decide(packet);
            return Task::Tunnel(layout, embedded);
        }
        match (meaning, path) {
            (Meaning::Error(mut packet, embedded), path) => {
                packet.path = path;
                if path == Path::Through
                    && let Some(error) = self.forwarding_error(frame, &layout, &addresses)
                {
                    return Task::CannotForward(layout, error);
                }
                decide(packet);
                Task::Error(layout, embedded)
            }
            (Meaning::Control(kind), Path::Local) if kind == echo_request(layout.family) => {
                Task::Echo(layout)
            }
            (Meaning::Control(v4::TIMESTAMP_REQUEST), Path::Local)
                if layout.family == Family::V4 && layout.transport_len() >= TIMESTAMPS_LEN =>
            {
                Task::Echo(layout)
            }
            // Of a later fragment nobody can say what it belongs to; the local stack may know.
            (Meaning::Other, Path::Local) if layout.fragment == Fragment::Whole => Task::Unknown(layout),
            (Meaning::Control(_) | Meaning::Other | Meaning::Wrapped(_) | Meaning::Flow(_), Path::Local) => {
                Task::Pass(PassReason::Protocol)
            }
            (
                Meaning::Control(_) | Meaning::Other | Meaning::Wrapped(_) | Meaning::Flow(_),
                Path::Captured | Path::Through,
            ) => Task::Through(layout),
        }
    }

    /// Whether nobody can have sent a packet from and to these addresses. What is on its way through may come from an
    /// own address: replies of servers with direct routing have the virtual one, where the director is their gateway.
    #[inline]
    fn is_impossible(&self, frame: &Frame<'_>, addresses: &Addresses, path: Path) -> bool {
        // What this machine itself sends comes from its own addresses, the loopback ones among them.
        let from_here = self.is_from_here(frame);
        is_martian(addresses) && !(from_here && is_from_loopback(addresses))
            || path != Path::Through && self.host.is_impossible_source(addresses.source()) && !from_here
    }

    /// Where a frame's packet is going.
    #[inline]
    pub(crate) fn path_of(&self, frame: &Frame<'_>, addresses: &Addresses) -> Path {
        let path = self.path(addresses);
        if path == Path::Through && self.captures(frame) { Path::Captured } else { path }
    }

    /// Whether a frame's packet is ours though it is for another host.
    #[inline]
    pub(crate) fn captures(&self, frame: &Frame<'_>) -> bool {
        frame.mark != 0 && self.options.capture_marked
    }

    #[inline]
    pub(crate) fn path(&self, addresses: &Addresses) -> Path {
        let own = self.host.addresses.contains_bits(destination_bits(addresses));
        if own { Path::Local } else { Path::Through }
    }
}

const fn echo_request(family: Family) -> u8 {
    match family {
        Family::V4 => v4::ECHO_REQUEST,
        Family::V6 => v6::ECHO_REQUEST,
    }
}
