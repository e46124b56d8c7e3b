//! The order of listings.
//!
//! ipvsadm compares numbers by the sign of their 32-bit difference, so those that are 2^31 or more apart stand the
//! wrong way round, and three may even each come before the next in a circle. What the C library's merge sort makes
//! of that is what scripts see.

use core::cmp::Ordering;
use core::net::{IpAddr, Ipv6Addr};

use crate::control::{ServerReport, ServiceName};
use lvs_core::Family;

/// Services by mark, family, protocol, address and port.
pub(super) fn services(one: &ServiceName, other: &ServiceName) -> Ordering {
    let parts = |name: &ServiceName| match *name {
        ServiceName::Address { protocol, address, port } => {
            (0, address.is_ipv6(), u32::from(protocol), Some(address), u32::from(port))
        }
        ServiceName::Mark { family, mark } => (mark, family == Family::V6, 0, None, 0),
    };
    let (one, other) = (parts(one), parts(other));
    difference(one.0, other.0)
        .then(one.1.cmp(&other.1))
        .then_with(|| difference(one.2, other.2))
        .then_with(|| match (one.3, other.3) {
            (Some(one), Some(other)) => addresses(one, other),
            (None, _) | (_, None) => Ordering::Equal,
        })
        .then_with(|| difference(one.4, other.4))
}

/// Servers by address and port.
pub(super) fn servers(one: &ServerReport, other: &ServerReport) -> Ordering {
    addresses(one.address.ip(), other.address.ip())
        .then_with(|| difference(one.address.port().into(), other.address.port().into()))
}

fn addresses(one: IpAddr, other: IpAddr) -> Ordering {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => difference(one.to_bits(), other.to_bits()),
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            let words = |address: Ipv6Addr, shift: u32| (address.to_bits() >> shift) as u32;
            let compare = |shift| difference(words(one, shift), words(other, shift));
            [96, 64, 32, 0].into_iter().map(compare).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) => Ordering::Less,
        (IpAddr::V6(_), IpAddr::V4(_)) => Ordering::Greater,
    }
}

const fn difference(one: u32, other: u32) -> Ordering {
    match one.wrapping_sub(other).cast_signed() {
        0 => Ordering::Equal,
        1.. => Ordering::Greater,
        ..0 => Ordering::Less,
    }
}

/// Sorts stably from the top down, halves of `n / 2` and the rest, by any comparison, also one that is no order.
pub(super) fn sort<T>(items: Vec<T>, compare: &impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    let mut left = items;
    if left.len() < 2 {
        return left;
    }
    let right = left.split_off(left.len() / 2);
    let mut left = sort(left, compare).into_iter().peekable();
    let mut right = sort(right, compare).into_iter().peekable();
    let mut sorted = Vec::with_capacity(left.len() + right.len());
    while let (Some(one), Some(other)) = (left.peek(), right.peek()) {
        let first = if compare(one, other).is_gt() { &mut right } else { &mut left };
        sorted.extend(first.next());
    }
    sorted.extend(left);
    sorted.extend(right);
    sorted
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn tcp(text: &str) -> ServiceName {
        ServiceName::tcp(text.parse().unwrap())
    }

    #[test]
    fn marks_come_last_and_addresses_by_number() {
        let mark = |family, mark| ServiceName::Mark { family, mark };
        let sorted = vec![
            tcp("10.99.0.1:80"),
            tcp("10.99.0.1:443"),
            tcp("10.99.0.9:0"),
            ServiceName::udp("10.99.0.1:53".parse().unwrap()),
            tcp("[2001:db8:99::1]:80"),
            mark(Family::V6, 3),
            mark(Family::V4, 7),
            mark(Family::V6, 7),
        ];
        let mut mixed = sorted.clone();
        mixed.reverse();
        mixed.swap(1, 4);
        assert_eq!(sort(mixed, &services), sorted);
    }

    #[test]
    fn addresses_that_are_far_apart_stand_the_wrong_way_round() {
        let of = |a| IpAddr::V4(Ipv4Addr::new(a, 0, 0, 1));
        assert_eq!(addresses(of(10), of(100)), Ordering::Less);
        assert_eq!(addresses(of(100), of(192)), Ordering::Less);
        assert_eq!(addresses(of(10), of(192)), Ordering::Greater);
        let of = |text: &str| IpAddr::V6(text.parse().unwrap());
        assert_eq!(addresses(of("fe80::1"), of("2001:db8::1")), Ordering::Less);
        assert_eq!(addresses(of("::9000:0:0:1"), of("::1:0:0:2")), Ordering::Less);
        assert_eq!(addresses(of("2001:db8::2"), of("2001:db8::1")), Ordering::Greater);
        let newest_first = vec![tcp("100.0.0.1:80"), tcp("192.168.0.1:80"), tcp("10.0.0.1:80")];
        assert_eq!(sort(newest_first.clone(), &services), newest_first);
    }

    proptest! {
        #[test]
        fn sorting_is_stable_and_loses_nothing(items in proptest::collection::vec((0_u8..4, any::<u8>()), 0..40)) {
            let mut expected = items.clone();
            expected.sort_by_key(|item| item.0);
            prop_assert_eq!(sort(items, &|one, other| one.0.cmp(&other.0)), expected);
        }
    }
}
