//! `nq`: never queue.

use super::pool::Pool;
use super::schedule::Schedule;
use super::sed::shorter_delay;
use crate::model::flow::Flow;
use crate::model::id::ServerId;
use crate::model::rng::Rng;

/// Gives a connection to the first server without active connections, whatever its weight, and otherwise to the one
/// that `sed` would take.
#[derive(Clone, Copy, Debug, Default)]
pub struct NeverQueue;

impl Schedule for NeverQueue {
    fn name(&self) -> &'static str {
        "nq"
    }

    fn pick(&mut self, pool: &mut Pool<'_>, _flow: &Flow, _rng: &mut Rng) -> Option<ServerId> {
        let idle = pool.iter().find(|(_, server)| server.is_usable() && server.active() == 0);
        idle.map(|(id, _)| id).or_else(|| pool.best(shorter_delay))
    }
}
