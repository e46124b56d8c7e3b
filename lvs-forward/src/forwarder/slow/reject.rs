//! What a host says when nobody listens: a reset for TCP (RFC 9293 §3.5.2), port unreachable for UDP (RFC 1122
//! §4.1.3.1). A connection that is not known any more is such a case for both of its ends.

use core::net::SocketAddr;

use lvs_core::{
    Content, Director, Flow, Forward, Inspected, Method, Packet, Path, Reason, ServiceKey, Store, TcpFlags,
    Tick, Verdict,
};

use super::apply::prepare;
use super::owed::{OwedReset, PATIENCE_MILLIS};
use super::reset::{Reset, write_reset};
use crate::forwarder::Forwarder;
use crate::frame::{Checksum, Frame, Offload};
use crate::header::layout::{Fragment, Layout};
use crate::header::{get32, ipv6, protocol, tcp};
use crate::host::Arrival;
use crate::icmp::error::IcmpError;
use crate::offload::{merged_payload, pseudo_header};
use crate::outcome::Outcome;
use crate::reason::{DropReason, PassReason};

impl Forwarder {
    /// Answers a packet to an own address that is nobody's, in a frame that begins with its IP header.
    #[cold]
    pub(crate) fn reject(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        layout: &Layout,
        arrival: &Arrival,
        packet: &Packet,
    ) -> Outcome {
        match packet.content {
            Content::Tcp(flags) => {
                let reason = DropReason::Refused;
                // A reset is never answered with a reset: two hosts would not stop (RFC 9293 §3.5.2).
                if flags.contains(TcpFlags::RST) {
                    return self.drop(reason);
                }
                if now < self.resets_from {
                    return self.drop(DropReason::ResetHeld);
                }
                if !self.limiter.allows(now, self.options.icmp_rate) {
                    return self.drop(reason);
                }
                let Some(answer) = reset(frame, layout, flags) else {
                    return self.drop(reason);
                };
                self.send_reset(now, frame, &answer, arrival, packet)
            }
            Content::Udp => {
                let error = IcmpError::PortUnreachable;
                self.send_icmp_error(now, frame, layout, arrival, error, DropReason::Refused)
            }
            Content::Ipsec => self.reject_protocol(now, frame, layout, arrival),
            Content::Sctp(_) | Content::Fragment | Content::Error | Content::TunnelError => {
                self.pass(PassReason::Protocol)
            }
        }
    }

    fn send_reset(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        answer: &Layout,
        arrival: &Arrival,
        packet: &Packet,
    ) -> Outcome {
        let reason = DropReason::Refused;
        self.counters.count_drop(reason);
        match self.answer_back(now, frame, answer, arrival, packet.flow.addresses.source()) {
            Ok(outcome) => {
                self.counters.answers += 1;
                outcome
            }
            Err(_) => Outcome::Drop(reason),
        }
    }

    /// Whether a packet may be a real server's segment on a connection that is not known, whose server is to be told.
    pub(crate) fn resets_stray(&self, frame: &Frame<'_>, packet: &Packet, verdict: &Verdict) -> bool {
        let Content::Tcp(flags) = packet.content else { return false };
        matches!(verdict, Verdict::Pass(Reason::NoConnection))
            && packet.path == Path::Through
            && !flags.contains(TcpFlags::RST)
            && self.refuses_at(frame.port, packet.flow.destination().ip())
            // A router forwards what is not its own, and cannot tell a connection that goes around the director.
            && !self.options.ip_forward
            && !self.is_from_here(frame)
    }

    /// Tells a real server of NAT that its connection is not known, as its client's host would, and the client as its
    /// server's would. `None`, and nothing has changed, when the segment is no such server's.
    #[cold]
    pub(crate) fn reset_stray<S: Store>(
        &mut self,
        director: &Director<S>,
        now: Tick,
        frame: &mut Frame<'_>,
        layout: &Layout,
        packet: &Packet,
    ) -> Option<Outcome> {
        // Strangers may send as a server's neighbour, at any rate. What they use up is not what clients are answered
        // from.
        if !self.stray_limiter.allows(now, self.options.icmp_rate) {
            return None;
        }
        let mut services = director.nat_services_of(packet.flow.protocol, packet.flow.source()).peekable();
        services.peek()?;
        let Content::Tcp(flags) = packet.content else { return None };
        if now < self.resets_from {
            return Some(self.drop(DropReason::ResetHeld));
        }
        let (arrival, layout) = match prepare(frame, layout) {
            Ok(prepared) => prepared,
            Err(reason) => return Some(self.drop(reason)),
        };
        let sequence = get32(frame.bytes(), layout.transport() + tcp::SEQUENCE);
        let Some(answer) = reset(frame, &layout, flags) else {
            return Some(self.drop(DropReason::Refused));
        };
        // A client that has yet to hear of its server's first number cannot take a reset with that.
        if let Some(sequence) = sequence.filter(|_| !flags.contains(TcpFlags::SYN)) {
            // A server may be in several services. Where the client has no connection to one of them, it takes no
            // notice of the reset.
            for service in services.take(MOST_SERVICES) {
                if let ServiceKey::Address { address, port: port @ 1.., .. } = service {
                    let (virt, client) = (SocketAddr::new(address, port), packet.flow.destination());
                    let until = now.plus_millis(PATIENCE_MILLIS);
                    self.owed.push(OwedReset { virt, client, sequence, at: now, until });
                }
            }
        }
        Some(self.send_reset(now, frame, &answer, &arrival, packet))
    }

    /// A packet to an own address of a protocol that nothing here takes.
    #[cold]
    pub(crate) fn unknown(&mut self, now: Tick, frame: &mut Frame<'_>, layout: &Layout) -> Outcome {
        // RFC 8200 §4.7: nothing follows, nothing is said.
        let Some(addresses) = layout.addresses(frame.bytes()) else {
            return self.drop(DropReason::Malformed);
        };
        if !self.refuses_at(frame.port, addresses.destination())
            || layout.protocol() == protocol::NO_NEXT_HEADER
        {
            return self.pass(PassReason::Protocol);
        }
        match prepare(frame, layout) {
            Ok((arrival, layout)) => self.reject_protocol(now, frame, &layout, &arrival),
            Err(reason) => self.drop(reason),
        }
    }

    fn reject_protocol(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        layout: &Layout,
        arrival: &Arrival,
    ) -> Outcome {
        let error = match layout.protocol() {
            // Linux knows tunnels, but none with this end.
            protocol::IPIP | protocol::IPV6 => IcmpError::PortUnreachable,
            _ => IcmpError::ProtocolUnreachable(ipv6::NEXT_HEADER as u32),
        };
        self.send_icmp_error(now, frame, layout, arrival, error, DropReason::Refused)
    }

    /// A request that the director gave to this very host, where nobody listens. As in Linux, the error goes by the
    /// director, which takes it for the real server's.
    #[cold]
    pub(crate) fn reject_as_server<S: Store>(
        &mut self,
        director: &mut Director<S>,
        now: Tick,
        frame: &mut Frame<'_>,
        layout: &Layout,
        packet: &Packet,
        forward: &Forward,
    ) -> Outcome {
        let (arrival, layout) = match prepare(frame, layout) {
            Ok(prepared) => prepared,
            Err(reason) => return self.drop(reason),
        };
        let outcome = self.reject(now, frame, &layout, &arrival, packet);
        if !matches!(outcome, Outcome::Send | Outcome::SendPieces(_) | Outcome::Consumed) {
            return outcome;
        }
        let content = if let Content::Tcp(flags) = packet.content {
            let acknowledges = flags.contains(TcpFlags::ACK);
            Content::Tcp(if acknowledges { TcpFlags::RST } else { TcpFlags::RST.with(TcpFlags::ACK) })
        } else {
            Content::Error
        };
        let client = packet.flow.source();
        let server = match forward.method {
            Method::Nat => forward.target,
            Method::Bypass | Method::Direct | Method::Local | Method::Tunnel(_) => packet.flow.destination(),
        };
        if let Some(flow) = Flow::new(packet.flow.protocol, server, client) {
            let answer = Packet::new(flow, content, frame.len() as u32).passing();
            // It leaves as it is, whatever its connection; what counts is that the director has seen it.
            let _ = director.decide(now, &answer, Inspected::Nothing);
        }
        outcome
    }
}

/// To so many services of one server a client may have had its connection.
const MOST_SERVICES: usize = 4;

/// Turns a whole segment with a right checksum into the reset for it.
fn reset(frame: &mut Frame<'_>, layout: &Layout, flags: TcpFlags) -> Option<Layout> {
    let bytes = frame.bytes();
    let transport = layout.transport();
    if layout.fragment != Fragment::Whole {
        return None;
    }
    // A damaged segment may belong to another connection, which must not be reset for it.
    if frame.offload.checksum == Checksum::Complete {
        let sum = pseudo_header(bytes, layout)?.bytes(bytes.get(transport..layout.end())?);
        if sum.fold() != 0xffff {
            return None;
        }
    }
    let addresses = layout.addresses(bytes)?.reversed();
    // Both ports are one word, and half a turn exchanges them.
    let ports = get32(bytes, transport)?.rotate_left(16);
    let (sequence, acknowledged) = (get32(bytes, transport + 4)?, get32(bytes, transport + 8)?);
    let (_, payload) = merged_payload(bytes, layout)?;
    let taken =
        payload as u32 + u32::from(flags.contains(TcpFlags::SYN)) + u32::from(flags.contains(TcpFlags::FIN));
    // RFC 9293 §3.5.2: what acknowledges is answered in its own numbers, anything else with everything acknowledged.
    let (sequence, acknowledged, flags) = if flags.contains(TcpFlags::ACK) {
        (acknowledged, 0, TcpFlags::RST)
    } else {
        (0, sequence.wrapping_add(taken), TcpFlags::RST.with(TcpFlags::ACK))
    };
    frame.offload = Offload::NONE;
    frame.forget_assembly();
    write_reset(frame, &Reset { addresses, ports, sequence, acknowledged, flags })
}
