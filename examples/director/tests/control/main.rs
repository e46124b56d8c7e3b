//! A running director under control: reload, drain, restart, clients that misbehave, addresses that move.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod clients;
#[path = "../support/greeting.rs"]
mod greeting;
mod refusals;
mod reload;
mod restart;
mod service;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod top;

use std::process::ExitCode;

use lvs_std::lab::harness;

fn main() -> ExitCode {
    harness::run(None, |lab| {
        harness::named(
            lab,
            [
                (
                    "a reload changes what the file says anew, and keeps connections and what operators changed",
                    reload::reload,
                ),
                ("a file that is wrong, or only half written, changes nothing", reload::half_written),
                ("a plan says what a reload would change and what share of clients would move", reload::plan),
                ("a director that was killed comes back with the table that it had", restart::restart),
                (
                    "a second start is refused and the first director loses nothing by it",
                    restart::second_start,
                ),
                (
                    "programs of checks end with the director, also when it is killed",
                    restart::programs_of_checks,
                ),
                ("a drained server keeps its connections until the deadline cuts them", reload::drain),
                ("what became of a packet is explained", reload::explain),
                ("a trace shows frames as they came and as they left", reload::trace),
                (
                    "clients that send garbage, or read nothing, hold nobody up and stay connected",
                    clients::hostile_clients,
                ),
                (
                    "an operator's commands work while clients crowd, and when no descriptor or thread is left",
                    clients::crowded,
                ),
                ("what cannot be printed, or has no memory, is an error with words", refusals::unprinted),
                (
                    "director top shows a load, drains by a key, and leaves the terminal as it was",
                    top::watched,
                ),
                (
                    "a service manager hears when it is ready, that it lives, reads again and ends",
                    service::notified,
                ),
                ("the log is text, JSON or for the journal, which it finds out by itself", service::logged),
                ("an address is answered for while the machine has it", reload::follow),
            ],
        )
    })
}
