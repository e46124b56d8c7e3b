//! IPv4 headers without options, read and written as arrays whose length the compiler knows.

use lvs_core::batch::{FastKey, V4};
use lvs_core::{Direction, TcpFlags};

use super::wire::{Front, NETWORK, OuterFields, SIGHT, Wire, bytes, read16, write};
use crate::checksum::{self, Change, Sum};
use crate::forwarder::next_hop_cache::LinkHeader;
use crate::header::{ethernet, ipv4, protocol, tcp, udp};

impl Wire for V4 {
    const HEADER: usize = ipv4::LEN;
    const ETHER_TYPE: u16 = ethernet::TYPE_IPV4;
    const PROTOCOL: u8 = protocol::IPIP;

    #[inline(always)]
    fn is_plain(head: &[u8; SIGHT]) -> bool {
        // Type, version and header length; what follows is shifted out.
        u32::from_le_bytes(bytes(head, ethernet::TYPE)) << 8 == PLAIN
    }

    #[inline(always)]
    fn parse(front: &[u8], frame_len: usize) -> Option<Front<Self>> {
        let head: &[u8; SIGHT] = front.first_chunk()?;
        let total = read16(head, NETWORK + ipv4::TOTAL_LEN);
        let pieces = u16::from_ne_bytes(bytes(head, NETWORK + ipv4::FRAGMENT)) & PIECE.to_be() != 0;
        let sound = checksum::is_sound::<{ ipv4::LEN }>(&bytes(head, NETWORK));
        // What is in the packet is in the frame.
        if pieces || NETWORK + usize::from(total) > frame_len || !sound {
            return None;
        }
        let source = u32::from_be_bytes(bytes(head, NETWORK + ipv4::SOURCE));
        let destination = u32::from_be_bytes(bytes(head, NETWORK + ipv4::DESTINATION));
        // Whatever may be no host's address is for the slow tier to look at.
        if (source >> 24).wrapping_sub(1) >= 223 || source >> 24 == 127 {
            return None;
        }
        let ports = u32::from_be_bytes(bytes(head, TRANSPORT));
        let key = if head[NETWORK + ipv4::PROTOCOL] == protocol::TCP {
            if usize::from(total) < ipv4::LEN + tcp::LEN {
                return None;
            }
            FastKey::tcp(source, destination, ports, TcpFlags::from_byte(head[TRANSPORT + tcp::FLAGS]), total)
        } else {
            if head[NETWORK + ipv4::PROTOCOL] != protocol::UDP || usize::from(total) < ipv4::LEN + udp::LEN {
                return None;
            }
            FastKey::udp(source, destination, ports, total)
        };
        Some(Front { key, destination, ttl: head[NETWORK + ipv4::TTL] })
    }

    #[inline(always)]
    fn hop_fields(front: &[u8]) -> Option<(u8, u8, bool)> {
        let head: &[u8; TRANSPORT] = front.first_chunk()?;
        let dont_fragment = read16(head, NETWORK + ipv4::FRAGMENT) & ipv4::DONT_FRAGMENT != 0;
        Some((head[NETWORK + ipv4::TOS], head[NETWORK + ipv4::TTL], dont_fragment))
    }

    #[inline(always)]
    fn take_hop(packet: &mut [u8], ttl: u8) -> Option<()> {
        let header: &mut [u8; ipv4::LEN] = packet.first_chunk_mut()?;
        header[ipv4::TTL] = ttl.wrapping_sub(1);
        let old = bytes(header, ipv4::CHECKSUM);
        write(header, ipv4::CHECKSUM, Change::TTL.update(old));
        Some(())
    }

    #[inline(always)]
    fn redirect(front: &mut [u8], link: LinkHeader) -> Option<()> {
        let head: &mut [u8; TRANSPORT] = front.first_chunk_mut()?;
        take_hop(head, Change::NONE)?;
        link.write(head.first_chunk_mut()?);
        Some(())
    }

    #[inline(always)]
    fn translate(
        front: &mut [u8],
        is_tcp: bool,
        direction: Direction,
        link: LinkHeader,
        target: (u32, u16),
    ) -> Option<()> {
        match (direction, is_tcp) {
            (Direction::Request, true) => {
                translate::<TCP_HEAD, TCP_FIELD, TO_ADDRESS, TO_PORT>(front.first_chunk_mut()?, link, target)
            }
            (Direction::Request, false) => {
                translate::<UDP_HEAD, UDP_FIELD, TO_ADDRESS, TO_PORT>(front.first_chunk_mut()?, link, target)
            }
            (Direction::Reply, true) => translate::<TCP_HEAD, TCP_FIELD, FROM_ADDRESS, FROM_PORT>(
                front.first_chunk_mut()?,
                link,
                target,
            ),
            (Direction::Reply, false) => translate::<UDP_HEAD, UDP_FIELD, FROM_ADDRESS, FROM_PORT>(
                front.first_chunk_mut()?,
                link,
                target,
            ),
        }
    }

    #[inline(always)]
    fn write_outer(place: &mut [u8], outer: &OuterFields<u32>) -> Option<()> {
        let place: &mut [u8; ipv4::LEN] = place.first_chunk_mut()?;
        // With "don't fragment" the identification is 0 (RFC 6864 §4.1).
        let (identification, fragment) =
            if outer.dont_fragment { (0, ipv4::DONT_FRAGMENT) } else { (outer.identification, 0) };
        let mut words = [
            0x4500_0000 | u32::from(outer.tos) << 16 | u32::from(outer.len),
            u32::from(identification) << 16 | u32::from(fragment),
            u32::from(outer.ttl) << 24 | u32::from(outer.protocol) << 16,
            outer.source,
            outer.destination,
        ];
        words[2] |= u32::from(words.iter().fold(Sum::ZERO, |sum, &word| sum.long(word)).checksum());
        for (at, word) in words.into_iter().enumerate() {
            write(place, 4 * at, word.to_be_bytes());
        }
        Some(())
    }
}

/// Takes one from the TTL, and brings the IPv4 checksum in line with that and with `change`. `None`, and nothing has
/// changed, when the TTL is used up.
#[inline(always)]
fn take_hop<const LEN: usize>(head: &mut [u8; LEN], change: Change) -> Option<()> {
    let ttl = head[NETWORK + ipv4::TTL];
    if ttl <= 1 {
        return None;
    }
    head[NETWORK + ipv4::TTL] = ttl - 1;
    let old = bytes(head, NETWORK + ipv4::CHECKSUM);
    write(head, NETWORK + ipv4::CHECKSUM, Change::TTL.update(change.update(old)));
    Some(())
}

/// Gives a packet another address and port, and its transport checksum, at `FIELD`, the difference.
#[inline(always)]
fn translate<const LEN: usize, const FIELD: usize, const ADDRESS: usize, const PORT: usize>(
    head: &mut [u8; LEN],
    link: LinkHeader,
    (address, port): (u32, u16),
) -> Option<()> {
    let sum = bytes(head, FIELD);
    // IPVS gives a datagram without a checksum one, which needs all of its bytes.
    if FIELD == UDP_FIELD && sum == [0; 2] {
        return None;
    }
    let (address, port) = (address.to_be_bytes(), port.to_be_bytes());
    let change = Change::address(bytes(head, ADDRESS), address);
    let old_port = bytes(head, PORT);
    take_hop(head, change)?;
    link.write(head.first_chunk_mut()?);
    write(head, ADDRESS, address);
    write(head, PORT, port);
    let new = change.and_word(old_port, port).update(sum);
    write(head, FIELD, if FIELD == UDP_FIELD && new == [0; 2] { [0xff; 2] } else { new });
    Some(())
}

/// Ethernet's type for IPv4, then version 4 with a header of five words, as they are loaded.
const PLAIN: u32 = ((ethernet::TYPE_IPV4 as u32) << 8 | 0x45).swap_bytes();
/// What a whole packet has none of.
const PIECE: u16 = ipv4::OFFSET_MASK | ipv4::MORE_FRAGMENTS;
const TRANSPORT: usize = NETWORK + ipv4::LEN;
const TCP_HEAD: usize = TRANSPORT + tcp::LEN;
const UDP_HEAD: usize = TRANSPORT + udp::LEN;
const TCP_FIELD: usize = TRANSPORT + tcp::CHECKSUM;
const UDP_FIELD: usize = TRANSPORT + udp::CHECKSUM;
const TO_ADDRESS: usize = NETWORK + ipv4::DESTINATION;
const FROM_ADDRESS: usize = NETWORK + ipv4::SOURCE;
const TO_PORT: usize = TRANSPORT + 2;
const FROM_PORT: usize = TRANSPORT;
