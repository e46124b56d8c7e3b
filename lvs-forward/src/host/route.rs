//! Where packets go: prefixes on the links, and gateways behind them.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr};
use core::str::FromStr;

use lvs_core::Family;

use crate::frame::PortId;
use crate::header::address::{from_bits, to_bits};
use crate::memory::{Empty, Memory};

/// How many prefixes a host with memory of the heap can know, those of its ports included.
pub const MAX_ROUTES: usize = 64;

/// A destination prefix, e.g. `10.0.1.0/24`. Bits after its length may be set: they are kept, tell prefixes apart as
/// values, and say nothing about which addresses lie in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    address: IpAddr,
    len: u8,
}

impl Prefix {
    /// The prefix of the first `len` bits; `None` when the address has fewer.
    ///
    /// ```
    /// use lvs_forward::host::Prefix;
    /// let prefix = Prefix::new("10.0.1.17".parse()?, 24).unwrap();
    /// assert!(prefix.contains("10.0.1.200".parse()?));
    /// assert!(!prefix.contains("10.0.2.1".parse()?));
    /// assert!(Prefix::new("10.0.1.17".parse()?, 33).is_none());
    /// assert_eq!("10.0.1.17/24".parse(), Ok(prefix));
    /// # Ok::<(), core::net::AddrParseError>(())
    /// ```
    #[must_use]
    pub const fn new(address: IpAddr, len: u8) -> Option<Self> {
        let bits = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        if len > bits { None } else { Some(Self { address, len }) }
    }

    /// The family of its addresses.
    #[must_use]
    pub const fn family(&self) -> Family {
        Family::of(self.address)
    }

    /// The address that it was made from.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Length in bits.
    #[must_use]
    pub const fn len(&self) -> u8 {
        self.len
    }

    /// Whether it holds every address of its family.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        Family::of(address) == Family::of(self.address)
            && (to_bits(address) ^ to_bits(self.address)) & self.mask() == 0
    }

    fn mask(&self) -> u128 {
        let skipped = match self.address {
            IpAddr::V4(_) => 32 - u32::from(self.len),
            IpAddr::V6(_) => 128 - u32::from(self.len),
        };
        u128::MAX.checked_shl(skipped).unwrap_or(0)
    }
}

impl fmt::Display for Prefix {
    /// Writes the prefix as `10.0.1.0/24`, with the address that it was made of.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

impl FromStr for Prefix {
    type Err = ParsePrefixError;

    /// Reads `10.0.1.0/24` or `2001:db8::/32`.
    fn from_str(text: &str) -> Result<Self, ParsePrefixError> {
        let (address, length) = text.split_once('/').ok_or(ParsePrefixError)?;
        // The standard library would take a sign as well.
        let digits = length.bytes().all(|byte| byte.is_ascii_digit());
        let length = length.parse().ok().filter(|_| digits).ok_or(ParsePrefixError)?;
        Self::new(address.parse().map_err(|_| ParsePrefixError)?, length).ok_or(ParsePrefixError)
    }
}

/// A text is no [`Prefix`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ParsePrefixError;

impl fmt::Display for ParsePrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a prefix: expected an address and a length in bits, such as `10.0.1.0/24`")
    }
}

impl core::error::Error for ParsePrefixError {}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    family: Family,
    bits: u128,
    mask: u128,
    len: u8,
    /// The gateway's bits; 0 on the link itself.
    pub(crate) via: u128,
    pub(crate) port: PortId,
}

impl Empty for Route {
    const EMPTY: Self = Self { family: Family::V4, bits: 0, mask: 0, len: 0, via: 0, port: PortId(0) };
}

/// All routes, longest prefix first.
#[cfg_attr(feature = "alloc", derive(Clone))]
pub(crate) struct Routes {
    places: Memory<Route>,
    /// How many of the places are taken.
    len: usize,
}

impl Routes {
    pub(crate) const fn new(places: Memory<Route>) -> Self {
        Self { places, len: 0 }
    }

    #[inline]
    fn all(&self) -> &[Route] {
        self.places.get().get(..self.len).unwrap_or_default()
    }

    /// Adds or replaces the route of a prefix; `None` when there are too many.
    pub(crate) fn set(&mut self, prefix: Prefix, via: Option<IpAddr>, port: PortId) -> Option<()> {
        self.remove(prefix);
        let mask = prefix.mask();
        let bits = to_bits(prefix.address) & mask;
        let via = via.map_or(0, to_bits);
        let route = Route { family: Family::of(prefix.address), bits, mask, len: prefix.len, via, port };
        // Sorted by length, so that the first hit of a look-up is the longest prefix.
        let at = self.all().iter().position(|other| other.len < prefix.len).unwrap_or(self.len);
        let taken = self.places.get_mut().get_mut(at..=self.len)?;
        self.len += 1;
        taken.rotate_right(1);
        *taken.first_mut()? = route;
        Some(())
    }

    pub(crate) fn remove(&mut self, prefix: Prefix) -> Option<()> {
        let (family, bits) = (Family::of(prefix.address), to_bits(prefix.address) & prefix.mask());
        let same = |route: &Route| route.family == family && route.len == prefix.len && route.bits == bits;
        let at = self.all().iter().position(same)?;
        self.places.get_mut().get_mut(at..self.len)?.rotate_left(1);
        self.len -= 1;
        Some(())
    }

    /// The route with the longest prefix that holds the address of these bits.
    #[inline]
    pub(crate) fn find(&self, family: Family, bits: u128) -> Option<&Route> {
        // A director has a handful of routes, so that a scan is enough.
        self.all().iter().find(|route| (bits ^ route.bits) & route.mask == 0 && route.family == family)
    }

    /// The bits of the first and the last address around one, for all of which the same route holds, and whether that
    /// has a gateway.
    pub(crate) fn stretch(&self, around: IpAddr) -> Option<(u128, u128, bool)> {
        let (family, bits) = (Family::of(around), to_bits(around));
        let holds = |route: &Route| (bits ^ route.bits) & route.mask == 0 && route.family == family;
        let at = self.all().iter().position(holds)?;
        let (longer, rest) = self.all().split_at_checked(at)?;
        let route = rest.first()?;
        let ends = |route: &Route| (route.bits, route.bits | !route.mask);
        let (mut low, mut high) = ends(route);
        for (first, last) in longer.iter().filter(|route| route.family == family).map(ends) {
            // Prefixes do not overlap in part, so each lies before the address or behind it.
            if last < bits {
                low = low.max(last + 1);
            } else {
                high = high.min(first.saturating_sub(1));
            }
        }
        Some((low, high, route.via != 0))
    }

    /// The gateways, as often as routes name them.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        let routed = self.all().iter().filter(|route| route.via != 0);
        routed.map(|route| from_bits(route.via))
    }

    /// The port and the bits of the gateway of a prefix's own route.
    pub(crate) fn gateway(&self, prefix: Prefix) -> Option<(PortId, u128)> {
        let (family, bits) = (Family::of(prefix.address), to_bits(prefix.address) & prefix.mask());
        let same = |route: &&Route| route.family == family && route.len == prefix.len && route.bits == bits;
        let route = self.all().iter().find(same).filter(|route| route.via != 0)?;
        Some((route.port, route.via))
    }

    /// Whether a route leads by this neighbour of a port.
    pub(crate) fn leads_by(&self, port: PortId, gateway: u128) -> bool {
        self.all().iter().any(|route| route.port == port && route.via == gateway)
    }

    /// Whether this is the broadcast address of a link (RFC 919).
    pub(crate) fn is_broadcast(&self, address: Ipv4Addr) -> bool {
        let bits = to_bits(IpAddr::V4(address));
        // A link of two addresses has none (RFC 3021).
        let mut links =
            self.all().iter().filter(|route| route.family == Family::V4 && route.via == 0 && route.len < 31);
        links.any(|route| bits == route.bits | !route.mask)
    }

    /// Whether `address` is a neighbour on `port`.
    pub(crate) fn is_on_link(&self, port: PortId, address: IpAddr) -> bool {
        self.find(Family::of(address), to_bits(address))
            .is_some_and(|route| route.via == 0 && route.port == port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_prefix_of_the_family_wins() {
        let mut routes = Routes::new(Memory::filled(MAX_ROUTES));
        for (text, port) in [("0.0.0.0/0", 0), ("10.0.0.0/8", 1), ("10.0.1.0/24", 2), ("::/0", 3)] {
            routes.set(prefix(text), None, PortId(port)).unwrap();
        }
        let find = |address: IpAddr| routes.find(Family::of(address), to_bits(address));
        let port = |address: &str| find(address.parse().unwrap()).map(|route| route.port.0);
        assert_eq!(port("10.0.1.9"), Some(2));
        assert_eq!(port("10.0.2.9"), Some(1));
        assert_eq!(port("192.0.2.1"), Some(0));
        assert_eq!(port("2001:db8::1"), Some(3));
    }

    #[test]
    fn the_last_address_of_an_attached_link_is_its_broadcast_address() {
        let mut routes = Routes::new(Memory::filled(MAX_ROUTES));
        routes.set(prefix("10.0.1.0/24"), None, PortId(1)).unwrap();
        routes.set(prefix("10.0.0.0/16"), Some("10.0.1.1".parse().unwrap()), PortId(1)).unwrap();
        assert!(routes.is_broadcast([10, 0, 1, 255].into()));
        assert!(!routes.is_broadcast([10, 0, 1, 254].into()));
        assert!(!routes.is_broadcast([10, 0, 255, 255].into()), "behind a router nobody knows");
    }

    #[test]
    fn a_stretch_has_one_route_and_ends_where_another_begins() {
        let mut routes = Routes::new(Memory::filled(MAX_ROUTES));
        let gateway = Some("10.0.1.1".parse().unwrap());
        for (text, via) in [
            ("0.0.0.0/0", gateway),
            ("10.0.0.0/8", gateway),
            ("10.0.1.0/24", None),
            ("10.0.1.128/25", None),
            ("10.255.255.255/32", None),
        ] {
            routes.set(prefix(text), via, PortId(0)).unwrap();
        }
        let bits = |address: &str| to_bits(address.parse().unwrap());
        for (around, low, high, via) in [
            ("192.0.2.1", "11.0.0.0", "255.255.255.255", true),
            ("9.0.0.1", "0.0.0.0", "9.255.255.255", true),
            ("10.0.0.9", "10.0.0.0", "10.0.0.255", true),
            ("10.0.1.5", "10.0.1.0", "10.0.1.127", false),
            ("10.0.1.200", "10.0.1.128", "10.0.1.255", false),
            ("10.7.0.0", "10.0.2.0", "10.255.255.254", true),
            ("10.255.255.255", "10.255.255.255", "10.255.255.255", false),
        ] {
            let around: IpAddr = around.parse().unwrap();
            assert_eq!(routes.stretch(around), Some((bits(low), bits(high), via)), "{around}");
        }
    }

    #[test]
    fn a_route_can_be_replaced_and_removed() {
        let mut routes = Routes::new(Memory::filled(MAX_ROUTES));
        routes.set(prefix("10.0.1.7/24"), None, PortId(1)).unwrap();
        routes.set(prefix("10.0.1.0/24"), None, PortId(2)).unwrap();
        let neighbour = "10.0.1.1".parse().unwrap();
        assert!(routes.is_on_link(PortId(2), neighbour));
        routes.remove(prefix("10.0.1.9/24")).unwrap();
        assert!(!routes.is_on_link(PortId(2), neighbour));
    }
}
