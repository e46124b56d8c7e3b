//! Carrying verdicts out.
//!
//! The order of steps decides which packet an ICMP error quotes, and is IPVS's: a request loses one of its TTL before
//! its size is tested, a reply (which Linux's forwarding handles before IPVS sees it) after; both before any rewriting.

use core::net::IpAddr;

use lvs_core::packet::Addresses;
use lvs_core::{Direction, Family, Flow, Forward, Method, Packet, Path, Tick, Tunnel, Verdict};

use super::task::{ForwardingError, Task};
use crate::forwarder::Forwarder;
use crate::frame::Frame;
use crate::header::address::{stays, to_bits};
use crate::header::edit::decrement_ttl;
use crate::header::ipv4;
use crate::header::layout::Layout;
use crate::header::options::record_route;
use crate::host::{Arrival, Handled, Hop};
use crate::icmp::error::IcmpError;
use crate::icmp::translate;
use crate::method::{encap, nat};
use crate::offload::normalise;
use crate::outcome::Outcome;
use crate::output::{cut, least_mtu, size};
use crate::parse::Embedded;
use crate::reason::{DropReason, PassReason};

/// A packet with what is known of it beside its bytes.
#[derive(Clone, Copy)]
struct Subject<'p> {
    layout: Layout,
    /// Set for ICMP errors.
    embedded: Option<&'p Embedded>,
    packet: Option<&'p Packet>,
}

impl<const A: usize, const N: usize> Forwarder<A, N> {
    /// Does what a task demands; one that the director decided about comes with its packet and verdict.
    #[inline]
    pub(crate) fn carry_out(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        task: &Task,
        decided: Option<(&Packet, &Verdict)>,
    ) -> Outcome {
        match (task, decided) {
            (Task::Flow(layout), Some((packet, verdict))) => {
                self.carry_verdict(now, frame, layout, None, packet, verdict)
            }
            (Task::Error(layout, embedded), Some((packet, verdict))) => {
                self.carry_verdict(now, frame, layout, Some(embedded), packet, verdict)
            }
            (Task::Tunnel(layout, embedded), Some((_, verdict))) => {
                self.tunnel_error(now, frame, layout, embedded, verdict)
            }
            (Task::Arp(at), _) => {
                let handled = self.host.arp(now, frame, *at);
                self.handled(handled)
            }
            (Task::Discovery(layout), _) => {
                let handled = self.host.neighbour_discovery(now, frame, layout);
                self.handled(handled)
            }
            (Task::Echo(layout), _) => self.echo(now, frame, *layout),
            (Task::Drop(reason), _) => self.drop(*reason),
            (Task::Pass(reason), _) => self.pass(*reason),
            (Task::CannotForward(layout, error), _) => self.send_forwarding_error(now, frame, layout, *error),
            (Task::Unknown(layout), _) => self.unknown(now, frame, layout),
            (Task::Through(layout), _) => self.route_through(now, frame, layout, PassReason::NotOurs),
            // Those come with a verdict.
            (Task::Flow(_) | Task::Error(..) | Task::Tunnel(..), None) => self.drop(DropReason::Malformed),
            // What is put together from fragments is no fragment.
            (Task::Fragment(_), _) => self.drop(DropReason::Malformed),
        }
    }

    fn handled(&mut self, handled: Handled) -> Outcome {
        match handled {
            Handled::Answered => {
                self.counters.answers += 1;
                Outcome::Send
            }
            Handled::Consumed => Outcome::Consumed,
            Handled::Malformed => self.drop(DropReason::Malformed),
            Handled::NotOurs => self.pass(PassReason::NotOurs),
        }
    }

    #[inline]
    fn carry_verdict(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        layout: &Layout,
        embedded: Option<&Embedded>,
        packet: &Packet,
        verdict: &Verdict,
    ) -> Outcome {
        let subject = Subject { layout: *layout, embedded, packet: Some(packet) };
        match verdict {
            Verdict::Forward(forward) => match forward.direction {
                Direction::Request => self.request(now, frame, subject, forward),
                Direction::Reply => self.reply(now, frame, subject, forward),
            },
            Verdict::Drop(reason) => self.drop(DropReason::Director(*reason)),
            Verdict::Inspect => self.drop(DropReason::Malformed),
            Verdict::Pass(reason) => match packet.path {
                Path::Local if self.options.reject => match prepare(frame, layout) {
                    Ok((arrival, layout)) => self.reject(now, frame, &layout, &arrival, packet),
                    Err(reason) => self.drop(reason),
                },
                Path::Local => self.pass(PassReason::Director(*reason)),
                Path::Captured | Path::Through => {
                    self.route_through(now, frame, layout, PassReason::Director(*reason))
                }
            },
            Verdict::Reject(reason) => match prepare(frame, layout) {
                Ok((arrival, layout)) => {
                    if packet.path == Path::Through {
                        // It had been taken for forwarding already.
                        let _ = decrement_ttl(frame, &layout);
                    }
                    let reason = DropReason::Director(*reason);
                    self.send_icmp_error(now, frame, &layout, &arrival, IcmpError::PortUnreachable, reason)
                }
                Err(reason) => self.drop(reason),
            },
        }
    }

    /// A client's packet, to the real server (7.1 of IPVS's order: route, locality, TTL, size, method).
    #[inline]
    fn request(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        subject: Subject<'_>,
        forward: &Forward,
    ) -> Outcome {
        let server = forward.address();
        if forward.method == Method::Local {
            return self.pass(PassReason::LocalServer);
        }
        if server.is_loopback() {
            // Such addresses are for this host alone, and the packet comes from another.
            return self.drop(DropReason::Martian);
        }
        if self.host.owns(server) {
            if forward.method == Method::Bypass {
                return self.drop(DropReason::NoRoute);
            }
            return self.local_server(frame, subject, forward);
        }
        // IPVS routes before it looks at TTL and size: a packet that fails in two ways is answered as there.
        let way = self.next_hop(now, server);
        let (arrival, layout) = match prepare(frame, &subject.layout) {
            Ok(prepared) => prepared,
            Err(reason) => return self.drop(reason),
        };
        let layout = &layout;
        let (hop, resolution) = match way {
            Ok(way) => way,
            Err(reason) => {
                return self.send_icmp_error(
                    now,
                    frame,
                    layout,
                    &arrival,
                    IcmpError::HostUnreachable,
                    reason,
                );
            }
        };
        if layout.header_len() > ipv4::LEN
            && let Some(Addresses::V4 { destination, .. }) = layout.addresses(frame.bytes())
        {
            // It came to this host first, which records the address that it was delivered to (RFC 791 p. 20).
            record_route(frame.bytes_mut(), layout, destination);
        }
        if decrement_ttl(frame, layout).is_none() {
            let reason = DropReason::TimeExceeded;
            return self.send_icmp_error(now, frame, layout, &arrival, IcmpError::TimeExceeded, reason);
        }
        let outer = Family::of(server);
        let (overhead, mtu) = match forward.method {
            Method::Bypass | Method::Direct | Method::Local | Method::Nat => (0, hop.mtu),
            Method::Tunnel(tunnel) => {
                (encap::overhead(tunnel, outer), self.path_mtus.limit(now, server, hop.mtu))
            }
        };
        let room = usize::from(mtu).saturating_sub(overhead);
        // No packet fits, and no MTU could be told that a client may use.
        if overhead > 0 && room < least_mtu(outer) {
            return self.drop(DropReason::TunnelMtu);
        }
        let Some(size) = size(frame, layout) else {
            return self.drop(DropReason::Offload);
        };
        let fragments = match layout.family {
            Family::V4 => {
                (overhead > 0 && !self.options.pmtu_disc)
                    // An error is never answered with an error, so that a large one can only be cut (RFC 1122 §3.2.2).
                    || subject.embedded.is_some()
                    || !layout.dont_fragment(frame.bytes())
            }
            Family::V6 => false,
        };
        if size > room && !fragments {
            let error = IcmpError::TooBig(room as u32);
            return self.send_icmp_error(now, frame, layout, &arrival, error, DropReason::TooBig);
        }
        let rewritten = match (forward.method, subject.embedded) {
            // Only the link header changes, which cannot make another family of a packet.
            (Method::Direct, _) if outer != layout.family => Err(DropReason::Family),
            (Method::Bypass | Method::Direct | Method::Local, _) => Ok(()),
            (Method::Nat, None) => nat::rewrite(frame, layout, Direction::Request, forward.target),
            (Method::Nat, Some(embedded)) => match embedded.without_front(subject.layout.network()) {
                Some(embedded) => translate(frame, layout, &embedded, Direction::Request, forward.target),
                None => Err(DropReason::Malformed),
            },
            (Method::Tunnel(tunnel), _) => self.wrap(frame, layout, subject.packet, tunnel, server, &hop),
        };
        if let Err(reason) = rewritten {
            return self.drop(reason);
        }
        self.counters.requests += 1;
        let cut = cut(frame, size + overhead, layout.family, outer, mtu);
        self.depart(now, frame, outer, &arrival, (hop, resolution), cut)
    }

    /// A real server's packet, on its way to the client: forwarded as a router does, and given the virtual service's
    /// address.
    fn reply(
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
    fn route_through(
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
        let routes = self.options.ip_forward || self.options.local == Some(frame.port);
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
        let (arrival, layout) = match prepare(frame, layout) {
            Ok(prepared) => prepared,
            Err(reason) => return Err(self.drop(reason)),
        };
        let layout = &layout;
        // Tested before the route's failure, as a router does: a traceroute sees this hop even where the way ends here.
        let error = if layout.ttl(frame.bytes()).is_none_or(|ttl| ttl <= 1) {
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
        if let Err(reason) =
            decrement_ttl(frame, layout).ok_or(DropReason::Malformed).and_then(|()| rewrite(frame, layout))
        {
            return Err(self.drop(reason));
        }
        let cut = cut(frame, size, layout.family, layout.family, hop.mtu);
        let outcome = self.depart(now, frame, layout.family, &arrival, (hop, resolution), cut);
        // A drop in the last step must not count as forwarded.
        if matches!(outcome, Outcome::Drop(_)) { Err(outcome) } else { Ok(outcome) }
    }

    /// A packet whose next destination is this very host: NAT rewrites it, nothing else changes.
    fn local_server(&mut self, frame: &mut Frame<'_>, subject: Subject<'_>, forward: &Forward) -> Outcome {
        let layout = &subject.layout;
        let rewritten = match (forward.method, subject.embedded) {
            (Method::Bypass | Method::Direct | Method::Local | Method::Tunnel(_), _) => Ok(()),
            // The link header stays on: whoever hands the frame to the local stack takes it off.
            (Method::Nat, None) => normalise(frame, layout)
                .and_then(|()| nat::rewrite(frame, layout, forward.direction, forward.target)),
            (Method::Nat, Some(embedded)) => {
                translate(frame, layout, embedded, forward.direction, forward.target)
            }
        };
        match rewritten {
            Ok(()) => self.pass(PassReason::LocalServer),
            Err(reason) => self.drop(reason),
        }
    }

    fn wrap(
        &mut self,
        frame: &mut Frame<'_>,
        layout: &Layout,
        packet: Option<&Packet>,
        tunnel: Tunnel,
        server: IpAddr,
        hop: &Hop,
    ) -> Result<(), DropReason> {
        // An address of the port that the packet leaves by: ICMP errors about the tunnel come back to it.
        let source = self.host.source(hop.port, Family::of(server)).ok_or(DropReason::NoRoute)?;
        let addresses = Addresses::new(source, server).ok_or(DropReason::Family)?;
        let source_port = match (tunnel, packet) {
            (Tunnel::Gue { .. }, Some(packet)) => self.source_port(&packet.flow),
            (Tunnel::Gue { .. }, None) | (Tunnel::IpIp | Tunnel::Gre { .. }, _) => *encap::GUE_PORTS.start(),
        };
        let outer = encap::Outer {
            tunnel,
            addresses,
            pmtu_disc: self.options.pmtu_disc,
            identification: self.next_identification() as u16,
            source_port,
        };
        encap::wrap(frame, layout, &outer)
    }

    /// The GUE source port of a flow: stable, so that the way to the server keeps the order of its packets.
    pub(crate) fn source_port(&self, flow: &Flow) -> u16 {
        let (first, last) = (*encap::GUE_PORTS.start(), *encap::GUE_PORTS.end());
        let ports = u64::from(flow.source_port) << 16 | u64::from(flow.destination_port);
        let word = u64::from(flow.protocol.number()) << 32 | ports;
        let (source, destination) = (flow.addresses.source(), flow.addresses.destination());
        // Keyed, so that a stranger cannot choose flows that all take one path, or learn which do.
        let hash = self.key.hash_pair(to_bits(source), to_bits(destination), word);
        first + (((hash >> 32) * u64::from(last - first)) >> 32) as u16
    }
}

/// Takes the link header and padding off, and brings the offload into one of the forms that transforms handle.
#[inline]
pub(crate) fn prepare(frame: &mut Frame<'_>, layout: &Layout) -> Result<(Arrival, Layout), DropReason> {
    let front = layout.network();
    let arrival = Arrival::of(frame, front);
    frame.set_len(layout.end()).ok_or(DropReason::Malformed)?;
    frame.shrink_front(front).ok_or(DropReason::Offload)?;
    let layout = layout.without_front(front).ok_or(DropReason::Malformed)?;
    normalise(frame, &layout)?;
    Ok((arrival, layout))
}
