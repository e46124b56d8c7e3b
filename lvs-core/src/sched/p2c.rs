//! `p2c`: the power of two choices by latency, as proxies have it ("peak EWMA").

use super::pool::Pool;
use super::schedule::Schedule;
use super::twos::up_to;
use crate::model::flow::Flow;
use crate::model::id::ServerId;
use crate::model::rng::Rng;
use crate::model::server::Server;
use crate::model::tick::Tick;

/// Draws two different usable servers by weight, and gives the connection to the one with the lower cost: its latency
/// as [observed](crate::Director::observe) times its connections and one, by weight; of equals, to the first one drawn.
///
/// The latency is an average that believes a peak at once and forgets it by and by, and loses half of its height each
/// ten seconds without an observation. A server of which nothing is known is tried with one connection; while that
/// lasts, it comes after all others. Where nobody observes anything, connections alone decide.
///
/// No scheduler of IPVS: kernels and their tools do not know the name.
///
/// ```
/// use lvs_core::pick::{Client, Outcome, Picker};
/// use lvs_core::{Config, Heap, Method, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey, Tick};
///
/// let store: Heap = Heap::with_capacity(16);
/// let mut picker = Picker::new(Config::new(Seed::from_bytes([7; 16])), store);
/// let web: ServiceKey = "tcp 192.0.2.1:80".parse()?;
/// picker.add_service(web, ServiceConfig::new("p2c".parse::<Scheduler>()?))?;
/// let slow = picker.add_server(web, ServerConfig::new("10.0.1.11:80".parse()?, Method::Direct))?;
/// let quick = picker.add_server(web, ServerConfig::new("10.0.1.12:80".parse()?, Method::Direct))?;
/// picker.observe(Tick::ZERO, slow, Outcome::Latency { micros: 90_000 })?;
/// picker.observe(Tick::ZERO, quick, Outcome::Latency { micros: 2_000 })?;
/// for user in 0..10 {
///     let pick = picker.pick(Tick::ZERO, &web, Client::Key(user))?;
///     assert_eq!(pick.server(), quick);
///     picker.release(Tick::ZERO, pick);
/// }
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct PowerOfTwo;

impl Schedule for PowerOfTwo {
    fn name(&self) -> &'static str {
        "p2c"
    }

    // In line it would have every other scheduler of the list save registers for it.
    #[inline(never)]
    fn pick(&mut self, pool: &mut Pool<'_>, _flow: &Flow, rng: &mut Rng) -> Option<ServerId> {
        let (first, second) =
            if pool.len() <= FEW { draw_of_few(pool, rng)? } else { draw_of_many(pool, rng)? };
        let Some(second) = second else { return Some(first.0) };
        let now = pool.now();
        // Multiplied crosswise: a division would make near costs equal.
        let costs = |one: &Server, other: &Server| u128::from(cost(one, now)) * u128::from(other.weight());
        Some(if costs(second.1, first.1) < costs(first.1, second.1) { second.0 } else { first.0 })
    }
}

/// A usable server that was drawn.
type Drawn<'p> = (ServerId, &'p Server);

/// Draws two usable servers by weight, or the only one. They stand one behind the other in an array, so that the
/// servers themselves, which are long, are gone through once.
#[inline(always)]
fn draw_of_few<'p>(pool: &'p Pool<'_>, rng: &mut Rng) -> Option<(Drawn<'p>, Option<Drawn<'p>>)> {
    let mut ids = [ServerId(0); FEW];
    // Where each one's share of the weights ends.
    let mut ends = [0_u64; FEW];
    let (mut total, mut count) = (0, 0);
    for (id, server) in pool.iter() {
        if server.is_usable()
            && let (Some(place), Some(end)) = (ids.get_mut(count), ends.get_mut(count))
        {
            total += u64::from(server.weight());
            (*place, *end) = (id, total);
            count += 1;
        }
    }
    let ends = ends.get(..count)?;
    let holder = |number: u64| ends.iter().position(|&end| number < end);
    let drawn = |at: usize| {
        let id = *ids.get(at)?;
        Some((id, pool.get(id)?))
    };
    let at = holder(up_to(total.checked_sub(1)?, rng))?;
    let first = drawn(at)?;
    let weight = u64::from(first.1.weight());
    let Some(rest) = (total - weight).checked_sub(1) else { return Some((first, None)) };
    let number = up_to(rest, rng);
    // The shares of the others, as if that of the first were not there.
    let before = ends.get(at)?.saturating_sub(weight);
    let second = drawn(holder(if number >= before { number + weight } else { number })?)?;
    Some((first, Some(second)))
}

/// As [`draw_of_few`], of any number of servers.
#[inline(never)]
fn draw_of_many<'p>(pool: &'p Pool<'_>, rng: &mut Rng) -> Option<(Drawn<'p>, Option<Drawn<'p>>)> {
    let usable = || pool.iter().filter(|(_, server)| server.is_usable());
    let total: u64 = usable().map(|(_, server)| u64::from(server.weight())).sum();
    // The server in whose share of the weights the number falls, without that of one that was drawn before.
    let draw = |below: u64, without: Option<ServerId>, rng: &mut Rng| {
        let mut left = up_to(below.checked_sub(1)?, rng);
        usable().filter(|(id, _)| Some(*id) != without).find(|(_, server)| {
            let weight = u64::from(server.weight());
            let found = left < weight;
            left = left.saturating_sub(weight);
            found
        })
    };
    let first = draw(total, None, rng)?;
    let rest = total - u64::from(first.1.weight());
    Some((first, draw(rest, Some(first.0), rng)))
}

/// Latency times load.
fn cost(server: &Server, now: Tick) -> u64 {
    let load = u64::from(server.overhead().max(0).cast_unsigned());
    let latency = match server.latency(now) {
        0 if load > 0 => UNKNOWN_MICROS,
        micros => micros,
    };
    latency.saturating_mul(load + ONE_CONNECTION)
}

/// So many servers are few.
const FEW: usize = 32;
/// What an active connection adds to [`Server::overhead`].
const ONE_CONNECTION: u64 = 257;
/// The latency of a server that was given a connection and has not answered yet: more than any that was seen.
const UNKNOWN_MICROS: u64 = 1 << 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::{ScheduleFlags, Tuning};
    use crate::model::key::ServiceKey;
    use crate::model::rng::Rng;
    use crate::model::seed::Seed;
    use crate::model::server::Life;
    use crate::model::standing::Standing;
    use crate::sched::pool::PickContext;
    use proptest::prelude::*;
    extern crate std;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn few_servers_are_drawn_as_many_are(
            servers in prop::collection::vec((0_u32..5, any::<bool>()), 0..=FEW), seed: u64, huge: bool,
        ) {
            let mut all: Vec<Server> = (0_u32..).zip(&servers).map(|(at, &(weight, overloaded))| Server {
                standing: Standing::new(if huge { weight * (i32::MAX as u32 / 4) } else { weight }),
                overloaded,
                life: Life::Available,
                next: Some(ServerId(at + 1)).filter(|next| (next.0 as usize) < servers.len()),
                ..Server::VACANT
            }).collect();
            let (key, hashes) = (ServiceKey::tcp([10, 99, 0, 1].into(), 80), Seed::from_words(1, 2));
            let tuning = Tuning::default();
            let context = PickContext {
                now: Tick::ZERO, service: &key, seed: &hashes, destination: None, tuning: &tuning,
            };
            let first = Some(ServerId(0)).filter(|_| !servers.is_empty());
            let pool = Pool::new(&mut all, first, servers.len() as u32, &mut [], ScheduleFlags::default(), context);
            let ids = |drawn: Option<(Drawn<'_>, Option<Drawn<'_>>)>| {
                drawn.map(|(first, second)| (first.0, second.map(|(id, _)| id)))
            };
            let (mut one, mut other) = (Rng::new(seed), Rng::new(seed));
            for _ in 0..20 {
                prop_assert_eq!(ids(draw_of_few(&pool, &mut one)), ids(draw_of_many(&pool, &mut other)));
            }
        }
    }
}
