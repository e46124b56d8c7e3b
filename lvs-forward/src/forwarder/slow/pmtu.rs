//! What routers inside tunnels said of the way to real servers: path MTUs (RFC 1191 §6.3).

use core::net::IpAddr;

use lvs_core::Tick;

use crate::hash::{Key, bucket};
use crate::header::address::to_bits;
use crate::memory::{Empty, Memory};

/// Places in which one may stand.
const WINDOW: usize = 4;
/// How long, in seconds (Linux's `mtu_expires`).
const LIFETIME_SECS: u64 = 600;
/// The least that is believed, in bytes (Linux's `min_pmtu`): forged messages cannot starve a tunnel.
const LEAST: u16 = 552;

/// What is known of the way to one real server.
#[derive(Clone, Copy)]
pub(crate) struct PathMtu {
    bits: u128,
    until: Tick,
    mtu: u16,
}

impl Empty for PathMtu {
    const EMPTY: Self = Self { bits: 0, until: Tick::ZERO, mtu: 0 };
}

#[cfg_attr(feature = "alloc", derive(Clone))]
pub(crate) struct PathMtus {
    key: Key,
    entries: Memory<PathMtu>,
    /// Nothing was learnt yet: most directors never look further.
    empty: bool,
}

impl PathMtus {
    pub(crate) const fn new(key: Key, entries: Memory<PathMtu>) -> Self {
        Self { key, entries, empty: true }
    }

    /// The most that fits on the way to `server`, if less than `mtu`.
    #[inline(always)]
    pub(crate) fn limit(&self, now: Tick, server: IpAddr, mtu: u16) -> u16 {
        if self.empty { mtu } else { self.learnt(now, server, mtu) }
    }

    #[inline(never)]
    fn learnt(&self, now: Tick, server: IpAddr, mtu: u16) -> u16 {
        let bits = to_bits(server);
        let learnt = self.window(bits).filter_map(|at| self.entries.get().get(at));
        learnt
            .filter(|entry| entry.bits == bits && now < entry.until)
            .map(|entry| entry.mtu)
            .fold(mtu, u16::min)
    }

    /// Believes a router, unless it states more than is known.
    pub(crate) fn learn(&mut self, now: Tick, server: IpAddr, stated: u16) {
        let bits = to_bits(server);
        // Never more than is known: a forged message could otherwise undo a true one.
        let mtu = self.limit(now, server, u16::MAX).min(stated.max(LEAST));
        let place = self
            .window(bits)
            .filter_map(|at| {
                let entry = self.entries.get().get(at)?;
                // Its own place first, else the one that expires first.
                Some((entry.bits != bits, entry.until, at))
            })
            .min();
        if let Some(entry) = place.and_then(|(_, _, at)| self.entries.get_mut().get_mut(at)) {
            *entry = PathMtu { bits, until: now.plus_secs(LIFETIME_SECS), mtu };
            self.empty = false;
        }
    }

    fn window(&self, bits: u128) -> impl Iterator<Item = usize> + use<> {
        // Keyed and bounded: who forges messages can make neighbours in the table give way, but not fill it or slow it.
        let places = self.entries.get().len();
        let first = if places == 0 { 0 } else { bucket(self.key.hash(bits), places) };
        (0..WINDOW.min(places)).map(move |step| (first + step) % places)
    }
}

#[cfg(test)]
mod tests {
    use lvs_core::Seed;

    use super::*;

    fn table(places: usize) -> PathMtus {
        PathMtus::new(Key::new(Seed::from_bytes([5; 16])), Memory::filled(places))
    }

    #[test]
    fn a_table_of_any_size_forgets_but_never_fails() {
        for places in 0..5 {
            let mut table = table(places);
            for last in 0..=255 {
                let server = IpAddr::from([10, 0, 2, last]);
                table.learn(Tick::ZERO, server, 1300);
                let known = if places == 0 { 1500 } else { 1300 };
                assert_eq!(table.limit(Tick::ZERO, server, 1500), known);
            }
        }
    }

    #[test]
    fn what_was_learnt_holds_for_ten_minutes_and_never_rises() {
        let mut table = table(64);
        let server = "10.0.2.11".parse().unwrap();
        let at = |secs| Tick::ZERO.plus_secs(secs);
        assert_eq!(table.limit(at(0), server, 1500), 1500);
        table.learn(at(0), server, 1300);
        table.learn(at(1), server, 1400);
        assert_eq!(table.limit(at(2), server, 1500), 1300);
        assert_eq!(table.limit(at(2), "10.0.2.12".parse().unwrap(), 1500), 1500);
        table.learn(at(2), server, 0);
        assert_eq!(table.limit(at(3), server, 1500), 552);
        assert_eq!(table.limit(at(603), server, 1500), 1500);
    }

    #[test]
    fn many_servers_evict_each_other_but_never_overflow() {
        let mut table = table(64);
        for last in 0..=255 {
            let server = IpAddr::from([10, 0, 2, last]);
            table.learn(Tick::ZERO, server, 1300);
            assert_eq!(table.limit(Tick::ZERO, server, 1500), 1300);
        }
    }
}
