//! `sed`: shortest expected delay.

use super::order::lighter;
use super::pool::Pool;
use super::schedule::Schedule;
use crate::model::flow::Flow;
use crate::model::id::ServerId;
use crate::model::rng::Rng;
use crate::model::server::Server;

/// Gives a connection to the server where active connections, this one included, per weight are fewest. Of equals,
/// the one added last.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShortestDelay;

impl Schedule for ShortestDelay {
    fn name(&self) -> &'static str {
        "sed"
    }

    fn pick(&mut self, pool: &mut Pool<'_>, _flow: &Flow, _rng: &mut Rng) -> Option<ServerId> {
        pool.best(shorter_delay)
    }
}

/// Whether `server` would serve one more connection sooner than `best`.
pub(super) fn shorter_delay(server: &Server, best: &Server) -> bool {
    let delay = |server: &Server| (server.active() as i32).wrapping_add(1);
    lighter(delay(server), server.weight(), delay(best), best.weight())
}
