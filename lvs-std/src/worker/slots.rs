//! The places of a worker's devices. A device can be taken out and another one put in while the worker works.

use lvs_core::{Director, Store, Tick};
use lvs_forward::PortId;
use lvs_forward::parse::Link;

use super::output::Output;
use crate::device::packet::Tap;
use crate::device::{Device, Receive, ReceiveCounters};
use crate::offload::FlowOffload;
use crate::trace::Tracer;

/// One port's receiving half.
pub(super) struct Input {
    pub(super) receive: Box<dyn Receive>,
    pub(super) link: Link,
    /// The device is gone: it is not asked any more, nor waited for.
    pub(super) failed: bool,
    /// What the devices counted that had this place before.
    before: ReceiveCounters,
}

impl Input {
    pub(super) fn new(receive: Box<dyn Receive>, link: Link) -> Self {
        Self { receive, link, failed: false, before: ReceiveCounters::default() }
    }

    /// What all devices counted that have had this place.
    pub(super) fn counters(&mut self) -> ReceiveCounters {
        let mut counters = self.before;
        counters += &self.receive.counters();
        counters
    }
}

/// What a worker lends to a command that exchanges devices.
pub(super) struct Slots<'a> {
    inputs: &'a mut [Input],
    output: &'a mut Output,
    offload: &'a mut Option<FlowOffload>,
    tracer: &'a mut Option<Box<Tracer>>,
}

impl<'a> Slots<'a> {
    pub(super) fn new(
        inputs: &'a mut [Input],
        output: &'a mut Output,
        offload: &'a mut Option<FlowOffload>,
        tracer: &'a mut Option<Box<Tracer>>,
    ) -> Self {
        Self { inputs, output, offload, tracer }
    }

    /// Puts a tracer in the place of the one that there was, which has handed over what it had.
    pub(super) fn trace(&mut self, tracer: Option<Box<Tracer>>) -> Option<Box<Tracer>> {
        let mut old = core::mem::replace(self.tracer, tracer);
        if let Some(old) = &mut old {
            old.finish();
        }
        old
    }

    /// Puts a device in a port's place, and returns the one that was there: it should not be dropped by the worker, for
    /// which that takes too long. What the old one counted stays counted. `None` when there is no such port.
    pub(super) fn put(&mut self, port: PortId, device: Device) -> Option<Device> {
        let at = usize::from(port.0);
        let (input, out) = self.inputs.get_mut(at).zip(self.output.ports.get_mut(at))?;
        // What was given to the old one goes out by it, if it still can.
        let waiting = out.transmit.flush().unwrap_or_default();
        (input.before, out.before) = (input.counters(), out.counters());
        // What it could not send goes with it.
        out.before.down += waiting as u64;
        (input.failed, out.failed) = (false, false);
        let receive = core::mem::replace(&mut input.receive, device.receive);
        let transmit = core::mem::replace(&mut out.transmit, device.transmit);
        Some(Device { receive, transmit })
    }

    /// From now on no device is at a port.
    pub(super) fn clear<S: Store>(
        &mut self,
        port: PortId,
        director: &mut Director<S>,
        now: Tick,
    ) -> Option<Device> {
        if let Some(offload) = self.offload {
            offload.remove_port(port, director, now);
        }
        let old = self.put(port, Device::absent());
        let at = usize::from(port.0);
        if let Some((input, out)) = self.inputs.get_mut(at).zip(self.output.ports.get_mut(at)) {
            (input.failed, out.failed) = (true, true);
        }
        old
    }

    /// A device is at a port again: bulk transfers may pass by it, if they may by all others.
    pub(super) fn fill<S: Store>(
        &mut self,
        port: PortId,
        (device, tap): (Device, Option<&Tap>),
        director: &mut Director<S>,
        now: Tick,
    ) -> Option<Device> {
        let cleared = self.clear(port, director, now);
        if let Some(offload) = self.offload {
            // A flow that comes by an interface with the offload may leave by one without it.
            let added = tap.is_some_and(|tap| offload.add_port(port, tap).is_ok());
            if !added {
                *self.offload = None;
            }
        }
        self.put(port, device);
        cleared
    }
}
