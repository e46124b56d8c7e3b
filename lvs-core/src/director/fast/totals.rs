//! What service and director count of a batch, in registers as long as its packets are one service's.

use crate::conntrack::fast_key::BATCH;
use crate::model::id::ServiceId;
use crate::model::traffic::Traffic;
use crate::store::service::Service;

/// The traffic of a service since the packet before was another's: packets in the upper half, bytes in the lower one. A
/// batch of packets of 64 KiB fits. It is the service's and the director's in one.
#[derive(Debug, Default)]
pub(super) struct BatchTotals {
    service: Option<ServiceId>,
    requests: u64,
    replies: u64,
}

/// A packet in [`BatchTotals`].
const ONE: u64 = 1 << 32;

impl BatchTotals {
    /// A client's packet of so many bytes.
    #[inline(always)]
    pub(super) fn count_request(&mut self, length: u32) {
        self.requests += ONE | u64::from(length);
    }

    /// A real server's.
    #[inline(always)]
    pub(super) fn count_reply(&mut self, length: u32) {
        self.replies += ONE | u64::from(length);
    }

    /// Makes it this service's. `None`, and nothing has changed, when there is no such service.
    #[inline(always)]
    pub(super) fn turn_to<P>(
        &mut self,
        service: ServiceId,
        services: &mut [Option<Service<P>>],
        total: &mut Traffic,
    ) -> Option<()> {
        if self.service == Some(service) { Some(()) } else { self.turn(service, services, total) }
    }

    #[inline(never)]
    fn turn<P>(
        &mut self,
        service: ServiceId,
        services: &mut [Option<Service<P>>],
        total: &mut Traffic,
    ) -> Option<()> {
        services.get(service.0 as usize)?.as_ref()?;
        self.settle(services, total);
        self.service = Some(service);
        Some(())
    }

    /// Counts what was tallied.
    pub(super) fn settle<P>(&mut self, services: &mut [Option<Service<P>>], total: &mut Traffic) {
        if let Some(ServiceId(id)) = self.service
            && let Some(service) = services.get_mut(id as usize).and_then(Option::as_mut)
        {
            self.add_to(service.meter.live_mut());
            self.add_to(total);
        }
        *self = Self::default();
    }

    const fn add_to(&self, traffic: &mut Traffic) {
        traffic.in_packets += self.requests >> 32;
        traffic.in_bytes += self.requests & (ONE - 1);
        traffic.out_packets += self.replies >> 32;
        traffic.out_bytes += self.replies & (ONE - 1);
    }
}

const _: () = assert!((BATCH as u64) * (u16::MAX as u64) < ONE);
