//! ICMP errors from inside our tunnels: a router quotes the wrapped packet, and the client must hear of its own.

use core::net::IpAddr;

use lvs_core::{Content, Family, Method, Packet, Tunnel};

use crate::frame::Frame;
use crate::header::icmp::v4;
use crate::header::layout::{Fragment, Layout, addresses_at};
use crate::header::{array, ethernet, get16, get32, gre, icmp, ipv4, protocol, udp};
use crate::parse::Embedded;

/// An error about a packet that a tunnel of ours may have wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TunnelError {
    /// Whom the tunnel leads to.
    pub(crate) server: IpAddr,
    /// The client's packet, inside.
    pub(crate) inner: Embedded,
    /// What the quoted wrapping is made of.
    wrapping: Wrapping,
    /// Bytes of wrapping.
    pub(crate) overhead: usize,
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) info: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrapping {
    IpIp,
    Gre,
    Gue(u16),
}

impl TunnelError {
    /// Looks for a wrapped IPv4 packet in what an ICMP error quotes, and for the request in it: that one's flow points
    /// from the client to the virtual service. IPVS does not unwrap IPv6 or what is wrapped in it.
    pub(crate) fn find(bytes: &[u8], layout: &Layout, outer: &Embedded) -> Option<(Packet, Self)> {
        if outer.family != Family::V4 || outer.fragment == Fragment::Later {
            return None;
        }
        let (wrapping, shim) = match outer.protocol {
            protocol::IPIP => (Wrapping::IpIp, 0),
            protocol::UDP => {
                let port = get16(bytes, outer.transport() + 2)?;
                // Version and control bit 0, a header of 32-bit words, an IPv4 packet.
                let &[first, kind] = array::<2>(bytes, outer.transport() + udp::LEN)?;
                // Another service may use the port: what does not look like our wrapping is left to the director as
                // UDP.
                if first >> 5 != 0 || kind != protocol::IPIP {
                    return None;
                }
                (Wrapping::Gue(port), udp::LEN + 4 + usize::from(first & 0x1f) * 4)
            }
            protocol::GRE => {
                let flags = get16(bytes, outer.transport())?;
                if flags & !gre::HAS_CHECKSUM != 0
                    || get16(bytes, outer.transport() + 2)? != ethernet::TYPE_IPV4
                {
                    return None;
                }
                (Wrapping::Gre, if flags == 0 { 4 } else { 8 })
            }
            _ => return None,
        };
        let at = outer.transport() + shim;
        let quoted = bytes.get(at..layout.end())?;
        let inner = Embedded::at(quoted, u32::try_from(at).ok()?, Family::V4)?;
        let flow = inner.flow(bytes.get(..layout.end())?)?;
        let server = addresses_at(bytes, outer.network(), Family::V4)?.destination();
        let &[kind, code] = array::<2>(bytes, layout.transport())?;
        let info = get32(bytes, layout.transport() + 4)?;
        let overhead = at - outer.network();
        let length = layout.end - layout.network;
        let error = Self { server, inner, wrapping, overhead, kind, code, info };
        Some((Packet::new(flow, Content::TunnelError, length), error))
    }

    /// Whether a connection's server is reached through the tunnel that this error is about.
    pub(crate) fn is_about(&self, method: Method, server: IpAddr) -> bool {
        let same = match (method, self.wrapping) {
            (Method::Tunnel(Tunnel::IpIp), Wrapping::IpIp)
            | (Method::Tunnel(Tunnel::Gre { .. }), Wrapping::Gre) => true,
            (Method::Tunnel(Tunnel::Gue { port, .. }), Wrapping::Gue(quoted)) => port == quoted,
            (Method::Tunnel(_) | Method::Bypass | Method::Direct | Method::Local | Method::Nat, _) => false,
        };
        same && server == self.server
    }

    /// The MTU that a "fragmentation needed" states.
    pub(crate) const fn stated_mtu(&self) -> Option<u16> {
        if self.kind == v4::UNREACHABLE && self.code == v4::FRAGMENTATION_NEEDED {
            Some((self.info & 0xffff) as u16)
        } else {
            None
        }
    }

    /// Whether the client's packet forbids its fragmentation.
    pub(crate) fn inner_forbids_fragments(&self, bytes: &[u8]) -> bool {
        get16(bytes, self.inner.network() + ipv4::FRAGMENT)
            .is_some_and(|word| word & ipv4::DONT_FRAGMENT != 0)
    }

    /// Cuts the frame down to the quoted packet of the client, whose layout it returns. The frame ends where the
    /// quotation did, so the packet may be shorter than its header says.
    pub(crate) fn strip(&self, frame: &mut Frame<'_>, layout: &Layout) -> Option<Layout> {
        let from = self.inner.network();
        let inner = Layout {
            network: self.inner.network,
            transport: self.inner.transport,
            end: layout.end,
            family: self.inner.family,
            protocol: self.inner.protocol,
            fragment: self.inner.fragment,
        };
        frame.shrink_front(from)?;
        inner.without_front(from)
    }
}

/// The shortest message that can quote a wrapped packet.
const _: () = assert!(icmp::LEN + 2 * ipv4::LEN < 68);
