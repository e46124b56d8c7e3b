//! `lc`: least connections.

use super::{Pool, Schedule};
use crate::flow::Flow;
use crate::rng::Rng;
use crate::server::ServerId;

/// Gives a connection to the server with the least [overhead](crate::Server::overhead); weights only matter as zero
/// or not. Of equals, the one added last.
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
