//! `AF_XDP` sockets over veth, and every forwarding method by them.
//!
//! BPF takes privileges of the machine itself, which no user namespace gives. Where this process has none, nothing is
//! tested, which is said loudly; it is an error if `LVS_REQUIRE_XDP` is 1.

#[path = "../netns/balancer.rs"]
mod balancer;
mod cable;
mod director;
#[path = "../netns/ftp.rs"]
mod ftp;
#[path = "../netns/methods.rs"]
mod methods;
#[path = "../netns/traffic.rs"]
mod traffic;

use core::error::Error;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use lvs_core::Method;
use lvs_std::device::xdp::{self, Attach, XdpOptions};
use lvs_std::lab::{Lab, Plan};

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(cable::HOLD) {
        return match cable::hold(&name) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(4);
    let lab = match Lab::privileged().map_err(Into::into).and_then(|lab| probe(lab).map(|()| lab)) {
        Ok(lab) => lab,
        Err(error) => {
            let required = std::env::var_os("LVS_REQUIRE_XDP").is_some_and(|value| value == "1");
            eprintln!("{}: {error}", if required { "error" } else { "NOTHING IS TESTED" });
            return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let finished = |method| Plan::new(method).with_finished_checksums().with_xdp(options(Attach::Native));
    let partial = |method| Plan::new(method).with_xdp(options(Attach::Native));
    let trials = cable::trials(lab)
        .into_iter()
        .chain(director::trials(lab))
        .chain(methods::over(lab, "AF_XDP: ", finished))
        .chain(ftp::over(lab, "AF_XDP: ", finished(Method::Nat)))
        .chain(methods::over(lab, "AF_XDP with partial checksums: ", partial).into_iter().filter(|trial| {
            // What else there is does not depend on checksums.
            ["carries", "echoes"].iter().any(|about| trial.name().contains(about))
        }))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Options for tests: less memory than usual, since many run at a time.
fn options(attach: Attach) -> XdpOptions {
    let mut options = XdpOptions::default();
    options.attach = attach;
    options.receive_frames = 2_048;
    options
}

/// Whether an interface can be opened at all.
fn probe(lab: Lab) -> Outcome {
    let (left, right) = (lab.node("left")?, lab.node("right")?);
    lab.connect((&left, "eth0"), (&right, "eth0"))?;
    left.run(|| xdp::open(&[("eth0", None)], &options(Attach::Native)).map(drop))??;
    Ok(())
}

/// What a test ends with.
type Outcome = Result<(), Box<dyn Error>>;

/// A test by its name; a panic or an error fails it.
fn trial(name: impl Into<String>, test: impl FnOnce() -> Outcome + Send + 'static) -> Trial {
    Trial::test(name, move || test().map_err(|error| error.to_string().into()))
}
