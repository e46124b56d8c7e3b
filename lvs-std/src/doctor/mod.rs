//! What is wrong with a director's surroundings, and how to mend it.
//!
//! [`examine`] looks first and judges then. A patient is everything that was found: of the
//! machine, the configuration, and what each real server answers, also through the virtual address. A check is a
//! function from that to [`Finding`]s, in a file of its own with a line in `checks!`. The order of the lines is that of
//! importance.
//!
//! ```text
//! Subject --patient::Patient::look--> machine, holders, disk        --checks of the machine--> findings
//!                 |                                                        | nothing basic is missing
//!                 +--asked::ask, wire::hear--> answers of servers     --checks of the servers--> findings
//! ```
//!
//! Nothing is changed. Real servers are asked for connections, which are reset when they are accepted.

mod asked;
mod check;
mod finding;
mod patient;
mod wire;

use std::io;
use std::path::PathBuf;

use crate::config::ConfigSource;

pub use finding::{Finding, Rank};

/// What is looked at.
#[derive(Clone, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it is filled in by whoever asks")]
pub struct Subject {
    /// What the director is told. Without it, only the machine is looked at.
    pub source: Option<ConfigSource>,
    /// The director's control socket: who has it is the director that may have the interfaces too.
    pub socket: Option<PathBuf>,
    /// The director's state file.
    pub state: Option<PathBuf>,
}

/// Names of all checks, in the order of their importance.
pub const CHECKS: &[&str] = check::NAMES;

/// Finds what is wrong, in the network namespace of the calling thread, the most important first.
///
/// Servers are asked only where the machine itself can: not while a capability is missing or an interface is down. It
/// takes some seconds where servers do not answer.
///
/// # Errors
/// When the kernel says nothing about its interfaces and addresses.
pub fn examine(subject: &Subject) -> io::Result<Vec<Finding>> {
    let mut patient = patient::Patient::look(subject)?;
    let mut findings = check::of_machine(&patient);
    if !findings.iter().any(|finding| check::is_basic(finding.check)) {
        if let Some(configuration) = patient.configuration() {
            patient.answers = asked::ask(configuration, |address| patient.has(address))?;
        }
        for (port, questions) in patient.questions() {
            patient.heard.insert(port, wire::hear(&questions)?);
        }
        findings.extend(check::of_servers(&patient));
    }
    findings.sort_by_key(|finding| (finding.rank, check::place(finding.check)));
    findings.dedup();
    Ok(findings)
}
