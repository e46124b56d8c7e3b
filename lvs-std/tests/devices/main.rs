//! Devices over real interfaces, in namespaces of this process. No root is needed; where the kernel refuses user
//! namespaces, the whole set fails and says what to change.

mod balanced;
mod bridge;
mod fan;
mod local;
mod packet;
mod tun;

use std::process::ExitCode;

use lvs_std::lab::harness;

fn main() -> ExitCode {
    harness::run(None, |lab| {
        let mut trials = packet::trials(lab);
        trials.extend(fan::trials(lab));
        trials.extend(tun::trials(lab));
        trials.extend(local::trials(lab));
        trials.extend(balanced::trials(lab));
        trials
    })
}
