//! Schedulers of more than one type: one of two, or one that is known at run time alone.

use super::pool::Pool;
use super::schedule::{Change, Schedule, TableLen};
use super::server_list::Build;
use crate::model::flow::Flow;
use crate::model::id::ServerId;
use crate::model::rng::Rng;
use crate::model::tick::Tick;

/// One of two schedulers: such as a scheduler of the embedder's, or one of the built-in list.
///
/// ```
/// use lvs_core::sched::{Either, Pool, Rng, Schedule};
/// use lvs_core::{Config, Director, Flow, Heap, Scheduler, Seed, ServerId, ServiceConfig, ServiceKey};
///
/// /// The server that says that it is the least loaded.
/// #[derive(Debug)]
/// struct Idlest;
///
/// impl Schedule for Idlest {
///     fn name(&self) -> &'static str {
///         "idlest"
///     }
///
///     fn pick(&mut self, pool: &mut Pool<'_>, _: &Flow, _: &mut Rng) -> Option<ServerId> {
///         let usable = pool.iter().filter(|(_, server)| server.is_usable());
///         usable.min_by_key(|(_, server)| server.load()).map(|(id, _)| id)
///     }
/// }
///
/// type Mine = Either<Idlest, Scheduler>;
/// let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), Heap::<Mine>::with_capacity(100));
/// director.add_service("tcp 10.99.0.1:80".parse()?, ServiceConfig::new(Either::Left(Idlest)))?;
/// director.add_service("tcp 10.99.0.1:81".parse()?, ServiceConfig::new(Either::Right("mh".parse()?)))?;
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum Either<L, R> {
    /// The one.
    Left(L),
    /// The other.
    Right(R),
}

impl<L: Schedule, R: Schedule> Schedule for Either<L, R> {
    fn name(&self) -> &'static str {
        match self {
            Self::Left(one) => one.name(),
            Self::Right(one) => one.name(),
        }
    }

    fn pick(&mut self, pool: &mut Pool<'_>, flow: &Flow, rng: &mut Rng) -> Option<ServerId> {
        match self {
            Self::Left(one) => one.pick(pool, flow, rng),
            Self::Right(one) => one.pick(pool, flow, rng),
        }
    }

    fn on_change(&mut self, pool: &mut Pool<'_>, change: Change) {
        match self {
            Self::Left(one) => one.on_change(pool, change),
            Self::Right(one) => one.on_change(pool, change),
        }
    }

    fn table_len(&self) -> TableLen {
        match self {
            Self::Left(one) => one.table_len(),
            Self::Right(one) => one.table_len(),
        }
    }

    fn builder(&self) -> Option<Build> {
        match self {
            Self::Left(one) => one.builder(),
            Self::Right(one) => one.builder(),
        }
    }

    fn hashes(&self) -> bool {
        match self {
            Self::Left(one) => one.hashes(),
            Self::Right(one) => one.hashes(),
        }
    }

    fn takes_flags(&self) -> bool {
        match self {
            Self::Left(one) => one.takes_flags(),
            Self::Right(one) => one.takes_flags(),
        }
    }

    fn next_tick(&self) -> Option<Tick> {
        match self {
            Self::Left(one) => one.next_tick(),
            Self::Right(one) => one.next_tick(),
        }
    }

    fn on_tick(&mut self, pool: &mut Pool<'_>) {
        match self {
            Self::Left(one) => one.on_tick(pool),
            Self::Right(one) => one.on_tick(pool),
        }
    }
}

/// A scheduler that is known at run time alone, such as one of a plug-in.
#[cfg(feature = "alloc")]
impl<T: Schedule + ?Sized> Schedule for alloc::boxed::Box<T> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn pick(&mut self, pool: &mut Pool<'_>, flow: &Flow, rng: &mut Rng) -> Option<ServerId> {
        (**self).pick(pool, flow, rng)
    }

    fn on_change(&mut self, pool: &mut Pool<'_>, change: Change) {
        (**self).on_change(pool, change);
    }

    fn table_len(&self) -> TableLen {
        (**self).table_len()
    }

    fn builder(&self) -> Option<Build> {
        (**self).builder()
    }

    fn hashes(&self) -> bool {
        (**self).hashes()
    }

    fn takes_flags(&self) -> bool {
        (**self).takes_flags()
    }

    fn next_tick(&self) -> Option<Tick> {
        (**self).next_tick()
    }

    fn on_tick(&mut self, pool: &mut Pool<'_>) {
        (**self).on_tick(pool);
    }
}
