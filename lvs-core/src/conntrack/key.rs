//! What a connection is looked up by, in the form in which it is hashed and compared.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::flow::{Addresses, Family, Flow, Protocol};
use crate::model::key::TemplateTarget;
use crate::model::seed::Seed;

/// A client and its other end: the virtual address (requests), or under NAT the real server (replies).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(super) client: u128,
    pub(super) other: u128,
    /// Client port in the upper half, the other end's in the lower.
    pub(super) ports: u32,
    /// Protocol, family and direction.
    pub(super) tag: u8,
}

/// The other end of a key, with its protocol, family and direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    other: u128,
    port: u16,
    tag: u8,
}

impl Key {
    /// Tag bit of a NAT reply's key.
    pub(crate) const REPLY: u8 = 0x40;
    /// Tag bit of IPv6's.
    pub(super) const V6: u8 = 0x80;
    /// Tag bit of a template's key: no packet has it.
    pub(super) const TEMPLATE: u8 = 0x20;
    /// Tag of a template for every protocol.
    const ANY_PROTOCOL: u8 = 0x03;

    /// The key of a packet that comes from the client.
    #[inline]
    pub(crate) const fn of_request(flow: &Flow) -> Self {
        let (client, other, family) = match flow.addresses {
            Addresses::V4 { source, destination } => {
                (source.to_bits() as u128, destination.to_bits() as u128, 0)
            }
            Addresses::V6 { source, destination } => (source.to_bits(), destination.to_bits(), Self::V6),
        };
        let ports = (flow.source_port as u32) << 16 | flow.destination_port as u32;
        Self { client, other, ports, tag: family | protocol_tag(flow.protocol) }
    }

    /// The request key under which a reply that still shows the virtual address (DR, TUN) finds its connection.
    #[inline]
    pub(crate) const fn of_direct_reply(flow: &Flow) -> Self {
        Self::of_request(&flow.reversed())
    }

    /// The key of a packet that comes from a real server under NAT.
    #[inline]
    pub(crate) const fn of_reply(flow: &Flow) -> Self {
        let key = Self::of_request(&flow.reversed());
        Self { tag: key.tag | Self::REPLY, ..key }
    }

    /// What it is for: protocol, address and port of the other end.
    #[inline]
    pub(crate) const fn target(&self) -> Target {
        Target { other: self.other, port: self.ports as u16, tag: self.tag }
    }

    /// The key of the connection with this one's client, whose port is not known yet.
    #[inline]
    pub(crate) const fn without_client_port(&self) -> Self {
        Self { ports: self.ports & 0xffff, ..*self }
    }

    /// The key with another client port.
    pub(crate) const fn with_client_port(&self, port: u16) -> Self {
        Self { ports: self.ports & 0xffff | (port as u32) << 16, ..*self }
    }

    /// The key of the template for clients of a network.
    pub(crate) fn of_template(network: IpAddr, target: &TemplateTarget) -> Self {
        let bits = |address| match address {
            IpAddr::V4(address) => (u128::from(address.to_bits()), 0),
            IpAddr::V6(address) => (address.to_bits(), Self::V6),
        };
        let (client, family) = bits(network);
        let (other, port, protocol) = match *target {
            // As IPVS has it: the mark as the first 32 bits of an address.
            TemplateTarget::Mark(mark) if family == 0 => (u128::from(mark), 0, Self::ANY_PROTOCOL),
            TemplateTarget::Mark(mark) => (u128::from(mark) << 96, 0, Self::ANY_PROTOCOL),
            TemplateTarget::Address { protocol, address } => {
                (bits(address.ip()).0, address.port(), protocol_tag(protocol))
            }
        };
        Self { client, other, ports: u32::from(port), tag: family | Self::TEMPLATE | protocol }
    }

    /// What a template with this key is for, and the network of its clients.
    pub(crate) fn template(&self) -> (IpAddr, TemplateTarget) {
        let flow = self.flow();
        let target = if self.is_for_every_protocol() {
            TemplateTarget::Mark(match self.family() {
                Family::V4 => self.other as u32,
                Family::V6 => (self.other >> 96) as u32,
            })
        } else {
            TemplateTarget::Address { protocol: self.protocol(), address: flow.destination() }
        };
        (flow.addresses.source(), target)
    }

    /// Whether it is a template's for a firewall mark.
    pub(crate) const fn is_for_every_protocol(&self) -> bool {
        self.tag & Self::ANY_PROTOCOL == Self::ANY_PROTOCOL
    }

    /// The key that an invalid template keeps: no template is looked for by it.
    pub(crate) const fn invalidated(&self) -> Self {
        Self { ports: 0xffff, ..*self }
    }

    /// The reply key of the connection with this request key at this server.
    #[inline]
    pub(crate) fn at_server(&self, address: IpAddr, port: u16) -> Self {
        let other = match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        Self {
            client: self.client,
            other,
            ports: self.ports & 0xffff_0000 | u32::from(port),
            tag: self.tag | Self::REPLY,
        }
    }

    /// The hash of that.
    #[inline(always)]
    pub(crate) fn hash_at_server(&self, address: IpAddr, port: u16, seed: Seed) -> u32 {
        match address {
            // From the parts in hand: a key made for the purpose would be written to memory and read again.
            IpAddr::V4(address) if self.tag & Self::V6 == 0 => {
                let pair = (self.client as u64) << 32 | u64::from(address.to_bits());
                Self::hash_v4(pair, self.ports & 0xffff_0000 | u32::from(port), self.tag | Self::REPLY, seed)
            }
            IpAddr::V4(_) | IpAddr::V6(_) => self.hash_at_long_address(address, port, seed),
        }
    }

    #[inline(never)]
    fn hash_at_long_address(&self, address: IpAddr, port: u16, seed: Seed) -> u32 {
        self.at_server(address, port).hash(seed)
    }

    /// Whether the other end has this address.
    #[inline]
    pub(crate) fn other_is(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.tag & Self::V6 == 0 && self.other == u128::from(address.to_bits()),
            IpAddr::V6(address) => self.tag & Self::V6 != 0 && self.other == address.to_bits(),
        }
    }

    /// The keyed hash: the upper half of SipHash-1-3 over all parts.
    #[inline(always)]
    pub(crate) const fn hash(&self, seed: Seed) -> u32 {
        // IPv6 is out of line, so that the short hash of IPv4 is inlined into the loops over batches.
        if self.tag & Self::V6 != 0 {
            let words = [
                (self.client >> 64) as u64,
                self.client as u64,
                (self.other >> 64) as u64,
                self.other as u64,
            ];
            return Self::hash_v6(&words, self.ports, self.tag, seed);
        }
        Self::hash_v4((self.client as u64) << 32 | self.other as u64, self.ports, self.tag, seed)
    }

    /// The keyed hash of an IPv4 tuple, from both addresses, the client's in the upper half, both ports, likewise, and
    /// the tag.
    #[inline(always)]
    pub(crate) const fn hash_v4(pair: u64, ports: u32, tag: u8, seed: Seed) -> u32 {
        // The upper byte is the length of the message, as SipHash wants it: 8 bytes of addresses, 4 of ports, 1 of tag.
        let tail = ports as u64 | (tag as u64) << 32 | 13 << 56;
        // Who sends packets chooses every part of this, so the hash has a secret key: otherwise one sender could aim
        // all flows at one place of the table.
        (seed.hash([pair], tail) >> 32) as u32
    }

    /// The hash of an IPv6 key: of the client's address and the other end's, each with its upper half first, of both
    /// ports, the client's in the upper half, and the tag.
    #[inline(always)]
    pub(super) const fn hash_v6(words: &[u64; 4], ports: u32, tag: u8, seed: Seed) -> u32 {
        let [client_high, client_low, other_high, other_low] = *words;
        let tail = ports as u64 | (tag as u64) << 32 | 37 << 56;
        (seed.hash([client_low, client_high, other_low, other_high], tail) >> 32) as u32
    }

    #[inline]
    pub(crate) const fn client_port(&self) -> u16 {
        (self.ports >> 16) as u16
    }

    pub(crate) const fn other_port(&self) -> u16 {
        self.ports as u16
    }

    #[inline]
    pub(crate) const fn protocol(&self) -> Protocol {
        match self.tag & 0x03 {
            0 => Protocol::Tcp,
            1 => Protocol::Udp,
            _ => Protocol::Sctp,
        }
    }

    pub(crate) const fn family(&self) -> Family {
        if self.tag & Self::V6 == 0 { Family::V4 } else { Family::V6 }
    }

    /// From the client to the other end.
    #[inline]
    pub(crate) const fn flow(&self) -> Flow {
        let addresses = match self.family() {
            Family::V4 => Addresses::V4 {
                source: Ipv4Addr::from_bits(self.client as u32),
                destination: Ipv4Addr::from_bits(self.other as u32),
            },
            Family::V6 => Addresses::V6 {
                source: Ipv6Addr::from_bits(self.client),
                destination: Ipv6Addr::from_bits(self.other),
            },
        };
        Flow {
            protocol: self.protocol(),
            addresses,
            source_port: self.client_port(),
            destination_port: self.other_port(),
        }
    }
}

const fn protocol_tag(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
        Protocol::Sctp => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(source: &str, destination: &str) -> Flow {
        Flow::new(Protocol::Udp, source.parse().unwrap(), destination.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_key_keeps_its_flow() {
        for flow in [flow("192.0.2.7:1", "10.99.0.1:65535"), flow("[2001:db8::7]:1", "[2001:db8::8]:2")] {
            assert_eq!(Key::of_request(&flow).flow(), flow);
        }
    }

    #[test]
    fn the_servers_answer_has_the_key_that_the_connection_foresaw() {
        let request = Key::of_request(&flow("192.0.2.7:40000", "10.99.0.1:80"));
        let answer = Key::of_reply(&flow("10.0.1.11:8080", "192.0.2.7:40000"));
        assert_eq!(request.at_server("10.0.1.11".parse().unwrap(), 8080), answer);
        assert!(answer.other_is("10.0.1.11".parse().unwrap()));
    }

    #[test]
    fn families_never_share_a_key() {
        let v4 = Key::of_request(&flow("0.0.0.1:1", "0.0.0.2:2"));
        let v6 = Key::of_request(&flow("[::1]:1", "[::2]:2"));
        assert_ne!(v4, v6);
    }

    #[test]
    fn every_part_of_a_key_counts_in_its_hash() {
        let seed = Seed::from_bytes([5; 16]);
        let v4 = Key { client: 1, other: 2, ports: 3, tag: 0 };
        for key in [v4, Key { tag: Key::V6, ..v4 }] {
            let bits = if key.family() == Family::V4 { 32 } else { 128 };
            let flipped =
                |bit| [Key { client: key.client ^ bit, ..key }, Key { other: key.other ^ bit, ..key }];
            for other in (0..bits).flat_map(|bit| flipped(1 << bit)) {
                assert_ne!(other.hash(seed), key.hash(seed), "{other:?}");
            }
            assert_ne!(Key { ports: key.ports ^ 1 << 31, ..key }.hash(seed), key.hash(seed));
            assert_ne!(Key { tag: key.tag ^ Key::REPLY, ..key }.hash(seed), key.hash(seed));
            assert_ne!(key.hash(Seed::from_bytes([6; 16])), key.hash(seed));
        }
    }
}
