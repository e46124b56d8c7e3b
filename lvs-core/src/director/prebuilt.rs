//! Look-up tables of schedulers: made when they are needed, or taken over.

use crate::director::Director;
use crate::model::key::ServiceKey;
use crate::model::server::Server;
use crate::sched::prebuilt::{PrebuiltTable, TableBuilder};
use crate::sched::schedule::Schedule;
use crate::sched::server_list::{Member, ServerList};
use crate::store::service::Service;
use crate::store::{Services as _, Store};

impl<S: Store> Director<S> {
    /// How the look-up table of a service is made; `None` if there is no such service, or its scheduler has no table
    /// that could be made ahead.
    pub fn table_builder(&self, key: ServiceKey) -> Option<TableBuilder> {
        TableBuilder::of(self.service(key)?.scheduler(), key.family())
    }

    /// The real servers of a service as far as look-up tables follow from them, the one added last first.
    pub fn members(&self, key: ServiceKey) -> impl Iterator<Item = Member> {
        self.servers(key).map(|(id, server)| Member::of(id, server))
    }

    /// Takes over a look-up table that was made ahead of the last changes, by copying it: some ten microseconds for
    /// 65,521 cells. Says whether it did. It does not if the table is not for exactly the servers that there are now,
    /// in their order, with their weights, by the service's own scheduler, or if the service has its table already.
    ///
    /// Without it, the director makes the table itself for the first new connection after the changes.
    ///
    /// ```
    /// use lvs_core::{Config, Director, Heap, Method, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey};
    /// use lvs_core::tables::{Member, TableBuilder};
    ///
    /// let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), Heap::with_capacity(1_000));
    /// let web = ServiceKey::tcp("10.99.0.1".parse()?, 80);
    /// director.add_service(web, ServiceConfig::new(Scheduler::from_name("mh").unwrap()))?;
    ///
    /// let new = ServerConfig::new("10.0.1.11:8080".parse()?, Method::Nat);
    /// let mut members: Vec<Member> = director.members(web).collect();
    /// let builder = director.table_builder(web).unwrap();
    /// // On another thread: the servers as they will be, the new one first.
    /// members.insert(0, Member::new(&new));
    /// let table = vec![0; builder.room(members.len())];
    /// let mut prepared = builder.build(members, table).unwrap();
    /// // Here again, at once after the change.
    /// director.add_server(web, new)?;
    /// assert!(director.adopt_table(web, &mut prepared));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn adopt_table<M: AsMut<[Member]>, T: AsMut<[u32]>>(
        &mut self,
        key: ServiceKey,
        prepared: &mut PrebuiltTable<M, T>,
    ) -> bool {
        let Some(builder) = self.table_builder(key) else { return false };
        let tables = self.store.parts();
        let Some(index) = tables.by_key.find(&key) else { return false };
        let Some(Some(service)) = tables.services.get_mut(index as usize) else { return false };
        let servers = crate::sched::order::walk(tables.servers, service.first);
        // The servers are compared one by one and not by a checksum, so that a table of other servers can never be
        // used.
        let adopted = service.stale
            && prepared.suits(&builder, servers.map(|(id, server)| (id, Member::of(id, server))))
            && prepared.copy_to(tables.by_key.table(index));
        service.stale &= !adopted;
        adopted
    }
}

/// Makes the look-up table for the servers that there are.
#[cold]
#[inline(never)]
pub(super) fn build_table<P: Schedule>(service: &mut Service<P>, servers: &mut [Server], table: &mut [u32]) {
    service.stale = false;
    if let Some(build) = service.scheduler.builder() {
        let len = service.servers as usize;
        build(&mut ServerList::chain(servers, service.first, len, service.key.family()), table);
    }
}
