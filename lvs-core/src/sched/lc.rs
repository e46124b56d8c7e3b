//! `lc`: least connections.

use super::pool::Pool;
use super::schedule::Schedule;
use crate::model::flow::Flow;
use crate::model::id::ServerId;
use crate::model::rng::Rng;

/// Gives a connection to the server with the least [overhead](crate::service::Server::overhead); weights only matter as
/// zero or not. Of equals, the one added last.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastConnection;

impl Schedule for LeastConnection {
    fn name(&self) -> &'static str {
        "lc"
    }

    fn pick(&mut self, pool: &mut Pool<'_>, _flow: &Flow, _rng: &mut Rng) -> Option<ServerId> {
        // IPVS compares these as unsigned numbers.
        pool.best(|server, best| (server.overhead() as u32) < best.overhead() as u32)
    }
}
