//! The servers that LVS was made for, from the distribution: web (nginx), mail (postfix), files (vsftpd) and names
//! (unbound). Three of a kind stand over one shared folder, behind `director run` with checks of its own; one of them
//! dies and comes back.
//!
//! They take the machine's own privileges, since each of them changes its user, and minutes. So they run only where
//! `LVS_REQUIRE_SERVERS` is 1, as in `bash .ci/run servers`, which installs them too. What was run, with the
//! results, is in docs/servers.md.

mod daemon;
mod dns;
mod ftp;
mod mail;
mod site;
mod web;

use std::process::ExitCode;

use lvs_core::{Family, Method, Tunnel};
use lvs_std::lab::Lab;
use lvs_std::lab::harness::{self, Outcome, Trial};

/// The environment variable without which, if it is not 1, nothing is tested here.
const REQUIRE_SERVERS: &str = "LVS_REQUIRE_SERVERS";

/// By each of which every kind is served.
const METHODS: [Method; 3] = [Method::Nat, Method::Direct, Method::Tunnel(Tunnel::IpIp)];

fn main() -> ExitCode {
    if std::env::var_os(REQUIRE_SERVERS).is_none_or(|value| value != "1") {
        return harness::nothing_tested(
            REQUIRE_SERVERS,
            "servers of the distribution: run `bash .ci/run servers`",
        );
    }
    // One at a time: they wait for checks and mail queues, by the clock.
    harness::start(Some(1), |_| {
        let lab = Lab::privileged()?;
        Ok(KINDS.iter().flat_map(|kind| kind.trials(lab)).collect())
    })
}

/// A kind of server.
struct Kind {
    name: &'static str,
    /// What has to be installed.
    programs: &'static [&'static str],
    families: &'static [Family],
    test: fn(Lab, Method, Family) -> Outcome,
}

const BOTH: &[Family] = &[Family::V4, Family::V6];

const KINDS: [Kind; 4] = [
    Kind { name: "web", programs: &["nginx", "curl"], families: BOTH, test: web::test },
    Kind { name: "dns", programs: &["unbound", "dig"], families: BOTH, test: dns::test },
    Kind { name: "ftp", programs: &["vsftpd", "curl"], families: BOTH, test: ftp::test },
    Kind { name: "mail", programs: &["postfix", "curl"], families: BOTH, test: mail::test },
];

impl Kind {
    fn trials(&self, lab: Lab) -> Vec<Trial> {
        let Self { name, programs, families, test } = *self;
        // Said before they are waited for in vain.
        if let Some(missing) = programs.iter().find(|program| !daemon::is_installed(program)) {
            return vec![harness::left_out(REQUIRE_SERVERS, name, format!("{missing} is not installed"))];
        }
        let cases = METHODS.iter().flat_map(|method| families.iter().map(move |family| (*method, *family)));
        cases
            .map(|(method, family)| {
                let title = format!("{name} servers over one folder, by {} over {family:?}", word(method));
                harness::trial(title, move || test(lab, method, family))
            })
            .collect()
    }
}

const fn word(method: Method) -> &'static str {
    match method {
        Method::Nat => "NAT",
        Method::Direct => "DR",
        Method::Tunnel(_) => "TUN",
        Method::Bypass | Method::Local => "no method",
    }
}
