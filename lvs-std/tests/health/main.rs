//! Checkers against real servers on loopback: good ones, dead ones, slow ones and hostile ones.

mod datagrams;
mod engine;
mod http;
mod https;
mod program;
mod servers;
mod tcp;

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};

use lvs_std::health::{Check, Engine, Event, Failure, Probe, Probes, Schedule, State};

/// An engine at work, gone with this value.
struct Checking {
    probes: Option<Probes>,
    events: Receiver<Event>,
    thread: Option<JoinHandle<()>>,
}

impl Checking {
    fn start() -> Self {
        let (mut engine, probes, events) = Engine::new().expect("an engine");
        let thread = thread::spawn(move || engine.run());
        Self { probes: Some(probes), events, thread: Some(thread) }
    }

    fn probes(&self) -> &Probes {
        self.probes.as_ref().expect("until it is dropped")
    }
}

impl Drop for Checking {
    fn drop(&mut self) {
        drop(self.probes.take());
        let thread = self.thread.take().expect("until it is dropped");
        thread.join().expect("it never panics");
    }
}

/// A schedule for tests: often, and believing every answer.
fn often() -> Schedule {
    let mut schedule = Schedule::every(Duration::from_millis(20)).with_counts(1, 1).with_timeout(PATIENCE);
    schedule.warmup = Duration::ZERO;
    schedule
}

/// What one attempt comes to.
fn ask(target: SocketAddr, check: impl Into<Check>) -> Result<(), Failure> {
    ask_within(target, check, PATIENCE)
}

fn ask_within(target: SocketAddr, check: impl Into<Check>, timeout: Duration) -> Result<(), Failure> {
    let checking = Checking::start();
    let mut schedule = often().with_timeout(timeout);
    schedule.interval = Duration::from_secs(60);
    let id = checking.probes().watch(Probe::new(target, check.into(), schedule));
    assert!(checking.probes().wait_until_ready(timeout + PATIENCE), "every attempt ends");
    let report = checking.probes().report(id).expect("it is watched");
    assert_eq!(report.state == State::Up, report.why.is_none(), "{report:?}");
    report.why.map_or(Ok(()), Err)
}

const PATIENCE: Duration = Duration::from_secs(10);
/// For attempts that are to time out.
const SHORT: Duration = Duration::from_millis(200);
