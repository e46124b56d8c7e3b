//! Verdicts that ask for a look into the packet.

use lvs_core::conn::Helper;
use lvs_core::{Director, Inspected, Packet, Store, Tick, Verdict};

use super::task::Task;
#[cfg(feature = "ftp")]
use crate::alg::ftp;
#[cfg(feature = "sip")]
use crate::alg::sip::call_id;
use crate::forwarder::Forwarder;
use crate::frame::Frame;
use crate::header::layout::Layout;
use crate::offload::merged_payload;
use crate::outcome::Outcome;

#[cfg(feature = "ftp")]
impl Forwarder {
    /// Gives a new forwarder room for FTP control connections. Without it, passive FTP does not work under NAT.
    #[must_use]
    pub fn with_ftp(mut self, controls: ftp::Controls) -> Self {
        self.ftp = controls;
        self
    }

    /// Gives the forwarder room for FTP control connections in place of what it had; passive ones that are open fail.
    pub fn set_ftp(&mut self, controls: ftp::Controls) {
        self.ftp = controls;
    }

    /// The forwarder's room for FTP control connections.
    #[must_use]
    pub const fn ftp(&self) -> &ftp::Controls {
        &self.ftp
    }
}

impl Forwarder {
    /// Finds what the director asks for, tells it, and carries out what it says then.
    #[cold]
    #[inline(never)]
    pub(crate) fn run_helper<S: Store>(
        &mut self,
        director: &mut Director<S>,
        now: Tick,
        frame: &mut Frame<'_>,
        task: &Task,
        packet: &Packet,
        verdict: &Verdict,
    ) -> Outcome {
        match verdict {
            Verdict::Inspect => {
                let verdict = director.decide(now, packet, Inspected::CallId(call_of(frame, task)));
                self.carry_out(now, frame, task, Some((packet, &verdict)))
            }
            #[cfg(feature = "ftp")]
            Verdict::Forward(forward) if forward.helper == Some(Helper::Ftp) => {
                // An ICMP error of a control connection has no commands in it.
                let Task::Flow(layout) = task else {
                    return self.carry_out(now, frame, task, Some((packet, verdict)));
                };
                let mut helper =
                    ftp::Helper { controls: &mut self.ftp, counters: &mut self.counters, key: self.key };
                let before = layout.packet_len();
                match helper.help(director, now, frame, layout, packet, forward) {
                    // The director counted the length that came in, and its counters speak of what leaves.
                    Ok(layout) if layout.packet_len() != before => {
                        // No packet is longer than 64 KiB.
                        director.resized(forward.connection, layout.packet_len() as i32 - before as i32);
                        self.carry_out(now, frame, &Task::Flow(layout), Some((packet, verdict)))
                    }
                    Ok(layout) => self.carry_out(now, frame, &Task::Flow(layout), Some((packet, verdict))),
                    Err(reason) => self.drop(reason),
                }
            }
            Verdict::Forward(_) | Verdict::Drop(_) | Verdict::Pass(_) | Verdict::Reject(_) => {
                self.carry_out(now, frame, task, Some((packet, verdict)))
            }
        }
    }
}

/// The call that a packet is of.
#[cfg(feature = "sip")]
pub(in crate::forwarder) fn call_of<'f>(frame: &'f Frame<'_>, task: &Task) -> Option<&'f [u8]> {
    let layout = if let Task::Flow(layout) = task { Some(layout) } else { None };
    layout.and_then(|layout| payload(frame, layout)).and_then(call_id)
}

/// Without the code that reads it, a packet is as one that has none.
#[cfg(not(feature = "sip"))]
pub(in crate::forwarder) const fn call_of<'f>(_: &'f Frame<'_>, _: &Task) -> Option<&'f [u8]> {
    None
}

/// What a packet carries for the application.
#[cfg(feature = "sip")]
fn payload<'f>(frame: &'f Frame<'_>, layout: &Layout) -> Option<&'f [u8]> {
    let (start, len) = merged_payload(frame.bytes(), layout)?;
    frame.bytes().get(start..)?.get(..len)
}
