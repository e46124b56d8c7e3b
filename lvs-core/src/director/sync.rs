//! What a backup is told, and when.

use super::Brain;
use crate::store::{Queue, Services, Tables};
use crate::tick::Stamp;

impl Brain {
    /// Tells backups about a connection, if its packet is one of those that call for it.
    pub(super) fn synchronise<P, M: Services, Q: Queue>(
        &mut self,
        _tables: &mut Tables<'_, P, M, Q>,
        _now: Stamp,
        _id: u32,
        _packets: u32,
    ) {
    }

    /// The same for an entry whose time was up but that was given more.
    pub(super) fn postponed<P, M: Services, Q: Queue>(
        &mut self,
        tables: &mut Tables<'_, P, M, Q>,
        now: Stamp,
        id: u32,
    ) {
        if self.master {
            let threshold = self.config.tuning.sync_threshold;
            self.synchronise(tables, now, id, threshold);
        }
    }
}
