//! What others on a link claim of this host's addresses.

use core::net::IpAddr;

use lvs_core::Tick;

use super::conflict::{Conflict, LATE_MS};
use super::mac::MacAddress;
use super::state::Host;
use crate::frame::PortId;

impl Host {
    /// The addresses of this host that somebody else on a link has claimed within the last minute, by ARP or neighbour
    /// discovery: two hosts with one address take each other's packets. An address is asked for after it has been
    /// [announced](Self::announce), so that whoever has it says so. At most 16 are remembered.
    pub fn conflicts(&self, now: Tick) -> impl Iterator<Item = Conflict> {
        self.conflicts.iter().filter(move |known| now.millis_since(known.at) <= LATE_MS)
    }

    /// Somebody with this link-layer address claims an address: noted if it is this host's, and the other is not.
    pub(super) fn hear_claim(&mut self, now: Tick, port: PortId, address: IpAddr, mac: MacAddress) {
        // Ports of one host may be on one link.
        let is_own = self.ports.iter().any(|own| own.mac() == mac);
        if !is_own && !mac.is_group() && self.owns(address) {
            self.conflicts.note(Conflict { address, mac, port, at: now });
        }
    }
}
