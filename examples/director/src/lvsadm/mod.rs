//! `lvsadm`: ipvsadm's command line for a director.
//!
//! Words are read by [`ipvsadm`](crate::ipvsadm), carried out by a director behind a [`Channel`], and what it answers is shown as ipvsadm
//! shows what the kernel answers: the same listings, the same errors, the same exit statuses. Installed as `ipvsadm`, the program
//! stands in for it.

mod channel;
mod connections;
mod drain;
mod names;
mod order;
mod program;
mod refusal;
mod request;
mod save;
mod session;
mod table;

pub use channel::{Channel, ChannelError};
pub use names::System;
pub use program::{call, main};
pub use request::request;
pub use save::{SaveError, parse_save, save_text};
pub use session::Session;

#[cfg(test)]
mod tests;
