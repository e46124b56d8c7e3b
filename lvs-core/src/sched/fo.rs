//! `fo`: weighted fail-over.

use super::{Pool, Schedule};
use crate::flow::Flow;
use crate::rng::Rng;
use crate::server::ServerId;

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
