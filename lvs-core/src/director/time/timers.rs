//! What schedulers do now and then.

use crate::director::engine::Engine;
use crate::sched::pool::Pool;
use crate::sched::schedule::Schedule;
use crate::store::{Services as _, Store};

impl<S: Store> Engine<'_, S> {
    /// Calls the next scheduler whose time has come, if there is one.
    pub(crate) fn tick(&mut self) {
        let now = self.brain.clock;
        if self.brain.timers.next.is_none_or(|next| now < next) {
            return;
        }
        let len = self.tables.services.len();
        let mut called = false;
        self.brain.timers.next = None;
        // From the service after the last one called, so that one that is always due does not starve the others.
        for offset in 0..len {
            let index = (self.brain.timers.from + offset) % len;
            let Some(Some(service)) = self.tables.services.get_mut(index) else { continue };
            // One scheduler a sweep: `lblc` goes through its whole cache, and packets wait for that.
            if !called && service.scheduler.next_tick().is_some_and(|at| now >= at) {
                let lookup = self.tables.by_key.table(index as u32);
                let (context, _) = self.brain.pick_context(&service.key);
                let mut pool = Pool::new(
                    self.tables.servers,
                    service.first,
                    service.servers,
                    lookup,
                    service.flags,
                    context,
                );
                service.scheduler.on_tick(&mut pool);
                called = true;
                self.brain.timers.from = index + 1;
            }
            self.brain.timers.expect(service.scheduler.next_tick());
        }
    }
}
