//! The `main` of a test binary whose tests run in a lab.
//!
//! The kernel lets only a process with one thread enter a user namespace, and Rust's own test harness has several
//! before the first test begins. Such a binary is therefore declared with `harness = false`, and its `main` hands the
//! list of its tests to [`run`]:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use lvs_std::lab::Lab;
//! use lvs_std::lab::harness::{self, Outcome};
//!
//! fn main() -> ExitCode {
//!     harness::run(None, |lab| harness::named(lab, [("two nodes have names of their own", names)]))
//! }
//!
//! fn names(lab: Lab) -> Outcome {
//!     assert_ne!(lab.node("left")?.name(), lab.node("right")?.name());
//!     Ok(())
//! }
//! ```
//!
//! Arguments are those of `cargo test -- ...`: filters, `--list`, `--exact`, `--test-threads` and so on.
//!
//! | start | for tests |
//! |---|---|
//! | [`run`] | that need no privileges |
//! | [`run_privileged`] | that need those of the machine itself, and are left out without them |
//! | [`start`] | that need something else done first |

use core::error::Error;
use core::fmt::Display;
use std::process::ExitCode;

pub use libtest_mimic::{Arguments, Trial};

use super::Lab;
use crate::device::xdp::{self, XdpOptions};

/// What a test ends with: an error fails it, as a panic does.
pub type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A test that needs nothing but the lab.
pub type LabTest = fn(Lab) -> Outcome;

/// The environment variable that makes it an error, if it is 1, to leave out tests for want of BPF and `AF_XDP`.
pub const REQUIRE_XDP: &str = "LVS_REQUIRE_XDP";

/// The environment variable that makes it an error, if it is 1, to leave out tests for want of a tool that they drive.
pub const REQUIRE_TOOLS: &str = "LVS_REQUIRE_TOOLS";

/// The environment variable that makes it an error, if it is 1, to leave out tests for want of a kernel with VLANs.
pub const REQUIRE_VLAN: &str = "LVS_REQUIRE_VLAN";

/// A test by its name; a panic or an error fails it.
pub fn trial(name: impl Into<String>, test: impl FnOnce() -> Outcome + Send + 'static) -> Trial {
    Trial::test(name, move || test().map_err(|error| error.to_string().into()))
}

/// A [`trial`] for each pair of a name and its test.
pub fn named<const N: usize>(lab: Lab, tests: [(&str, LabTest); N]) -> Vec<Trial> {
    tests.into_iter().map(|(name, test)| trial(name, move || test(lab))).collect()
}

/// A test that cannot be made here, which must not go unnoticed: it is said on standard error and counted among the
/// ignored tests. The test fails instead if the environment variable `required`, [`REQUIRE_XDP`] or [`REQUIRE_TOOLS`],
/// is 1.
pub fn left_out(required: &str, name: &str, why: impl Display) -> Trial {
    let why = why.to_string();
    if is_one(required) {
        return trial(name, move || Err(why.into()));
    }
    eprintln!("\nNOT TESTED: {name}: {why}\n");
    trial(format!("{name} (NOT TESTED)"), || Ok(())).with_ignored_flag(true)
}

/// The whole of a `main` whose tests run in a [`Lab`] that needs no privileges; where the kernel refuses one, all fail.
///
/// At most `threads` tests run at a time, or as many as there are processors, unless the arguments say otherwise.
#[must_use]
pub fn run(threads: Option<usize>, trials: impl FnOnce(Lab) -> Vec<Trial>) -> ExitCode {
    start(threads, |_| Ok(trials(Lab::new()?)))
}

/// The whole of a `main` whose tests need privileges of the machine itself, which no user namespace gives.
///
/// `probe` tries in a [privileged](Lab::privileged) lab what all the tests need. Where there is no such lab, or the
/// probe fails, there is no test, as [`nothing_tested`] says by [`REQUIRE_XDP`]. `threads` is as in [`run`].
#[must_use]
pub fn run_privileged(
    threads: Option<usize>,
    probe: impl FnOnce(Lab) -> Outcome,
    trials: impl FnOnce(Lab) -> Vec<Trial>,
) -> ExitCode {
    let lab = Lab::privileged().map_err(Into::into).and_then(|lab| probe(lab).map(|()| lab));
    match lab {
        Ok(lab) => start(threads, |_| Ok(trials(lab))),
        Err(error) => nothing_tested(REQUIRE_XDP, error),
    }
}

/// The whole of a `main` with preparations of its own: `trials` sees the arguments, makes the lab and lists the tests.
/// An error of its fails them all. `threads` is as in [`run`].
#[must_use]
pub fn start(threads: Option<usize>, trials: impl FnOnce(&Arguments) -> Outcome<Vec<Trial>>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(threads);
    // The lab is made in here: the runner below is the first to start a thread.
    match trials(&arguments) {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => exit_code(Err(error)),
    }
}

/// The end of a `main` that has nothing to test, which it says loudly on standard error. That is a success, unless the
/// environment variable `required`, [`REQUIRE_XDP`] or [`REQUIRE_TOOLS`], is 1.
#[must_use]
pub fn nothing_tested(required: &str, why: impl Display) -> ExitCode {
    let required = is_one(required);
    eprintln!("{}: {why}", if required { "error" } else { "NOTHING IS TESTED" });
    if required { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The end of a `main` that has come to this, with an error on standard error.
#[must_use]
pub fn exit_code(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether an interface of a lab can be opened as an `AF_XDP` device with these options: a probe for
/// [`run_privileged`].
///
/// # Errors
/// What the kernel refused.
pub fn probe_xdp(lab: Lab, options: &XdpOptions) -> Outcome {
    let (left, right) = (lab.node("left")?, lab.node("right")?);
    lab.connect((&left, "eth0"), (&right, "eth0"))?;
    left.run(|| xdp::open(&[("eth0", None)], options).map(drop))??;
    Ok(())
}

/// Whether an environment variable is 1.
fn is_one(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| value == "1")
}
