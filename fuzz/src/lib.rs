//! What the fuzz targets do.
//!
//! Each is a function of bytes that panics when something is wrong. `fuzz_targets/` hands them to libFuzzer, one
//! line each; `tests/corpus.rs` runs them over the committed inputs, so that `cargo test` keeps what was found.

mod arrival;
mod backup;
mod batch;
mod bytes;
mod control;
mod director;
mod forward;
mod fragments;
mod ftp;
mod helper;
mod http;
mod icmp;
mod journal;
mod json;
mod offload;
mod rules;
mod sip;
mod steering;
mod sync;

pub use backup::backup;
pub use batch::batch;
pub use control::control;
pub use director::director;
pub use forward::{decap, host_on_the_wire, parse, transform};
pub use fragments::fragments;
pub use ftp::ftp;
pub use helper::helper;
pub use http::http;
pub use icmp::icmp;
pub use journal::journal;
pub use json::json;
pub use offload::offload;
pub use rules::rules;
pub use sip::sip;
pub use steering::steering;
pub use sync::sync;

/// A fuzz target: what it does with an input.
pub type Target = fn(&[u8]);

/// Every fuzz target by its name, which is also that of its corpus and its binary.
pub const TARGETS: &[(&str, Target)] = &[
    ("backup", backup),
    ("batch", batch),
    ("control", control),
    ("decap", decap),
    ("director", director),
    ("fragments", fragments),
    ("ftp", ftp),
    ("helper", helper),
    ("host", host_on_the_wire),
    ("http", http),
    ("icmp", icmp),
    ("journal", journal),
    ("json", json),
    ("offload", offload),
    ("parse", parse),
    ("rules", rules),
    ("sip", sip),
    ("steering", steering),
    ("sync", sync),
    ("transform", transform),
];

/// A store that is made quickly: a fuzz target makes one for each input.
fn small_store(connections: usize) -> lvs_core::Heap {
    let mut capacity = lvs_core::config::Capacity::new(connections);
    (capacity.services, capacity.servers, capacity.events) = (8, 64, 16);
    lvs_core::Heap::new(capacity)
}
