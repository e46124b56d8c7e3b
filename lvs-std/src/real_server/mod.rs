//! A real server made ready for a forwarding method, and made again what it was.
//!
//! One list of [`Step`]s is the [`Plan`]: [`up`] takes them, [`down`] takes back those that changed something,
//! [`Plan::commands`] says them as a person would type them, and [`Plan::files`] as the files that make them last. So
//! these cannot disagree.
//!
//! ```text
//! Wanted --Plan::new--> Plan: steps --up--> machine       (each change is written down before it is made)
//!                         |                   ^
//!                         +--> commands       +--down-- record: what was there before, newest last
//!                         +--> files of a distribution
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `plan` | what is wanted, and the steps that follow |
//! | `step` | a step, as a command |
//! | `files` | the steps as files of a distribution |
//! | `apply` | the steps taken and taken back, over any machine |
//! | `machine` | the machine: this one, by netlink and `/proc/sys` |
//! | `check` | what the machine lacks, before anything is changed |
//! | `record` | what was there before, in a file |

mod apply;
mod check;
mod error;
mod files;
mod machine;
mod plan;
mod record;
mod step;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::ownership::OwnedState;

pub use apply::{Done, Undone};
pub use error::RealServerError;
pub use files::{Format, PlannedFile};
pub use plan::{Mode, Plan, PlanError, Unwrap, Wanted};
pub use step::{Step, Tunnel};

use machine::Kernel;
use record::Record;

/// Makes this machine a real server: takes all steps of a plan that it has not taken yet. What was there before is
/// written to the file `record` first, so that [`down`] undoes the changes whatever happens. Steps that are taken
/// already change nothing, here and in the record.
///
/// It is for the network namespace of the calling thread.
///
/// # Errors
/// [`RealServerError::Lacks`] when the machine cannot take the steps: nothing was changed. When a step fails all the
/// same, those that were taken by this call are undone.
pub fn up(plan: &Plan, record: &Path) -> Result<Vec<Done>, RealServerError> {
    let mut kernel = Kernel::open().map_err(RealServerError::netlink)?;
    check::check(plan, &mut kernel)?;
    let owned = OwnedState::take(record).map_err(RealServerError::Record)?;
    let mut record = Record::read(owned.path())?;
    apply::up(&plan.steps, &mut kernel, &mut record)
}

/// Makes this machine what it was before: undoes, newest first, what [`up`] has changed by the file `record`, also when
/// that was cut off in the middle. What somebody else has changed since is left as it is. Without a record there is
/// nothing to undo.
///
/// # Errors
/// When the kernel refuses a step; what is left of the record stays for another try.
pub fn down(record: &Path) -> Result<Vec<(Step, Undone)>, RealServerError> {
    if !record.exists() {
        return Ok(Vec::new());
    }
    let owned = OwnedState::take(record).map_err(RealServerError::Record)?;
    let mut record = Record::read(owned.path())?;
    let mut kernel = Kernel::open().map_err(RealServerError::netlink)?;
    if !record.is_empty() {
        check::may_configure()?;
    }
    apply::down(&mut kernel, &mut record)
}
