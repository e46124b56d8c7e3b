//! Rewriting packets in place, by NAT and direct routing.

use lvs_core::batch::{AddressFamily, FastKey, Hit};
use lvs_core::{Direction, Forward, Method, ServerId, Tick};

use super::wire::{NETWORK, Wire};
use crate::forwarder::Forwarder;
use crate::forwarder::next_hop_cache::LinkHeader;
use crate::frame::{Checksum, Frame, PortId};
use crate::header::layout::{Fragment, Layout};
use crate::header::protocol;
use crate::method::nat;
use crate::offload::checksum_offset;

/// What is to be done with a packet, in the parts that its editing asks for.
#[derive(Clone, Copy)]
pub(super) struct RewriteJob<F: AddressFamily> {
    len: usize,
    is_tcp: bool,
    is_passing: bool,
    client: F::Bits,
    direction: Direction,
    server: ServerId,
    /// `None` when the server is of the other family.
    target: Option<(F::Bits, u16)>,
}

impl<F: Wire> RewriteJob<F> {
    /// The job for a packet of a known connection.
    #[inline(always)]
    pub(super) fn of_hit(key: &FastKey<F>, hit: &Hit<'_, F>) -> Self {
        Self::new(key, hit.direction(), hit.server(), hit.target())
    }

    /// The job for a packet that the director's slow tier has decided.
    #[inline(always)]
    pub(super) fn of_forward(key: &FastKey<F>, forward: &Forward) -> Self {
        let target = F::bits(&forward.target.ip()).map(|bits| (bits, forward.target.port()));
        Self::new(key, forward.direction, forward.server, target)
    }

    #[inline(always)]
    fn new(key: &FastKey<F>, direction: Direction, server: ServerId, target: Option<(F::Bits, u16)>) -> Self {
        Self {
            len: key.length().into(),
            is_tcp: key.is_tcp(),
            is_passing: key.is_passing(),
            client: key.client(),
            direction,
            server,
            target,
        }
    }
}

impl Forwarder {
    /// Gives a packet the real server's address and port, or the virtual one's.
    #[inline(always)]
    pub(super) fn translate<F: Wire>(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        job: RewriteJob<F>,
    ) -> Option<()> {
        let target = job.target?;
        // Asked once: each direction is compiled for itself.
        match job.direction {
            Direction::Request => {
                let (link, port) = self.known_hop(now, frame, job)?;
                F::translate(frame.front_mut()?, job.is_tcp, Direction::Request, link, target)?;
                self.send(frame, job, port)
            }
            Direction::Reply => {
                let (link, port) = self.known_hop(now, frame, job)?;
                F::translate(frame.front_mut()?, job.is_tcp, Direction::Reply, link, target)?;
                self.send(frame, job, port)
            }
        }
    }

    /// Addresses a packet's frame to its next hop, and nothing else.
    #[inline(always)]
    pub(super) fn redirect<F: Wire>(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        job: RewriteJob<F>,
    ) -> Option<()> {
        let (link, port) = self.known_hop(now, frame, job)?;
        F::redirect(frame.front_mut()?, link)?;
        self.send(frame, job, port)
    }

    /// The link header with which a packet leaves, and where, if that is remembered and the packet fits there as it is.
    #[inline(always)]
    fn known_hop<F: Wire>(
        &mut self,
        now: Tick,
        frame: &Frame<'_>,
        job: RewriteJob<F>,
    ) -> Option<(LinkHeader, PortId)> {
        if frame.offload.checksum != Checksum::Complete {
            return None;
        }
        let Self { host, next_hops, .. } = self;
        let (link, port, mtu) = match job.direction {
            Direction::Request => {
                let (address, _) = job.target?;
                let hop = next_hops.server(host, now, job.server, |known| F::is(known, address))?;
                (hop.link, hop.port, hop.mtu)
            }
            Direction::Reply if job.is_passing => {
                let peers = F::peers(next_hops);
                match peers.client::<F>(host, now, job.client) {
                    Some(hop) => (hop.link, hop.port, hop.mtu),
                    None => {
                        let hop = peers.find_client::<F>(host, now, job.client)?;
                        (hop.link, hop.port, hop.mtu)
                    }
                }
            }
            // The client is this host itself.
            Direction::Reply => return None,
        };
        (job.len <= usize::from(mtu)).then_some((link, port))
    }

    /// Counts a packet that has been edited in place, and gives it its port.
    #[inline(always)]
    fn send<F: Wire>(&mut self, frame: &mut Frame<'_>, job: RewriteJob<F>, port: PortId) -> Option<()> {
        // Padding ends where the packet does; it was measured against the frame.
        if frame.len() != NETWORK + job.len {
            frame.set_len(NETWORK + job.len)?;
        }
        frame.port = port;
        match job.direction {
            Direction::Request => self.counters.requests += 1,
            Direction::Reply => self.counters.replies += 1,
        }
        Some(())
    }

    /// Forwards a packet whose device left the transport checksum unfinished, as those of virtual machines and local
    /// stacks are. `None`, and nothing has changed, when that is the slow tier's.
    pub(super) fn forward_partial<F: Wire>(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        key: &FastKey<F>,
        forward: &Forward,
    ) -> Option<()> {
        let len = usize::from(key.length());
        let layout = layout::<F>(len, key.is_tcp());
        let Checksum::Partial { start, offset } = frame.offload.checksum else { return None };
        if usize::from(start) != layout.transport()
            || checksum_offset(layout.protocol) != Some(usize::from(offset))
        {
            return None;
        }
        // What is unfinished stays as it is but for the addresses in it, so the packet is forwarded as one with a
        // finished checksum is, and then rewritten.
        let headroom = frame.headroom();
        frame.offload.checksum = Checksum::Complete;
        let done = match (forward.method, forward.direction) {
            (Method::Nat | Method::Direct, _) | (Method::Tunnel(_), Direction::Reply) => {
                self.redirect(now, frame, RewriteJob::of_forward(key, forward))
            }
            (Method::Tunnel(tunnel), Direction::Request) => {
                self.encapsulate(now, frame, key, forward.server, &forward.target, tunnel)
            }
            (Method::Bypass | Method::Local, _) => None,
        };
        // Outer headers move the transport header away from the front.
        let moved = headroom.saturating_sub(frame.headroom()) as u16;
        frame.offload.checksum = Checksum::Partial { start: start.saturating_add(moved), offset };
        done?;
        if forward.method == Method::Nat {
            // Neither the family nor an offset can be wrong: both were looked at when the frame was parsed.
            nat::rewrite(frame, &layout, forward.direction, forward.target).ok()?;
        }
        Some(())
    }
}

/// Where the parts of a packet of so many bytes are.
const fn layout<F: Wire>(len: usize, is_tcp: bool) -> Layout {
    Layout {
        network: NETWORK as u32,
        transport: (NETWORK + F::HEADER) as u32,
        end: (NETWORK + len) as u32,
        family: F::FAMILY,
        protocol: if is_tcp { protocol::TCP } else { protocol::UDP },
        fragment: Fragment::Whole,
    }
}
