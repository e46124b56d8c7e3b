//! What embedders have seen of real servers: failures in a row, and how long answers take.

use crate::director::Director;
use crate::director::engine::Engine;
use crate::model::error::ObserveError;
use crate::model::id::ServerId;
use crate::model::news::ServerFact;
use crate::model::standing::{FailurePolicy, Outcome};
use crate::model::tick::Tick;
use crate::sched::schedule::Change;
use crate::store::Store;

impl<S: Store> Director<S> {
    /// When failures that are [observed](Self::observe) hold servers back. `None`, the default, for never; whoever is
    /// held back then comes back at once.
    pub fn set_failure_policy(&mut self, policy: Option<FailurePolicy>) {
        self.brain.failure_policy = policy;
        if policy.is_none() {
            self.brain.next_return = Some(Tick::ZERO);
            self.engine().bring_back_all();
        }
    }

    /// Tells what was seen of a real server. Latencies make an average that forgets, for
    /// [`p2c`](crate::sched::PowerOfTwo). Failures in a row, by the [policy](Self::set_failure_policy), hold the server
    /// back: for a time it has weight 0, as if health checks had quiesced it, and then its own again. One more failure
    /// after that holds it back for twice as long; a success makes up for all of them.
    ///
    /// # Errors
    ///
    /// [`ObserveError::NotFound`] if there is no such server, or it was removed.
    pub fn observe(&mut self, now: Tick, server: ServerId, outcome: Outcome) -> Result<(), ObserveError> {
        self.engine_at(now).observe(server, outcome)
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
                server.standing.failures = server.standing.failures.saturating_add(1);
                let Some(policy) = self.brain.failure_policy else { return Ok(()) };
                // Who came back on trial has one failure.
                let enough = if server.standing.times > 0 { 1 } else { policy.failures.max(1) };
                if server.standing.failures >= enough && server.standing.until.is_none() {
                    self.hold_back(id, policy);
                }
            }
        }
        Ok(())
    }

    /// Gives a server weight 0 for a time, unless too many of its service's have none already.
    fn hold_back(&mut self, id: ServerId, policy: FailurePolicy) {
        let server = &self.tables.servers[id.0 as usize];
        if server.weight == 0 {
            return;
        }
        let index = server.service.0;
        let Some(Some(service)) = self.tables.services.get(index as usize) else { return };
        let (mut held, mut all) = (0_u64, 0_u64);
        for (_, other) in crate::sched::order::walk(self.tables.servers, service.first) {
            held += u64::from(other.standing.until.is_some());
            all += u64::from(other.standing.until.is_some() || other.weight > 0);
        }
        if (held + 1) * 100 > all * u64::from(policy.share) {
            return;
        }
        let now = self.brain.clock;
        let server = &mut self.tables.servers[id.0 as usize];
        let secs = u64::from(policy.secs.max(1)) << server.standing.times.min(MOST_DOUBLINGS);
        let until = now.plus_secs(secs);
        server.standing.hold(until, server.weight);
        server.weight = 0;
        self.brain.next_return = Some(self.brain.next_return.map_or(until, |next| next.min(until)));
        say!(info, "server {} is held back for {secs} s after failures", server.address);
        self.after_weight(id, index);
    }

    /// Gives servers their weights back whose time of being held back is over.
    #[inline]
    pub(crate) fn bring_back(&mut self) {
        if self.brain.next_return.is_some_and(|next| self.brain.clock >= next) {
            self.bring_back_all();
        }
    }

    #[cold]
    fn bring_back_all(&mut self) {
        let now = self.brain.clock;
        let forgiven = self.brain.failure_policy.is_none();
        self.brain.next_return = None;
        for at in 0..self.tables.servers.len() {
            let server = &mut self.tables.servers[at];
            let Some(until) = server.standing.until else { continue };
            if !forgiven && now < until {
                let next = self.brain.next_return.map_or(until, |next| next.min(until));
                self.brain.next_return = Some(next);
                continue;
            }
            server.weight = server.standing.come_back();
            if server.is_available() {
                say!(info, "server {} comes back on trial", server.address);
                let index = server.service.0;
                self.inform(index, Change::Edited(ServerId(at as u32)));
            }
        }
    }

    /// What follows from another weight, as after an edit.
    fn after_weight(&mut self, id: ServerId, index: u32) {
        if self.tables.servers[id.0 as usize].is_drained() {
            self.note_server(id, ServerFact::Drained);
        }
        self.inform(index, Change::Edited(id));
    }
}

/// What a failure counts as among latencies, so that `p2c` turns away from who fails.
const FAILURE_MICROS: u32 = 5_000_000;
/// Twice as long each time, up to 64 times.
const MOST_DOUBLINGS: u8 = 6;
