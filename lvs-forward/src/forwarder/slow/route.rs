//! Packets that are forwarded as a router does: replies of real servers, and what is neither for this host nor of a
//! connection.

use core::net::IpAddr;

use lvs_core::packet::Addresses;
use lvs_core::{Direction, Family, Forward, Method, Tick};

use super::apply::prepare;
use super::task::{ForwardingError, Subject};
use crate::forwarder::Forwarder;
use crate::frame::Frame;
use crate::header::address::stays;
use crate::header::edit::decrement_ttl;
use crate::header::ipv4;
use crate::header::layout::Layout;
use crate::header::options::record_route;
use crate::icmp::error::IcmpError;
use crate::icmp::translate;
use crate::method::nat;
use crate::outcome::Outcome;
use crate::output::{cut, size};
use crate::reason::{DropReason, PassReason};

impl Forwarder {
    /// A real server's packet, on its way to the client: forwarded as a router does, and given the virtual service's
    /// address.
    pub(super) fn reply(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        subject: Subject<'_>,
        forward: &Forward,
    ) -> Outcome {
        let Some(client) = subject.layout.addresses(frame.bytes()).map(Addresses::destination) else {
            return self.drop(DropReason::Malformed);
        };
        // A client on this very host: nothing is routed, the local stack gets its reply.
        if self.host.owns(client) {
            return self.local_server(frame, subject, forward);
        }
        let shift = subject.layout.network();
        let rewrite = |frame: &mut Frame<'_>, layout: &Layout| match (forward.method, subject.embedded) {
            (Method::Nat, None) => nat::rewrite(frame, layout, Direction::Reply, forward.target),
            (Method::Nat, Some(embedded)) => {
                let embedded = embedded.without_front(shift).ok_or(DropReason::Malformed)?;
                translate(frame, layout, &embedded, Direction::Reply, forward.target)
            }
            (Method::Bypass | Method::Direct | Method::Local | Method::Tunnel(_), _) => Ok(()),
        };
        match self.send_through(now, frame, &subject.layout, client, rewrite) {
            Ok(outcome) => {
                self.counters.replies += 1;
                outcome
            }
            Err(outcome) => outcome,
        }
    }

    /// A packet that no router would forward.
    #[cold]
    pub(crate) fn send_forwarding_error(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        layout: &Layout,
        error: ForwardingError,
    ) -> Outcome {
        let (error, reason) = match error {
            ForwardingError::TimeExceeded => (IcmpError::TimeExceeded, DropReason::TimeExceeded),
            ForwardingError::TooBig(mtu) => (IcmpError::TooBig(mtu.into()), DropReason::TooBig),
        };
        match prepare(frame, layout) {
            Ok((arrival, layout)) => self.send_icmp_error(now, frame, &layout, &arrival, error, reason),
            Err(reason) => self.drop(reason),
        }
    }

    /// A packet that is neither for this host nor of a connection.
    pub(super) fn route_through(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        layout: &Layout,
        reason: PassReason,
    ) -> Outcome {
        let Some(addresses) = layout.addresses(frame.bytes()) else {
            return self.drop(DropReason::Malformed);
        };
        // What the local stack sends has to leave, or the machine would have no network behind the director.
        let routes = self.options.ip_forward || self.is_from_here(frame);
        if !routes || stays(&addresses) {
            return self.pass(reason);
        }
        match self.send_through(now, frame, layout, addresses.destination(), |_, _| Ok(())) {
            Ok(outcome) => {
                self.counters.routed += 1;
                outcome
            }
            Err(outcome) => outcome,
        }
    }

    /// Forwards as a router (RFC 1812 §5.2): TTL, size, then `rewrite`. `Err` holds the outcome of a packet that went
    /// no further.
    fn send_through(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        layout: &Layout,
        destination: IpAddr,
        rewrite: impl FnOnce(&mut Frame<'_>, &Layout) -> Result<(), DropReason>,
    ) -> Result<Outcome, Outcome> {
        let way = self.next_hop(now, destination);
        // What this machine sends has been through no router yet, and the director is none to it.
        let routes = !self.is_from_here(frame);
        let (arrival, layout) = match prepare(frame, layout) {
            Ok(prepared) => prepared,
            Err(reason) => return Err(self.drop(reason)),
        };
        let layout = &layout;
        // Tested before the route's failure, as a router does: a traceroute sees this hop even where the way ends here.
        let error = if routes && layout.ttl(frame.bytes()).is_none_or(|ttl| ttl <= 1) {
            Some((IcmpError::TimeExceeded, DropReason::TimeExceeded))
        } else {
            match way {
                Ok((hop, _)) => {
                    let Some(size) = size(frame, layout) else {
                        return Err(self.drop(DropReason::Offload));
                    };
                    // Linux cuts up no datagram whose fragments were not to be cut up.
                    let was_cut = layout.family == Family::V4 && frame.assembly().is_some();
                    let too_big =
                        (size > usize::from(hop.mtu) || was_cut) && layout.dont_fragment(frame.bytes());
                    too_big.then_some((IcmpError::TooBig(u32::from(hop.mtu)), DropReason::TooBig))
                }
                Err(DropReason::NoRoute) => Some((IcmpError::NetworkUnreachable, DropReason::NoRoute)),
                Err(reason) => Some((IcmpError::HostUnreachable, reason)),
            }
        };
        let (hop, resolution) = match (error, way) {
            (None, Ok(way)) => way,
            (Some((error, reason)), _) => {
                return Err(self.send_icmp_error(now, frame, layout, &arrival, error, reason));
            }
            (None, Err(reason)) => return Err(self.drop(reason)),
        };
        let size = size(frame, layout).unwrap_or_default();
        if layout.family == Family::V4
            && layout.header_len() > ipv4::LEN
            && let Some(IpAddr::V4(own)) = self.host.source(hop.port, Family::V4)
        {
            record_route(frame.bytes_mut(), layout, own);
        }
        let aged = if routes { decrement_ttl(frame, layout) } else { Some(()) };
        if let Err(reason) = aged.ok_or(DropReason::Malformed).and_then(|()| rewrite(frame, layout)) {
            return Err(self.drop(reason));
        }
        let cut = cut(frame, size, layout.family, layout.family, hop.mtu);
        let outcome = self.depart(frame, layout.family, (hop, resolution), cut);
        // A drop in the last step must not count as forwarded.
        if matches!(outcome, Outcome::Drop(_)) { Err(outcome) } else { Ok(outcome) }
    }
}
