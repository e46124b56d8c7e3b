//! Any bytes as a state file.

use lvs_core::{Config, Director, Heap, Scheduler, Seed};
use lvs_forward::host::Host;
use lvs_forward::{Forwarder, Options};
use lvs_std::control::{Controller, Journal, Local, MemoryFile, NoDaemons};

type One = Controller<Heap<Scheduler>, Local<Heap<Scheduler>>>;

fn controller() -> One {
    let seed = Seed::from_bytes([7; 16]);
    let director = Director::new(Config::new(seed), crate::small_store(16));
    let host: Host = Host::new(seed);
    Controller::new(Local::new(director, Box::new(Forwarder::new(host, Options::new()))), Box::new(NoDaemons))
}

/// What was declared, in words.
fn declared(controller: &One) -> String {
    let services = controller.desired().services();
    let rows = services.map(|(name, of)| format!("{name} {:?} {:?}\n", of.spec, of.servers));
    rows.chain([format!("{:?}", controller.drains())]).collect()
}

/// The input is a state file. A director must start with it or say why not, and leave what it does not understand as it
/// is, or beside the file that it writes. What it has taken up, the next one has too, and finds nothing wrong.
pub fn journal(input: &[u8]) {
    let file = MemoryFile::new(input);
    let Ok(journal) = Journal::in_memory(&file) else {
        assert_eq!(file.bytes(), input);
        return;
    };
    let is_damaged = journal.damage().is_some();
    assert_eq!(file.bytes(), input, "nothing is written before somebody has looked");
    let mut first = controller();
    let taken = first.keep_journal(journal);
    assert!(taken.written.is_ok(), "{taken:?}");
    let kept = if is_damaged || !taken.refused.is_empty() { vec![input.to_vec()] } else { Vec::new() };
    assert_eq!(file.kept_aside(), kept);
    let written = Journal::in_memory(&file);
    let Ok(journal) = written else { panic!("{written:?}") };
    assert_eq!(journal.damage(), None);
    let mut second = controller();
    let taken = second.keep_journal(journal);
    assert!(taken.refused.is_empty(), "{taken:?}");
    assert_eq!(declared(&second), declared(&first));
}
