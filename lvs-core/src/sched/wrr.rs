//! `wrr`: weighted round robin.

use super::pool::Pool;
use super::schedule::{Change, Schedule};
use crate::model::flow::Flow;
use crate::model::id::ServerId;
use crate::model::rng::Rng;

/// Gives connections in turn, by weight: rounds in which only servers of at least the round's weight take part, the
/// weight falling by the greatest common divisor from round to round.
///
/// As in IPVS the first rounds depend on history: the level survives additions, so servers of weight 3, 2, 1 added
/// in that order start in a round that admits all of them. The shares are exact over every full cycle.
#[derive(Clone, Copy, Debug, Default)]
pub struct WeightedRoundRobin {
    /// The server used last; `None` stands before the list.
    last: Option<ServerId>,
    /// The present round's weight.
    level: i64,
    /// The first round's weight: the largest one less (gcd - 1).
    top: i64,
    /// Greatest common divisor of the weights.
    step: i64,
}

impl Schedule for WeightedRoundRobin {
    fn name(&self) -> &'static str {
        "wrr"
    }

    fn pick(&mut self, pool: &mut Pool<'_>, _flow: &Flow, _rng: &mut Rng) -> Option<ServerId> {
        // No server has a weight, so no round would ever end.
        if self.top == 0 {
            return None;
        }
        let start = self.last;
        let mut stop = None;
        let (mut last_pass, mut restarted) = (false, false);
        let mut from = start;
        loop {
            for (id, server) in pool.iter_after(from) {
                if !server.is_overloaded() && i64::from(server.weight()) >= self.level {
                    self.last = Some(id);
                    return Some(id);
                }
                if Some(id) == stop {
                    self.last = Some(id);
                    return None;
                }
            }
            let whole = from.take().is_none();
            self.level -= self.step;
            if self.level <= 0 {
                self.level = self.top;
                if last_pass || start.is_none() {
                    self.last = None;
                    return None;
                }
                restarted = true;
            } else if whole {
                self.skip_empty_rounds(pool);
            }
            last_pass = self.level <= self.step;
            // Each level was tried once from the beginning; beyond the server where it began nothing new can come.
            if last_pass && restarted && start.is_some() {
                stop = start;
            }
        }
    }

    fn on_change(&mut self, pool: &mut Pool<'_>, change: Change) {
        self.last = None;
        let weights = || pool.iter().map(|(_, server)| i64::from(server.weight()));
        self.step = weights().filter(|&weight| weight > 0).fold(0, gcd).max(1);
        self.top = weights().max().unwrap_or(0) - (self.step - 1);
        if change == Change::Bound || self.level > self.top || self.level == 0 {
            self.level = self.top;
        } else if self.step > 1 {
            self.level = self.level / self.step * self.step + 1;
        }
    }
}

impl WeightedRoundRobin {
    /// Goes on to the next round that anybody can take part in, or to the last one. IPVS walks the list once for each
    /// round between, which can be two thousand million when the heaviest server is overloaded.
    fn skip_empty_rounds(&mut self, pool: &Pool<'_>) {
        let usable = pool.iter().filter(|(_, server)| !server.is_overloaded());
        let heaviest = usable.map(|(_, server)| i64::from(server.weight())).max().unwrap_or(0);
        let above = self.level - heaviest.max(self.step);
        if above > 0 {
            self.level -= (above + self.step - 1) / self.step * self.step;
        }
    }
}

/// The greatest common divisor; of 0 and a number, that number.
pub(super) fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
