//! Fragments on their way to becoming a datagram, and datagrams that have become whole.

use lvs_core::{Director, Family, Path, Store, Tick};

use super::apply::prepare;
use super::task::Task;
use crate::forwarder::{Forwarder, Taken};
use crate::frame::{Frame, HEADROOM, Offload, PortId};
use crate::header::edit::decrement_ttl;
use crate::header::layout::Layout;
use crate::header::{icmp, protocol, tcp, udp};
use crate::icmp::error::IcmpError;
use crate::outcome::{Datagram, Outcome};
use crate::reason::DropReason;
use crate::reassembly::{FragmentFields, Fragments, Gathered, Key, Reassembled};

impl Forwarder {
    /// Gives a new forwarder room to put fragments together. Without it, fragments are dropped.
    #[must_use]
    pub fn with_fragments(mut self, fragments: Fragments) -> Self {
        self.fragments = fragments;
        self
    }

    /// Gives the forwarder room to put fragments together in place of what it had; what is unfinished there is lost.
    pub fn set_fragments(&mut self, fragments: Fragments) {
        self.fragments = fragments;
    }

    /// The forwarder's room to put fragments together.
    #[must_use]
    pub const fn fragments(&self) -> &Fragments {
        &self.fragments
    }

    /// Hands out a datagram that [`Outcome::Assembled`] speaks of, once: to be sent, as frames are, before the next
    /// call of anything else here. `None` when it has been taken already, or has waited too long.
    pub fn take(&mut self, datagram: Datagram) -> Option<Taken<'_>> {
        let (frame, outcome) = self.fragments.take(datagram)?;
        Some(Taken { frame, outcome, host: &self.host })
    }

    /// Takes a fragment in, and does what is to be done with its datagram when that becomes whole.
    #[inline(never)]
    pub(crate) fn fragment<S: Store>(
        &mut self,
        director: &mut Director<S>,
        now: Tick,
        frame: &mut Frame<'_>,
        layout: &Layout,
    ) -> Outcome {
        let place = match self.gather(now, frame, layout) {
            Ok(place) => place,
            Err(outcome) => return outcome,
        };
        self.counters.datagrams += 1;
        // What is done with the datagram does not touch the places of datagrams.
        let mut fragments = core::mem::replace(&mut self.fragments, Fragments::NONE);
        let reassembled = fragments.frame(place).map(|mut whole| {
            let outcome = self.process(director, now, &mut whole);
            let start = whole.headroom();
            Reassembled {
                start,
                end: start + whole.len(),
                port: whole.port,
                mark: whole.mark,
                offload: whole.offload,
                assembled: whole.assembly().is_some(),
                outcome,
            }
        });
        let outcome = match reassembled {
            None => self.drop(DropReason::Malformed),
            Some(reassembled) => match reassembled.outcome {
                Outcome::Send | Outcome::SendPieces(_) | Outcome::Pass(_) => {
                    match fragments.keep(now, place, reassembled) {
                        Some(datagram) => Outcome::Assembled(datagram),
                        None => self.drop(DropReason::FragmentsFull),
                    }
                }
                outcome @ (Outcome::Drop(_) | Outcome::Consumed | Outcome::Assembled(_)) => {
                    fragments.free(place);
                    outcome
                }
            },
        };
        self.fragments = fragments;
        outcome
    }

    /// Adds a fragment to its datagram. The place of the datagram if it is whole now, else what becomes of the frame.
    fn gather(&mut self, now: Tick, frame: &mut Frame<'_>, layout: &Layout) -> Result<usize, Outcome> {
        let found = FragmentFields::of(frame.bytes(), layout).zip(layout.addresses(frame.bytes()));
        let Some((fields, addresses)) = found else {
            return Err(self.drop(DropReason::Malformed));
        };
        if frame.offload != Offload::NONE {
            return Err(self.drop(DropReason::Offload));
        }
        if layout.family == Family::V6 && fields.is_first() && layout.transport_len() < least(layout) {
            // RFC 8200 §4.5: the first fragment has all headers.
            return Err(self.drop(DropReason::Malformed));
        }
        // Linux keeps apart what it delivers and what it forwards, so that neither can spoil the other.
        let local = self.path_of(frame, &addresses) != Path::Through;
        if !local
            && layout.family == Family::V4
            && let Some(error) = self.forwarding_error(frame, layout, &addresses)
        {
            return Err(self.send_forwarding_error(now, frame, layout, error));
        }
        if layout.family == Family::V6 && fields.is_uneven(layout) {
            // A gap remains before the next piece, so that the datagram can never become whole.
            self.fragments.discard(now, &Key::of(layout, &addresses, &fields, local));
            return Err(match prepare(frame, layout) {
                Ok((arrival, layout)) if local => {
                    let error = IcmpError::UnevenFragment;
                    self.send_icmp_error(now, frame, &layout, &arrival, error, DropReason::FragmentConflict)
                }
                Ok(_) => self.drop(DropReason::FragmentConflict),
                Err(reason) => self.drop(reason),
            });
        }
        let key = Key::of(layout, &addresses, &fields, local);
        let mut overrun = None;
        let gathered =
            self.fragments.gather(now, key, frame, layout, &fields, &mut |reason| overrun = Some(reason));
        // Counted here, because the memory is borrowed from this forwarder meanwhile.
        if let Some(reason) = overrun {
            self.counters.count_drop(reason);
        }
        match gathered {
            Gathered::Waits => {
                self.counters.fragments += 1;
                Err(Outcome::Consumed)
            }
            Gathered::Whole(place) => {
                self.counters.fragments += 1;
                Ok(place)
            }
            Gathered::Refused(reason) => Err(self.drop(reason)),
        }
    }

    /// Counts the datagrams whose time is up, up to the first whose source is to be told of it (RFC 792 p. 6, RFC 4443
    /// §3.3): writes the frame for it into `buffer` behind the headroom, and returns its length and port.
    pub(crate) fn report_expired(&mut self, now: Tick, buffer: &mut [u8]) -> Option<(usize, PortId)> {
        let mut fragments = core::mem::replace(&mut self.fragments, Fragments::NONE);
        let mut answered = None;
        while let Some((key, first)) = fragments.expired(now) {
            let reason = DropReason::FragmentTimeout;
            // Without its first fragment a datagram has no ports, so nobody could relate an error to it (RFC 792 p. 6).
            let Some(mut frame) = first else {
                self.counters.count_drop(reason);
                continue;
            };
            let Task::Fragment(layout) = self.classify(&frame, |_| ()) else {
                self.counters.count_drop(reason);
                continue;
            };
            let outcome = match prepare(&mut frame, &layout) {
                Ok((arrival, layout)) => {
                    if key.passes() {
                        // It had been taken for forwarding already.
                        let _ = decrement_ttl(&mut frame, &layout);
                    }
                    self.send_icmp_error(
                        now,
                        &mut frame,
                        &layout,
                        &arrival,
                        IcmpError::FragmentsMissing,
                        reason,
                    )
                }
                Err(_) => self.drop(reason),
            };
            if outcome == Outcome::Send
                && let Some(copy) = buffer.get_mut(HEADROOM..).and_then(|room| room.get_mut(..frame.len()))
            {
                copy.copy_from_slice(frame.bytes());
                answered = Some((frame.len(), frame.port));
                break;
            }
        }
        self.fragments = fragments;
        answered
    }
}

/// The least that a first fragment has of its transport.
const fn least(layout: &Layout) -> usize {
    match layout.protocol() {
        protocol::TCP => tcp::LEN,
        protocol::UDP => udp::LEN,
        protocol::ICMPV6 => icmp::LEN,
        _ => 1,
    }
}
