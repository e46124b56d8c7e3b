//! Where replies go: most clients are behind the one router that the last were behind.

use core::net::{IpAddr, Ipv4Addr};

use lvs_core::Tick;

use super::short::Way;
use crate::host::Host;

/// A range of IPv4 addresses of which none is the host's, all reached by one route: two comparisons instead of a look-up among
/// the own addresses and one among the routes.
pub(super) struct Beyond {
    low: u32,
    /// The last address less the first.
    span: u32,
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
    /// Only the broadcast address, to which there is no way.
    pub(super) const NOWHERE: Self =
        Self { low: u32::MAX, span: 0, changes: 0, gateway: false, way: None, missed: EVERY - 1 };

    /// Whether an address lies in it.
    #[inline(always)]
    pub(super) const fn holds(&self, address: u32, changes: u32) -> bool {
        address.wrapping_sub(self.low) <= self.span && self.changes == changes
    }

    /// The way to an address in it, if it is known.
    #[inline(always)]
    pub(super) fn way<const A: usize, const N: usize>(
        &self,
        address: u32,
        host: &Host<A, N>,
        now: Tick,
    ) -> Option<&Way> {
        if !self.holds(address, host.changes()) {
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
            *self = Self { low, span: high.wrapping_sub(low), changes, gateway, way: None, missed: 0 };
        }
    }

    /// Takes note of the way to a client.
    pub(super) fn remember(&mut self, client: IpAddr, way: &Way) {
        if let IpAddr::V4(client) = client
            && self.gateway
            && self.holds(Ipv4Addr::to_bits(client), way.changes)
        {
            self.way = Some(*way);
        }
    }
}

/// 127.0.0.0, the first address of 127/8.
const LOOPBACK: u32 = 127 << 24;

/// One of so many misses moves the range.
const EVERY: u8 = 64;
