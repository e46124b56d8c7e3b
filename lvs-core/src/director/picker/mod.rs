//! Decisions without packets: for proxies, resolvers and whoever else connects to real servers himself.
//!
//! A pick is what the first packet of a connection is to a [`Director`]: it goes through the same defence, template,
//! scheduler and thresholds, by the same code. What differs is what comes after it. No packet says how a connection
//! goes on, so it counts as established until it is released, and no packet is rewritten, so clients and servers may be
//! of different families.

mod client;
mod decide;

use core::net::SocketAddr;

use crate::director::Director;
use crate::director::time::sweep::Swept;
use crate::model::config::Config;
use crate::model::error::{
    AddServerError, AddServiceError, EditServerError, EditServiceError, ObserveError, RemoveServerError,
    RemoveServiceError, ZeroError,
};
use crate::model::event::Event;
use crate::model::id::{ServerId, ServerRef, ServiceId};
use crate::model::key::ServiceKey;
use crate::model::news::ServerNews;
use crate::model::server::ServerConfig;
use crate::model::standing::{FailurePolicy, Outcome};
use crate::model::tick::Tick;
use crate::sched::pool::Pool;
use crate::store::service::ServiceConfig;
use crate::store::{SchedulerOf, Store};

pub use client::{Client, NotPicked, Opened, Pick};

/// Chooses real servers for clients, where no packet passes: for proxies, resolvers, connection pools.
///
/// A picker has services and real servers as a [`Director`] has, and decides as that does: every scheduler,
/// persistence, thresholds, quiescing, `drop_packet`. A client is an address or anything else that tells clients apart
/// ([`Client`]), of either family, whatever the families of service and servers are.
///
/// There are two ways to use it. [`pick`](Self::pick) and [`release`](Self::release) make no entry in the table: the
/// caller keeps the [`Pick`]. [`open`](Self::open) and [`close`](Self::close) make one, which is found again by its
/// flow. Under persistence both make a template.
///
/// Time is an argument, as everywhere in this crate. [`sweep`](Self::sweep) is to be called when
/// [`poll_at`](Self::poll_at) says so, or whenever the caller has time: it frees what has expired.
///
/// ```
/// use lvs_core::pick::{Client, FailurePolicy, Outcome, Picker};
/// use lvs_core::{Config, Heap, Method, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey, Tick};
///
/// let store: Heap = Heap::with_capacity(10_000);
/// let mut picker = Picker::new(Config::new(Seed::from_bytes([7; 16])), store);
/// picker.set_failure_policy(Some(FailurePolicy::new(5, 10)));
/// let web: ServiceKey = "tcp 192.0.2.1:80".parse()?;
/// picker.add_service(web, ServiceConfig::new("wlc".parse::<Scheduler>()?))?;
/// for server in ["10.0.1.11:8080", "[2001:db8::12]:8080"] {
///     picker.add_server(web, ServerConfig::new(server.parse()?, Method::Direct))?;
/// }
///
/// let now = Tick::from_millis(5);
/// let one = picker.pick(now, &web, Client::Address("198.51.100.7".parse()?))?;
/// let other = picker.pick(now, &web, Client::Bytes(b"user-4711"))?;
/// assert_ne!(one.address(), other.address());
/// // The connection was made in 3 ms, and is over.
/// picker.observe(now, one.server(), Outcome::Latency { micros: 3_000 })?;
/// picker.release(now, one);
/// picker.release(now, other);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Picker<S: Store> {
    director: Director<S>,
}

impl<S: Store> Picker<S> {
    /// A picker without services.
    pub fn new(config: Config, store: S) -> Self {
        let mut director = Director::new(config, store);
        director.brain.joins_families = true;
        Self { director }
    }

    /// The picker's director, for listings: services, servers, connections, templates, counters.
    pub const fn director(&self) -> &Director<S> {
        &self.director
    }

    /// As [`Director::add_service`].
    ///
    /// # Errors
    ///
    /// Says why not; nothing has changed then.
    pub fn add_service(
        &mut self,
        key: ServiceKey,
        config: ServiceConfig<SchedulerOf<S>>,
    ) -> Result<ServiceId, AddServiceError> {
        self.director.add_service(key, config)
    }

    /// As [`Director::edit_service`].
    ///
    /// # Errors
    ///
    /// Says why not; nothing has changed then.
    pub fn edit_service(
        &mut self,
        key: ServiceKey,
        config: ServiceConfig<SchedulerOf<S>>,
    ) -> Result<(), EditServiceError> {
        self.director.edit_service(key, config)
    }

    /// As [`Director::remove_service`].
    ///
    /// # Errors
    ///
    /// [`RemoveServiceError::NotFound`].
    pub fn remove_service(&mut self, key: ServiceKey) -> Result<(), RemoveServiceError> {
        self.director.remove_service(key)
    }

    /// As [`Director::add_server`]; the server may be of any family. Its method is to be
    /// [`Method::Direct`](crate::Method::Direct), which rewrites nothing.
    ///
    /// # Errors
    ///
    /// Says why not; nothing has changed then.
    pub fn add_server(&mut self, key: ServiceKey, config: ServerConfig) -> Result<ServerId, AddServerError> {
        self.director.add_server(key, config)
    }

    /// As [`Director::edit_server`].
    ///
    /// # Errors
    ///
    /// Says why not; nothing has changed then.
    pub fn edit_server(&mut self, key: ServiceKey, config: ServerConfig) -> Result<(), EditServerError> {
        self.director.edit_server(key, config)
    }

    /// As [`Director::remove_server`]. Picks of it can still be released.
    ///
    /// # Errors
    ///
    /// Says why not; nothing has changed then.
    pub fn remove_server(&mut self, key: ServiceKey, address: SocketAddr) -> Result<(), RemoveServerError> {
        self.director.remove_server(key, address)
    }

    /// As [`Director::with_scheduler`].
    pub fn with_scheduler<R>(
        &mut self,
        key: ServiceKey,
        function: impl FnOnce(&mut SchedulerOf<S>, &mut Pool<'_>) -> R,
    ) -> Option<R> {
        self.director.with_scheduler(key, function)
    }

    /// As [`Director::set_load`].
    ///
    /// # Errors
    ///
    /// [`ObserveError::NotFound`].
    pub fn set_load(&mut self, server: impl Into<ServerRef>, load: u32) -> Result<(), ObserveError> {
        self.director.set_load(server, load)
    }

    /// As [`Director::zero`].
    ///
    /// # Errors
    ///
    /// [`ZeroError::NotFound`].
    pub fn zero(&mut self, key: Option<ServiceKey>) -> Result<(), ZeroError> {
        self.director.zero(key)
    }

    /// As [`Director::cut`]: ends entries of a server. What was picked without one is not found by it.
    pub fn cut(&mut self, now: Tick, server: impl Into<ServerRef>, first: u32, count: u32) -> usize {
        self.director.cut(now, server, first, count)
    }

    /// As [`Director::report_available`], for `drop_entry` and `drop_packet`.
    pub fn report_available(&mut self, available: u64) {
        self.director.report_available(available);
    }

    /// As [`Director::set_config`].
    pub fn set_config(&mut self, config: Config) {
        self.director.set_config(config);
    }

    /// As [`Director::set_failure_policy`].
    pub fn set_failure_policy(&mut self, policy: Option<FailurePolicy>) {
        self.director.set_failure_policy(policy);
    }

    /// As [`Director::observe`].
    ///
    /// # Errors
    ///
    /// [`ObserveError::NotFound`].
    pub fn observe(
        &mut self,
        now: Tick,
        server: impl Into<ServerRef>,
        outcome: Outcome,
    ) -> Result<(), ObserveError> {
        self.director.observe(now, server, outcome)
    }

    /// As [`Director::sweep`].
    pub fn sweep(&mut self, now: Tick, budget: usize) -> usize {
        self.director.sweep(now, budget)
    }

    /// As [`Director::poll_at`].
    #[must_use]
    pub fn poll_at(&self) -> Option<Tick> {
        self.director.poll_at()
    }

    /// As [`Director::sweep_briefly`].
    pub fn sweep_briefly(&mut self, now: Tick, budget: usize) -> Swept {
        self.director.sweep_briefly(now, budget)
    }

    /// As [`Director::poll_server`].
    pub fn poll_server(&mut self) -> Option<ServerNews> {
        self.director.poll_server()
    }

    /// As [`Director::poll_event`].
    pub fn poll_event(&mut self) -> Option<Event> {
        self.director.poll_event()
    }
}
