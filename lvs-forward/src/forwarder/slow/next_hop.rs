//! The way of a packet to its next hop.

use core::net::IpAddr;

use lvs_core::{Family, Tick};

use crate::forwarder::Forwarder;
use crate::frame::Frame;
use crate::header::address::is_link_local;
use crate::header::layout::Layout;
use crate::host::{Arrival, Departure, Hop, MacAddress, Resolution};
use crate::outcome::Outcome;
use crate::output::Cut;
use crate::reason::DropReason;

/// A next hop, and whether its link-layer address is known.
pub(super) type NextHop = (Hop, Resolution);

impl Forwarder {
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

    /// Addresses a finished packet to its next hop; `cut` is the MTU that it does not fit into. A packet that goes no
    /// further is a counted drop.
    #[inline]
    pub(super) fn depart(
        &mut self,
        frame: &mut Frame<'_>,
        family: Family,
        (hop, resolution): NextHop,
        cut: Option<u16>,
    ) -> Outcome {
        // What waits is sent as it is later, by code that cuts nothing; its sender will try again.
        if cut.is_some() && resolution == Resolution::Pending {
            return self.drop(DropReason::HopPending);
        }
        match self.host.depart(frame, family, &hop, resolution) {
            Departure::Ready => self.departs(cut),
            Departure::Waits => {
                self.counters.waited += 1;
                Outcome::Consumed
            }
            Departure::Drop(reason) => self.drop(reason),
        }
    }

    /// Sends a message of the host's own to where the frame came from whose bytes it took. It never waits, and nothing
    /// is counted here: what it is about has been.
    pub(super) fn answer_back(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        layout: &Layout,
        arrival: &Arrival,
        to: IpAddr,
    ) -> Result<Outcome, DropReason> {
        // What this machine's stack has sent is answered to it, whatever address that is from.
        let from_here = self.is_from_here(frame);
        let goes_back = match to {
            _ if from_here => true,
            // Such an address says nothing without the port that it came from.
            IpAddr::V6(address) if is_link_local(address) => true,
            // A host answers by its routes: who has none to the source says nothing to it.
            IpAddr::V4(_) | IpAddr::V6(_) => {
                self.host.route(to).ok_or(DropReason::NoRoute)?.port == frame.port
            }
        };
        let (departure, mtu) = match arrival.from {
            _ if from_here => (self.host.send_back(frame, layout.family, MacAddress::ZERO), u16::MAX),
            // The neighbour that spoke for the source is a way back to it, whatever source it was: so no stranger makes
            // the host look for a neighbour, or remember one, by messages that want an answer.
            Some(from) if goes_back => {
                let mtu = self.host.port(frame.port).ok_or(DropReason::NoPort)?.mtu();
                (self.host.send_back(frame, layout.family, from), mtu)
            }
            Some(_) | None => {
                let (hop, resolution) = self.next_hop(now, to)?;
                if resolution == Resolution::Pending {
                    return Err(DropReason::HopPending);
                }
                (self.host.depart(frame, layout.family, &hop, resolution), hop.mtu)
            }
        };
        match departure {
            Departure::Ready => Ok(self.departs((layout.packet_len() > usize::from(mtu)).then_some(mtu))),
            Departure::Waits => Err(DropReason::HopPending),
            Departure::Drop(reason) => Err(reason),
        }
    }

    #[inline]
    fn departs(&mut self, cut: Option<u16>) -> Outcome {
        match cut {
            None => Outcome::Send,
            Some(mtu) => Outcome::SendPieces(Cut { mtu, identification: self.next_identification() }),
        }
    }
}
