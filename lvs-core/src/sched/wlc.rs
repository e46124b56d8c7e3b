//! `wlc`: weighted least connections.

use super::{Pool, Schedule, lighter};
use crate::flow::Flow;
use crate::rng::Rng;
use crate::server::ServerId;

/// Gives a connection to the server with the least [overhead](crate::Server::overhead) per weight. Of equals, the one
/// added last.
#[derive(Clone, Copy, Debug, Default)]
pub struct WeightedLeastConnection;

impl Schedule for WeightedLeastConnection {
    fn name(&self) -> &'static str {
        "wlc"
    }

    fn pick(&mut self, pool: &mut Pool<'_>, _flow: &Flow, _rng: &mut Rng) -> Option<ServerId> {
        least(pool)
    }
}

/// The usable server with the least overhead per weight.
pub(super) fn least(pool: &Pool<'_>) -> Option<ServerId> {
    pool.best(|server, best| lighter(server.overhead(), server.weight(), best.overhead(), best.weight()))
}
