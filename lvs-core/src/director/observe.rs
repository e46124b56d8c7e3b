//! What embedders have seen of real servers: failures in a row, and how long answers take.

use crate::director::Director;
use crate::director::brain::Brain;
use crate::director::engine::Engine;
use crate::model::error::ObserveError;
use crate::model::id::{ServerId, ServerRef};
use crate::model::server::meant;
use crate::model::standing::{FailurePolicy, Outcome};
use crate::model::tick::Tick;
use crate::sched::schedule::Change;
use crate::store::Store;

impl<S: Store> Director<S> {
    /// When failures that are [observed](Self::observe) hold servers back. `None`, the default, for never: all failures
    /// are forgotten then, and whoever is held back comes back at once.
    pub fn set_failure_policy(&mut self, policy: Option<FailurePolicy>) {
        self.brain.failure_policy = policy;
        if policy.is_none() {
            self.engine().forgive();
        }
    }

    /// Tells what was seen of a real server. Latencies make an average that forgets, for
    /// [`p2c`](crate::sched::PowerOfTwo). Failures in a row, by the [policy](Self::set_failure_policy), hold the server
    /// back: for a time its weight counts as 0, as if health checks had quiesced it, and persistence sends nobody to it
    /// either. One more failure after that holds it back for twice as long; a success makes up for all of them.
    ///
    /// # Errors
    ///
    /// [`ObserveError::NotFound`] if there is no such server, or it was removed.
    pub fn observe(
        &mut self,
        now: Tick,
        server: impl Into<ServerRef>,
        outcome: Outcome,
    ) -> Result<(), ObserveError> {
        let mut engine = self.engine_at(now);
        let server = meant(engine.tables.servers, server.into()).ok_or(ObserveError::NotFound)?;
        engine.observe(server, outcome)
    }
}

impl<S: Store> Engine<'_, S> {
    fn observe(&mut self, id: ServerId, outcome: Outcome) -> Result<(), ObserveError> {
        let now = self.brain.clock;
        let server = self.tables.servers.get_mut(id.0 as usize);
        let server = server.filter(|server| server.is_available()).ok_or(ObserveError::NotFound)?;
        match outcome {
            Outcome::Success => server.standing.succeed(),
            Outcome::Latency { micros } => {
                server.standing.succeed();
                server.latency.add(now, micros);
            }
            Outcome::Failure => {
                server.latency.add(now, FAILURE_MICROS);
                server.standing.fail();
                if let Some(policy) = self.brain.failure_policy
                    && server.standing.has_failed(policy)
                {
                    self.hold_back(id, policy);
                }
            }
        }
        Ok(())
    }

    /// Lets a server's weight count as 0 for a time, unless it is 0 or too many of its service's servers are held back.
    fn hold_back(&mut self, id: ServerId, policy: FailurePolicy) {
        let server = &self.tables.servers[id.0 as usize];
        if server.standing.configured() == 0 {
            return;
        }
        let index = server.service.0;
        let Some(Some(service)) = self.tables.services.get(index as usize) else { return };
        let (mut held, mut all) = (0, 0);
        let others = crate::sched::order::walk(self.tables.servers, service.first);
        for (_, other) in others.filter(|(_, other)| other.standing.configured() > 0) {
            held += u64::from(other.is_held_back());
            all += 1;
        }
        if !policy.allows(held, all) {
            return;
        }
        let now = self.brain.clock;
        let server = &mut self.tables.servers[id.0 as usize];
        let until = server.standing.hold(now, policy);
        say!(
            info,
            "server {} is held back for {} s after failures",
            server.address,
            until.millis_since(now) / 1_000
        );
        if !core::mem::replace(&mut server.held.listed, true) {
            server.held.next = self.brain.held.replace(id);
        }
        self.brain.expect_return(until);
        self.inform(index, Change::Edited(id));
    }

    /// Lets servers come back whose time of being held back is over.
    #[inline]
    pub(crate) fn bring_back(&mut self) {
        if self.brain.next_return.is_some_and(|next| self.brain.clock >= next) {
            self.bring_back_due();
        }
    }

    #[cold]
    fn bring_back_due(&mut self) {
        let now = self.brain.clock;
        self.brain.next_return = None;
        let mut next = self.brain.held.take();
        // Each leaves the chain, and who has to wait begins it anew.
        while let Some(id) = next
            && let Some(server) = self.tables.servers.get_mut(id.0 as usize)
        {
            next = server.held.next.take();
            match server.standing.held_until() {
                Some(until) if now < until && server.is_available() => {
                    server.held.next = self.brain.held.replace(id);
                    self.brain.expect_return(until);
                }
                Some(_) if server.is_available() => {
                    server.held.listed = false;
                    server.standing.come_back();
                    say!(info, "server {} comes back on trial", server.address);
                    let index = server.service.0;
                    self.inform(index, Change::Edited(id));
                }
                Some(_) | None => server.held.listed = false,
            }
        }
    }

    /// Forgets all failures.
    fn forgive(&mut self) {
        let taken = self.brain.places.taken;
        self.tables.servers.iter_mut().take(taken).for_each(|server| server.standing.forgive());
        self.bring_back_due();
    }
}

impl Brain {
    /// A server comes back then.
    fn expect_return(&mut self, at: Tick) {
        self.next_return = Some(self.next_return.map_or(at, |next| next.min(at)));
    }
}

/// What a failure counts as among latencies, so that `p2c` turns away from who fails.
const FAILURE_MICROS: u32 = 5_000_000;
