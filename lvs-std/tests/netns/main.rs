//! Real kernels on both sides of a real director: clients, director and real servers in namespaces of this process.
//!
//! No root is needed. Where the kernel refuses user namespaces, the whole set fails and says what to change.

mod balancer;
mod ftp;
mod health;
mod layout;
mod methods;
mod traffic;
mod workers;

use core::error::Error;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use lvs_core::Method;
use lvs_std::lab::{Lab, Plan};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Building and tearing down namespaces is mostly waiting for the kernel, so more tests run at a time than there are
    // processors; each takes about 140 MiB for its packet rings.
    arguments.test_threads.get_or_insert(4);
    // Before any thread: a user namespace can only be entered by a process with one.
    let lab = match Lab::new() {
        Ok(lab) => lab,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let trials = layout::trials(lab)
        .into_iter()
        .chain(methods::over(lab, "", Plan::new))
        .chain(ftp::over(lab, "", Plan::new(Method::Nat)))
        .chain(health::trials(lab))
        .chain(workers::trials(lab))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// What a test ends with.
type Outcome = Result<(), Box<dyn Error>>;

/// A test by its name; a panic or an error fails it.
fn trial(name: impl Into<String>, test: impl FnOnce() -> Outcome + Send + 'static) -> Trial {
    Trial::test(name, move || test().map_err(|error| error.to_string().into()))
}
