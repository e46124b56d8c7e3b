//! The fast tier against the slow one.

extern crate std;

use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::vec;
use std::vec::Vec;

use lvs_core::{Config, Heap, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey, Tunnel};
use proptest::prelude::*;

use super::*;
use crate::checksum::Sum;
use crate::forwarder::Options;
use crate::frame::{Checksum, HEADROOM, Offload, PortId};
use crate::host::{Host, MacAddress, Port};

const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SEED: Seed = Seed::from_bytes([3; 16]);

fn address(v6: bool, last: u8) -> IpAddr {
    if v6 { Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()).into() } else { [10, 0, 0, last].into() }
}

struct Site {
    director: Director<Heap>,
    forwarder: Forwarder,
}

impl Site {
    /// With `across`, servers of tunnels are of the other family.
    fn new(method: Method, mtu: u16, known: bool, across: bool) -> Self {
        let mut director = Director::new(Config::new(SEED), Heap::with_capacity(64));
        let mut host = Host::new(SEED);
        let port = host.add_port(Port::ethernet(MacAddress(OWN_MAC), mtu)).unwrap();
        for v6 in [false, true] {
            host.add_address(port, address(v6, 254), if v6 { 64 } else { 24 }).unwrap();
            host.add_virtual_address(address(v6, 100)).unwrap();
            for last in [7, 11].into_iter().filter(|_| known) {
                host.add_neighbour(port, address(v6, last), MacAddress([2, 0, 0, 0, 1, last])).unwrap();
            }
            for key in [ServiceKey::tcp(address(v6, 100), 80), ServiceKey::udp(address(v6, 100), 80)] {
                director.add_service(key, ServiceConfig::new(Scheduler::default())).unwrap();
                let across = across && matches!(method, Method::Tunnel(_));
                let server = ServerConfig::new(SocketAddr::new(address(v6 != across, 11), 8_080), method);
                director.add_server(key, server).unwrap();
            }
        }
        Self { director, forwarder: Forwarder::new(host, Options::new()) }
    }
}

#[derive(Clone, Debug)]
struct Shape {
    v6: bool,
    udp: bool,
    reply: bool,
    flags: u8,
    ttl: u8,
    dont_fragment: bool,
    payload: usize,
    padding: usize,
    checksum: u16,
    /// Set for a partial checksum: how far the device's words about it are off.
    partial: Option<(i8, i8)>,
    flip: Option<(usize, u8)>,
}

impl Shape {
    fn bytes(&self) -> Vec<u8> {
        let header = if self.udp { 8 } else { 20 };
        let mut segment = vec![0xa5; header + self.payload];
        let (from, to) = if self.reply { ((11, 8_080), (7, 4_000_u16)) } else { ((7, 4_000), (100, 80_u16)) };
        segment[..2].copy_from_slice(&u16::to_be_bytes(from.1));
        segment[2..4].copy_from_slice(&u16::to_be_bytes(to.1));
        let field = if self.udp { 6 } else { 16 };
        if self.udp {
            let len = segment.len() as u16;
            segment[4..6].copy_from_slice(&len.to_be_bytes());
        } else {
            (segment[12], segment[13]) = (0x50, self.flags);
        }
        segment[field..field + 2].copy_from_slice(&self.checksum.to_be_bytes());
        let mut frame = Vec::from(OWN_MAC);
        frame.extend([2, 0, 0, 0, 1, 7]);
        match (address(self.v6, from.0), address(self.v6, to.0)) {
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend((segment.len() as u16).to_be_bytes());
                frame.extend([if self.udp { 17 } else { 6 }, self.ttl]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([8, 0]);
                let mut header = vec![0x45, 0];
                header.extend((segment.len() as u16 + 20).to_be_bytes());
                header.extend([0x12, 0x34, if self.dont_fragment { 0x40 } else { 0 }, 0]);
                header.extend([self.ttl, if self.udp { 17 } else { 6 }, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                let sum = Sum::ZERO.bytes(&header).checksum();
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                frame.extend(header);
            }
            _ => unreachable!("both are of the one family"),
        }
        frame.extend(segment);
        frame.extend(vec![0; self.padding]);
        if let Some((at, bits)) = self.flip {
            let at = at % frame.len().min(60);
            frame[at] ^= bits;
        }
        frame
    }

    fn offload(&self) -> Offload {
        let start = if self.v6 { 54 } else { 34 };
        let offset = if self.udp { 6 } else { 16 };
        let checksum = self.partial.map_or(Checksum::Complete, |(by, by_field)| Checksum::Partial {
            start: u16::saturating_add_signed(start, by.into()),
            offset: u16::saturating_add_signed(offset, by_field.into()),
        });
        Offload { checksum, merged: None }
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    let flags = prop_oneof![Just(0x02), Just(0x10), Just(0x11), Just(0x14), any::<u8>()];
    let ttl = prop_oneof![4 => Just(64), 1 => 0_u8..4];
    let payload = prop_oneof![4 => 0_usize..64, 1 => 1_380_usize..1_520];
    let flip = prop_oneof![5 => Just(None), 1 => (0_usize..60, 1_u8..=255).prop_map(Some)];
    let lie = prop_oneof![3 => Just((0, 0)), 1 => (-20_i8..20, Just(0)), 1 => (Just(0), -8_i8..8)];
    let choices = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), prop::option::of(lie));
    (choices, flags, ttl, payload, 0_usize..8, any::<u16>(), flip).prop_map(
        |((v6, udp, reply, dont_fragment, partial), flags, ttl, payload, padding, checksum, flip)| Shape {
            v6,
            udp,
            reply,
            flags,
            ttl,
            dont_fragment,
            payload,
            padding,
            checksum,
            partial,
            flip,
        },
    )
}

fn method() -> impl Strategy<Value = Method> {
    let tunnel = (0..3, any::<bool>()).prop_map(|(kind, checksum)| match kind {
        0 => Tunnel::IpIp,
        1 => Tunnel::Gre { checksum },
        _ => Tunnel::Gue { port: 6_080, checksum },
    });
    prop_oneof![Just(Method::Nat), Just(Method::Direct), tunnel.prop_map(Method::Tunnel)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_fast_tier_does_what_the_slow_one_does(
        method in method(),
        known in prop_oneof![4 => Just(true), 1 => Just(false)],
        across in any::<bool>(),
        mtu in prop_oneof![Just(1_500_u16), Just(1_280)],
        headroom in prop_oneof![5 => Just(HEADROOM), 1 => 0..HEADROOM],
        batches in prop::collection::vec(prop::collection::vec(shape(), 1..12), 1..6),
    ) {
        let mut fast = Site::new(method, mtu, known, across);
        let mut slow = Site::new(method, mtu, known, across);
        for (step, shapes) in batches.iter().enumerate() {
            let now = Tick::from_millis(step as u64 * 300);
            let mut buffers: Vec<[Vec<u8>; 2]> = shapes
                .iter()
                .map(|shape| {
                    let mut buffer = vec![0x5a; headroom];
                    buffer.extend(shape.bytes());
                    buffer.resize(buffer.len() + 64, 0);
                    [buffer.clone(), buffer]
                })
                .collect();
            let (mut ones, mut others) = (Vec::new(), Vec::new());
            for ([one, other], shape) in buffers.iter_mut().zip(shapes) {
                let end = one.len() - 64;
                ones.push(Frame::new(one, headroom, end, PortId(0)).unwrap().with_offload(shape.offload()));
                others.push(Frame::new(other, headroom, end, PortId(0)).unwrap().with_offload(shape.offload()));
            }
            let mut outcomes = vec![Outcome::Consumed; shapes.len()];
            fast.forwarder.process_batch(&mut fast.director, now, &mut ones, &mut outcomes);
            for (((one, other), outcome), shape) in ones.iter().zip(&mut others).zip(outcomes).zip(shapes) {
                let expected = slow.forwarder.process(&mut slow.director, now, other);
                prop_assert_eq!(outcome, expected, "{:?}", shape);
                // What goes no further is nobody's.
                if matches!(outcome, Outcome::Send | Outcome::SendPieces(_) | Outcome::Pass(_)) {
                    prop_assert_eq!(one.bytes(), other.bytes(), "{:?}", shape);
                    prop_assert_eq!((one.port, one.offload), (other.port, other.offload));
                }
            }
            prop_assert_eq!(fast.forwarder.counters(), slow.forwarder.counters());
            prop_assert_eq!(fast.director.counters(), slow.director.counters());
        }
    }
}

#[test]
fn plain_packets_do_take_the_fast_tier() {
    let methods = [
        Method::Nat,
        Method::Direct,
        Method::Tunnel(Tunnel::IpIp),
        Method::Tunnel(Tunnel::Gre { checksum: false }),
        Method::Tunnel(Tunnel::Gue { port: 6_080, checksum: false }),
    ];
    for (number, method) in methods.into_iter().enumerate() {
        for (v6, udp, partial) in
            [(false, false, false), (false, true, true), (true, false, true), (true, true, false)]
        {
            let mut site = Site::new(method, 1_500, true, number % 2 == 1);
            let shape = Shape {
                v6,
                udp,
                reply: false,
                flags: 0x02,
                ttl: 64,
                dont_fragment: true,
                payload: 10,
                padding: 0,
                checksum: 1,
                partial: partial.then_some((0, 0)),
                flip: None,
            };
            let mut bytes = vec![0; HEADROOM];
            bytes.extend(shape.bytes());
            let end = bytes.len();
            let mut frame =
                Frame::new(&mut bytes, HEADROOM, end, PortId(0)).unwrap().with_offload(shape.offload());
            let gate = site.forwarder.gate(PortId(0)).unwrap();
            let batch = site.director.next_batch();
            site.forwarder.parse_fast(&gate, core::slice::from_ref(&frame), batch);
            assert_eq!(batch.len(), 1);
            let mut witness = Witness { forwarder: &mut site.forwarder, frame: &mut frame, forwarded: false };
            assert_eq!(site.director.decide_fast(Tick::ZERO, &mut witness), 1);
            assert!(witness.forwarded, "{method:?}, {shape:?}");
        }
    }
}

/// Sees whether the fast tier forwards a packet that the director has decided.
struct Witness<'a, 'f> {
    forwarder: &'a mut Forwarder,
    frame: &'a mut Frame<'f>,
    forwarded: bool,
}

impl<F: Wire> HitHandler<F> for Witness<'_, '_> {
    fn hit(&mut self, _: &FastKey<F>, _: Hit<'_, F>) -> Next {
        panic!("it is the first packet")
    }

    fn decided(&mut self, key: &FastKey<F>, verdict: &Verdict) -> Next {
        let Verdict::Forward(forward) = verdict else { panic!("{verdict:?}") };
        self.forwarded = self.forwarder.forward_unprepared(Tick::ZERO, self.frame, key, forward).is_some();
        Next::Go
    }
}
