//! Where replies go: most clients are behind the one router that the last were behind.

use core::net::{IpAddr, Ipv4Addr};

use lvs_core::Tick;

use super::short::Way;
use crate::host::Host;

/// A range of IPv4 addresses of which none is the host's, all reached by one route: two comparisons instead of a look-up among
/// the own addresses and one among the routes.
pub(super) struct Beyond {
    low: u32,
    /// How many addresses: fewer than there are, since those of no wire are left out.
    count: u32,
    /// The host's changes when it was found.
    changes: u32,
    /// Whether all of it is behind a gateway.
    gateway: bool,
    /// The way to that, since the range was found.
    way: Option<Way>,
    /// Addresses that were not in it.
    missed: u8,
}

impl Beyond {
    /// No address.
    pub(super) const NOWHERE: Self =
        Self { low: 0, count: 0, changes: 0, gateway: false, way: None, missed: EVERY - 1 };

    /// Forgets a range that was found before the host's last change.
    #[inline(always)]
    pub(super) fn keep(&mut self, changes: u32) {
        if self.changes != changes {
            *self = Self { changes, missed: self.missed, ..Self::NOWHERE };
        }
    }

    /// Whether an address lies in it, if it has been [kept](Self::keep).
    #[inline(always)]
    pub(super) const fn holds(&self, address: u32) -> bool {
        address.wrapping_sub(self.low) < self.count
    }

    /// The way to an address in it, if it is known.
    #[inline(always)]
    pub(super) fn way<const A: usize, const N: usize>(
        &self,
        address: u32,
        host: &Host<A, N>,
        now: Tick,
    ) -> Option<&Way> {
        if !self.holds(address) || self.changes != host.changes() {
            return None;
        }
        self.way.as_ref().filter(|way| now < way.until)
    }

    /// Moves to the range around an address that is not the host's. Only now and then: where addresses of several ranges take turns,
    /// looking them up costs less than to go to and fro.
    pub(super) fn look_around<const A: usize, const N: usize>(&mut self, host: &Host<A, N>, address: u32) {
        self.missed = (self.missed + 1) % EVERY;
        if self.missed == 0
            && let Some((low, high, gateway)) = host.stretch_v4(address)
        {
            // 0/8 and 127/8 are on no wire, and are not looked for once a range holds them.
            let (low, high) = match address {
                ..LOOPBACK => (low.max(1 << 24), high.min(LOOPBACK - 1)),
                LOOPBACK.. => (low.max(LOOPBACK + (1 << 24)), high),
            };
            let changes = host.changes();
            let count = high.wrapping_sub(low).wrapping_add(1);
            *self = Self { low, count, changes, gateway, way: None, missed: 0 };
        }
    }

    /// Takes note of the way to a client.
    pub(super) fn remember(&mut self, client: IpAddr, way: &Way) {
        if let IpAddr::V4(client) = client
            && self.gateway
            && self.holds(Ipv4Addr::to_bits(client))
            && self.changes == way.changes
        {
            self.way = Some(*way);
        }
    }
}

/// 127.0.0.0, the first address of 127/8.
const LOOPBACK: u32 = 127 << 24;

/// One of so many misses moves the range.
const EVERY: u8 = 64;

#[cfg(test)]
mod tests {
    extern crate std;

    use lvs_core::Seed;
    use proptest::prelude::*;

    use super::*;
    use crate::host::{MacAddress, Port, Prefix};

    fn address() -> impl Strategy<Value = u32> {
        // Close to each other, and to the ends of what is no host's.
        prop_oneof![
            (0x0a00_0000_u32..0x0a00_0040),
            (0x00ff_fff0_u32..0x0100_0010),
            (0x7eff_fff0_u32..0x7f00_0010),
            (0x7fff_fff0_u32..0x8000_0010),
            any::<u32>(),
        ]
    }

    proptest! {
        #[test]
        fn all_of_a_range_is_others_and_goes_one_way(
            own in prop::collection::vec(address(), 0..6),
            routes in prop::collection::vec((address(), 0_u8..=32, any::<bool>()), 0..6),
            around in address(),
            others in prop::collection::vec(address(), 50),
        ) {
            let mut host: Host<16, 4> = Host::new(Seed::from_bytes([5; 16]));
            let port = host.add_port(Port::ethernet(MacAddress([2, 0, 0, 0, 0, 1]), 1_500)).unwrap();
            for own in own {
                let _ = host.add_virtual_address(Ipv4Addr::from_bits(own).into());
            }
            for (to, len, gateway) in routes {
                let gateway = gateway.then(|| Ipv4Addr::new(10, 0, 0, 1).into());
                let _ = host.add_route(Prefix::new(Ipv4Addr::from_bits(to).into(), len).unwrap(), gateway, port);
            }
            prop_assume!(!host.owns(Ipv4Addr::from_bits(around).into()) && !matches!(around >> 24, 0 | 127));
            let mut beyond = Beyond::NOWHERE;
            beyond.look_around(&host, around);
            beyond.keep(host.changes());
            let next = |address: u32| {
                let hop = host.route(Ipv4Addr::from_bits(address).into())?;
                Some((hop.port, beyond.gateway.then_some(hop.next)))
            };
            prop_assert_eq!(beyond.holds(around), next(around).is_some());
            for other in others.into_iter().filter(|&other| beyond.holds(other)) {
                prop_assert!(!host.owns(Ipv4Addr::from_bits(other).into()));
                prop_assert!(!matches!(other >> 24, 0 | 127));
                prop_assert_eq!(next(other), next(around));
            }
        }
    }
}
