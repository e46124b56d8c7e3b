//! `fo`: weighted fail-over.

use super::pool::Pool;
use super::schedule::Schedule;
use crate::model::flow::Flow;
use crate::model::id::ServerId;
use crate::model::rng::Rng;

/// Gives every connection to the usable server of the highest weight. Of equals, the one added last.
#[derive(Clone, Copy, Debug, Default)]
pub struct FailOver;

impl Schedule for FailOver {
    fn name(&self) -> &'static str {
        "fo"
    }

    fn pick(&mut self, pool: &mut Pool<'_>, _flow: &Flow, _rng: &mut Rng) -> Option<ServerId> {
        pool.best(|server, best| server.weight() > best.weight())
    }
}
