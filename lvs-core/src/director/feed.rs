//! What embedders tell schedulers, while these run.

use crate::director::Director;
use crate::model::error::ObserveError;
use crate::model::id::ServerRef;
use crate::model::key::ServiceKey;
use crate::model::server::meant;
use crate::sched::pool::Pool;
use crate::sched::schedule::Schedule;
use crate::store::{SchedulerOf, Services as _, Store};

impl<S: Store> Director<S> {
    /// Lends the scheduler of a service, with the service's servers, to a function: to feed a scheduler of one's own
    /// with what it cannot see, or to ask it. `None` if there is no such service. When the scheduler wants to be
    /// [called](Schedule::next_tick) next is asked afterwards; its name, and how much table it needs, are to stay.
    ///
    /// ```
    /// use lvs_core::sched::{Pool, Rng, Schedule};
    /// use lvs_core::{Config, Director, Flow, Heap, Method, Seed, ServerConfig, ServerId, ServiceConfig, ServiceKey};
    ///
    /// /// Sends everything to a server that somebody else chooses.
    /// #[derive(Debug, Default)]
    /// struct Told(Option<ServerId>);
    ///
    /// impl Schedule for Told {
    ///     fn name(&self) -> &'static str {
    ///         "told"
    ///     }
    ///
    ///     fn pick(&mut self, _: &mut Pool<'_>, _: &Flow, _: &mut Rng) -> Option<ServerId> {
    ///         self.0
    ///     }
    /// }
    ///
    /// let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), Heap::<Told>::with_capacity(100));
    /// let web: ServiceKey = "tcp 10.99.0.1:80".parse()?;
    /// director.add_service(web, ServiceConfig::new(Told::default()))?;
    /// let server = director.add_server(web, ServerConfig::new("10.0.1.11:80".parse()?, Method::Direct))?;
    /// assert_eq!(director.with_scheduler(web, |told, _| told.0.replace(server)), Some(None));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn with_scheduler<R>(
        &mut self,
        key: ServiceKey,
        function: impl FnOnce(&mut SchedulerOf<S>, &mut Pool<'_>) -> R,
    ) -> Option<R> {
        let engine = self.engine();
        let index = engine.tables.by_key.find(&key)?;
        let service = engine.tables.services.get_mut(index as usize)?.as_mut()?;
        let lookup = engine.tables.by_key.table(index);
        let (context, _) = engine.brain.pick_context(&service.key);
        let mut pool =
            Pool::new(engine.tables.servers, service.first, service.servers, lookup, service.flags, context);
        let answer = function(&mut service.scheduler, &mut pool);
        engine.brain.timers.expect(service.scheduler.next_tick());
        Some(answer)
    }

    /// Sets how loaded a real server is by its own account, for schedulers of the embedder's: any number, in any unit.
    /// [`Server::load`](crate::service::Server::load) is it. The built-in schedulers do not ask for it.
    ///
    /// # Errors
    ///
    /// [`ObserveError::NotFound`] if there is no such server, or it was removed.
    pub fn set_load(&mut self, server: impl Into<ServerRef>, load: u32) -> Result<(), ObserveError> {
        let servers = self.store.parts().servers;
        let server = meant(servers, server.into()).and_then(|id| servers.get_mut(id.0 as usize));
        let server = server.filter(|server| server.is_available()).ok_or(ObserveError::NotFound)?;
        server.load = load;
        Ok(())
    }
}
