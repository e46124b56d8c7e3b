//! `sed`: shortest expected delay.

use super::{Pool, Schedule, lighter};
use crate::flow::Flow;
use crate::rng::Rng;
use crate::server::{Server, ServerId};

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
