//! `twos`: the power of two choices (Mitzenmacher, "The power of two choices in randomized load balancing", 2001).

use super::pool::Pool;
use super::schedule::Schedule;
use crate::model::flow::Flow;
use crate::model::id::ServerId;
use crate::model::rng::Rng;
use crate::model::server::Server;

/// Draws two usable servers by weight, possibly the same one twice, and gives the connection to the one with less
/// [overhead](crate::service::Server::overhead) per weight; of equals, to the first one drawn.
///
/// As in IPVS the range that is drawn from is one longer than the sum of the weights, so that the server added last
/// has a share of its weight and one.
#[derive(Clone, Copy, Debug, Default)]
pub struct TwoChoices;

impl Schedule for TwoChoices {
    fn name(&self) -> &'static str {
        "twos"
    }

    fn pick(&mut self, pool: &mut Pool<'_>, _flow: &Flow, rng: &mut Rng) -> Option<ServerId> {
        let usable = || pool.iter().filter(|(_, server)| server.is_usable());
        let total: u64 = usable().map(|(_, server)| u64::from(server.weight())).sum();
        let drawn = |rng: &mut Rng| {
            let mut left = up_to(total, rng);
            usable().find(|(_, server)| {
                left = left.saturating_sub(u64::from(server.weight()));
                left == 0
            })
        };
        let (first, second) = (drawn(rng)?, drawn(rng)?);
        // IPVS multiplies in 32 bits here, whatever the weights.
        let load = |one: &Server, weight: &Server| one.overhead().wrapping_mul(weight.weight() as i32);
        let second_is_less = load(first.1, second.1) > load(second.1, first.1);
        Some(if second_is_less { second.0 } else { first.0 })
    }
}

/// A number from 0 to `last`, both included, all about equally likely.
pub(super) fn up_to(last: u64, rng: &mut Rng) -> u64 {
    let bits = u64::from(rng.next_u32()) << 32 | u64::from(rng.next_u32());
    ((u128::from(bits) * (u128::from(last) + 1)) >> 64) as u64
}
