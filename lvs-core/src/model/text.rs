//! Values read from text: the inverse of what `Display` writes. Whatever is written here is read again as the same
//! value, and letters may be of either case.

use core::net::{Ipv4Addr, SocketAddr};
use core::str::FromStr;

use crate::model::error::ParseError;
use crate::model::flow::{Family, Flow, Protocol};
use crate::model::key::ServiceKey;
use crate::model::persistence::{Mask, PersistenceEngine};
use crate::model::server::Weight;

impl FromStr for Protocol {
    type Err = ParseError;

    /// Reads `tcp`, `udp` or `sctp`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let named = |protocol: &Self| text.eq_ignore_ascii_case(protocol.name());
        Self::ALL.into_iter().find(named).ok_or(ParseError::Protocol)
    }
}

impl FromStr for Family {
    type Err = ParseError;

    /// Reads `IPv4` or `IPv6`, or the short `v4` and `v6`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let is =
            |long: &str, short: &str| text.eq_ignore_ascii_case(long) || text.eq_ignore_ascii_case(short);
        match () {
            () if is("IPv4", "v4") => Ok(Self::V4),
            () if is("IPv6", "v6") => Ok(Self::V6),
            () => Err(ParseError::Family),
        }
    }
}

impl FromStr for ServiceKey {
    type Err = ParseError;

    /// Reads `tcp 192.0.2.1:80`, `udp [2001:db8::1]:53`, `fwm 7` or `fwm 7 IPv6`: what `ipvsadm -L` lists services by.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut words = text.split_ascii_whitespace();
        let (kind, of) = (words.next(), words.next());
        let (Some(kind), Some(of)) = (kind, of) else { return Err(ParseError::ServiceKey) };
        let rest = words.next();
        let key = if kind.eq_ignore_ascii_case("fwm") {
            let family = rest.map_or(Ok(Family::V4), str::parse);
            Self::Mark { family: family?, mark: number(of).ok_or(ParseError::ServiceKey)? }
        } else {
            let at = endpoint(of).filter(|_| rest.is_none()).ok_or(ParseError::ServiceKey)?;
            Self::Address { protocol: kind.parse()?, address: at.ip(), port: at.port() }
        };
        words.next().map_or(Ok(key), |_| Err(ParseError::ServiceKey))
    }
}

impl FromStr for Flow {
    type Err = ParseError;

    /// Reads `tcp 192.0.2.7:40000 > 10.99.0.1:80`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (protocol, ends) = text.trim_ascii().split_once(' ').ok_or(ParseError::Flow)?;
        let (source, destination) = ends.split_once('>').ok_or(ParseError::Flow)?;
        let end = |text: &str| endpoint(text.trim_ascii()).ok_or(ParseError::Flow);
        Self::new(protocol.parse()?, end(source)?, end(destination)?).ok_or(ParseError::Flow)
    }
}

impl FromStr for Weight {
    type Err = ParseError;

    /// Reads decimal digits.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        number(text).and_then(Self::new).ok_or(ParseError::Weight)
    }
}

impl FromStr for Mask {
    type Err = ParseError;

    /// Reads `24`, the length of a prefix, or `255.255.255.0`, the bits of an IPv4 address. Whether a length suits the
    /// family shows when a service takes it.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let bits = text.parse::<Ipv4Addr>().map(Self::Bits).ok();
        let length = || number(text).filter(|length| *length <= 128).map(|length| Self::Prefix(length as u8));
        bits.or_else(length).ok_or(ParseError::Mask)
    }
}

impl FromStr for PersistenceEngine {
    type Err = ParseError;

    /// Reads a [name](Self::name), in letters of either case; in sync messages case counts.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let is = text.eq_ignore_ascii_case(Self::Sip.name());
        is.then_some(Self::Sip).ok_or(ParseError::PersistenceEngine)
    }
}

/// Address and port. An IPv6 scope is refused: no key has one, so it would be lost.
fn endpoint(text: &str) -> Option<SocketAddr> {
    let at: SocketAddr = text.parse().ok()?;
    match at {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => None,
        SocketAddr::V4(_) | SocketAddr::V6(_) => Some(at),
    }
}

/// Decimal digits alone: the standard library takes a sign as well.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::method::{MethodKind, TunnelKind};
    use crate::model::reason::Reason;
    use core::fmt::{Debug, Display};
    use core::net::IpAddr;
    use proptest::prelude::*;

    extern crate std;
    use std::string::ToString as _;

    /// What is written is read as the same, whatever the case of its letters.
    fn returns<T: Display + FromStr<Err = ParseError> + PartialEq + Debug>(value: &T) {
        let text = value.to_string();
        assert_eq!(text.parse().as_ref(), Ok(value), "{text}");
        assert_eq!(text.to_ascii_lowercase().parse().as_ref(), Ok(value), "{text}");
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
            any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
            // Those that are written in other ways: mapped, compatible, with runs of zeros.
            (any::<u32>(), 0_u8..128).prop_map(|(bits, by)| IpAddr::V6((u128::from(bits) << by).into())),
            any::<Ipv4Addr>().prop_map(|address| IpAddr::V6(address.to_ipv6_mapped())),
        ]
    }

    fn protocol() -> impl Strategy<Value = Protocol> {
        proptest::sample::select(&Protocol::ALL[..])
    }

    proptest! {
        #[test]
        fn keys_and_flows_are_read_as_they_are_written(
            protocol in protocol(), one in address(), other in address(), ports: (u16, u16), mark: u32, v6: bool,
        ) {
            returns(&ServiceKey::Address { protocol, address: one, port: ports.0 });
            returns(&ServiceKey::Mark { family: if v6 { Family::V6 } else { Family::V4 }, mark });
            let flow = Flow::new(protocol, SocketAddr::new(one, ports.0), SocketAddr::new(other, ports.1));
            flow.iter().for_each(returns);
        }

        #[test]
        fn weights_and_masks_are_read_as_they_are_written(number: u32, length in 0_u8..=128, bits: u32) {
            Weight::new(number).iter().for_each(returns);
            assert_eq!(number.to_string().parse().ok(), Weight::new(number));
            returns(&Mask::Prefix(length));
            returns(&Mask::Bits(bits.into()));
        }

        #[test]
        fn no_text_is_too_odd_to_be_refused(text in "[-+a-zA-Z0-9.:%> \\[\\]]{0,40}") {
            // What is accepted is written in a way that is accepted as the same.
            text.parse::<ServiceKey>().iter().for_each(returns);
            text.parse::<Flow>().iter().for_each(returns);
            text.parse::<Mask>().iter().for_each(returns);
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        Protocol::ALL.iter().for_each(returns);
        [Family::V4, Family::V6].iter().for_each(returns);
        MethodKind::ALL.iter().for_each(returns);
        TunnelKind::ALL.iter().for_each(returns);
        Reason::ALL.iter().for_each(returns);
        returns(&PersistenceEngine::Sip);
    }

    #[test]
    fn what_is_no_value_is_refused_with_the_word_for_it() {
        let refused =
            ["tcp", "tcp 192.0.2.1", "tcp 192.0.2.1:80 x", "fwm", "fwm +1", "fwm 1 IPv6 x", "fwm -1", ""];
        for text in refused {
            assert_eq!(text.parse::<ServiceKey>(), Err(ParseError::ServiceKey), "{text}");
        }
        // A scope would be lost.
        assert_eq!("tcp [fe80::1%2]:80".parse::<ServiceKey>(), Err(ParseError::ServiceKey));
        assert_eq!("icmp 192.0.2.1:80".parse::<ServiceKey>(), Err(ParseError::Protocol));
        assert_eq!("fwm 1 v7".parse::<ServiceKey>(), Err(ParseError::Family));
        assert_eq!("tcp 192.0.2.1:1 > [::1]:2".parse::<Flow>(), Err(ParseError::Flow));
        assert_eq!("2147483648".parse::<Weight>(), Err(ParseError::Weight));
        assert_eq!("129".parse::<Mask>(), Err(ParseError::Mask));
        assert!(ParseError::Scheduler.to_string().contains("scheduler"));
    }
}
