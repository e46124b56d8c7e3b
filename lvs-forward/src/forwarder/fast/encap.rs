//! Wrapping packets into another IP packet to their real server: IP in IP, GRE and GUE without checksums, each family
//! in each. The bytes are those of [`wrap`](crate::method::encap::wrap), which the slow tier has.

use core::net::SocketAddr;

use lvs_core::batch::{FastKey, V4, V6};
use lvs_core::{ServerId, Tick, Tunnel};

use super::wire::{NETWORK, OuterFields, Wire};
use crate::forwarder::Forwarder;
use crate::frame::{Checksum, Frame};
use crate::header::{ethernet, gre, gue, protocol, udp};
use crate::method::encap::tos;
use crate::output::least_mtu;

/// What stands between the outer IP header and the packet.
trait Shim: Copy {
    /// How many bytes.
    fn len(self) -> usize;
    /// What the outer IP header calls it; `None` for nothing, behind which the packet follows at once.
    fn protocol(self) -> Option<u8>;
    /// Writes it before a packet of family `F`; `rest` is the length from here to the end of the packet.
    fn write<F: Wire>(self, place: &mut [u8], rest: u16) -> Option<()>;
}

/// IP in IP: nothing.
#[derive(Clone, Copy)]
struct NoShim;

/// GRE or GUE.
#[derive(Clone, Copy)]
enum AnyShim {
    Gre,
    Gue { source_port: u16, port: u16 },
}

impl Shim for NoShim {
    #[inline(always)]
    fn len(self) -> usize {
        0
    }

    #[inline(always)]
    fn protocol(self) -> Option<u8> {
        None
    }

    #[inline(always)]
    fn write<F: Wire>(self, _place: &mut [u8], _rest: u16) -> Option<()> {
        Some(())
    }
}

impl Shim for AnyShim {
    #[inline(always)]
    fn len(self) -> usize {
        match self {
            Self::Gre => gre::LEN,
            Self::Gue { .. } => udp::LEN + gue::LEN,
        }
    }

    #[inline(always)]
    fn protocol(self) -> Option<u8> {
        Some(match self {
            Self::Gre => protocol::GRE,
            Self::Gue { .. } => protocol::UDP,
        })
    }

    #[inline(always)]
    fn write<F: Wire>(self, place: &mut [u8], rest: u16) -> Option<()> {
        match self {
            Self::Gre => {
                let [high, low] = F::ETHER_TYPE.to_be_bytes();
                let place: &mut [u8; gre::LEN] = place.first_chunk_mut()?;
                *place = [0, 0, high, low];
            }
            Self::Gue { source_port, port } => {
                let place: &mut [u8; udp::LEN + gue::LEN] = place.first_chunk_mut()?;
                let ([s0, s1], [d0, d1]) = (source_port.to_be_bytes(), port.to_be_bytes());
                let [l0, l1] = rest.to_be_bytes();
                *place = [s0, s1, d0, d1, l0, l1, 0, 0, 0, F::PROTOCOL, 0, 0];
            }
        }
        Some(())
    }
}

impl Forwarder {
    /// Wraps a packet into another one to its real server. `None`, and nothing has changed, when that is the slow
    /// tier's: an outer checksum covers the whole packet, and what does not fit has to be told to its sender.
    #[inline(always)]
    pub(super) fn encapsulate<F: Wire>(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        key: &FastKey<F>,
        server: ServerId,
        address: &SocketAddr,
        tunnel: Tunnel,
    ) -> Option<()> {
        let len = usize::from(key.length());
        let shim = match tunnel {
            Tunnel::IpIp => {
                return match address {
                    SocketAddr::V4(address) => {
                        self.wrap_fast::<F, V4, _>(now, frame, len, server, address.ip().to_bits(), NoShim)
                    }
                    SocketAddr::V6(address) => {
                        self.wrap_fast::<F, V6, _>(now, frame, len, server, address.ip().to_bits(), NoShim)
                    }
                };
            }
            Tunnel::Gre { checksum: false } => AnyShim::Gre,
            Tunnel::Gue { port, checksum: false } => {
                // Stable for a flow, so that the way to the server keeps the order of its packets.
                AnyShim::Gue { source_port: self.source_port(&key.packet().flow), port }
            }
            Tunnel::Gre { checksum: true } | Tunnel::Gue { checksum: true, .. } => return None,
        };
        match address {
            SocketAddr::V4(address) => {
                self.wrap_fast::<F, V4, _>(now, frame, len, server, address.ip().to_bits(), shim)
            }
            SocketAddr::V6(address) => {
                self.wrap_fast::<F, V6, _>(now, frame, len, server, address.ip().to_bits(), shim)
            }
        }
    }

    // A function of its own for each pair of families, because it wants all registers.
    #[inline(never)]
    fn wrap_fast<F: Wire, O: Wire, S: Shim>(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        len: usize,
        server: ServerId,
        destination: O::Bits,
        shim: S,
    ) -> Option<()> {
        if frame.offload.checksum != Checksum::Complete {
            return None;
        }
        let Self { host, next_hops, path_mtus, .. } = self;
        let hop = next_hops.server(host, now, server, |known| O::is(known, destination))?;
        let source = O::bits(hop.source.as_ref()?)?;
        let (link, port) = (hop.link, hop.port);
        let mtu = path_mtus.limit(now, hop.destination, hop.mtu);
        let overhead = O::HEADER + shim.len();
        if usize::from(mtu) < overhead + least_mtu(O::FAMILY).max(len) {
            return None;
        }
        let (class, ttl, dont_fragment) = F::hop_fields(frame.front()?)?;
        if ttl <= 1 {
            return None;
        }
        // The old link header's place becomes the end of the new headers.
        frame.grow_front(overhead)?;
        frame.set_len(NETWORK + overhead + len)?;
        let identification = self.next_identification() as u16;
        let (ethernet, rest) = frame.front_mut()?.split_first_chunk_mut::<{ ethernet::LEN }>()?;
        let (outer, rest) = rest.split_at_mut_checked(O::HEADER)?;
        let (place, inner) = rest.split_at_mut_checked(shim.len())?;
        F::take_hop(inner, ttl)?;
        // The way's MTU bounds the length.
        let total = (len + overhead) as u16;
        shim.write::<F>(place, total - O::HEADER as u16)?;
        let fields = OuterFields {
            tos: tos(class),
            ttl: ttl - 1,
            len: total,
            protocol: shim.protocol().unwrap_or(F::PROTOCOL),
            dont_fragment: dont_fragment && self.options.pmtu_disc,
            identification,
            source,
            destination,
        };
        O::write_outer(outer, &fields)?;
        link.write(ethernet.first_chunk_mut()?);
        *ethernet.last_chunk_mut()? = O::ETHER_TYPE.to_be_bytes();
        frame.port = port;
        self.counters.requests += 1;
        Some(())
    }
}
