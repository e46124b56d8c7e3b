//! The sending halves of a worker's devices, as the engine needs them.

use lvs_forward::engine::{NoPort, PortForm, Ports};
use lvs_forward::parse::Link;
use lvs_forward::{Frame, PortId};

use crate::device::{Transmit, TransmitCounters};

/// The sending halves of all ports.
pub(crate) struct Output {
    pub(crate) ports: Vec<Out>,
}

/// One port's sending half.
pub(crate) struct Out {
    pub(crate) transmit: Box<dyn Transmit>,
    link: Link,
    /// The device is gone.
    pub(crate) failed: bool,
    /// What the devices counted that had this place before.
    pub(crate) before: TransmitCounters,
}

impl Output {
    pub(crate) fn new(ports: Vec<Out>) -> Self {
        Self { ports }
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

    fn port(&mut self, frame: &Frame<'_>) -> Result<&mut Out, NoPort> {
        self.ports.get_mut(usize::from(frame.port.0)).ok_or(NoPort)
    }
}

impl Ports for Output {
    fn form(&self, port: PortId) -> Option<PortForm> {
        let out = self.ports.get(usize::from(port.0))?;
        Some(PortForm { link: out.link, offloads: out.transmit.offloads() })
    }

    fn transmit(&mut self, frame: &Frame<'_>) -> Result<(), NoPort> {
        // What the device does not take, it counts: nobody here could do anything about it.
        let _ = self.port(frame)?.transmit.transmit(frame);
        Ok(())
    }

    fn hand_over(&mut self, frame: &Frame<'_>) -> Result<(), NoPort> {
        let _ = self.port(frame)?.transmit.hand_over(frame);
        Ok(())
    }
}

impl Out {
    pub(crate) fn new(transmit: Box<dyn Transmit>, link: Link) -> Self {
        Self { transmit, link, failed: false, before: TransmitCounters::default() }
    }

    /// What all devices counted that have had this place.
    pub(crate) fn counters(&mut self) -> TransmitCounters {
        let mut counters = self.before;
        counters += &self.transmit.counters();
        counters
    }
}
