//! Devices over real interfaces, in namespaces of this process. No root is needed; where the kernel refuses user
//! namespaces, the whole set fails and says what to change.

mod balanced;
mod bridge;
mod fan;
mod local;
mod packet;
mod tun;

use core::error::Error;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use lvs_std::lab::Lab;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // Before any thread: a user namespace can only be entered by a process with one.
    let lab = match Lab::new() {
        Ok(lab) => lab,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut trials: Vec<Trial> = packet::trials(lab);
    trials.extend(fan::trials(lab));
    trials.extend(tun::trials(lab));
    trials.extend(local::trials(lab));
    trials.extend(balanced::trials(lab));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A test by its name; a panic or an error fails it.
fn trial(name: &str, test: impl FnOnce() -> Result<(), Box<dyn Error>> + Send + 'static) -> Trial {
    Trial::test(name, move || test().map_err(|error| error.to_string().into()))
}
