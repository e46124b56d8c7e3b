//! The director's own addresses. Every packet's destination is looked up here.

use core::net::IpAddr;

use lvs_core::{Family, Tick};

use super::list::{Linked, Links, List, NONE};
use super::port::MAX_PORTS;
use crate::frame::PortId;
use crate::hash::{Key, bucket};
use crate::header::address::{from_bits, is_link_local, to_bits};
use crate::memory::{Empty, Memory, Places};

/// One address of the director.
#[derive(Clone, Copy)]
pub(crate) struct Own {
    bits: u128,
    /// The port that it belongs to; virtual addresses belong to all of them.
    port: Option<PortId>,
    /// Announcements still to be made, the port that is next in this round, and when.
    rounds: u8,
    next_port: u8,
    due: Tick,
    /// Whether a round of announcements is over.
    repeats: bool,
    /// Which of all addresses was given first.
    order: u64,
    /// The next address of the same bucket, or of the free ones.
    next: u32,
    of_kind: Links,
    announcement: Links,
}

impl Empty for Own {
    const EMPTY: Self = Self {
        bits: 0,
        port: None,
        rounds: 0,
        next_port: 0,
        due: Tick::ZERO,
        repeats: false,
        order: 0,
        next: NONE,
        of_kind: Links::NONE,
        announcement: Links::NONE,
    };
}

/// Addresses of one kind on one port, the first given first.
const OF_KIND: usize = 0;
/// Addresses with announcements left, those that are due first in front.
const ANNOUNCEMENTS: usize = 1;

impl Linked<OF_KIND> for Own {
    fn links(&mut self) -> &mut Links {
        &mut self.of_kind
    }
}

impl Linked<ANNOUNCEMENTS> for Own {
    fn links(&mut self) -> &mut Links {
        &mut self.announcement
    }
}

/// What the director can call itself by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    V4,
    V6,
    LinkLocal,
}

impl Kind {
    pub(super) const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(address) if is_link_local(address) => Self::LinkLocal,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

const KINDS: usize = 3;

/// What the own addresses are kept in.
pub(crate) struct AddressMemory {
    pub(super) places: Places<Own>,
    pub(super) heads: Memory<u32>,
    pub(super) sorted: Memory<u32>,
}

impl AddressMemory {
    /// Room for so many addresses, in pieces of 2 to the power of `shift`.
    #[cfg(feature = "alloc")]
    pub(super) fn owned(bound: usize, shift: u32) -> Self {
        Self {
            places: Places::owned(bound, shift),
            heads: Memory::filled(bound),
            sorted: Memory::filled(bound),
        }
    }
}

/// A set of addresses: a hash index to find one, a sorted list of all, and lists for each port. Adding and taking out
/// moves the sorted list's numbers behind the place, four bytes for each address, and nothing else.
#[cfg_attr(feature = "alloc", derive(Clone))]
pub(crate) struct OwnAddresses {
    key: Key,
    places: Places<Own>,
    /// The first address of each bucket.
    heads: Memory<u32>,
    /// The places of all addresses in the order of their bits.
    sorted: Memory<u32>,
    len: usize,
    free: u32,
    given: u64,
    /// By port, the virtual ones last.
    by_kind: [[List<OF_KIND>; KINDS]; MAX_PORTS + 1],
    /// Whose first round of announcements has not ended.
    fresh: List<ANNOUNCEMENTS>,
    /// Whose next round is due some time after the last.
    later: List<ANNOUNCEMENTS>,
}

impl OwnAddresses {
    pub(crate) fn new(key: Key, memory: AddressMemory) -> Self {
        let AddressMemory { places, heads, sorted } = memory;
        Self {
            key,
            places,
            heads,
            sorted,
            len: 0,
            free: NONE,
            given: 0,
            by_kind: [[List::EMPTY; KINDS]; MAX_PORTS + 1],
            fresh: List::EMPTY,
            later: List::EMPTY,
        }
    }

    /// How many addresses there can be.
    pub(crate) fn bound(&self) -> usize {
        self.places.bound()
    }

    /// Adds an address that is not in; `None` when there are too many.
    pub(crate) fn insert(&mut self, address: IpAddr, port: Option<PortId>) -> Option<()> {
        let bits = to_bits(address);
        let at = self.take()?;
        let bucket = bucket(self.key.hash(bits), self.heads.get().len());
        let head = self.heads.get_mut().get_mut(bucket)?;
        let next = core::mem::replace(head, at);
        let order = self.given;
        self.given += 1;
        *self.places.get_mut(at)? = Own { bits, port, order, next, ..Own::EMPTY };
        let (Ok(place) | Err(place)) = self.search(bits);
        let sorted = self.sorted.get_mut();
        sorted.copy_within(place..self.len, place + 1);
        *sorted.get_mut(place)? = at;
        self.len += 1;
        let (port, kind) = row(port, Kind::of(address));
        self.by_kind.get_mut(port)?.get_mut(kind)?.push(&mut self.places, at);
        Some(())
    }

    /// Takes an address out; `None` when it was not in.
    pub(crate) fn remove(&mut self, address: IpAddr) -> Option<()> {
        let bits = to_bits(address);
        let at = self.find(bits)?;
        self.silence(at);
        let own = *self.places.get(at)?;
        let (port, kind) = row(own.port, Kind::of(address));
        self.by_kind.get_mut(port)?.get_mut(kind)?.remove(&mut self.places, at);
        if let Ok(place) = self.search(bits) {
            self.sorted.get_mut().copy_within(place + 1..self.len, place);
            self.len -= 1;
        }
        self.unlink(at, &own);
        *self.places.get_mut(at)? = Own { next: self.free, ..Own::EMPTY };
        self.free = at;
        Some(())
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.contains_bits(to_bits(address))
    }

    /// Whether these are the bits of an own address.
    #[inline]
    pub(crate) fn contains_bits(&self, bits: u128) -> bool {
        self.find(bits).is_some()
    }

    /// All addresses in the order of their bits.
    pub(crate) fn iter(&self) -> impl Iterator<Item = IpAddr> {
        let sorted = self.sorted.get().get(..self.len).unwrap_or_default();
        sorted.iter().filter_map(|&at| self.places.get(at)).map(|own| from_bits(own.bits))
    }

    /// The first address of a kind on a port.
    pub(super) fn on_port(&self, port: PortId, kind: Kind) -> Option<IpAddr> {
        self.first(Some(port), kind).map(|own| from_bits(own.bits))
    }

    /// The first address of a family on a port; of any port, or a virtual one, if that has none.
    pub(crate) fn source(&self, port: PortId, family: Family) -> Option<IpAddr> {
        let kinds: &[Kind] = match family {
            Family::V4 => &[Kind::V4],
            Family::V6 => &[Kind::V6, Kind::LinkLocal],
        };
        let first = |port| {
            let owns = kinds.iter().filter_map(move |&kind| self.first(port, kind));
            owns.min_by_key(|own| own.order)
        };
        let any = || {
            let ports = (0..MAX_PORTS).map(|port| Some(PortId(port as u8))).chain([None]);
            ports.filter_map(first).min_by_key(|own| own.order)
        };
        let own = first(Some(port)).or_else(any)?;
        Some(from_bits(own.bits))
    }

    /// The bits of the first and the last address around one that is not the host's, between which all are not.
    pub(crate) fn gap(&self, around: IpAddr) -> (u128, u128) {
        let (Ok(place) | Err(place)) = self.search(to_bits(around));
        let bits = |place: usize| {
            let at = self.sorted.get().get(..self.len)?.get(place)?;
            self.places.get(*at).map(|own| own.bits)
        };
        let low = place.checked_sub(1).and_then(bits).map_or(0, |below| below.saturating_add(1));
        (low, bits(place).map_or(u128::MAX, |above| above.saturating_sub(1)))
    }

    /// Lets an address be announced so often from now on. False when it is not the host's.
    pub(super) fn announce(&mut self, now: Tick, address: IpAddr, rounds: u8) -> bool {
        let Some(at) = self.find(to_bits(address)) else { return false };
        self.announce_at(now, at, rounds);
        true
    }

    /// Lets every address be announced so often from now on.
    pub(super) fn announce_all(&mut self, now: Tick, rounds: u8) {
        for place in 0..self.len {
            if let Some(&at) = self.sorted.get().get(place) {
                self.announce_at(now, at, rounds);
            }
        }
    }

    fn announce_at(&mut self, now: Tick, at: u32, rounds: u8) {
        self.silence(at);
        if let Some(own) = self.places.get_mut(at) {
            (own.rounds, own.next_port, own.due) = (rounds, 0, now);
            self.fresh.push(&mut self.places, at);
        }
    }

    /// Takes an address out of the announcements.
    fn silence(&mut self, at: u32) {
        let Some(own) = self.places.get_mut(at) else { return };
        let (rounds, repeats) = (core::mem::take(&mut own.rounds), core::mem::take(&mut own.repeats));
        if rounds > 0 {
            let list = if repeats { &mut self.later } else { &mut self.fresh };
            list.remove(&mut self.places, at);
        }
    }

    /// When the next announcement is due; `None` when none is left.
    pub(super) fn announcement_at(&self) -> Option<Tick> {
        let lists = [self.fresh.first(), self.later.first()];
        lists.into_iter().flatten().filter_map(|at| self.places.get(at)).map(|own| own.due).min()
    }

    /// The address that is due to be announced, the port that it belongs to, the port that is next in its round, and
    /// how many rounds are left with this one. The next call has the port behind it.
    pub(super) fn next_announcement(&mut self, now: Tick) -> Option<(IpAddr, Option<PortId>, u8, u8)> {
        // What waits for a second round has been due for longer.
        let at = self.later.first().filter(|&at| self.places.get(at).is_some_and(|own| own.due <= now));
        let at = at.or_else(|| self.fresh.first())?;
        let own = self.places.get_mut(at).filter(|own| own.due <= now)?;
        let port = own.next_port;
        own.next_port = port.saturating_add(1);
        Some((from_bits(own.bits), own.port, port, own.rounds))
    }

    /// The round of the address of the last [`next_announcement`](Self::next_announcement) is over; the next one is due
    /// then, if there is one.
    pub(super) fn end_round(&mut self, address: IpAddr, next: Tick) {
        let Some(at) = self.find(to_bits(address)) else { return };
        let Some(own) = self.places.get(at) else { return };
        let rounds = own.rounds.saturating_sub(1);
        self.silence(at);
        if rounds > 0
            && let Some(own) = self.places.get_mut(at)
        {
            (own.rounds, own.next_port, own.due, own.repeats) = (rounds, 0, next, true);
            self.later.push(&mut self.places, at);
        }
    }

    fn first(&self, port: Option<PortId>, kind: Kind) -> Option<&Own> {
        let (port, kind) = row(port, kind);
        self.places.get(self.by_kind.get(port)?.get(kind)?.first()?)
    }

    #[inline]
    fn find(&self, bits: u128) -> Option<u32> {
        let heads = self.heads.get();
        let mut at = *heads.get(bucket(self.key.hash(bits), heads.len()))?;
        // A chain holds no address twice, so it is not longer than there are addresses.
        for _ in 0..self.len {
            let own = self.places.get(at)?;
            if own.bits == bits {
                return Some(at);
            }
            at = own.next;
        }
        None
    }

    /// Takes a place out of its bucket's chain.
    fn unlink(&mut self, at: u32, own: &Own) {
        let bucket = bucket(self.key.hash(own.bits), self.heads.get().len());
        let Some(head) = self.heads.get_mut().get_mut(bucket) else { return };
        if *head == at {
            *head = own.next;
            return;
        }
        let mut before = *head;
        for _ in 0..=self.len {
            let Some(other) = self.places.get_mut(before) else { return };
            if other.next == at {
                other.next = own.next;
                return;
            }
            before = other.next;
        }
    }

    /// Where these bits are in the sorted list, or would be.
    fn search(&self, bits: u128) -> Result<usize, usize> {
        let sorted = self.sorted.get().get(..self.len).unwrap_or_default();
        sorted.binary_search_by(|&at| self.places.get(at).map_or(0, |own| own.bits).cmp(&bits))
    }

    fn take(&mut self) -> Option<u32> {
        if let Some(own) = self.places.get(self.free) {
            return Some(core::mem::replace(&mut self.free, own.next));
        }
        // Addresses come by commands, never by packets, so that taking memory here holds up none.
        self.places.take().or_else(|| if self.places.grow() { self.places.take() } else { None })
    }
}

/// Where a port's addresses of a kind are listed.
fn row(port: Option<PortId>, kind: Kind) -> (usize, usize) {
    (port.map_or(MAX_PORTS, |port| usize::from(port.0)), kind as usize)
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;

    fn set(bound: usize) -> OwnAddresses {
        let key = Key::new(lvs_core::Seed::from_bytes([9; 16]));
        OwnAddresses::new(key, AddressMemory::owned(bound, 8))
    }

    #[test]
    fn a_full_set_finds_its_own_and_no_others() {
        let mut set = set(8);
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
        set.insert(address(9), None).unwrap();
        assert!(set.insert(address(10), None).is_none(), "one place was given back, and is taken again");
    }

    #[test]
    fn twenty_thousand_come_and_go_in_any_order() {
        let mut set = set(20_000);
        let address =
            |n: u32| IpAddr::from((0x0a00_0000 + n.wrapping_mul(2_654_435_761) % 0x0010_0000).to_be_bytes());
        let mut model = alloc::collections::BTreeMap::new();
        for n in 0..20_000 {
            let own = address(n);
            if model.insert(to_bits(own), own).is_none() {
                set.insert(own, Some(PortId((n % 4) as u8))).unwrap();
            }
        }
        for n in (0..20_000).step_by(3) {
            assert_eq!(set.remove(address(n)).is_some(), model.remove(&to_bits(address(n))).is_some());
        }
        assert!(set.iter().eq(model.values().copied()), "the same, in order");
        for n in 0..20_000 {
            assert_eq!(set.contains(address(n)), model.contains_key(&to_bits(address(n))));
        }
        for around in (0..0x0010_0000_u32).step_by(999) {
            let around = IpAddr::from((0x0a00_0000 + around).to_be_bytes());
            let bits = to_bits(around);
            if !model.contains_key(&bits) {
                let low = model.range(..bits).next_back().map_or(0, |(below, _)| below + 1);
                let high = model.range(bits..).next().map_or(u128::MAX, |(above, _)| above - 1);
                assert_eq!(set.gap(around), (low, high));
            }
        }
    }

    #[test]
    fn a_gap_reaches_to_the_next_own_addresses() {
        let mut set = set(8);
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

    #[test]
    fn the_host_calls_itself_by_the_first_address_of_the_port_else_by_the_first_of_all() {
        let mut set = set(8);
        let parse = |text: &str| -> IpAddr { text.parse().unwrap() };
        set.insert(parse("10.9.0.1"), None).unwrap();
        set.insert(parse("10.1.0.1"), Some(PortId(1))).unwrap();
        set.insert(parse("10.0.0.1"), Some(PortId(1))).unwrap();
        set.insert(parse("fe80::1"), Some(PortId(1))).unwrap();
        set.insert(parse("2001:db8::1"), Some(PortId(1))).unwrap();
        assert_eq!(set.source(PortId(1), Family::V4), Some(parse("10.1.0.1")));
        assert_eq!(set.source(PortId(0), Family::V4), Some(parse("10.9.0.1")));
        assert_eq!(set.source(PortId(1), Family::V6), Some(parse("fe80::1")));
        assert_eq!(set.on_port(PortId(1), Kind::V6), Some(parse("2001:db8::1")));
        set.remove(parse("10.1.0.1")).unwrap();
        assert_eq!(set.source(PortId(1), Family::V4), Some(parse("10.0.0.1")));
    }
}
