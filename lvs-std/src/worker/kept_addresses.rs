//! Telling `AF_XDP` programs which addresses are a worker's and which the machine's, as they change.

use core::time::Duration;
use std::io;
use std::thread::{self, JoinHandle};

use lvs_core::Store;

use super::Handle;
use crate::device::xdp::{AddressClass, AddressFilter, AddressFilterError};
use crate::sys::host_addresses::HostAddresses;

impl<S: Store + 'static> Handle<S> {
    /// Keeps an `AF_XDP` filter up to date with the running worker's director and host, and with this network
    /// namespace's own addresses, on a thread of its own until the worker ends. What changes is noticed within a
    /// quarter of a second.
    ///
    /// `failed` is called when an address does not fit, once for each that does not.
    ///
    /// # Errors
    /// When the kernel refuses the thread, or to tell of the machine's addresses.
    pub fn keep_address_filter(
        &self,
        filter: &AddressFilter,
        failed: impl Fn(&AddressFilterError) + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let (handle, filter) = (self.clone(), filter.clone());
        let mut machine = HostAddresses::open()?;
        let work = move || {
            let mut own = machine.read().unwrap_or_default();
            let mut said = None;
            while let Ok(of_worker) =
                handle.with(|director, forwarder, _| AddressFilter::of_director(director, forwarder.host()))
            {
                let of_machine = own.iter().map(|address| (*address, AddressClass::Machine));
                let error = filter.set(of_worker.into_iter().chain(of_machine)).err();
                let words = error.as_ref().map(ToString::to_string);
                if let Some(error) = error.filter(|_| words != said) {
                    failed(&error);
                }
                said = words;
                match machine.wait(LOOK) {
                    Ok(true) => own = machine.read().unwrap_or(own),
                    Ok(false) => {}
                    Err(_) => thread::sleep(LOOK),
                }
            }
        };
        thread::Builder::new().name("address-filter".to_owned()).spawn(work)
    }
}

/// How often the director is looked over.
const LOOK: Duration = Duration::from_millis(250);
