//! Packets decided in the three ways that there are.

use core::net::{Ipv4Addr, SocketAddr};

use lvs_core::batch::{Brief, Carry, Found, Next};
use lvs_core::packet::Addresses;
use lvs_core::*;

/// How packets are decided.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    One,
    Batch,
    /// Runs of packets that a brief can say, and the others one by one.
    Brief,
}

/// The verdicts on briefs, as they come.
struct Verdicts(Vec<Verdict>);

impl Carry for Verdicts {
    fn follow(&mut self, _: &Brief, found: Found<'_>) -> Next {
        let forward = found.forward();
        assert_eq!(found.target_v4().map(socket), Some(forward.target));
        assert_eq!((found.method(), found.server()), (forward.method, forward.server));
        assert_eq!(found.direction(), forward.direction);
        assert_eq!(found.is_nat(), forward.method == Method::Nat);
        assert_eq!(found.is_direct(), forward.method == Method::Direct);
        assert_eq!(found.is_wrapped(), forward.method == Method::Tunnel(Tunnel::IpIp));
        self.0.push(Verdict::Forward(forward));
        Next::Go
    }

    fn carry(&mut self, _: &Packet, verdict: &Verdict) -> Next {
        self.0.push(*verdict);
        Next::Go
    }
}

fn socket((address, port): (u32, u16)) -> SocketAddr {
    (Ipv4Addr::from_bits(address), port).into()
}

/// The packet in brief, if it can be said so.
fn brief(packet: &Packet) -> Option<Brief> {
    let Addresses::V4 { source, destination } = packet.flow.addresses else { return None };
    let addresses = u64::from(source.to_bits()) << 32 | u64::from(destination.to_bits());
    let ports = u32::from(packet.flow.source_port) << 16 | u32::from(packet.flow.destination_port);
    let length = packet.length as u16;
    let brief = match packet.content {
        Content::Tcp(flags) => Brief::tcp(addresses, ports, flags, length),
        Content::Udp => Brief::udp(addresses, ports, length),
        Content::Sctp(_) | Content::Fragment | Content::Error | Content::TunnelError | Content::Ipsec => {
            return None;
        }
    };
    let brief = if packet.path == Path::Through { brief.passing() } else { brief };
    (brief.packet() == *packet).then_some(brief)
}

/// The verdicts on packets in order.
pub(crate) fn verdicts<S: Store>(
    director: &mut Director<S>,
    now: Tick,
    packets: &[Packet],
    by: By,
) -> Vec<Verdict> {
    match by {
        By::One => packets.iter().map(|packet| director.decide(now, packet, Inspected::Nothing)).collect(),
        By::Batch => {
            let mut verdicts = vec![Verdict::Drop(Reason::TableFull); packets.len()];
            assert_eq!(director.decide_batch(now, packets, &mut verdicts), packets.len());
            verdicts
        }
        By::Brief => in_brief(director, now, packets),
    }
}

fn in_brief<S: Store>(director: &mut Director<S>, now: Tick, packets: &[Packet]) -> Vec<Verdict> {
    let mut verdicts = Verdicts(Vec::new());
    let mut rest = packets;
    while let Some((first, others)) = rest.split_first() {
        let briefs: Vec<Brief> = rest.iter().map_while(brief).collect();
        if briefs.is_empty() {
            verdicts.0.push(director.decide(now, first, Inspected::Nothing));
            rest = others;
        } else {
            assert_eq!(director.decide_briefs(now, &briefs, &mut verdicts), briefs.len());
            rest = &rest[briefs.len()..];
        }
    }
    verdicts.0
}
