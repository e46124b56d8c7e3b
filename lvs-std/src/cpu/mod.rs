//! What depends on this machine's processor and memory: prefetching, vector instructions, large pages, and on which
//! processor a thread runs.

mod affinity;
mod memory;
mod vectors;

pub use affinity::{pin_thread, processors};
pub use memory::{available_bytes, available_pages, read_ahead, use_large_pages};
pub use vectors::hash_together;
