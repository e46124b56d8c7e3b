//! Everything at once: clients, operators, reloads, interfaces that go, kills, floods, a full disk; in an order drawn
//! from a seed. In between the books must balance.
//!
//! In CI it is a short run from a fixed seed. By hand it runs for as long as one wants:
//! `LVS_CHAOS_MINUTES=60 LVS_CHAOS_SEED=7 cargo test -p director --test chaos`. Which command meets which trouble is
//! also a matter of threads, so the same seed gives the same troubles and commands, but not the same run to the
//! microsecond.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod books;
mod chance;
mod commands;
mod director;
#[path = "../support/greeting.rs"]
mod greeting;
mod model;
mod traffic;
mod trouble;

use core::str::FromStr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::env;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use lvs_std::lab::harness::{self, Outcome, trial};
use lvs_std::lab::{Disk, Lab};

use crate::books::Books;
use crate::chance::Chance;
use crate::commands::{Commands, Progress};
use crate::director::Director;
use crate::model::Model;
use crate::traffic::Net;
use crate::trouble::Trouble;

fn main() -> ExitCode {
    harness::start(Some(1), |_| {
        let lab = Lab::new()?;
        let folder = env::temp_dir().join(format!("chaos-{}", std::process::id()));
        let disk = lab.disk(&folder, DISK)?;
        let name =
            "through any trouble, what was acknowledged is there, the books balance, and clients are served";
        Ok(vec![trial(name, move || chaos(lab, disk))])
    })
}

fn chaos(lab: Lab, disk: Disk) -> Outcome {
    let seed = setting("LVS_CHAOS_SEED").unwrap_or(SEED);
    let minutes: Option<f64> = setting("LVS_CHAOS_MINUTES");
    let end = minutes.map(|minutes| Instant::now() + Duration::from_secs_f64(minutes * 60.0));
    let mut chance = Chance::new(seed);
    let mut run = Run::new(lab, disk, &mut chance)?;
    let mut steps = 0;
    let told = |step: usize, trouble: &Trouble, error| {
        format!("seed {seed}, step {step}, {trouble:?}: {error} (run it again with LVS_CHAOS_SEED={seed})")
    };
    // Each trouble comes once before any comes again, in an order that is drawn anew each time.
    loop {
        for trouble in chance.shuffled(Trouble::ALL) {
            run.step(trouble, &mut chance).map_err(|error| {
                eprintln!("the director's log:\n{}", run.director.log());
                told(steps, &trouble, error)
            })?;
            steps += 1;
            if minutes.is_some() {
                eprintln!("{steps}: {trouble:?}: {}", run.books.summary());
            }
        }
        if end.is_none_or(|end| Instant::now() >= end) {
            break;
        }
    }
    run.end().map_err(|error| format!("seed {seed}, at the end: {error}").into())
}

/// A number that is set in the environment.
fn setting<T: FromStr>(name: &str) -> Option<T> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// A net under trouble, and what is known of it.
struct Run {
    net: Net,
    director: Director,
    model: Model,
    books: Books,
    /// Fills up by command.
    disk: Disk,
}

impl Run {
    fn new(lab: Lab, disk: Disk, chance: &mut Chance) -> Outcome<Self> {
        let net = Net::new(lab)?;
        let workers = 1 + chance.below(2);
        let model = Model::new(workers);
        let mut director = Director::start(&net.cluster.director, &model.text(), &disk)?;
        // From here on each one finds a state file, which it keeps open: all use the same.
        director.stop()?;
        director.start_again()?;
        let mut run = Self { net, director, model, books: Books::default(), disk };
        run.check()?;
        Ok(run)
    }

    /// Commands of two clients at once, while something happens; and then the books.
    fn step(&mut self, trouble: Trouble, chance: &mut Chance) -> Outcome {
        let (stop, progress) = (AtomicBool::new(false), Progress::default());
        let seeds = [chance.next(), chance.next()];
        let Self { net, director, model, disk, .. } = self;
        let (netlink, json) = model.halves();
        let at = director.place();
        thread::scope(|scope| {
            let commands = |seed| Commands::new(&at, trouble, Chance::new(seed), &stop, &progress);
            let (one, other) = (commands(seeds[0]), commands(seeds[1]));
            let one = scope.spawn(move || one.by_netlink(netlink).map_err(|error| error.to_string()));
            let other = scope.spawn(move || other.by_json(json).map_err(|error| error.to_string()));
            let struck = trouble.strike(net, director, disk, &progress, chance);
            stop.store(true, Ordering::Release);
            let (one, other) = (one.join(), other.join());
            struck?;
            for done in [one, other] {
                done.map_err(|_| "a client panicked")??;
            }
            Outcome::Ok(())
        })?;
        self.check()
    }

    fn check(&mut self) -> Outcome {
        self.books.check(&mut self.net, &self.director, &mut self.model, self.disk.path())
    }

    fn end(self) -> Outcome {
        let Self { director, net, books, .. } = self;
        director.terminate()?;
        eprintln!("chaos: {}", books.summary());
        net.end()
    }
}

/// What CI runs.
const SEED: u64 = 14;
/// Bytes of the disk that the state file is on.
const DISK: u64 = 1 << 20;
