//! The real keepalived drives a running director through the preload library, in the namespaces of a lab.
//!
//! Without keepalived there is nothing to test, which is said loudly; it is an error if `LVS_REQUIRE_TOOLS` is 1.

mod cell;
mod reconnect;
mod recording;
mod replay;
mod servers;
mod tutorial;
mod vrrp;
mod web;

use core::error::Error;
use core::time::Duration;
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Trial};
use lvs_std::lab::{Lab, undisturbed};

/// What a test ends with.
type Outcome = Result<(), Box<dyn Error>>;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    if let Some(missing) = TOOLS.into_iter().find(|tool| !is_there(tool)) {
        eprintln!(
            "{missing} IS MISSING: nothing of keepalived is tested. \
             Install it (Debian: keepalived, util-linux, iproute2)."
        );
        let required = std::env::var("LVS_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
        return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    // Nearly all of the time is spent waiting for what was recorded, so all run at once.
    arguments.test_threads.get_or_insert(32);
    // Before any thread: a user namespace can only be entered by a process with one.
    let lab = match Lab::new() {
        Ok(lab) => lab,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut trials = replay::trials(lab);
    trials.push(trial("the tutorial's cluster survives a server under load", move || {
        tutorial::failure_under_load(lab)
    }));
    trials.push(trial("a director that was killed and started again hears of every change", move || {
        reconnect::restart(lab)
    }));
    trials.push(trial("the virtual address moves when the active director is gone", move || {
        vrrp::takeover(lab)
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A test by its name; a panic or an error fails it, on a machine that does not stand still for so long that checks
/// time out.
fn trial(name: impl Into<String>, test: impl Fn() -> Outcome + Send + 'static) -> Trial {
    Trial::test(name, move || undisturbed(BEARABLE, &test).map_err(|error| error.to_string().into()))
}

fn is_there(tool: &str) -> bool {
    Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Shorter gaps leave every table within what the comparison allows.
const BEARABLE: Duration = Duration::from_millis(300);
const TOOLS: [&str; 4] = ["keepalived", "unshare", "mount", "ip"];
