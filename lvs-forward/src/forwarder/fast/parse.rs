//! From the front of a frame to a key: one pass over a batch, by constant offsets.

use lvs_core::batch::{BATCH, FastBatch, FastKey, V4, V6};

use super::wire::{Front, SIGHT, Wire};
use crate::forwarder::Forwarder;
use crate::frame::{Frame, PortId};
use crate::parse::Link;

/// What all frames of a batch have in common.
#[derive(Clone, Copy)]
pub(super) struct Gate {
    port: PortId,
    /// The port's MAC address as the first word of a frame has it.
    mac: u64,
    /// What fits through every port: whatever is longer, the slow tier measures.
    least_mtu: u16,
}

impl Gate {
    /// Whether a frame came in by this port.
    #[inline(always)]
    pub(super) fn is_of(&self, frame: &Frame<'_>) -> bool {
        frame.port == self.port
    }
}

impl Forwarder {
    /// What frames of this port have in common; `None` when they are no Ethernet frames.
    #[inline]
    pub(super) fn gate(&mut self, port: PortId) -> Option<Gate> {
        let known = self.host.port(port)?;
        if known.link() != Link::Ethernet || known.vlan().is_some() {
            return None;
        }
        let [a, b, c, d, e, f] = known.mac().0;
        let mac = u64::from_le_bytes([0, 0, a, b, c, d, e, f]);
        self.next_hops.v4.keep(self.host.changes());
        self.next_hops.v6.keep(self.host.changes());
        Some(Gate { port, mac, least_mtu: self.host.least_mtu() })
    }

    /// Fills an empty batch with the frames that stand first, as far as they are for the fast tier.
    #[inline(always)]
    pub(super) fn parse_fast(&mut self, gate: &Gate, frames: &[Frame<'_>], batch: &mut FastBatch) {
        let frames = frames.get(..frames.len().min(BATCH)).unwrap_or_default();
        self.parse_v4(gate, frames, batch);
        if let Some(rest) = frames.get(batch.len()..).filter(|rest| !rest.is_empty()) {
            self.parse_mixed(gate, rest, batch);
        }
    }

    /// Fills an empty batch with the IPv4 packets that stand first.
    // A loop of its own, which keeps all that it needs in registers: most traffic is of this family alone.
    #[inline(never)]
    fn parse_v4(&mut self, gate: &Gate, frames: &[Frame<'_>], batch: &mut FastBatch) {
        batch.begin_v4(frames.iter().map_while(|frame| {
            let head = head_of(gate, frame)?;
            if !V4::is_plain(head) {
                return None;
            }
            self.parse_one::<V4>(gate, frame)
        }));
    }

    /// Appends the keys of packets of both families, up to the first frame that is not for the fast tier.
    #[inline(never)]
    fn parse_mixed(&mut self, gate: &Gate, frames: &[Frame<'_>], batch: &mut FastBatch) {
        for frame in frames {
            let Some(head) = head_of(gate, frame) else { break };
            let taken = if V6::is_plain(head) {
                self.parse_one::<V6>(gate, frame).is_some_and(|key| batch.push(key))
            } else if V4::is_plain(head) {
                self.parse_one::<V4>(gate, frame).is_some_and(|key| batch.push(key))
            } else {
                false
            };
            if !taken {
                break;
            }
        }
    }

    #[inline(always)]
    fn parse_one<F: Wire>(&mut self, gate: &Gate, frame: &Frame<'_>) -> Option<FastKey<F>> {
        let Front { key, destination, ttl } = F::parse(frame.front()?, frame.len())?;
        let peers = F::peers(&mut self.next_hops);
        if peers.is_own::<F>(destination) {
            return Some(key);
        }
        if !peers.is_other::<F>(destination) {
            if !F::is_host(destination) {
                return None;
            }
            if peers.look_up::<F>(&self.host, destination) {
                return Some(key);
            }
        }
        // What a router must refuse is the slow tier's.
        (key.length() <= gate.least_mtu && ttl > 1).then(|| key.passing())
    }
}

/// The front of a frame that may be for the fast tier.
#[inline(always)]
fn head_of<'f>(gate: &Gate, frame: &'f Frame<'_>) -> Option<&'f [u8; SIGHT]> {
    let head: &[u8; SIGHT] = frame.front()?.first_chunk()?;
    // The destination, with what follows it shifted out.
    let (mac, _) = head.split_first_chunk::<{ size_of::<u64>() }>()?;
    (u64::from_le_bytes(*mac) << 16 == gate.mac
        && frame.port == gate.port
        && frame.offload.merged.is_none()
        && frame.mark == 0)
        .then_some(head)
}
