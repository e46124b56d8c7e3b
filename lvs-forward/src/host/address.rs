//! The director's own addresses. Every packet's destination is looked up here.

use core::net::IpAddr;

use heapless::Vec;
use lvs_core::{Family, Tick};

use crate::frame::PortId;
use crate::hash::{Key, bucket};
use crate::header::address::to_bits;

/// One address of the director.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    bits: u128,
    pub(crate) address: IpAddr,
    /// The port that it belongs to; virtual addresses belong to all of them.
    pub(crate) port: Option<PortId>,
    /// Announcements still to be made, the port that is next in this round, and when.
    pub(crate) rounds: u8,
    pub(crate) next_port: u8,
    pub(crate) due: Tick,
}

/// A set of up to `N` addresses: a list, and a hash index over it that is at most half full.
pub(crate) struct OwnAddresses<const N: usize> {
    key: Key,
    list: Vec<Own, N>,
    index: [[u16; 2]; N],
}

const EMPTY: u16 = u16::MAX;

impl<const N: usize> OwnAddresses<N> {
    pub(crate) const fn new(key: Key) -> Self {
        const { assert!(N > 0 && N < EMPTY as usize, "a host has between 1 and 65,534 addresses") };
        Self { key, list: Vec::new(), index: [[EMPTY; 2]; N] }
    }

    /// Adds an address; `None` when the list is full.
    pub(crate) fn insert(&mut self, address: IpAddr, port: Option<PortId>) -> Option<()> {
        let bits = to_bits(address);
        let own = Own { bits, address, port, rounds: 0, next_port: 0, due: Tick::ZERO };
        self.list.push(own).ok()?;
        self.link(bits, self.list.len() - 1);
        Some(())
    }

    /// Takes an address out; `None` when it was not in.
    pub(crate) fn remove(&mut self, address: IpAddr) -> Option<Own> {
        let at = self.list.iter().position(|own| own.address == address)?;
        let own = self.list.remove(at);
        // Made anew: places in the list have moved, and addresses change seldom enough.
        self.index = [[EMPTY; 2]; N];
        for at in 0..self.list.len() {
            if let Some(own) = self.list.get(at) {
                self.link(own.bits, at);
            }
        }
        Some(own)
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.find(to_bits(address)).is_some()
    }

    /// Whether these are the bits of an own address.
    #[inline]
    pub(crate) fn contains_bits(&self, bits: u128) -> bool {
        self.find(bits).is_some()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Own> {
        self.list.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Own> {
        self.list.iter_mut()
    }

    /// The first address of a family on a port: what the director calls itself there.
    pub(crate) fn on_port(&self, port: PortId, family: Family) -> Option<IpAddr> {
        let own = self.list.iter().find(|own| own.port == Some(port) && Family::of(own.address) == family)?;
        Some(own.address)
    }

    /// The bits of the first and the last address around one that is not the host's, between which all are not.
    pub(crate) fn gap(&self, around: IpAddr) -> (u128, u128) {
        let around = to_bits(around);
        let (mut low, mut high) = (0, u128::MAX);
        for own in &self.list {
            if own.bits < around {
                low = low.max(own.bits + 1);
            } else {
                high = high.min(own.bits.saturating_sub(1));
            }
        }
        (low, high)
    }

    #[inline]
    fn find(&self, bits: u128) -> Option<&Own> {
        let mut slot = bucket(self.key.hash(bits), 2 * N);
        // The index is never full, so this ends at an empty slot at the latest.
        for _ in 0..2 * N {
            let at = *self.index.get(slot / 2)?.get(slot % 2)?;
            let own = self.list.get(usize::from(at))?;
            if own.bits == bits {
                return Some(own);
            }
            slot = if slot + 1 == 2 * N { 0 } else { slot + 1 };
        }
        None
    }

    fn link(&mut self, bits: u128, at: usize) {
        let mut slot = bucket(self.key.hash(bits), 2 * N);
        for _ in 0..2 * N {
            let Some(entry) = self.index.get_mut(slot / 2).and_then(|pair| pair.get_mut(slot % 2)) else {
                return;
            };
            if *entry == EMPTY {
                *entry = at as u16;
                return;
            }
            slot = if slot + 1 == 2 * N { 0 } else { slot + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_set_finds_its_own_and_no_others() {
        let mut set = OwnAddresses::<8>::new(Key::new(lvs_core::Seed::from_bytes([9; 16])));
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        for last in 0..8 {
            set.insert(address(last), None).unwrap();
        }
        assert!(set.insert(address(8), None).is_none());
        set.remove(address(3)).unwrap();
        assert!(set.remove(address(3)).is_none());
        for last in 0..=255 {
            assert_eq!(set.contains(address(last)), last < 8 && last != 3, "{last}");
        }
        assert!(!set.contains("::a00:1".parse().unwrap()));
    }

    #[test]
    fn a_gap_reaches_to_the_next_own_addresses() {
        let mut set = OwnAddresses::<8>::new(Key::new(lvs_core::Seed::from_bytes([9; 16])));
        assert_eq!(set.gap([0, 0, 0, 7].into()), (0, u128::MAX));
        for address in ["0.0.0.10", "0.0.0.3", "0.0.0.20", "::5"] {
            set.insert(address.parse().unwrap(), None).unwrap();
        }
        const V4: u128 = 0xffff_0000_0000;
        let gap = |around: [u8; 4]| set.gap(around.into());
        // An own IPv6 address bounds what is around an IPv4 one, and the other way round.
        assert_eq!(gap([0, 0, 0, 0]), (6, V4 | 2));
        assert_eq!(gap([0, 0, 0, 5]), (V4 | 4, V4 | 9));
        assert_eq!(gap([0, 0, 0, 11]), (V4 | 11, V4 | 19));
        assert_eq!(gap([255; 4]), (V4 | 21, u128::MAX));
        assert_eq!(set.gap("::4".parse().unwrap()), (0, 4));
    }
}
