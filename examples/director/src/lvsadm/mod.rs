//! `lvsadm`: ipvsadm's command line for a director.
//!
//! The library reads the words, has a director carry them out and shows the answers
//! ([`ipvsadm`](lvs_std::ipvsadm)). The program finds the director, looks at the name by which it was called, and has
//! a few commands of its own. Installed as `ipvsadm`, it stands in for that.

mod drain;
mod program;

pub use program::{call, main};
