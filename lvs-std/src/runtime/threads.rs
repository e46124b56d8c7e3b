//! The worker threads.

use std::io;
use std::thread::{self, JoinHandle};

use super::{RunError, RuntimeGroup, RuntimeWorker, StartError};
use crate::cpu::pin_thread;
use crate::worker::End;

type Thread = JoinHandle<(RuntimeWorker, io::Result<End>)>;

/// Workers at work, each on a thread of its own. All of them stop when this is dropped.
#[derive(Debug)]
pub(super) struct Threads {
    group: RuntimeGroup,
    threads: Vec<Thread>,
}

impl Threads {
    /// Puts the workers to work.
    pub(super) fn start(
        workers: Vec<RuntimeWorker>,
        group: RuntimeGroup,
        cpus: &[usize],
    ) -> Result<Self, StartError> {
        // Dropped on the way out by an error, so that the workers that run already stop.
        let mut all = Self { group, threads: Vec::new() };
        for (number, mut worker) in workers.into_iter().enumerate() {
            let name = if number == 0 { "worker".to_owned() } else { format!("worker-{number}") };
            let (cpu, group) = (cpus.get(number).copied(), all.group.clone());
            let run = move || {
                let _all = StopAll(group);
                let end = cpu.map_or(Ok(()), pin_thread).map(|()| worker.run());
                (worker, end)
            };
            let thread = thread::Builder::new().name(name).spawn(run);
            all.threads.push(thread.map_err(StartError::system("a worker's thread"))?);
        }
        Ok(all)
    }

    /// Waits until all workers have ended, and returns them. When one has come to its end, all do.
    pub(super) fn join(mut self) -> (Vec<RuntimeWorker>, Result<End, RunError>) {
        let (mut workers, mut all) = (Vec::new(), Ok(End::Stopped));
        for thread in self.threads.drain(..) {
            let Ok((worker, end)) = thread.join() else {
                all = Err(RunError::Panic);
                continue;
            };
            workers.push(worker);
            match (end, &all) {
                (Err(error), Ok(_)) => all = Err(RunError::Processor(error)),
                // The others were stopped because of this one.
                (Ok(end @ (End::Ended | End::Failed)), Ok(_)) => all = Ok(end),
                (Ok(_) | Err(_), _) => {}
            }
        }
        (workers, all)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.group.stop();
        for thread in self.threads.drain(..) {
            // A panic of it has been reported already.
            drop(thread.join());
        }
    }
}

/// Stops all workers when one has come to its end, by a panic too: clients of that one would have none.
struct StopAll(RuntimeGroup);

impl Drop for StopAll {
    fn drop(&mut self) {
        self.0.stop();
    }
}
