//! Addresses of this host that somebody else on a link claims as well (RFC 5227 §2.4, RFC 4862 §5.4).

use core::net::IpAddr;

use heapless::Vec;
use lvs_core::Tick;

use super::mac::MacAddress;
use crate::frame::PortId;

/// Somebody else claims an address of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conflict {
    /// The address.
    pub address: IpAddr,
    /// Who else claims it: the link-layer address of whoever did so first of late.
    pub mac: MacAddress,
    /// On whose link.
    pub port: PortId,
    /// When it was claimed last.
    pub at: Tick,
}

/// How many conflicts are remembered: the ones that were seen last.
const MOST: usize = 16;
/// How long a claim counts as of late, in milliseconds.
pub(super) const LATE_MS: u64 = 60_000;

/// The conflicts that were seen last.
#[cfg_attr(feature = "alloc", derive(Clone))]
pub(super) struct Conflicts(Vec<Conflict, MOST>);

impl Conflicts {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Each of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Conflict> {
        self.0.iter().copied()
    }

    pub(super) fn note(&mut self, new: Conflict) {
        let same = |known: &&mut Conflict| (known.address, known.port) == (new.address, new.port);
        if let Some(known) = self.0.iter_mut().find(same) {
            // Whoever claims it under ever other addresses is one conflict.
            if new.at.millis_since(known.at) > LATE_MS {
                known.mac = new.mac;
            }
            known.at = new.at;
            return;
        }
        if self.0.is_full()
            && let Some((oldest, _)) = self.0.iter().enumerate().min_by_key(|(_, known)| known.at)
        {
            self.0.swap_remove(oldest);
        }
        // There is room now.
        let _ = self.0.push(new);
    }
}
