//! A port without a device: what a worker has in the place of an interface that is not there.

use std::io;

use lvs_forward::{Frame, PortId};

use crate::device::{Device, Offloads, Receive, ReceiveCounters, Transmit, TransmitCounters, TransmitError};

impl Device {
    /// A device that lends nothing and takes nothing. What it is sent is lost and counted as
    /// [`Down`](TransmitError::Down). It holds the place of a port until its interface is there, see
    /// [`WorkerGroup::give_devices`](crate::worker::WorkerGroup::give_devices).
    #[must_use]
    pub fn absent() -> Self {
        Self::new(NoReceiver, NoTransmitter(TransmitCounters::default()))
    }
}

struct NoReceiver;

impl Receive for NoReceiver {
    fn receive(&mut self, _: PortId, _: &mut dyn FnMut(&mut [Frame<'_>])) -> io::Result<usize> {
        Err(io::Error::from_raw_os_error(libc::ENODEV))
    }

    fn counters(&mut self) -> ReceiveCounters {
        ReceiveCounters::default()
    }
}

struct NoTransmitter(TransmitCounters);

impl Transmit for NoTransmitter {
    fn transmit(&mut self, frame: &Frame<'_>) -> Result<(), TransmitError> {
        self.0.count(frame, Err(TransmitError::Down))
    }

    fn flush(&mut self) -> io::Result<usize> {
        Err(io::Error::from_raw_os_error(libc::ENODEV))
    }

    fn offloads(&self) -> Offloads {
        // Nothing need be finished for it.
        Offloads::ALL
    }

    fn counters(&mut self) -> TransmitCounters {
        self.0
    }
}
