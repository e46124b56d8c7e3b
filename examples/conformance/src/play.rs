//! A scenario played from its first step to its last.

use lvs_core::config::Capacity;
use lvs_core::service::SchedulerOf;
use lvs_core::{Fixed, Heap, Scheduler, Store};

use crate::compare::{Done, Sent, compare};
use crate::lab::{Input, Lab};
use crate::scenario::{Action, Scenario, Step};

/// How scenarios are played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Manner {
    /// Where the director keeps things.
    pub store: StoreKind,
    /// How many frames, that have no other step between them, go through the director together. 1 is one by one.
    pub batch: usize,
    /// Whether frames that the host is expected to make may be missing.
    pub ignore_host: bool,
}

/// A kind of store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[expect(clippy::exhaustive_enums, reason = "the stores of lvs-core")]
pub enum StoreKind {
    /// Sized at run time.
    #[default]
    Heap,
    /// Without an allocator.
    Fixed,
}

/// What became of a scenario.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Played {
    /// What the director did, by step.
    pub steps: Vec<Done>,
    /// How many frames were put in.
    pub frames: usize,
    /// Every difference.
    pub differences: Vec<Difference>,
}

/// A difference between what was expected and what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The step's number.
    pub step: u32,
    /// What is different, in words.
    pub what: String,
}

impl Default for Manner {
    fn default() -> Self {
        Self { store: StoreKind::Heap, batch: 1, ignore_host: false }
    }
}

impl Manner {
    /// Plays with another store.
    #[must_use]
    pub const fn with_store(mut self, store: StoreKind) -> Self {
        self.store = store;
        self
    }

    /// Plays with batches of so many frames.
    #[must_use]
    pub const fn with_batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }
}

/// Plays a scenario.
///
/// # Errors
///
/// A sentence, when the scenario itself cannot be played: its director cannot be set up, or a frame comes in by a port
/// that there is not.
pub fn play(scenario: &Scenario, manner: Manner) -> Result<Played, String> {
    match manner.store {
        StoreKind::Heap => {
            let mut capacity = Capacity::new(CONNECTIONS);
            (capacity.services, capacity.servers) = (SERVICES, SERVERS);
            run(scenario, manner, Heap::<Scheduler>::new(capacity))
        }
        StoreKind::Fixed => {
            let mut store: Box<Fixed<CONNECTIONS, SERVICES, SERVERS, 512, 4_093, Scheduler, 64>> =
                Box::new(Fixed::new());
            run(scenario, manner, &mut *store)
        }
    }
}

fn run<S>(scenario: &Scenario, manner: Manner, store: S) -> Result<Played, String>
where
    S: Store,
    SchedulerOf<S>: From<Scheduler>,
{
    let mut lab = Lab::new(&scenario.director, store)?;
    let mut steps = Vec::new();
    let (mut frames, mut early) = (0, Vec::new());
    let mut rest = scenario.steps.as_slice();
    while let [step, others @ ..] = rest {
        let with_first = |other: &&Step| is_frame(other) && other.t - step.t < LONGEST_BATCH_SECS;
        let count = rest.iter().take(manner.batch.max(1)).take_while(with_first).count();
        if count > 0 {
            let (batch, others) = rest.split_at(count);
            frames += count;
            steps.extend(put_in(&mut lab, batch, &mut early)?);
            rest = others;
        } else {
            steps.push(other_step(&mut lab, step, &mut early));
            rest = others;
        }
    }
    let differences = scenario.steps.iter().zip(&steps).flat_map(|(step, done)| {
        let words = compare(step, done, manner.ignore_host);
        words.into_iter().map(|what| Difference { step: step.number, what })
    });
    let differences = differences.collect();
    Ok(Played { steps, frames, differences })
}

const fn is_frame(step: &Step) -> bool {
    matches!(step.action, Action::Frame { .. })
}

/// Frames, together. What left `early`, since frames were last looked for, is seen with the first.
fn put_in<S>(lab: &mut Lab<S>, steps: &[Step], early: &mut Vec<Sent>) -> Result<Vec<Done>, String>
where
    S: Store,
    SchedulerOf<S>: From<Scheduler>,
{
    early.extend(lab.pass_until(steps.last().map_or(0.0, |step| step.t)));
    let inputs = steps.iter().filter_map(|step| match &step.action {
        Action::Frame { port, hex, .. } => Some(Input { port, bytes: &hex.0 }),
        Action::Ipvsadm { .. }
        | Action::Listing {}
        | Action::Sleep { .. }
        | Action::Snap { .. }
        | Action::Sysctl { .. } => None,
    });
    let inputs: Vec<Input<'_>> = inputs.collect();
    let out = lab.frames(&inputs).map_err(|error| match steps {
        [step, ..] => format!("step {}: {error}", step.number),
        [] => error,
    })?;
    let done = steps.iter().zip(out).map(|(step, out)| {
        let mut all = core::mem::take(early);
        all.extend(out);
        Done { number: step.number, out: Some(all), ..Done::default() }
    });
    Ok(done.collect())
}

fn other_step<S>(lab: &mut Lab<S>, step: &Step, early: &mut Vec<Sent>) -> Done
where
    S: Store,
    SchedulerOf<S>: From<Scheduler>,
{
    let mut done = Done { number: step.number, ..Done::default() };
    if let Action::Sleep { sec, .. } = &step.action {
        // A negative or absurd length is none.
        let mut out = core::mem::take(early);
        out.extend(lab.pass(((sec * 1_000.0) as u64).min(LONGEST_SLEEP_MILLIS)));
        out.extend(lab.pass_until(step.t));
        done.out = Some(out);
        return done;
    }
    early.extend(lab.pass_until(step.t));
    match &step.action {
        Action::Ipvsadm { args, .. } => {
            let (status, error) = lab.ipvsadm(args);
            (done.rc, done.error) = (Some(status), error);
        }
        Action::Snap { .. } => {
            let (services, connections) = lab.snapshot();
            (done.services, done.conns) = (Some(services), Some(connections));
        }
        Action::Sysctl { key, value } => done.error = lab.sysctl(key, value).err(),
        Action::Frame { .. } | Action::Listing {} | Action::Sleep { .. } => {}
    }
    done
}

const CONNECTIONS: usize = 1_024;
const SERVICES: usize = 8;
const SERVERS: usize = 64;
/// A day: no recording sleeps longer.
const LONGEST_SLEEP_MILLIS: u64 = 86_400_000;
/// Frames that came in later than this after the first of a batch are not put in with it.
const LONGEST_BATCH_SECS: f64 = 1.0;
