//! Carrying verdicts out.
//!
//! The order of steps decides which packet an ICMP error quotes, and is IPVS's: a request loses one of its TTL before
//! its size is tested, a reply (which Linux's forwarding handles before IPVS sees it) after; both before any rewriting.

use lvs_core::{Content, Direction, Packet, Path, Tick, Verdict};

use super::task::{Subject, Task};
use crate::forwarder::Forwarder;
use crate::frame::Frame;
use crate::header::edit::decrement_ttl;
use crate::header::layout::Layout;
use crate::host::{Arrival, Handled};
use crate::icmp::error::IcmpError;
use crate::offload::normalise;
use crate::outcome::Outcome;
use crate::parse::Embedded;
use crate::reason::{DropReason, PassReason};

impl Forwarder {
    /// Does what a task demands; one that the director decided about comes with its packet and verdict.
    #[inline]
    pub(crate) fn carry_out(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        task: &Task,
        decided: Option<(&Packet, &Verdict)>,
    ) -> Outcome {
        match (task, decided) {
            (Task::Flow(layout), Some((packet, verdict))) => {
                self.carry_verdict(now, frame, layout, None, packet, verdict)
            }
            (Task::Error(layout, embedded), Some((packet, verdict))) => {
                self.carry_verdict(now, frame, layout, Some(embedded), packet, verdict)
            }
            #[cfg(feature = "tunnel")]
            (Task::Tunnel(layout, embedded), Some((_, verdict))) => {
                self.tunnel_error(now, frame, layout, embedded, verdict)
            }
            (Task::Arp(at), _) => {
                let handled = self.host.arp(now, frame, *at);
                self.handled(handled)
            }
            (Task::Discovery(layout), _) => {
                let handled = self.host.neighbour_discovery(now, frame, layout);
                self.handled(handled)
            }
            (Task::Echo(layout), _) => self.echo(now, frame, *layout),
            (Task::Drop(reason), _) => self.drop(*reason),
            (Task::Pass(reason), _) => self.pass(*reason),
            (Task::CannotForward(layout, error), _) => self.send_forwarding_error(now, frame, layout, *error),
            (Task::Unknown(layout), _) => self.unknown(now, frame, layout),
            (Task::Through(layout), _) => self.route_through(now, frame, layout, PassReason::NotOurs),
            // Those come with a verdict.
            (Task::Flow(_) | Task::Error(..), None) => self.drop(DropReason::Malformed),
            #[cfg(feature = "tunnel")]
            (Task::Tunnel(..), None) => self.drop(DropReason::Malformed),
            // What is put together from fragments is no fragment.
            (Task::Fragment(_), _) => self.drop(DropReason::Malformed),
        }
    }

    fn handled(&mut self, handled: Handled) -> Outcome {
        match handled {
            Handled::Answered => {
                self.counters.answers += 1;
                Outcome::Send
            }
            Handled::Consumed => Outcome::Consumed,
            Handled::Malformed => self.drop(DropReason::Malformed),
            Handled::NotOurs => self.pass(PassReason::NotOurs),
        }
    }

    #[inline]
    fn carry_verdict(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        layout: &Layout,
        embedded: Option<&Embedded>,
        packet: &Packet,
        verdict: &Verdict,
    ) -> Outcome {
        let subject = Subject { layout: *layout, embedded, packet: Some(packet) };
        match verdict {
            Verdict::Forward(forward) => match forward.direction {
                Direction::Request => self.request(now, frame, subject, forward),
                Direction::Reply => self.reply(now, frame, subject, forward),
            },
            Verdict::Drop(reason) => self.drop(DropReason::Director(*reason)),
            Verdict::Inspect => self.drop(DropReason::Malformed),
            Verdict::Pass(reason) => match packet.path {
                Path::Local if self.refuses_at(frame.port, packet.flow.destination().ip()) => {
                    match prepare(frame, layout) {
                        Ok((arrival, layout)) => self.reject(now, frame, &layout, &arrival, packet),
                        Err(reason) => self.drop(reason),
                    }
                }
                Path::Local => self.pass(PassReason::Director(*reason)),
                Path::Captured | Path::Through => {
                    self.route_through(now, frame, layout, PassReason::Director(*reason))
                }
            },
            // A client would take it for a reset.
            Verdict::Reject(_) if now < self.resets_from && matches!(packet.content, Content::Tcp(_)) => {
                self.drop(DropReason::ResetHeld)
            }
            Verdict::Reject(reason) => match prepare(frame, layout) {
                Ok((arrival, layout)) => {
                    if packet.path == Path::Through {
                        // It had been taken for forwarding already.
                        let _ = decrement_ttl(frame, &layout);
                    }
                    let reason = DropReason::Director(*reason);
                    self.send_icmp_error(now, frame, &layout, &arrival, IcmpError::PortUnreachable, reason)
                }
                Err(reason) => self.drop(reason),
            },
        }
    }
}

/// Takes the link header and padding off, and brings the offload into one of the forms that transforms handle.
#[inline]
pub(crate) fn prepare(frame: &mut Frame<'_>, layout: &Layout) -> Result<(Arrival, Layout), DropReason> {
    let front = layout.network();
    let arrival = Arrival::of(frame, front);
    frame.set_len(layout.end()).ok_or(DropReason::Malformed)?;
    frame.shrink_front(front).ok_or(DropReason::Offload)?;
    let layout = layout.without_front(front).ok_or(DropReason::Malformed)?;
    normalise(frame, &layout)?;
    Ok((arrival, layout))
}
