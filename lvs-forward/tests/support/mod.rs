//! Strategies for packets.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use lvs_core::{Family, Protocol};
use proptest::prelude::*;

use crate::sample::{Sample, SumState};

pub(crate) fn any_family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

/// An address that can be on a wire.
pub(crate) fn any_address(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::V4 => (1u8..=223, any::<[u8; 3]>())
            .prop_filter("loopback", |(first, _)| *first != 127)
            .prop_map(|(first, [b, c, d])| IpAddr::from([first, b, c, d]))
            .boxed(),
        Family::V6 => any::<u64>()
            .prop_map(|low| IpAddr::from(Ipv6Addr::from((0x2001_0db8_u128 << 96) | u128::from(low))))
            .boxed(),
    }
}

pub(crate) fn any_endpoint(family: Family) -> impl Strategy<Value = SocketAddr> {
    (any_address(family), any::<u16>()).prop_map(|(address, port)| SocketAddr::new(address, port))
}

/// A packet from `source` to `destination`.
pub(crate) fn any_sample_between(
    source: impl Strategy<Value = SocketAddr>,
    destination: impl Strategy<Value = SocketAddr>,
    protocol: impl Strategy<Value = Protocol>,
) -> impl Strategy<Value = Sample> {
    let sum = prop_oneof![
        4 => Just(SumState::Right),
        1 => (1u16..0xffff).prop_map(SumState::Wrong),
        1 => Just(SumState::Absent),
        2 => Just(SumState::Partial),
    ];
    let header = (2u8.., any::<u8>(), any::<bool>(), any::<u16>(), prop::bool::weighted(0.2));
    let rest = (any::<u8>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..1_300), sum);
    (source, destination, protocol, header, rest).prop_map(
        |(source, destination, protocol, header, (tcp_flags, sequence, payload, sum))| {
            let (ttl, class, dont_fragment, identification, options) = header;
            Sample {
                protocol,
                source,
                destination,
                ttl,
                class,
                dont_fragment,
                identification,
                options,
                tcp_flags,
                sequence,
                payload,
                sum,
            }
        },
    )
}

pub(crate) fn any_protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![4 => Just(Protocol::Tcp), 4 => Just(Protocol::Udp), 1 => Just(Protocol::Sctp)]
}

/// Any packet of one family.
pub(crate) fn any_sample() -> impl Strategy<Value = Sample> {
    any_family().prop_flat_map(|family| {
        any_sample_between(any_endpoint(family), any_endpoint(family), any_protocol())
    })
}
