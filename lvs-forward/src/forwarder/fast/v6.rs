//! IPv6 headers with the transport's header directly behind, read and written as arrays whose length the compiler
//! knows.

use lvs_core::batch::{FastKey, V6};
use lvs_core::{Direction, TcpFlags};

use super::wire::{Front, NETWORK, OuterFields, Wire, bytes, read16, write};
use crate::checksum::Change;
use crate::forwarder::next_hop_cache::{CacheFamily as _, LinkHeader};
use crate::header::{ethernet, ipv6, protocol, tcp, udp};

impl Wire for V6 {
    const HEADER: usize = ipv6::LEN;
    const ETHER_TYPE: u16 = ethernet::TYPE_IPV6;
    const PROTOCOL: u8 = protocol::IPV6;

    #[inline(always)]
    fn is_plain(head: &[u8; super::wire::SIGHT]) -> bool {
        // Type and version; the traffic class shares a byte with the version.
        u32::from_be_bytes(bytes(head, ethernet::TYPE)) & 0xffff_f000 == PLAIN
    }

    #[inline(always)]
    fn parse(front: &[u8], frame_len: usize) -> Option<Front<Self>> {
        let head: &[u8; SIGHT] = front.first_chunk()?;
        let payload = read16(head, NETWORK + ipv6::PAYLOAD_LEN);
        // What is in the packet is in the frame, and its length in 16 bits.
        let total = payload.checked_add(ipv6::LEN as u16)?;
        if NETWORK + usize::from(total) > frame_len {
            return None;
        }
        let source = u128::from_be_bytes(bytes(head, NETWORK + ipv6::SOURCE));
        let destination = u128::from_be_bytes(bytes(head, NETWORK + ipv6::DESTINATION));
        // Whatever may be no host's address is for the slow tier to look at.
        if !Self::is_host(source) {
            return None;
        }
        let ports = u32::from_be_bytes(bytes(head, TRANSPORT));
        let key = if head[NETWORK + ipv6::NEXT_HEADER] == protocol::TCP {
            if usize::from(payload) < tcp::LEN {
                return None;
            }
            FastKey::tcp(source, destination, ports, TcpFlags::from_byte(head[TRANSPORT + tcp::FLAGS]), total)
        } else {
            if head[NETWORK + ipv6::NEXT_HEADER] != protocol::UDP || usize::from(payload) < udp::LEN {
                return None;
            }
            FastKey::udp(source, destination, ports, total)
        };
        Some(Front { key, destination, ttl: head[NETWORK + ipv6::HOP_LIMIT] })
    }

    #[inline(always)]
    fn hop_fields(front: &[u8]) -> Option<(u8, u8, bool)> {
        let head: &[u8; TRANSPORT] = front.first_chunk()?;
        // The traffic class stands between the version and the flow label.
        let class = (read16(head, NETWORK) >> 4) as u8;
        Some((class, head[NETWORK + ipv6::HOP_LIMIT], false))
    }

    #[inline(always)]
    fn take_hop(packet: &mut [u8], ttl: u8) -> Option<()> {
        let header: &mut [u8; ipv6::LEN] = packet.first_chunk_mut()?;
        header[ipv6::HOP_LIMIT] = ttl.wrapping_sub(1);
        Some(())
    }

    #[inline(always)]
    fn redirect(front: &mut [u8], link: LinkHeader) -> Option<()> {
        let head: &mut [u8; TRANSPORT] = front.first_chunk_mut()?;
        take_hop(head)?;
        link.write(head.first_chunk_mut()?);
        Some(())
    }

    #[inline(always)]
    fn translate(
        front: &mut [u8],
        is_tcp: bool,
        direction: Direction,
        link: LinkHeader,
        target: (u128, u16),
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
    fn write_outer(place: &mut [u8], outer: &OuterFields<u128>) -> Option<()> {
        let place: &mut [u8; ipv6::LEN] = place.first_chunk_mut()?;
        let payload = outer.len.checked_sub(ipv6::LEN as u16)?;
        write(place, 0, (0x6000_0000 | u32::from(outer.tos) << 20).to_be_bytes());
        write(place, ipv6::PAYLOAD_LEN, payload.to_be_bytes());
        (place[ipv6::NEXT_HEADER], place[ipv6::HOP_LIMIT]) = (outer.protocol, outer.ttl);
        write(place, ipv6::SOURCE, outer.source.to_be_bytes());
        write(place, ipv6::DESTINATION, outer.destination.to_be_bytes());
        Some(())
    }
}

/// Takes one from the hop limit. `None`, and nothing has changed, when it is used up.
#[inline(always)]
const fn take_hop<const LEN: usize>(head: &mut [u8; LEN]) -> Option<()> {
    let hops = head[NETWORK + ipv6::HOP_LIMIT];
    if hops <= 1 {
        return None;
    }
    head[NETWORK + ipv6::HOP_LIMIT] = hops - 1;
    Some(())
}

/// Gives a packet another address and port, and its transport checksum, at `FIELD`, the difference.
#[inline(always)]
fn translate<const LEN: usize, const FIELD: usize, const ADDRESS: usize, const PORT: usize>(
    head: &mut [u8; LEN],
    link: LinkHeader,
    (address, port): (u128, u16),
) -> Option<()> {
    let sum = bytes(head, FIELD);
    // IPVS gives a datagram without a checksum one, which needs all of its bytes.
    if FIELD == UDP_FIELD && sum == [0; 2] {
        return None;
    }
    let (address, port) = (address.to_be_bytes(), port.to_be_bytes());
    let change = Change::long_address(bytes(head, ADDRESS), address);
    let old_port = bytes(head, PORT);
    take_hop(head)?;
    link.write(head.first_chunk_mut()?);
    write(head, ADDRESS, address);
    write(head, PORT, port);
    let new = change.and_word(old_port, port).update(sum);
    write(head, FIELD, if FIELD == UDP_FIELD && new == [0; 2] { [0xff; 2] } else { new });
    Some(())
}

/// Ethernet's type for IPv6, then version 6.
const PLAIN: u32 = (ethernet::TYPE_IPV6 as u32) << 16 | 0x6000;
const TRANSPORT: usize = NETWORK + ipv6::LEN;
/// As much as is looked at, up to TCP's flags. A buffer that ends before that has no plain packet.
const SIGHT: usize = TRANSPORT + tcp::FLAGS + 1;
const TCP_HEAD: usize = TRANSPORT + tcp::LEN;
const UDP_HEAD: usize = TRANSPORT + udp::LEN;
const TCP_FIELD: usize = TRANSPORT + tcp::CHECKSUM;
const UDP_FIELD: usize = TRANSPORT + udp::CHECKSUM;
const TO_ADDRESS: usize = NETWORK + ipv6::DESTINATION;
const FROM_ADDRESS: usize = NETWORK + ipv6::SOURCE;
const TO_PORT: usize = TRANSPORT + 2;
const FROM_PORT: usize = TRANSPORT;
