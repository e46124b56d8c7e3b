//! `wlc`: weighted least connections.

use super::order::lighter;
use super::pool::Pool;
use super::schedule::Schedule;
use crate::model::flow::Flow;
use crate::model::id::ServerId;
use crate::model::rng::Rng;

/// Gives a connection to the server with the least [overhead](crate::service::Server::overhead) per weight. Of equals,
/// the one added last.
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
