//! What a scheduler sees: the servers, the table it was lent, and the occasion.

use core::net::IpAddr;

use super::order::walk;
use super::server_list::{Build, ServerList};
use crate::model::config::{ScheduleFlags, Tuning};
use crate::model::flow::{Family, Flow};
use crate::model::id::ServerId;
use crate::model::key::ServiceKey;
use crate::model::seed::Seed;
use crate::model::server::{Life, Server};
use crate::model::tick::Tick;

/// The real servers of a service, lent to its scheduler: newest first.
#[derive(Debug)]
pub struct Pool<'a> {
    servers: &'a mut [Server],
    first: Option<ServerId>,
    len: u32,
    table: &'a mut [u32],
    flags: ScheduleFlags,
    context: PickContext<'a>,
}

/// When and for whom a scheduler is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PickContext<'a> {
    pub(crate) now: Tick,
    /// The service.
    pub(crate) service: &'a ServiceKey,
    /// What a client chooses is hashed with this.
    pub(crate) seed: &'a Seed,
    /// The destination that hashing by destination sees, where it is not the flow's.
    pub(crate) destination: Option<IpAddr>,
    pub(crate) tuning: &'a Tuning,
}

impl<'a> Pool<'a> {
    #[inline(always)]
    pub(crate) fn new(
        servers: &'a mut [Server],
        first: Option<ServerId>,
        len: u32,
        table: &'a mut [u32],
        flags: ScheduleFlags,
        context: PickContext<'a>,
    ) -> Self {
        Self { servers, first, len, table, flags, context }
    }

    /// The servers in order, newest first.
    pub fn iter(&self) -> impl Iterator<Item = (ServerId, &Server)> {
        walk(self.servers, self.first)
    }

    /// The servers that come after `server`, or all of them after `None`. After one that was removed there are none.
    pub fn iter_after(&self, server: Option<ServerId>) -> impl Iterator<Item = (ServerId, &Server)> {
        let from = match server {
            None => self.first,
            // A server that is in no service is in a chain of such.
            Some(id) => self.get(id).filter(|server| server.is_available()).and_then(|server| server.next),
        };
        walk(self.servers, from)
    }

    /// A server by its id, also one that was removed or is another service's; `None` for an id that names none.
    #[must_use]
    pub fn get(&self, id: ServerId) -> Option<&Server> {
        self.servers.get(id.0 as usize).filter(|server| !matches!(server.life, Life::Vacant))
    }

    /// How many servers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The service's flags.
    #[must_use]
    pub fn flags(&self) -> ScheduleFlags {
        self.flags
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Tick {
        self.context.now
    }

    /// The family of clients and virtual addresses. Servers behind tunnels may be of the other one.
    #[must_use]
    pub fn family(&self) -> Family {
        self.context.service.family()
    }

    /// The address that scheduling by destination goes by: the virtual address of `flow`. For a connection that an ICMP
    /// error starts ([`schedule_icmp`](crate::config::Tuning::schedule_icmp)) it is the destination of the packet that
    /// the error quotes, which is the client, as in IPVS.
    #[must_use]
    pub fn destination(&self, flow: &Flow) -> IpAddr {
        self.context.destination.unwrap_or_else(|| flow.addresses.destination())
    }

    /// A hash of an address with a secret of this director, for tables whose keys clients choose.
    #[must_use]
    pub fn hash(&self, address: IpAddr) -> u64 {
        match address {
            IpAddr::V4(address) => self.context.seed.hash([], 4 << 56 | u64::from(address.to_bits())),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                self.context.seed.hash([(bits >> 64) as u64, bits as u64], 16 << 56)
            }
        }
    }

    /// The look-up table's cells, as many as the store lent by [`Schedule::table_len`](super::Schedule::table_len).
    #[must_use]
    pub fn table(&self) -> &[u32] {
        self.table
    }

    /// The look-up table's cells, for writing.
    pub fn table_mut(&mut self) -> &mut [u32] {
        self.table
    }

    /// The server that the cell at `index` names.
    pub(crate) fn at(&self, index: usize) -> Option<(ServerId, &Server)> {
        let id = ServerId(*self.table.get(index)?);
        self.get(id).map(|server| (id, server))
    }

    /// The usable server that `better` than all before it, newest first.
    pub(crate) fn best(&self, better: impl Fn(&Server, &Server) -> bool) -> Option<ServerId> {
        let usable = self.iter().filter(|(_, server)| server.is_usable());
        usable.reduce(|best, other| if better(other.1, best.1) { other } else { best }).map(|(id, _)| id)
    }

    /// How long `lblc` and `lblcr` remember, in seconds.
    pub(super) fn expirations(&self) -> (u32, u32) {
        (self.context.tuning.lblc_expiration, self.context.tuning.lblcr_expiration)
    }

    /// A server as a cache names it.
    pub(super) fn name(&self, id: ServerId) -> Option<Named> {
        self.get(id).map(|server| Named { id, generation: server.generation })
    }

    /// The server that a cache named, unless its place has gone to another one since.
    pub(super) fn named(&self, name: Named) -> Option<&Server> {
        // A place may have gone to another server since: the generation tells both apart.
        self.get(name.id).filter(|server| server.generation == name.generation)
    }

    /// One more entry of a cache names this server: it keeps its place, so that it is the same one when it comes back.
    pub(super) fn hold(&mut self, name: Named) {
        if self.named(name).is_some() {
            let server = &mut self.servers[name.id.0 as usize];
            server.holds = server.holds.saturating_add(1);
        }
    }

    /// One entry less.
    pub(super) fn release(&mut self, name: Named) {
        if self.named(name).is_some() {
            let server = &mut self.servers[name.id.0 as usize];
            server.holds = server.holds.saturating_sub(1);
        }
    }

    /// Makes the table.
    pub(super) fn build(&mut self, build: Build) {
        let family = self.family();
        build(&mut ServerList::chain(self.servers, self.first, self.len as usize, family), self.table);
    }

    /// Servers and table at once, for building the one from the other.
    pub(crate) fn parts(&mut self) -> (&mut [Server], Option<ServerId>, &mut [u32]) {
        (self.servers, self.first, self.table)
    }
}

/// A server as caches name it: its place, and how many others had the place before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) id: ServerId,
    pub(super) generation: u32,
}
