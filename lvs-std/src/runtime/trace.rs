//! A trace of a running director, for a client that asks for a piece of it again and again.

use core::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::RuntimeGroup;
use crate::filter::{PacketFilter, SyntaxError};
use crate::trace::Session;
use crate::worker::WorkerGone;

/// The trace that is under way, if there is one.
#[derive(Default)]
pub(super) struct Traces(Mutex<Held>);

#[derive(Default)]
struct Held {
    /// Traces have numbers, so that nobody reads another one's.
    number: u64,
    session: Option<Arc<Session>>,
    /// The workers record nothing any more.
    ended: bool,
}

/// Why there is no trace, or no more of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceError {
    /// The director is ending.
    Ending,
    /// The filter does not make sense.
    Syntax(SyntaxError),
    /// Somebody else traces.
    Busy,
    /// No such trace is under way: nobody has read it for ten seconds, or it was ended.
    Over,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ending => f.write_str("the director is ending"),
            Self::Syntax(error) => write!(f, "filter: {error}"),
            Self::Busy => f.write_str("somebody else traces this director: one trace at a time"),
            Self::Over => {
                f.write_str("no such trace is under way: it was not read for ten seconds, or was ended")
            }
        }
    }
}

impl core::error::Error for TraceError {}

impl From<SyntaxError> for TraceError {
    fn from(error: SyntaxError) -> Self {
        Self::Syntax(error)
    }
}

impl Traces {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a trace, and returns its number.
    pub(super) fn begin(&self, group: &RuntimeGroup, filter: Option<&str>) -> Result<u64, TraceError> {
        let filter = filter.map(str::parse::<PacketFilter>).transpose()?;
        let mut held = self.held();
        if held.session.as_ref().is_some_and(|session| session.is_heard()) {
            return Err(TraceError::Busy);
        }
        let session = group.trace(filter).map_err(|WorkerGone| TraceError::Ending)?;
        held.number += 1;
        held.session = Some(Arc::new(session));
        held.ended = false;
        Ok(held.number)
    }

    /// The trace of this number, and whether the workers record nothing any more.
    pub(super) fn session(&self, number: u64) -> Result<(Arc<Session>, bool), TraceError> {
        let held = self.held();
        let session = held.session.as_ref().filter(|_| held.number == number).ok_or(TraceError::Over)?;
        Ok((session.clone(), held.ended))
    }

    /// From now on the workers record nothing; what they have recorded can still be read.
    pub(super) fn end(&self, group: &RuntimeGroup, number: u64) -> Result<(), TraceError> {
        let mut held = self.held();
        if held.number != number || held.session.is_none() {
            return Err(TraceError::Over);
        }
        group.end_trace().map_err(|WorkerGone| TraceError::Ending)?;
        held.ended = true;
        Ok(())
    }

    /// All of it has been read.
    pub(super) fn forget(&self, number: u64) {
        let mut held = self.held();
        if held.number == number {
            held.session = None;
        }
    }
}
