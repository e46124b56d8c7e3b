//! The way out of a worker: frames to the ports that they leave by.

use lvs_forward::host::Host;
use lvs_forward::output::{Cut, is_wrapped, pieces};
use lvs_forward::parse::{Link, Parsed, parse};
use lvs_forward::{Frame, Outcome, PortId, Taken, complete_checksum};

use crate::device::Transmit;
use crate::worker::WorkerCounters;

/// The sending halves of all ports.
pub(crate) struct Output {
    pub(crate) ports: Vec<Out>,
    /// The port that gets what is passed to this host.
    local: Option<PortId>,
    pub(crate) counters: WorkerCounters,
}

/// One port's sending half.
pub(crate) struct Out {
    pub(crate) transmit: Box<dyn Transmit>,
    link: Link,
    /// The device is gone.
    pub(crate) failed: bool,
}

impl Output {
    pub(crate) fn new(ports: Vec<Out>, local: Option<PortId>) -> Self {
        Self { ports, local, counters: WorkerCounters::default() }
    }

    /// Sends a frame by the port that it names; it must not be touched any more. What a device does not take, it counts.
    pub(crate) fn send(&mut self, frame: &mut Frame<'_>) {
        match self.ports.get_mut(usize::from(frame.port.0)) {
            Some(out) if out.takes(frame) => {
                let _ = out.transmit.hand_over(frame);
            }
            Some(_) => self.send_pieces(frame, Cut::SEGMENTS),
            None => self.counters.unsendable += 1,
        }
    }

    /// Sends a frame in pieces that the port's device and the way take.
    pub(crate) fn send_pieces(&mut self, frame: &mut Frame<'_>, cut: Cut) {
        let out = self.ports.get_mut(usize::from(frame.port.0));
        match out.and_then(|out| out.send_pieces(frame, cut)) {
            Some(count) if count > 1 => {
                self.counters.cut += 1;
                self.counters.pieces += count as u64;
            }
            Some(_) => {}
            None => self.counters.unsendable += 1,
        }
    }

    /// Sends or passes a datagram that came in fragments.
    pub(crate) fn take<const A: usize, const N: usize>(&mut self, mut taken: Taken<'_, A, N>) {
        match taken.outcome {
            Outcome::Send => self.send(&mut taken.frame),
            Outcome::SendPieces(cut) => self.send_pieces(&mut taken.frame, cut),
            Outcome::Pass(_) => self.pass(&mut taken.frame, taken.host),
            Outcome::Assembled(_) | Outcome::Consumed | Outcome::Drop(_) => {}
        }
    }

    /// Hands a packet to one of the host's own addresses to the local port, without its link header.
    pub(crate) fn pass<const A: usize, const N: usize>(&mut self, frame: &mut Frame<'_>, host: &Host<A, N>) {
        if self.unwrap_link(frame, host).is_some() {
            self.counters.passed += 1;
            self.send(frame);
        } else {
            self.counters.not_passed += 1;
        }
    }

    /// Starts what was sent. Says how many frames still wait for room.
    pub(crate) fn flush(&mut self) -> usize {
        let mut waiting = 0;
        for out in self.ports.iter_mut().filter(|out| !out.failed) {
            match out.transmit.flush() {
                Ok(count) => waiting += count,
                Err(_) => out.failed = true,
            }
        }
        waiting
    }

    /// Makes a frame one of the local port, if there is one that it did not come from.
    fn unwrap_link<const A: usize, const N: usize>(
        &self,
        frame: &mut Frame<'_>,
        host: &Host<A, N>,
    ) -> Option<()> {
        let local = self.local.filter(|local| *local != frame.port)?;
        let link = self.ports.get(usize::from(frame.port.0))?.link;
        match parse(frame, link) {
            Ok(Parsed::Ip(layout, _)) => {
                let destination = layout.addresses(frame.bytes())?.destination();
                if !host.owns(destination) {
                    return None;
                }
                frame.set_len(layout.end())?;
                frame.shrink_front(layout.network())?;
                frame.port = local;
                Some(())
            }
            Ok(Parsed::Arp(_) | Parsed::Foreign) | Err(_) => None,
        }
    }
}

impl Out {
    pub(crate) fn new(transmit: Box<dyn Transmit>, link: Link) -> Self {
        Self { transmit, link, failed: false }
    }

    /// Whether the device can send the frame as it is.
    fn takes(&self, frame: &Frame<'_>) -> bool {
        self.transmit.offloads().carry(&frame.offload) && !is_wrapped(frame, self.link)
    }

    /// Sends a frame in pieces, finished if need be; says how many there were.
    fn send_pieces(&mut self, frame: &mut Frame<'_>, cut: Cut) -> Option<usize> {
        let Self { transmit, link, .. } = self;
        if frame.offload.merged.is_none() && !transmit.offloads().checksum {
            match parse(frame, *link).ok()? {
                Parsed::Ip(layout, _) => complete_checksum(frame, &layout).ok()?,
                Parsed::Arp(_) | Parsed::Foreign => {}
            }
        }
        let count = pieces(frame, *link, cut, &mut |piece| {
            // What the device does not take, it counts.
            let _ = transmit.transmit(&piece);
        });
        count.ok()
    }
}
