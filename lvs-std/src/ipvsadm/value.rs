//! Values of options: numbers, addresses, names.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::RangeInclusive;

use lvs_core::Protocol;

/// Who knows the names of hosts and ports.
pub trait Names {
    /// The IPv4 address of a host, if it has one.
    fn host(&self, name: &str) -> Option<Ipv4Addr>;

    /// The port of a service, such as 80 for `http`.
    fn port(&self, name: &str, protocol: Protocol) -> Option<u16>;

    /// The name of a host, whole.
    fn host_of(&self, address: IpAddr) -> Option<String>;

    /// The service at a port of a protocol (by its IANA number), such as `http`.
    fn port_of(&self, port: u16, protocol: u16) -> Option<String>;
}

/// Nobody: numbers only.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing in it")]
pub struct Numeric;

impl Names for Numeric {
    fn host(&self, _name: &str) -> Option<Ipv4Addr> {
        None
    }

    fn port(&self, _name: &str, _protocol: Protocol) -> Option<u16> {
        None
    }

    fn host_of(&self, _address: IpAddr) -> Option<String> {
        None
    }

    fn port_of(&self, _port: u16, _protocol: u16) -> Option<String> {
        None
    }
}

/// A decimal number, with leading zeros and a plus sign if one likes, inside `range`.
pub(super) fn number(text: &str, range: RangeInclusive<u32>) -> Option<u32> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|number| range.contains(number))
}

/// `HOST`, `HOST:PORT`, `[IPv6]:PORT`, or a bare IPv6 address. No port is `None`. Without a protocol ports have no
/// names.
pub(super) fn endpoint(
    text: &str,
    protocol: Option<Protocol>,
    names: &dyn Names,
) -> Option<(IpAddr, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once("]:")?;
        let address: Ipv6Addr = address.parse().ok()?;
        return Some((address.into(), Some(self::port(port, protocol, names)?)));
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Some((address.into(), None));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(self::port(port, protocol, names)?)),
        None => (text, None),
    };
    let address = ipv4(host).or_else(|| names.host(host))?;
    Some((address.into(), port))
}

fn port(text: &str, protocol: Option<Protocol>, names: &dyn Names) -> Option<u16> {
    match number(text, 0..=65_535) {
        Some(port) => Some(port as u16),
        None => names.port(text, protocol?),
    }
}

/// An IPv4 address in one of the forms of BSD's `inet_aton`: one to four numbers, decimal, octal (`0`) or hexadecimal
/// (`0x`), of which the last fills what is left of the 32 bits.
pub(super) fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u32> = text.split('.').map(part).collect::<Option<_>>()?;
    let (last, first) = parts.split_last().filter(|(_, first)| first.len() < 4)?;
    let mut bits = *last;
    if u64::from(bits) >= 1_u64 << (32 - 8 * first.len()) {
        return None;
    }
    for (place, &byte) in first.iter().enumerate() {
        bits |= u32::from(u8::try_from(byte).ok()?) << (24 - 8 * place);
    }
    Some(Ipv4Addr::from_bits(bits))
}

fn part(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    if digits.starts_with('+') { None } else { u32::from_str_radix(digits, radix).ok() }
}

/// The first 15 bytes: names of the kernel have no more.
pub(super) fn cut(text: &str) -> String {
    let mut end = text.len().min(15);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Web;

    impl Names for Web {
        fn host(&self, name: &str) -> Option<Ipv4Addr> {
            (name == "web.example").then_some(Ipv4Addr::new(192, 0, 2, 1))
        }

        fn port(&self, name: &str, _protocol: Protocol) -> Option<u16> {
            (name == "http").then_some(80)
        }

        fn host_of(&self, _address: IpAddr) -> Option<String> {
            None
        }

        fn port_of(&self, _port: u16, _protocol: u16) -> Option<String> {
            None
        }
    }

    #[test]
    fn addresses_have_the_forms_of_ipvsadm() {
        let read = |text: &str| endpoint(text, Some(Protocol::Tcp), &Web);
        let v4 = |a, b, c, d| IpAddr::from([a, b, c, d]);
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(read("10.99.0.1:80"), Some((v4(10, 99, 0, 1), Some(80))));
        assert_eq!(read("10.99.0.1"), Some((v4(10, 99, 0, 1), None)));
        assert_eq!(read("10.99"), Some((v4(10, 0, 0, 99), None)));
        assert_eq!(read("0x0a630001:80"), Some((v4(10, 99, 0, 1), Some(80))));
        assert_eq!(read("web.example:http"), Some((v4(192, 0, 2, 1), Some(80))));
        assert_eq!(read("[2001:db8::1]:80"), Some((v6, Some(80))));
        assert_eq!(read("2001:db8::1"), Some((v6, None)));
        for wrong in [
            "",
            "12345",
            "[2001:db8::1]",
            "10.99.0.1:65536",
            "10.99.0.1:",
            "a.example",
            "1.2.3.256",
            "1.2.3.4.5",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn numbers_are_decimal_and_whole() {
        assert_eq!(number("+5", 0..=9), Some(5));
        assert_eq!(number("007", 0..=9), Some(7));
        for wrong in ["", "+", "-1", "0x1", "1.5", "10", "4294967296"] {
            assert_eq!(number(wrong, 0..=9), None, "{wrong}");
        }
    }

    #[test]
    fn names_are_cut_between_characters() {
        assert_eq!(cut("abcdefghijklmnopq"), "abcdefghijklmno");
        assert_eq!(cut("abcdefghijklmnöp"), "abcdefghijklmn");
    }
}
