//! Addresses in text, as the kernel reads them: more leniently than `core::net` does, which takes no leading zeros.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lvs_core::Family;

/// The address that is the whole of `text`.
pub(super) fn address(text: &[u8], family: Family) -> Option<IpAddr> {
    match family {
        Family::V4 => ipv4(text).map(IpAddr::V4),
        Family::V6 => ipv6(text).map(IpAddr::V6),
    }
}

/// Four decimal numbers up to 255 with dots between, of any number of digits.
fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split(|&byte| byte == b'.');
    for octet in &mut octets {
        *octet = u8::try_from(number(parts.next()?, 10)?).ok()?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

/// Eight groups of any number of digits with colons between, `::` for at least one of them, the last two perhaps as an
/// IPv4 address.
fn ipv6(text: &[u8]) -> Option<Ipv6Addr> {
    let mut groups = [0; 8];
    match text.windows(2).position(|pair| pair == b"::") {
        None => {
            if fill(&mut groups, text)? != 8 {
                return None;
            }
        }
        Some(at) => {
            let (before, after) = (text.get(..at)?, text.get(at + 2..)?);
            if before.contains(&b'.') {
                return None;
            }
            let mut last = [0; 8];
            let (head, tail) = (fill(&mut groups, before)?, fill(&mut last, after)?);
            if head + tail > 7 {
                return None;
            }
            groups.get_mut(8 - tail..)?.copy_from_slice(last.get(..tail)?);
        }
    }
    Some(Ipv6Addr::from(groups))
}

/// Writes the groups of `text`, and says how many there are. None for no text.
fn fill(groups: &mut [u16; 8], text: &[u8]) -> Option<usize> {
    if text.is_empty() {
        return Some(0);
    }
    let mut count = 0;
    let mut parts = text.split(|&byte| byte == b':').peekable();
    while let Some(part) = parts.next() {
        if part.contains(&b'.') {
            let [a, b, c, d] = ipv4(part)?.octets();
            let pair = groups.get_mut(count..count + 2)?;
            pair.copy_from_slice(&[u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]);
            count += 2;
            // An IPv4 address stands at the end.
            return parts.peek().is_none().then_some(count);
        }
        *groups.get_mut(count)? = number(part, 16)?;
        count += 1;
    }
    Some(count)
}

/// The number that all of `digits` are, up to 65,535. At least one digit.
fn number(digits: &[u8], radix: u32) -> Option<u16> {
    if digits.is_empty() {
        return None;
    }
    let mut value = 0_u32;
    for &digit in digits {
        value = value * radix + char::from(digit).to_digit(radix)?;
        if value > u32::from(u16::MAX) {
            return None;
        }
    }
    u16::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    /// Recorded from Linux 6.1.192.
    #[test]
    fn addresses_are_read_as_by_the_kernel() {
        for (text, expected) in [
            ("192.0.2.7", Some("192.0.2.7")),
            ("192.0.2.007", Some("192.0.2.7")),
            ("192.0.2.0007", Some("192.0.2.7")),
            ("192.00000.2.7", Some("192.0.2.7")),
            ("192.0.2", None),
            ("192.0..7", None),
            ("192.0.2.256", None),
            (" 192.0.2.7", None),
            ("192.0.2.7 ", None),
            ("0x7f.0.2.7", None),
            ("192.0.2.7.", None),
            (".1.2.3", None),
            ("1.2.3.4.5", None),
            ("1.2.3.4x", None),
            ("", None),
        ] {
            let found = address(text.as_bytes(), Family::V4);
            assert_eq!(found, expected.map(|text| text.parse().unwrap()), "{text}");
        }
        for (text, expected) in [
            ("2001:db8:c::7", Some("2001:db8:c::7")),
            ("2001:db8:c:0:0:0:0:7", Some("2001:db8:c::7")),
            ("2001:DB8:C::0007", Some("2001:db8:c::7")),
            ("2001:db8:c::00007", Some("2001:db8:c::7")),
            ("::ffff:192.0.2.7", Some("::ffff:192.0.2.7")),
            ("1:2:3:4:5:6:7::", Some("1:2:3:4:5:6:7:0")),
            ("2001:2:3:4:5:6:192.0.2.7", Some("2001:2:3:4:5:6:c000:207")),
            ("2001:db8:c::01.2.3.4", Some("2001:db8:c::102:304")),
            ("::", Some("::")),
            ("2001::2::3", None),
            ("2001:db8:c::7%eth0", None),
            ("2001:2:3:4:5:6:7:8:9", None),
            (":2001::", None),
            ("2001:2:3:4:5:6:7", None),
            ("2001:2:3:4:5:6:7:8::", None),
            ("2001:2:3:4:5:6:7:", None),
            ("2001:2:3:4:5:6:7::8", None),
            ("2001:db8:c::1.2.3", None),
            ("2001:db8:c::g", None),
            ("", None),
        ] {
            let found = address(text.as_bytes(), Family::V6);
            assert_eq!(found, expected.map(|text| text.parse().unwrap()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_the_standard_library_writes_is_read(bits: u128, short: u32) {
            let six = Ipv6Addr::from_bits(bits & u128::from(short).wrapping_mul(0x1_0000_0001_0000_0001));
            prop_assert_eq!(address(six.to_string().as_bytes(), Family::V6), Some(IpAddr::V6(six)));
            let four = Ipv4Addr::from_bits(short);
            prop_assert_eq!(address(four.to_string().as_bytes(), Family::V4), Some(IpAddr::V4(four)));
        }

        #[test]
        fn what_the_standard_library_reads_is_read_alike(text in "[0-9a-f:.]{0,24}") {
            if let Ok(expected) = text.parse::<Ipv6Addr>() {
                prop_assert_eq!(address(text.as_bytes(), Family::V6), Some(IpAddr::V6(expected)));
            }
        }
    }
}
