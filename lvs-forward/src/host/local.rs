//! Real servers that are this machine itself: their packets go to the stack behind the local port.

#[cfg(feature = "alloc")]
use alloc::collections::BTreeSet;
use core::fmt;
use core::net::IpAddr;

use super::state::{Host, LocalServers, MAX_LOCAL_SERVERS};
use crate::header::address::to_bits;

impl Host {
    /// Makes these all the addresses of real servers that are served by the stack behind the
    /// [local port](crate::Options::local), loopback addresses among them: as in Linux, where a real server that is an
    /// address of the machine itself is served by it. A packet for such a server is passed there, rewritten by NAT and
    /// else as it came. The host need not have the addresses itself.
    ///
    /// # Errors
    ///
    /// [`TooManyLocalServers`]; what there was stays.
    pub fn set_local_servers(
        &mut self,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<(), TooManyLocalServers> {
        let mut servers = LocalServers::new();
        for bits in addresses.into_iter().map(to_bits) {
            if let Err(place) = servers.binary_search(&bits) {
                servers.insert(place, bits).map_err(|_| TooManyLocalServers)?;
            }
        }
        if self.local_servers != servers {
            self.local_servers = servers;
            // Ways that were remembered may lead past the local port.
            self.changed();
        }
        Ok(())
    }

    /// Whether real servers with this address are this machine itself.
    #[must_use]
    #[inline]
    pub fn is_local_server(&self, address: IpAddr) -> bool {
        !self.local_servers.is_empty() && self.local_servers.binary_search(&to_bits(address)).is_ok()
    }
}

impl Host {
    /// Makes these all the addresses that the stack of this machine has, which sees the frames of
    /// [shared ports](crate::Options::shared) too and answers for itself there. Returns those that were known before,
    /// so that whoever tells them gives their memory back.
    ///
    /// ```
    /// use lvs_core::Seed;
    /// use lvs_forward::host::Host;
    /// let mut host = Host::new(Seed::from_bytes([7; 16]));
    /// let address = "192.0.2.1".parse().unwrap();
    /// assert_eq!(host.set_machine_addresses([address].into()), None);
    /// assert_eq!(host.set_machine_addresses([].into()), Some([address].into()));
    /// ```
    #[cfg(feature = "alloc")]
    pub fn set_machine_addresses(&mut self, addresses: BTreeSet<IpAddr>) -> Option<BTreeSet<IpAddr>> {
        self.machine.replace(addresses)
    }

    /// Whether this machine's stack has this address, or may have it: nobody has said which ones it has.
    #[must_use]
    pub(crate) fn is_of_machine(&self, address: IpAddr) -> bool {
        #[cfg(feature = "alloc")]
        let known = self.machine.as_ref();
        // Without an allocator there is no such stack beside the director, and nobody to say so.
        #[cfg(not(feature = "alloc"))]
        let known: Option<&[IpAddr]> = None;
        known.is_none_or(|machine| machine.contains(&address))
    }
}

/// Real servers have more addresses of this machine than a host can know: [`MAX_LOCAL_SERVERS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing more to say")]
pub struct TooManyLocalServers;

impl fmt::Display for TooManyLocalServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "real servers have more than {MAX_LOCAL_SERVERS} addresses of this machine")
    }
}

impl core::error::Error for TooManyLocalServers {}
