//! What a host says when nobody listens: a reset for TCP (RFC 9293 §3.5.2), port unreachable for UDP (RFC 1122
//! §4.1.3.1).

use lvs_core::packet::Addresses;
use lvs_core::{Content, Director, Flow, Forward, Inspected, Method, Packet, Store, TcpFlags, Tick};

use super::apply::prepare;
use crate::forwarder::Forwarder;
use crate::frame::{Checksum, Frame, Offload};
use crate::header::edit::{Ipv4, Ipv6};
use crate::header::layout::{Fragment, Layout};
use crate::header::{array_mut, get32, ipv4, ipv6, protocol, tcp};
use crate::host::Arrival;
use crate::icmp::error::{IcmpError, OWN_TTL};
use crate::offload::{merged_payload, pseudo_header, write_full};
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
                if flags.contains(TcpFlags::RST) || !self.limiter.allows(now, self.options.icmp_rate) {
                    return self.drop(reason);
                }
                let Some(answer) = reset(frame, layout, flags) else {
                    return self.drop(reason);
                };
                self.counters.count_drop(reason);
                match self.answer_back(now, frame, &answer, arrival, packet.flow.addresses.source()) {
                    Ok(outcome) => {
                        self.counters.answers += 1;
                        outcome
                    }
                    Err(_) => Outcome::Drop(reason),
                }
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

    /// A packet to an own address of a protocol that nothing here takes.
    #[cold]
    pub(crate) fn unknown(&mut self, now: Tick, frame: &mut Frame<'_>, layout: &Layout) -> Outcome {
        // RFC 8200 §4.7: nothing follows, nothing is said.
        if !self.options.reject || layout.protocol() == protocol::NO_NEXT_HEADER {
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
    let header_len = match addresses {
        Addresses::V4 { .. } => ipv4::LEN,
        Addresses::V6 { .. } => ipv6::LEN,
    };
    frame.set_len(header_len + tcp::LEN)?;
    let bytes = frame.bytes_mut();
    match addresses {
        Addresses::V4 { source, destination } => {
            let header = Ipv4 {
                tos: 0,
                total_len: (ipv4::LEN + tcp::LEN) as u16,
                // Atomic, so that no identification has to be drawn (RFC 6864 §4.1); Linux's resets are so, too.
                identification: 0,
                dont_fragment: true,
                ttl: OWN_TTL,
                protocol: layout.protocol,
                source,
                destination,
            };
            *array_mut(bytes, 0)? = header.to_bytes();
        }
        Addresses::V6 { source, destination } => {
            let header = Ipv6 {
                traffic_class: 0,
                payload_len: tcp::LEN as u16,
                next_header: layout.protocol,
                hop_limit: OWN_TTL,
                source,
                destination,
            };
            *array_mut(bytes, 0)? = header.to_bytes();
        }
    }
    let segment: &mut [u8; tcp::LEN] = array_mut(bytes, header_len)?;
    *segment = [0; tcp::LEN];
    *array_mut(segment, 0)? = ports.to_be_bytes();
    *array_mut(segment, tcp::SEQUENCE)? = sequence.to_be_bytes();
    *array_mut(segment, tcp::SEQUENCE + 4)? = acknowledged.to_be_bytes();
    *array_mut(segment, tcp::DATA_OFFSET)? = [(tcp::LEN as u8 / 4) << 4, flags.byte()];
    let answer = Layout {
        network: 0,
        transport: header_len as u32,
        end: (header_len + tcp::LEN) as u32,
        family: layout.family,
        protocol: layout.protocol,
        fragment: Fragment::Whole,
    };
    write_full(bytes, &answer)?;
    Some(answer)
}
