//! Resets that clients are owed: their connections are not known any more, and only their servers have spoken.

use core::net::SocketAddr;

use lvs_core::{Flow, Protocol, TcpFlags, Tick};

use super::reset::{Reset, write_reset};
use crate::forwarder::Forwarder;
use crate::frame::{Frame, HEADROOM, Offload, PortId};
use crate::header::{ipv6, tcp};
use crate::host::{Departure, Resolution};
use crate::memory::{Empty, Memory};

/// A reset from a virtual address to a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwedReset {
    pub(super) virt: SocketAddr,
    pub(super) client: SocketAddr,
    /// The server's sequence number, which the client waits for next, or has passed.
    pub(super) sequence: u32,
    /// When to try next, and when to give up because no neighbour answers.
    pub(super) at: Tick,
    pub(super) until: Tick,
}

/// Resets that are owed. What finds no room is not sent: the server speaks again, or the client does.
#[cfg_attr(feature = "alloc", derive(Clone))]
pub(crate) struct OwedResets(Memory<Option<OwedReset>>);

impl Empty for Option<OwedReset> {
    const EMPTY: Self = None;
}

impl OwedResets {
    pub(crate) const fn new(places: Memory<Option<OwedReset>>) -> Self {
        Self(places)
    }

    pub(super) fn push(&mut self, reset: OwedReset) {
        let same = |of: &OwedReset| (of.virt, of.client) == (reset.virt, reset.client);
        if self.0.get().iter().flatten().any(same) {
            return;
        }
        if let Some(place) = self.0.get_mut().iter_mut().find(|place| place.is_none()) {
            *place = Some(reset);
        }
    }

    /// When the next is due.
    pub(crate) fn due_at(&self) -> Option<Tick> {
        self.0.get().iter().flatten().map(|owed| owed.at).min()
    }

    fn take_due(&mut self, now: Tick) -> Option<OwedReset> {
        self.0.get_mut().iter_mut().find(|place| place.is_some_and(|owed| owed.at <= now))?.take()
    }
}

/// How long a client's neighbour is waited for, and how often it is looked for meanwhile.
pub(super) const PATIENCE_MILLIS: u64 = 1_000;
const RETRY_MILLIS: u64 = 50;

impl Forwarder {
    /// Writes the next reset that a client is owed into `buffer`: from where to where in it, and its port.
    pub(crate) fn send_owed(&mut self, now: Tick, buffer: &mut [u8]) -> Option<(usize, usize, PortId)> {
        while let Some(owed) = self.owed.take_due(now) {
            let end = HEADROOM + ipv6::LEN + tcp::LEN;
            let mut frame = Frame::new(buffer, HEADROOM, end, PortId::default())?.with_offload(Offload::NONE);
            let Some(flow) = Flow::new(Protocol::Tcp, owed.virt, owed.client) else { continue };
            let reset = Reset {
                addresses: flow.addresses,
                ports: u32::from(flow.source_port) << 16 | u32::from(flow.destination_port),
                sequence: owed.sequence,
                acknowledged: 0,
                flags: TcpFlags::RST,
            };
            let Ok((hop, resolution)) = self.next_hop(now, owed.client.ip()) else { continue };
            if resolution == Resolution::Pending {
                // It does not wait among the packets of others: nobody counts it when it is lost.
                let again = OwedReset { at: now.plus_millis(RETRY_MILLIS), ..owed };
                if again.at <= owed.until {
                    self.owed.push(again);
                }
                continue;
            }
            let Some(layout) = write_reset(&mut frame, &reset) else { continue };
            let departure = self.host.depart(&mut frame, layout.family, &hop, resolution);
            if departure == Departure::Ready {
                self.counters.answers += 1;
                return Some((frame.headroom(), frame.headroom() + frame.len(), frame.port));
            }
        }
        None
    }
}
