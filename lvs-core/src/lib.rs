//! The deciding half of a Linux Virtual Server director.
#![no_std]
#![forbid(unsafe_code)]

mod conn;
mod flow;
mod method;
mod packet;
mod server;
mod tick;
mod verdict;

pub use conn::ConnId;
pub use flow::{Addresses, Family, Flow, Protocol};
pub use method::{Method, Tunnel};
pub use packet::{Chunk, Content, Packet, Path, TcpFlags};
pub use server::ServerId;
pub use tick::{MAX_TIMEOUT_SECS, Tick};
pub use verdict::{Direction, Forward, Reason, Verdict};
