//! `rr`: round robin.

use super::pool::Pool;
use super::schedule::{Change, Schedule};
use crate::model::flow::Flow;
use crate::model::id::ServerId;
use crate::model::rng::Rng;

/// Gives connections to the usable servers in turn: after the one used last comes the one added before it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobin {
    /// The server used last; `None` stands before the list.
    last: Option<ServerId>,
}

impl Schedule for RoundRobin {
    fn name(&self) -> &'static str {
        "rr"
    }

    fn pick(&mut self, pool: &mut Pool<'_>, _flow: &Flow, _rng: &mut Rng) -> Option<ServerId> {
        let usable = |found: &(ServerId, &crate::model::server::Server)| found.1.is_usable();
        let to_the_end = pool.iter_after(self.last).find(usable).map(|(id, _)| id);
        let picked = to_the_end.or_else(|| {
            // A second pass runs from the start up to the server used last, and that one included.
            let last = self.last?;
            let mut passed = false;
            let mut again = pool.iter().take_while(|(id, _)| !core::mem::replace(&mut passed, *id == last));
            again.find(usable).map(|(id, _)| id)
        })?;
        self.last = Some(picked);
        Some(picked)
    }

    fn on_change(&mut self, _pool: &mut Pool<'_>, change: Change) {
        match change {
            Change::Bound => self.last = None,
            // The turn goes on behind the server that stood before the removed one.
            Change::Removed { server, before } if self.last == Some(server) => self.last = before,
            Change::Removed { .. } | Change::Added(_) | Change::Edited(_) => {}
        }
    }
}
