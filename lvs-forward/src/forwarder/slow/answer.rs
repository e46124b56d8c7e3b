//! Answers of the host's own: ICMP errors and pings.

use lvs_core::packet::Addresses;
use lvs_core::{Direction, Tick, Verdict};

use crate::forwarder::Forwarder;
use crate::frame::Frame;
use crate::header::layout::{Fragment, Layout};
use crate::host::Arrival;
use crate::icmp::answer::echo;
use crate::icmp::error::{IcmpError, answer, may_answer};
use crate::icmp::tunnel::TunnelError;
use crate::offload::icmp_is_intact;
use crate::outcome::Outcome;
use crate::parse::Embedded;
use crate::reason::{DropReason, PassReason};

impl Forwarder {
    /// Drops a packet and tells its source. The frame begins with its IP header, and becomes the answer.
    #[cold]
    pub(crate) fn send_icmp_error(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        layout: &Layout,
        arrival: &Arrival,
        error: IcmpError,
        reason: DropReason,
    ) -> Outcome {
        self.counters.count_drop(reason);
        let sent = self.try_icmp_error(now, frame, layout, arrival, error);
        match sent {
            Some(outcome) => {
                self.counters.icmp_errors += 1;
                outcome
            }
            None => {
                self.counters.icmp_suppressed += 1;
                Outcome::Drop(reason)
            }
        }
    }

    fn try_icmp_error(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        layout: &Layout,
        arrival: &Arrival,
        error: IcmpError,
    ) -> Option<Outcome> {
        let answerable = error == IcmpError::UnevenFragment || layout.fragment() != Fragment::Later;
        // The limiter comes last: a packet that must not be answered shall not use up what others may need.
        if !answerable
            || !may_answer(frame.bytes(), layout)
            || !self.limiter.allows(now, self.options.icmp_rate)
        {
            return None;
        }
        let addresses = layout.addresses(frame.bytes())?;
        let (client, destination) = (addresses.source(), addresses.destination());
        let leaves_by = self.host.route(client).map_or(frame.port, |hop| hop.port);
        // The client spoke to that address, and a firewall before it may let nothing else through.
        let source = if self.host.owns(destination) {
            destination
        } else {
            self.host.source(leaves_by, layout.family)?
        };
        let identification = self.next_identification() as u16;
        let answered = answer(frame, layout, error, source, identification).ok()?;
        self.answer_back(now, frame, &answered, arrival, client).ok()
    }

    /// A ping for an own address, or a question for the time.
    pub(crate) fn echo(&mut self, now: Tick, frame: &mut Frame<'_>, layout: Layout) -> Outcome {
        let front = layout.network();
        let arrival = Arrival::of(frame, front);
        let identification = self.next_identification() as u16;
        let prepared = frame
            .set_len(layout.end())
            .and_then(|()| frame.shrink_front(front))
            .and_then(|()| layout.without_front(front));
        let Some(layout) = prepared else {
            return self.drop(DropReason::Offload);
        };
        let Some(client) = layout.addresses(frame.bytes()).map(Addresses::source) else {
            return self.drop(DropReason::Malformed);
        };
        let answered = echo(frame, &layout, identification, now)
            .and_then(|answer| self.answer_back(now, frame, &answer, &arrival, client));
        match answered {
            Ok(outcome) => {
                self.counters.answers += 1;
                outcome
            }
            Err(reason) => self.drop(reason),
        }
    }

    /// An ICMP error about a packet that a tunnel of ours wrapped: the client hears of its own packet instead, and the
    /// path's MTU is remembered. IPVS calls this the ICMP error of the tunnel.
    pub(crate) fn tunnel_error(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        layout: &Layout,
        outer: &Embedded,
        verdict: &Verdict,
    ) -> Outcome {
        // Found a second time: a task keeps offsets only, so that the common ones stay small.
        let Some((_, quoted)) = TunnelError::find(frame.bytes(), layout, outer) else {
            return self.drop(DropReason::Malformed);
        };
        match *verdict {
            Verdict::Forward(forward)
                if forward.direction == Direction::Request
                    && quoted.is_about(forward.method, forward.address()) => {}
            Verdict::Forward(_) => return self.pass(PassReason::Protocol),
            Verdict::Drop(reason) => return self.drop(DropReason::Director(reason)),
            Verdict::Inspect => return self.pass(PassReason::Protocol),
            Verdict::Pass(reason) | Verdict::Reject(reason) => {
                return self.pass(PassReason::Director(reason));
            }
        }
        // What changes a path's MTU for ten minutes is worth a sum.
        if !icmp_is_intact(frame.bytes(), layout) {
            return self.drop(DropReason::BadIcmpChecksum);
        }
        let error = match quoted.stated_mtu() {
            None => IcmpError::Relayed { kind: quoted.kind, code: quoted.code, info: quoted.info },
            Some(stated) => {
                self.path_mtus.learn(now, quoted.server, stated);
                if !quoted.inner_forbids_fragments(frame.bytes()) {
                    return self.drop(DropReason::TunnelQuiet);
                }
                let link = self.host.route(quoted.server).map_or(u16::MAX, |hop| hop.mtu);
                let mtu = usize::from(self.path_mtus.limit(now, quoted.server, link));
                // A client that is told of less than every link carries would ignore it, or starve.
                let room = if mtu > LEAST_MTU + quoted.overhead { mtu - quoted.overhead } else { mtu };
                IcmpError::TooBig(room as u32)
            }
        };
        // The client is not who sent this.
        let arrival = Arrival::of(frame, layout.network()).to_another();
        let inner = frame.set_len(layout.end()).and_then(|()| quoted.strip(frame, layout));
        match inner {
            Some(inner) => {
                self.send_icmp_error(now, frame, &inner, &arrival, error, DropReason::TunnelRelayed)
            }
            None => self.drop(DropReason::Malformed),
        }
    }
}

/// The least MTU of an IPv4 link.
const LEAST_MTU: usize = 68;
