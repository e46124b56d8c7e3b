//! `ovf`: weighted overflow.

use super::pool::Pool;
use super::schedule::Schedule;
use crate::model::flow::Flow;
use crate::model::id::ServerId;
use crate::model::rng::Rng;

/// Gives a connection to the server of the highest weight among those with no more active connections than their
/// weight; so a weight of w admits w + 1. None when all are full. UDP flows are never active, so all of
/// them go to the highest weight.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overflow;

impl Schedule for Overflow {
    fn name(&self) -> &'static str {
        "ovf"
    }

    fn pick(&mut self, pool: &mut Pool<'_>, _flow: &Flow, _rng: &mut Rng) -> Option<ServerId> {
        // A server with exactly as many as its weight still takes one more, as in IPVS.
        let open = pool.iter().filter(|(_, server)| server.is_usable() && server.active() <= server.weight());
        open.reduce(|best, other| if other.1.weight() > best.1.weight() { other } else { best })
            .map(|(id, _)| id)
    }
}
