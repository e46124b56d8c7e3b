extern crate std;

use std::vec::Vec;

use core::net::{Ipv4Addr, Ipv6Addr};

use lvs_core::Seed;
use proptest::prelude::*;

use super::*;
use crate::host::{MacAddress, Port, Prefix};

fn v4() -> impl Strategy<Value = u32> {
    // Close to each other, and to the ends of what is no host's.
    prop_oneof![
        (0x0a00_0000_u32..0x0a00_0040),
        (0x00ff_fff0_u32..0x0100_0010),
        (0x7eff_fff0_u32..0x7f00_0010),
        (0x7fff_fff0_u32..0x8000_0010),
        any::<u32>(),
    ]
}

fn v6() -> impl Strategy<Value = u128> {
    let site = 0x2001_0db8_u128 << 96;
    prop_oneof![
        (site..site + 0x40),
        (0_u128..0x10),
        ((0xff00_u128 << 112) - 8..(0xff00_u128 << 112) + 8),
        (u128::MAX - 8..=u128::MAX),
        // As IPv4's addresses are kept.
        (0xffff_0a00_0000_u128..0xffff_0a00_0040),
        any::<u128>(),
    ]
}

/// Holds the range around one address against the host, for some others.
fn check<F: CacheFamily>(
    own: Vec<IpAddr>,
    routes: Vec<(IpAddr, u8, bool)>,
    gateway: IpAddr,
    around: F::Bits,
    others: Vec<F::Bits>,
    is_usable: impl Fn(F::Bits) -> bool,
) -> Result<(), TestCaseError>
where
    F::Bits: Empty,
{
    let mut host: Host = Host::new(Seed::from_bytes([5; 16]));
    let port = host.add_port(Port::ethernet(MacAddress([2, 0, 0, 0, 0, 1]), 1_500)).unwrap();
    for own in own {
        let _ = host.add_virtual_address(own);
    }
    for (to, len, via) in routes {
        let _ = host.add_route(Prefix::new(to, len).unwrap(), via.then_some(gateway), port);
    }
    prop_assume!(!host.owns(F::address(around)) && is_usable(around));
    let mut peers = F::Bits::PEERS;
    peers.keep(host.changes());
    prop_assert!(!peers.look_up::<F>(&host, around));
    let next = |address: F::Bits| {
        let hop = host.route(F::address(address))?;
        Some((hop.port, peers.others.gateway.then_some(hop.next)))
    };
    prop_assert_eq!(peers.is_other::<F>(around), next(around).is_some());
    for other in others.into_iter().filter(|&other| peers.is_other::<F>(other)) {
        prop_assert!(!host.owns(F::address(other)));
        prop_assert!(is_usable(other));
        prop_assert_eq!(next(other), next(around));
    }
    Ok(())
}

proptest! {
    #[test]
    fn all_ipv4_addresses_of_a_range_are_others_and_go_one_way(
        own in prop::collection::vec(v4(), 0..6),
        routes in prop::collection::vec((v4(), 0_u8..=32, any::<bool>()), 0..6),
        around in v4(),
        others in prop::collection::vec(v4(), 50),
    ) {
        let address = |bits| IpAddr::from(Ipv4Addr::from_bits(bits));
        check::<V4>(
            own.into_iter().map(address).collect(),
            routes.into_iter().map(|(to, len, via)| (address(to), len, via)).collect(),
            [10, 0, 0, 1].into(),
            around,
            others,
            |bits| !matches!(bits >> 24, 0 | 127),
        )?;
    }

    #[test]
    fn all_ipv6_addresses_of_a_range_are_others_and_go_one_way(
        own in prop::collection::vec(v6(), 0..6),
        routes in prop::collection::vec((v6(), 0_u8..=128, any::<bool>()), 0..6),
        around in v6(),
        others in prop::collection::vec(v6(), 50),
    ) {
        let address = |bits| IpAddr::from(Ipv6Addr::from_bits(bits));
        check::<V6>(
            own.into_iter().map(address).collect(),
            routes.into_iter().map(|(to, len, via)| (address(to), len, via)).collect(),
            "2001:db8::1".parse().unwrap(),
            around,
            others,
            |bits| bits >> 64 != 0 && bits >> 120 != 0xff,
        )?;
    }
}
