//! What a host has to know of a device.

use super::mac::MacAddress;
use crate::parse::Link;

/// How many ports a host can have.
pub const MAX_PORTS: usize = 16;

/// One of the host's ports: what the device behind it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    pub(super) link: Link,
    pub(super) mac: MacAddress,
    pub(super) mtu: u16,
}

impl Port {
    /// An Ethernet port with a link-layer address of its own, whose packets are at most `mtu` bytes long (without the
    /// link header).
    #[must_use]
    pub const fn ethernet(mac: MacAddress, mtu: u16) -> Self {
        Self { link: Link::Ethernet, mac, mtu }
    }

    /// A port whose frames begin with the IP header, as those of a TUN device.
    #[must_use]
    pub const fn bare(mtu: u16) -> Self {
        Self { link: Link::Bare, mac: MacAddress::ZERO, mtu }
    }

    /// How the port's frames begin.
    #[must_use]
    pub const fn link(&self) -> Link {
        self.link
    }

    /// The port's link-layer address; all zero for a bare port.
    #[must_use]
    pub const fn mac(&self) -> MacAddress {
        self.mac
    }

    /// The longest packet in bytes, without the link header.
    #[must_use]
    pub const fn mtu(&self) -> u16 {
        self.mtu
    }
}
