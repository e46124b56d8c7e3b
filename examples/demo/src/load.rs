//! The clients of the demonstration: many requests, each on a connection of its own, every body checked.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crate::folder::{File, Folder, hash};
use crate::http;

/// What the clients saw.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// By the name of the server that answered.
    pub(crate) servers: BTreeMap<String, Share>,
    /// What went wrong, one line for each request that was not answered with the right bytes.
    pub(crate) failures: Vec<String>,
    pub(crate) time: Duration,
}

/// What one server did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) connections: u64,
    /// Bytes of files.
    pub(crate) bytes: u64,
}

/// Sends `count` requests for the files of `folder` in turn, some at a time, and tells `progress` how many are done.
/// To be called inside the clients' namespace.
pub(crate) fn run(to: SocketAddr, folder: &Folder, count: usize, progress: impl Fn(usize) + Sync) -> Tally {
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let tally = Mutex::new(Tally::default());
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CLIENTS.min(count) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let files = folder.files();
                    let (true, Some(file)) = (number < count, files.get(number % files.len().max(1))) else {
                        return;
                    };
                    let result = ask(to, file);
                    tally.lock().unwrap_or_else(PoisonError::into_inner).add(file, result);
                    progress(done.fetch_add(1, Ordering::Relaxed) + 1);
                }
            });
        }
    });
    let mut tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.time = started.elapsed();
    tally
}

impl Tally {
    fn add(&mut self, file: &File, result: Result<String, String>) {
        match result {
            Ok(server) => {
                let share = self.servers.entry(server).or_default();
                share.connections += 1;
                share.bytes += file.length as u64;
            }
            Err(failure) => self.failures.push(format!("{}: {failure}", file.name)),
        }
    }

    /// Connections and bytes of all servers.
    pub(crate) fn total(&self) -> Share {
        self.servers.values().fold(Share::default(), |sum, share| Share {
            connections: sum.connections + share.connections,
            bytes: sum.bytes + share.bytes,
        })
    }
}

/// Who answered, if the answer was right.
fn ask(to: SocketAddr, file: &File) -> Result<String, String> {
    let response = http::get(to, &file.name).map_err(|error| error.to_string())?;
    if response.status != 200 {
        return Err(format!("status {} of {}", response.status, response.server));
    }
    if (response.body.len(), hash(&response.body)) != (file.length, file.hash) {
        return Err(format!("{} sent other bytes than the file has", response.server));
    }
    Ok(response.server)
}

/// Requests under way at a time.
const CLIENTS: usize = 8;
