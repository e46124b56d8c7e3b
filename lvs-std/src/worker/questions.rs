//! One question for a neighbour serves all workers of a director.
//!
//! Each worker knows its own neighbours, and the answers go to all of them. So a question that another worker has just
//! asked need not be asked again: the worker waits for the answer to that one, and asks itself when none has come
//! until its own next try.

use core::fmt;
use core::hash::BuildHasher;
use core::net::IpAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use std::hash::RandomState;
use std::time::Instant;

use lvs_forward::engine::{NoPort, PortForm, Ports};
use lvs_forward::parse::Link;
use lvs_forward::{Frame, PortId};

/// What was asked lately, of all workers of a director.
pub(super) struct Questions {
    /// When a question was asked, in the lower half in milliseconds, and which one, in the upper half. Those of one
    /// cell displace each other: one that is forgotten is asked twice.
    cells: Box<[AtomicU64]>,
    hash: RandomState,
    began: Instant,
}

impl Questions {
    pub(super) fn new() -> Self {
        let cells = (0..CELLS).map(|_| AtomicU64::new(NEVER)).collect();
        Self { cells, hash: RandomState::new(), began: Instant::now() }
    }

    /// Whether nobody has asked for this neighbour just now. It counts as asked afterwards.
    fn is_new(&self, port: PortId, target: IpAddr) -> bool {
        // A millisecond is short enough, and the time may begin anew after 49 days.
        self.is_new_at(self.began.elapsed().as_millis() as u32, port, target)
    }

    fn is_new_at(&self, now: u32, port: PortId, target: IpAddr) -> bool {
        let hash = self.hash.hash_one((port.0, target));
        let Some(cell) = self.cells.get(hash as usize % CELLS) else { return true };
        // Two workers that look at the same moment may both ask, which does no harm.
        let last = cell.load(Ordering::Relaxed);
        if last != NEVER && last >> 32 == hash >> 32 && now.wrapping_sub(last as u32) < SERVES_MS {
            return false;
        }
        cell.store(hash >> 32 << 32 | u64::from(now), Ordering::Relaxed);
        true
    }
}

impl fmt::Debug for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Questions").finish_non_exhaustive()
    }
}

/// Ports that do not send what another worker has just asked.
pub(super) struct Asking<'a, P> {
    pub(super) ports: &'a mut P,
    pub(super) questions: &'a Questions,
    /// Questions that were not sent.
    pub(super) shared: u64,
}

impl<P: Ports> Asking<'_, P> {
    fn is_asked_already(&mut self, frame: &Frame<'_>) -> bool {
        let on_ethernet = self.ports.form(frame.port).is_some_and(|form| form.link == Link::Ethernet);
        let asked = on_ethernet
            && target(frame.bytes()).is_some_and(|target| !self.questions.is_new(frame.port, target));
        self.shared += u64::from(asked);
        asked
    }
}

impl<P: Ports> Ports for Asking<'_, P> {
    fn form(&self, port: PortId) -> Option<PortForm> {
        self.ports.form(port)
    }

    fn transmit(&mut self, frame: &Frame<'_>) -> Result<(), NoPort> {
        if self.is_asked_already(frame) { Ok(()) } else { self.ports.transmit(frame) }
    }

    fn hand_over(&mut self, frame: &Frame<'_>) -> Result<(), NoPort> {
        if self.is_asked_already(frame) { Ok(()) } else { self.ports.hand_over(frame) }
    }
}

/// Whose address a frame asks for, if it is a question for a neighbour (RFC 826, RFC 4861 §4.3). Announcements, and
/// what asks whether an address is in use already, are none: they are from nobody, or for the sender itself.
fn target(frame: &[u8]) -> Option<IpAddr> {
    let (mut ether_type, mut packet) = (*frame.get(12..)?.first_chunk::<2>()?, frame.get(14..)?);
    if ether_type == VLAN {
        (ether_type, packet) = (*packet.get(2..)?.first_chunk()?, packet.get(4..)?);
    }
    match ether_type {
        ARP => {
            let [sender, target] = [14, 24].map(|at| packet.get(at..)?.first_chunk::<4>().copied());
            let (sender, target) = (sender?, target?);
            let asks = packet.get(6..8)? == [0, 1] && sender != [0; 4] && sender != target;
            asks.then(|| target.into())
        }
        IPV6 => {
            let source = packet.get(8..24)?;
            // Next header ICMPv6 and type neighbour solicitation: the host's own have no extension headers.
            let asks = packet.get(6)? == &58 && packet.get(40)? == &135 && source != [0; 16];
            let target: [u8; 16] = *packet.get(48..)?.first_chunk()?;
            asks.then(|| target.into())
        }
        _ => None,
    }
}

/// How long a question serves others, in milliseconds: a little less than a worker waits for an answer before it asks
/// again (RFC 4861 §10, `RETRANS_TIMER`).
const SERVES_MS: u32 = 900;
/// 32 KB.
const CELLS: usize = 4_096;
const NEVER: u64 = u64::MAX;
const VLAN: [u8; 2] = [0x81, 0];
const ARP: [u8; 2] = [8, 6];
const IPV6: [u8; 2] = [0x86, 0xdd];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_serves_all_until_the_next_try_is_due() {
        let questions = Questions::new();
        let (port, neighbour) = (PortId(0), IpAddr::from([10, 0, 0, 7]));
        let asks = |now, port, neighbour| questions.is_new_at(now, port, neighbour);
        assert!(asks(5, port, neighbour));
        assert!(!asks(5, port, neighbour));
        assert!(!asks(904, port, neighbour));
        assert!(asks(905, port, neighbour));
        assert!(asks(906, PortId(1), neighbour), "another link has other neighbours");
        // The clock begins anew.
        let other = IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 7]);
        assert!(asks(u32::MAX - 100, port, other));
        assert!(!asks(100, port, other));
        assert!(asks(900, port, other));
    }

    #[test]
    fn only_questions_for_others_count() {
        let arp = |operation: u8, sender: [u8; 4], target: [u8; 4]| {
            let mut frame = vec![0; 42];
            frame[12..14].copy_from_slice(&ARP);
            frame[21] = operation;
            frame[28..32].copy_from_slice(&sender);
            frame[38..].copy_from_slice(&target);
            frame
        };
        let (own, other) = ([10, 0, 0, 1], [10, 0, 0, 7]);
        assert_eq!(target(&arp(1, own, other)), Some(other.into()));
        assert_eq!(target(&arp(2, own, other)), None, "an answer");
        assert_eq!(target(&arp(1, own, own)), None, "an announcement");
        assert_eq!(target(&arp(1, [0; 4], other)), None, "a probe");
        let mut tagged = arp(1, own, other);
        tagged.splice(12..12, [0x81, 0, 0, 100]);
        assert_eq!(target(&tagged), Some(other.into()));
        let mut solicitation = vec![0; 14 + 64];
        solicitation[12..14].copy_from_slice(&IPV6);
        (solicitation[20], solicitation[54], solicitation[77]) = (58, 135, 7);
        assert_eq!(target(&solicitation), None, "a probe");
        solicitation[37] = 1;
        assert_eq!(target(&solicitation), Some(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 7])));
        for length in 0..solicitation.len() {
            assert_eq!(target(&solicitation[..length]), None);
        }
    }
}
