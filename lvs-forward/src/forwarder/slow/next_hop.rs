//! The way of a packet to its next hop.

use core::net::IpAddr;

use lvs_core::{Family, Tick};

use crate::forwarder::Forwarder;
use crate::frame::Frame;
use crate::host::{Arrival, Departure, Hop, Resolution};
use crate::outcome::Outcome;
use crate::output::Cut;
use crate::reason::DropReason;

/// A next hop, and whether its link-layer address is known.
pub(super) type NextHop = (Hop, Resolution);

impl<const A: usize, const N: usize> Forwarder<A, N> {
    /// The next hop towards an address; the neighbour may still be unknown, but not silent.
    #[inline]
    pub(super) fn next_hop(&mut self, now: Tick, destination: IpAddr) -> Result<NextHop, DropReason> {
        let hop = self.host.route(destination).ok_or(DropReason::NoRoute)?;
        match self.host.resolve(now, &hop) {
            Resolution::Failed => Err(DropReason::HopFailed),
            resolution @ (Resolution::Known(_) | Resolution::Pending | Resolution::Full) => {
                Ok((hop, resolution))
            }
        }
    }

    /// Addresses a finished packet to its next hop; `cut` is the MTU that it does not fit into.
    #[inline]
    pub(super) fn depart(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        family: Family,
        arrival: &Arrival,
        (hop, resolution): NextHop,
        cut: Option<u16>,
    ) -> Outcome {
        // What waits is sent as it is later, by code that cuts nothing; its sender will try again.
        if cut.is_some() && resolution == Resolution::Pending {
            return self.drop(DropReason::HopPending);
        }
        match self.host.depart(now, frame, family, arrival.tags, &hop, resolution) {
            Departure::Ready => match cut {
                None => Outcome::Send,
                Some(mtu) => Outcome::SendPieces(Cut { mtu, identification: self.next_identification() }),
            },
            Departure::Waits => {
                self.counters.waited += 1;
                Outcome::Consumed
            }
            Departure::Drop(reason) => self.drop(reason),
        }
    }
}
