//! What of a director does not work as it should, until it works again.
//!
//! Whoever finds out that a part is degraded [raises](Problems::raise) a problem, and [clears](Problems::clear) it when
//! the part works again. In between, everybody who asks for health is told of it. A part has one problem at a time.

use core::fmt;
use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::events::Events;
use crate::control::api::ApiEvent;

/// A part of a director that can be degraded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Part {
    /// A network interface, by its name, with the VLAN if the director's port there has one.
    Interface(String),
    /// The file in which services and servers are kept.
    State(PathBuf),
    /// An address of the director that another host claims as well.
    Address(IpAddr),
    /// A setting of this machine that gets in the director's way, by its name, such as `rp_filter`.
    Machine(String),
    /// What the director answers for.
    Addresses,
    /// The log.
    Log,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(name) => write!(f, "interface {name}"),
            Self::State(file) => write!(f, "state file {}", file.display()),
            Self::Address(address) => write!(f, "address {address}"),
            Self::Machine(setting) => write!(f, "this machine's {setting}"),
            Self::Addresses => f.write_str("virtual addresses"),
            Self::Log => f.write_str("log"),
        }
    }
}

/// What is wrong with a part.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Problem {
    /// The part.
    pub part: Part,
    /// What is wrong with it, and what can be done, in words.
    pub why: String,
    /// Since when the part has had a problem.
    pub since: Instant,
}

/// The problems that a director has now. Clones are of the same list.
///
/// ```
/// use lvs_std::runtime::{Part, Problems};
/// let problems = Problems::default();
/// problems.raise(Part::Interface("eth0".to_owned()), "it is down");
/// assert_eq!(problems.list()[0].why, "it is down");
/// problems.clear(&Part::Interface("eth0".to_owned()));
/// assert!(problems.list().is_empty());
/// ```
#[derive(Clone, Default)]
pub struct Problems {
    list: Arc<Mutex<BTreeMap<Part, Problem>>>,
    events: Events,
}

impl Problems {
    /// The events that tell of problems.
    pub(super) const fn events(&self) -> &Events {
        &self.events
    }

    /// Notes that a part is degraded. Log and events tell of it once, and again when `why` is another one. Returns
    /// whether it is news.
    pub fn raise(&self, part: Part, why: impl Into<String>) -> bool {
        let why = why.into();
        {
            let mut list = self.lock();
            let since = match list.get(&part) {
                Some(known) if known.why == why => return false,
                Some(known) => known.since,
                None => Instant::now(),
            };
            list.insert(part.clone(), Problem { part: part.clone(), why: why.clone(), since });
        }
        tracing::error!("{part}: {why}");
        self.events.tell(&ApiEvent::Problem { part: part.to_string(), why });
        true
    }

    /// Notes that a part works as it should. Log and events tell of it once. Returns whether it is news.
    pub fn clear(&self, part: &Part) -> bool {
        let Some(problem) = self.lock().remove(part) else { return false };
        let seconds = problem.since.elapsed().as_secs_f64();
        tracing::info!("{part}: works again, after {seconds:.1} s");
        self.events.tell(&ApiEvent::Mended { part: part.to_string(), seconds });
        true
    }

    /// All of them, by part.
    #[must_use]
    pub fn list(&self) -> Vec<Problem> {
        self.lock().values().cloned().collect()
    }

    /// The list is only ever changed by a single call, so a panic elsewhere leaves it whole.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Part, Problem>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All problems of one kind, by whoever looks for them again and again.
pub(super) struct Findings {
    problems: Problems,
    parts: BTreeSet<Part>,
}

impl Findings {
    /// None so far.
    pub(super) const fn new(problems: Problems) -> Self {
        Self { problems, parts: BTreeSet::new() }
    }

    /// Says what is found now, and that all else is over.
    pub(super) fn set(&mut self, found: BTreeMap<Part, String>) {
        for part in self.parts.iter().filter(|part| !found.contains_key(part)) {
            self.problems.clear(part);
        }
        self.parts = found.keys().cloned().collect();
        for (part, why) in found {
            self.problems.raise(part, why);
        }
    }
}

impl fmt::Debug for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lock().values()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_once_and_its_end_once() {
        let problems = Problems::default();
        let told = problems.events().listen();
        let eth0 = || Part::Interface("eth0".to_owned());
        assert!(problems.raise(eth0(), "it is down"));
        assert!(!problems.raise(eth0(), "it is down"));
        assert!(problems.raise(Part::Log, "12 lines are lost"));
        let since = problems.list()[0].since;
        assert!(problems.raise(eth0(), "it is gone"), "another reason is news");
        let listed = problems.list();
        assert_eq!((listed.len(), &*listed[0].why, listed[0].since), (2, "it is gone", since));
        assert!(problems.clone().clear(&eth0()));
        assert!(!problems.clear(&eth0()));
        assert_eq!(problems.list().len(), 1);
        let told: Vec<_> = told.try_iter().collect();
        assert!(
            matches!(
                &told[..],
                [
                    ApiEvent::Problem { .. },
                    ApiEvent::Problem { .. },
                    ApiEvent::Problem { part, why },
                    ApiEvent::Mended { .. }
                ] if part == "interface eth0" && why == "it is gone"
            ),
            "{told:?}"
        );
    }
}
