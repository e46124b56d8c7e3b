//! Link-layer addresses.

use core::fmt;
use core::str::FromStr;

/// An Ethernet address (IEEE 802 EUI-48).
///
/// ```
/// use lvs_forward::host::MacAddress;
/// let mac: MacAddress = "02:00:00:00:01:ff".parse()?;
/// assert_eq!(mac, MacAddress([2, 0, 0, 0, 1, 255]));
/// assert_eq!(mac.to_string(), "02:00:00:00:01:ff");
/// # Ok::<(), lvs_forward::host::ParseMacError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_structs, reason = "six bytes")]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Every host of a link.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// No address.
    pub const ZERO: Self = Self([0; 6]);

    /// Whether it is a multicast or the broadcast address.
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The text is not six groups of two hexadecimal digits with colons between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseMacError;

impl fmt::Display for ParseMacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a link-layer address looks like 02:00:00:00:00:01")
    }
}

impl core::error::Error for ParseMacError {}

impl FromStr for MacAddress {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let mut octets = [0; 6];
        let mut groups = text.split(':');
        for octet in &mut octets {
            let group = groups.next().filter(|group| group.len() == 2).ok_or(ParseMacError)?;
            let digits = group.bytes().all(|byte| byte.is_ascii_hexdigit());
            *octet = u8::from_str_radix(group, 16).ok().filter(|_| digits).ok_or(ParseMacError)?;
        }
        if groups.next().is_some() { Err(ParseMacError) } else { Ok(Self(octets)) }
    }
}
