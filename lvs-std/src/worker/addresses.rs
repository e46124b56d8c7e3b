//! Telling `AF_XDP` programs once which addresses are a worker's.

use core::net::IpAddr;

use lvs_core::Store;

use super::Worker;
use crate::device::xdp::{AddressFilter, AddressFilterError};

impl<S: Store> Worker<S> {
    /// Makes the addresses of this worker's host, of its gateways and of its director's real servers all that an
    /// `AF_XDP` filter knows; before the worker begins to work, or between two turns. `machine` are addresses that the
    /// machine's own stack answers for.
    ///
    /// # Errors
    /// As for [`AddressFilter::set`].
    pub fn fill_address_filter(
        &self,
        filter: &AddressFilter,
        machine: impl IntoIterator<Item = IpAddr>,
    ) -> Result<(), AddressFilterError> {
        filter.set_from(&self.director, self.forwarder.host(), machine)
    }
}
