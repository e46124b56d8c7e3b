//! Steps taken and taken back.

use super::error::RealServerError;
use super::machine::{Machine, Now};
use super::record::{Change, Record};
use super::step::Step;

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing between")]
pub enum Done {
    /// The step was taken.
    Taken(Step),
    /// All was so already.
    Already(Step),
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing between")]
pub enum Undone {
    /// The change was undone.
    Restored,
    /// The change was not there (any more): cut off before it was made, or undone by somebody else.
    NotThere,
    /// Somebody else has made something third of it, which stays.
    Left,
}

/// Takes the steps that are not taken, each written down before.
pub(super) fn up(
    steps: &[Step],
    machine: &mut impl Machine,
    record: &mut Record,
) -> Result<Vec<Done>, RealServerError> {
    let at_first = record.len();
    let mut done = Vec::new();
    for step in steps {
        match take(step, machine, record) {
            Ok(of) => done.push(of),
            Err(Failure::Step(error)) => {
                let left = back_to(at_first, machine, record);
                return Err(RealServerError::Step { step: step.clone(), error, left });
            }
            Err(Failure::Record(error)) => {
                // What can be undone is; what cannot is in the record, as far as that could be written.
                back_to(at_first, machine, record);
                return Err(error);
            }
        }
    }
    Ok(done)
}

enum Failure {
    Step(std::io::Error),
    Record(RealServerError),
}

fn take(step: &Step, machine: &mut impl Machine, record: &mut Record) -> Result<Done, Failure> {
    let before = match machine.look(step).map_err(Failure::Step)? {
        Now::AsWanted => return Ok(Done::Already(step.clone())),
        Now::Else(before) => before,
    };
    let change = Change { step: step.clone(), before };
    if !record.has_last(&change) {
        record.push(change).map_err(Failure::Record)?;
    }
    machine.apply(step).map_err(Failure::Step)?;
    Ok(Done::Taken(step.clone()))
}

/// Undoes until so many changes are left. Returns the steps that could not be undone.
fn back_to(length: usize, machine: &mut impl Machine, record: &mut Record) -> Vec<Step> {
    let mut left = Vec::new();
    while record.len() > length
        && let Some(change) = record.last().cloned()
    {
        if undo(&change, machine).is_err() || record.pop().is_err() {
            left.push(change.step);
            break;
        }
    }
    left
}

/// Undoes all changes, newest first.
pub(super) fn down(
    machine: &mut impl Machine,
    record: &mut Record,
) -> Result<Vec<(Step, Undone)>, RealServerError> {
    let mut undone = Vec::new();
    while let Some(change) = record.last().cloned() {
        match undo(&change, machine) {
            Ok(how) => undone.push((change.step, how)),
            Err(error) => return Err(RealServerError::Undo { step: change.step, error }),
        }
        record.pop()?;
    }
    Ok(undone)
}

fn undo(change: &Change, machine: &mut impl Machine) -> std::io::Result<Undone> {
    match machine.look(&change.step)? {
        Now::AsWanted => machine.restore(&change.step, &change.before).map(|()| Undone::Restored),
        Now::Else(now) if now == change.before => Ok(Undone::NotThere),
        Now::Else(super::machine::Before::Absent) => Ok(Undone::NotThere),
        // A tunnel that was made and not brought up yet: half a step.
        Now::Else(super::machine::Before::Down) => {
            machine.restore(&change.step, &change.before).map(|()| Undone::Restored)
        }
        Now::Else(_) => Ok(Undone::Left),
    }
}
