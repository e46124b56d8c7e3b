//! The packets that nearly all are, in 16 bytes each.

use core::fmt;
use core::net::Ipv4Addr;

use crate::conntrack::key::Key;
use crate::model::flow::{Addresses, Flow, Protocol};
use crate::model::packet::{Content, Packet, Path, TcpFlags};
use crate::model::seed::Seed;

/// A whole IPv4 packet with TCP or UDP and without a firewall mark: all that a decision rests on.
///
/// It says the same as a [`Packet`], in the words in which headers have it and tables are searched by, so that a batch of
/// them fits eight cache lines. [`Director::decide_briefs`](crate::Director::decide_briefs) takes them.
///
/// ```
/// use lvs_core::{Content, Flow, Packet, Protocol, TcpFlags};
/// use lvs_core::batch::Brief;
/// let flow = Flow::new(Protocol::Tcp, "192.0.2.7:40000".parse()?, "10.99.0.1:80".parse()?).unwrap();
/// // Source and destination one after the other, as in the header.
/// let addresses = 0xc000_0207_0a63_0001;
/// let ports = 40_000 << 16 | 80;
/// let brief = Brief::tcp(addresses, ports, TcpFlags::SYN, 60);
/// assert_eq!(brief.packet(), Packet::new(flow, Content::Tcp(TcpFlags::SYN), 60));
/// assert_eq!(brief.passing().packet(), brief.packet().passing());
/// # Ok::<(), core::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Brief {
    /// The client's address, then the other end's.
    pair: u64,
    /// From the low end: the other end's port, the client's, the tag, TCP's flags, the length. Tag and ports are as a key's; a
    /// datagram's flags are those of a segment that says nothing new.
    rest: u64,
}

const UDP: u8 = 1;
/// Where the parts of the second word are. Ports and tag are where a slot has them.
pub(crate) const TAG: u32 = 32;
pub(crate) const FLAGS: u32 = 40;
const LENGTH: u32 = 48;

impl Brief {
    /// No packet's: fills arrays before they are used.
    pub const EMPTY: Self = Self { pair: 0, rest: 0 };

    /// A segment to the director. `addresses` is the source in the upper half and the destination in the lower one, `ports` likewise,
    /// both in host byte order; `length` is the IP packet's in bytes, header included.
    #[inline]
    #[must_use]
    pub const fn tcp(addresses: u64, ports: u32, flags: TcpFlags, length: u16) -> Self {
        Self::new(addresses, ports, 0, flags, length)
    }

    /// A datagram to the director, of the same parts.
    #[inline]
    #[must_use]
    pub const fn udp(addresses: u64, ports: u32, length: u16) -> Self {
        Self::new(addresses, ports, UDP, TcpFlags::ACK, length)
    }

    #[inline(always)]
    const fn new(pair: u64, ports: u32, tag: u8, flags: TcpFlags, length: u16) -> Self {
        let upper = tag as u32 | (flags.byte() as u32) << (FLAGS - TAG) | (length as u32) << (LENGTH - TAG);
        Self { pair, rest: ports as u64 | (upper as u64) << TAG }
    }

    /// The same packet on its way through the director.
    #[inline]
    #[must_use]
    pub const fn passing(self) -> Self {
        let ports = (self.rest as u32).rotate_left(16);
        let upper = (self.rest >> 32 << 32) | (Key::REPLY as u64) << TAG;
        Self { pair: self.pair.rotate_left(32), rest: upper | ports as u64 }
    }

    /// Whether it is on its way through the director, and not addressed to it.
    #[inline]
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        self.tag() & Key::REPLY != 0
    }

    /// Whether it is TCP's, and not UDP's.
    #[inline]
    #[must_use]
    pub const fn is_tcp(&self) -> bool {
        self.tag() & UDP == 0
    }

    /// The IP packet's length in bytes.
    #[inline]
    #[must_use]
    pub const fn length(&self) -> u16 {
        (self.rest >> LENGTH) as u16
    }

    /// The address of the client's end, in host byte order: the destination of a packet that is [passing](Self::passing), else the source.
    #[inline]
    #[must_use]
    pub const fn client(&self) -> u32 {
        (self.pair >> 32) as u32
    }

    /// The other end's address.
    #[inline]
    pub(crate) const fn other(&self) -> u32 {
        self.pair as u32
    }

    /// Both addresses, the client's in the upper half.
    #[inline(always)]
    pub(crate) const fn pair(&self) -> u64 {
        self.pair
    }

    /// All else, for a comparison with a slot's [word](crate::conn::Slot) at one time.
    #[inline(always)]
    pub(crate) const fn rest(&self) -> u64 {
        self.rest
    }

    #[inline]
    pub(crate) const fn ports(&self) -> u32 {
        self.rest as u32
    }

    #[inline]
    pub(crate) const fn tag(&self) -> u8 {
        (self.rest >> TAG) as u8
    }

    #[inline]
    const fn flags(&self) -> TcpFlags {
        TcpFlags::from_byte((self.rest >> FLAGS) as u8)
    }

    /// The hash of its [key](Key::hash).
    #[inline(always)]
    pub(crate) const fn hash(&self, seed: Seed) -> u32 {
        Key::hash_v4(self.pair, self.ports(), self.tag(), seed)
    }

    /// The packet in full.
    #[must_use]
    pub const fn packet(&self) -> Packet {
        let passing = self.is_passing();
        let (pair, ports) = if passing {
            (self.pair.rotate_left(32), self.ports().rotate_left(16))
        } else {
            (self.pair, self.ports())
        };
        let (protocol, content) = if self.is_tcp() {
            (Protocol::Tcp, Content::Tcp(self.flags()))
        } else {
            (Protocol::Udp, Content::Udp)
        };
        let flow = Flow {
            protocol,
            addresses: Addresses::V4 {
                source: Ipv4Addr::from_bits((pair >> 32) as u32),
                destination: Ipv4Addr::from_bits(pair as u32),
            },
            source_port: (ports >> 16) as u16,
            destination_port: ports as u16,
        };
        let path = if passing { Path::Through } else { Path::Local };
        Packet { flow, content, length: self.length() as u32, path, mark: 0 }
    }
}

impl fmt::Debug for Brief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Brief").field(&self.packet()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_brief_is_found_by_the_key_of_its_packet(
            addresses: u64, ports: u32, flags: u8, length: u16, udp: bool, passing: bool, seed: [u8; 16]
        ) {
            let brief = if udp {
                Brief::udp(addresses, ports, length)
            } else {
                Brief::tcp(addresses, ports, TcpFlags::from_byte(flags), length)
            };
            let brief = if passing { brief.passing() } else { brief };
            let packet = brief.packet();
            let key = if passing { Key::of_reply(&packet.flow) } else { Key::of_request(&packet.flow) };
            let seed = Seed::from_bytes(seed);
            prop_assert_eq!(brief.hash(seed), key.hash(seed));
            prop_assert_eq!(u128::from(brief.client()), key.client_bits());
            prop_assert_eq!(packet.flow.source(), {
                let (address, port) = ((addresses >> 32) as u32, (ports >> 16) as u16);
                (Ipv4Addr::from_bits(address), port).into()
            });
            prop_assert_eq!(packet.path == Path::Through, passing);
            prop_assert_eq!(packet.length, u32::from(length));
        }
    }
}
