//! What a host has to know of a device.

use super::mac::MacAddress;
use crate::frame::PortId;
use crate::header::{array, ethernet, get16};
use crate::parse::Link;

/// The part of a tag that names the VLAN; the rest is priority.
const VLAN_MASK: u16 = 0x0fff;

/// How many ports a host can have.
pub const MAX_PORTS: usize = 16;

/// One of the host's ports: what the device behind it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    pub(super) link: Link,
    pub(super) mac: MacAddress,
    pub(super) mtu: u16,
    pub(super) vlan: Option<u16>,
}

/// A port as what the host sends of its own accord has to know it.
#[derive(Clone, Copy)]
pub(super) struct Egress {
    pub(super) port: PortId,
    pub(super) mac: MacAddress,
    pub(super) vlan: Option<u16>,
}

impl Port {
    pub(super) const fn egress(&self, port: PortId) -> Egress {
        Egress { port, mac: self.mac, vlan: self.vlan }
    }

    /// An Ethernet port with a link-layer address of its own, whose packets are at most `mtu` bytes long (without the
    /// link header).
    #[must_use]
    pub const fn ethernet(mac: MacAddress, mtu: u16) -> Self {
        Self { link: Link::Ethernet, mac, mtu, vlan: None }
    }

    /// A port whose frames begin with the IP header, as those of a TUN device.
    #[must_use]
    pub const fn bare(mtu: u16) -> Self {
        Self { link: Link::Bare, mac: MacAddress::ZERO, mtu, vlan: None }
    }

    /// Makes the port one of a tagged network (IEEE 802.1Q) on its link: what it sends has the tag of this VLAN, 1 to
    /// 4,094, and only frames with that tag are for it. A port without a VLAN takes untagged frames only, and those
    /// with the tag of VLAN 0, which names a priority and no network. A bare port has no tags.
    #[must_use]
    pub const fn with_vlan(mut self, vlan: u16) -> Self {
        self.vlan = Some(vlan);
        self
    }

    /// The port's VLAN; `None` on an untagged network.
    #[must_use]
    pub const fn vlan(&self) -> Option<u16> {
        self.vlan
    }

    /// Whether a frame on the port's link is of its network.
    #[inline]
    pub(crate) fn is_on_network(&self, bytes: &[u8]) -> bool {
        match array::<2>(bytes, ethernet::TYPE).map(|&kind| u16::from_be_bytes(kind)) {
            Some(ethernet::TYPE_TAG | ethernet::TYPE_SERVICE_TAG) => self.is_of_vlan(bytes),
            Some(_) | None => self.vlan.is_none(),
        }
    }

    #[cold]
    fn is_of_vlan(&self, bytes: &[u8]) -> bool {
        // A second tag inside makes it a network of its own.
        let inner = get16(bytes, ethernet::LEN + 2);
        let stacked = matches!(inner, Some(ethernet::TYPE_TAG | ethernet::TYPE_SERVICE_TAG));
        let vlan = get16(bytes, ethernet::LEN).map(|tag| tag & VLAN_MASK);
        !stacked
            && get16(bytes, ethernet::TYPE) == Some(ethernet::TYPE_TAG)
            && vlan == Some(self.vlan.unwrap_or_default())
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
