//! What happens, told: by the queue of events, and by each real server for itself.

use crate::director::Director;
use crate::director::engine::Engine;
use crate::model::event::Event;
use crate::model::id::ServerId;
use crate::model::news::{Pending, ServerFact, ServerNews};
use crate::store::{Queue as _, Store};

impl<S: Store> Director<S> {
    /// Takes the oldest event, if there is one. Events that find the queue full are lost and counted; in their place
    /// comes [`Event::Lost`] with their number. What matters of real servers is not lost by it, see
    /// [`poll_server`](Self::poll_server).
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.store.parts().events.pop() {
            return Some(event);
        }
        match core::mem::take(&mut self.brain.lost) {
            0 => None,
            count => Some(Event::Lost { count }),
        }
    }

    /// The next real server that was drained, overloaded or relieved since it was last asked for, the first of them
    /// first. Each server keeps this for itself, so nothing of a server in a service is lost, however much happens and
    /// however rarely it is asked for. A removed server has it until its place is another's: for two minutes at least,
    /// unless a full store needs the place before. One that comes back to its service has nothing to say of before.
    ///
    /// ```
    /// use lvs_core::{Config, Director, Heap, Method, Scheduler, Seed, Weight};
    /// use lvs_core::{ServerConfig, ServiceConfig, ServiceKey};
    ///
    /// let store: Heap = Heap::with_capacity(16);
    /// let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), store);
    /// let web: ServiceKey = "tcp 10.99.0.1:80".parse()?;
    /// director.add_service(web, ServiceConfig::new(Scheduler::default()))?;
    /// let config = ServerConfig::new("10.0.1.11:80".parse()?, Method::Nat).with_tag(4711);
    /// director.add_server(web, config)?;
    /// director.edit_server(web, config.with_weight(Weight::QUIESCED))?;
    /// let news = director.poll_server().unwrap();
    /// assert_eq!((news.drained, news.tag), (true, 4711));
    /// assert_eq!(director.poll_server(), None);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn poll_server(&mut self) -> Option<ServerNews> {
        let tables = self.store.parts();
        while let Some(id) = self.brain.news.first {
            let server = tables.servers.get_mut(id.0 as usize)?;
            let pending = core::mem::replace(&mut server.pending, Pending::NOTHING);
            self.brain.news.first = pending.next;
            if pending.next.is_none() {
                self.brain.news.last = None;
            }
            // The place may have gone to another server since.
            if pending.is_empty() {
                continue;
            }
            return Some(ServerNews {
                server: id,
                generation: server.generation,
                tag: server.tag,
                service: server.key,
                drained: pending.has(ServerFact::Drained),
                overloaded: pending.has(ServerFact::Overloaded),
                relieved: pending.has(ServerFact::Relieved),
            });
        }
        None
    }
}

impl<S: Store> Engine<'_, S> {
    /// Tells an event, or that there are events that could not be told.
    #[inline(always)]
    pub(crate) fn note(&mut self, event: Event) {
        if self.brain.lost > 0 || !self.tables.events.push(event) {
            self.note_late(event);
        }
    }

    /// An event that found the queue full, or that comes after such ones: their number is told before it, if there is
    /// room for both.
    #[cold]
    #[inline(never)]
    fn note_late(&mut self, event: Event) {
        if self.brain.lost > 0 && self.tables.events.room() > 1 {
            let count = core::mem::take(&mut self.brain.lost);
            self.tables.events.push(Event::Lost { count });
            self.tables.events.push(event);
        } else {
            self.brain.counters.events_lost += 1;
            self.brain.lost += 1;
        }
    }

    /// Tells of a server, which keeps it until it is asked.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_server(&mut self, id: ServerId, fact: ServerFact) {
        self.note(fact.event(id));
        let Some(server) = self.tables.servers.get_mut(id.0 as usize) else { return };
        server.pending.add(fact);
        if core::mem::replace(&mut server.pending.listed, true) {
            return;
        }
        match self.brain.news.last.replace(id) {
            None => self.brain.news.first = Some(id),
            Some(last) => {
                if let Some(last) = self.tables.servers.get_mut(last.0 as usize) {
                    last.pending.next = Some(id);
                }
            }
        }
    }
}
