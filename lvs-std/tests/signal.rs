//! A worker and the process's signals. Alone in its process, which the signal is sent to.

use std::thread;

use lvs_core::{Config, Director, Heap, Scheduler, Seed};
use lvs_forward::host::{Host, MacAddress, Port};
use lvs_forward::{Forwarder, Options};
use lvs_std::device::{PairOptions, pair};
use lvs_std::worker::{End, Worker, WorkerOptions};

#[test]
fn sigterm_stops_a_worker_that_waits() {
    let mut host: Host = Host::new(Seed::from_bytes([8; 16]));
    host.add_port(Port::ethernet(MacAddress([2, 0, 0, 0, 0, 1]), 1_500)).unwrap();
    let forwarder = Box::new(Forwarder::new(host, Options::new()));
    let director =
        Director::new(Config::new(Seed::from_bytes([7; 16])), Heap::<Scheduler>::with_capacity(10));
    let (device, _other_end) = pair(&PairOptions::default()).unwrap();
    let (mut worker, handle, _) =
        Worker::new(director, forwarder, vec![device], WorkerOptions::default()).unwrap();
    handle.stop_on_signals().unwrap();
    let thread = thread::spawn(move || worker.run());
    while handle.with(|_, _, _| ()).is_err() {}
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
    assert_eq!(thread.join().unwrap(), End::Stopped);
}
