//! What schedulers do now and then.

use crate::director::Brain;
use crate::model::tick::Tick;
use crate::sched::pool::Pool;
use crate::sched::schedule::Schedule;
use crate::store::{Services, Tables};

/// When a scheduler wants to be called, and where the search for it begins.
#[derive(Debug)]
pub(crate) struct Timers {
    /// No scheduler wants to be called before this.
    next: Option<Tick>,
    /// The place of the service after the one called last, so that none waits for long.
    from: usize,
}

impl Timers {
    pub(crate) const NEW: Self = Self { next: None, from: 0 };

    /// A scheduler wants to be called then.
    pub(crate) fn expect(&mut self, at: Option<Tick>) {
        self.next = match (self.next, at) {
            (Some(next), Some(at)) => Some(next.min(at)),
            (next, at) => next.or(at),
        };
    }
}

impl Brain {
    /// Calls the next scheduler whose time has come, if there is one.
    pub(crate) fn tick<P: Schedule, M: Services, Q>(&mut self, tables: &mut Tables<'_, P, M, Q>, now: Tick) {
        if self.timers.next.is_none_or(|next| now < next) {
            return;
        }
        let len = tables.services.len();
        let mut called = false;
        self.timers.next = None;
        for offset in 0..len {
            let index = (self.timers.from + offset) % len;
            let Some(Some(service)) = tables.services.get_mut(index) else { continue };
            if !called && service.scheduler.next_tick().is_some_and(|at| now >= at) {
                let lookup = tables.by_key.table(index as u32);
                let (context, _) = self.pick_context(&service.key);
                let mut pool =
                    Pool::new(tables.servers, service.first, service.servers, lookup, service.flags, context);
                service.scheduler.on_tick(&mut pool);
                called = true;
                self.timers.from = index + 1;
            }
            self.timers.expect(service.scheduler.next_tick());
        }
    }
}
