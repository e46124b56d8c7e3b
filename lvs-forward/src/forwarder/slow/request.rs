//! Requests on their way to a real server, and packets whose way ends at this very host.

use core::net::IpAddr;

use lvs_core::packet::Addresses;
use lvs_core::{Direction, Family, Flow, Forward, Method, Packet, Tick, Tunnel};

use super::apply::prepare;
use super::task::Subject;
use crate::forwarder::Forwarder;
use crate::frame::Frame;
use crate::header::address::to_bits;
use crate::header::edit::decrement_ttl;
use crate::header::ipv4;
use crate::header::layout::Layout;
use crate::header::options::record_route;
use crate::host::Hop;
use crate::icmp::error::IcmpError;
use crate::icmp::translate;
#[cfg(feature = "tunnel")]
use crate::method::encap;
use crate::method::nat;
use crate::offload::normalise;
use crate::outcome::Outcome;
use crate::output::{cut, least_mtu, size};
use crate::reason::{DropReason, PassReason};

impl Forwarder {
    /// A client's packet, to the real server (7.1 of IPVS's order: route, locality, TTL, size, method).
    #[inline]
    pub(super) fn request(
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
        if self.host.is_local_server(server) && forward.method != Method::Bypass {
            return self.local_server(frame, subject, forward);
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
            #[cfg(not(feature = "tunnel"))]
            Method::Tunnel(_) => return self.drop(DropReason::LeftOut),
            #[cfg(feature = "tunnel")]
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
            #[cfg(not(feature = "tunnel"))]
            (Method::Tunnel(_), _) => Err(DropReason::LeftOut),
            #[cfg(feature = "tunnel")]
            (Method::Tunnel(tunnel), _) => self.wrap(frame, layout, subject.packet, tunnel, server, &hop),
        };
        if let Err(reason) = rewritten {
            return self.drop(reason);
        }
        self.counters.requests += 1;
        let cut = cut(frame, size + overhead, layout.family, outer, mtu);
        self.depart(frame, outer, (hop, resolution), cut)
    }

    /// A packet whose next destination is this very host: NAT rewrites it, nothing else changes.
    pub(super) fn local_server(
        &mut self,
        frame: &mut Frame<'_>,
        subject: Subject<'_>,
        forward: &Forward,
    ) -> Outcome {
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

    #[cfg(feature = "tunnel")]
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
    #[cfg(feature = "tunnel")]
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
