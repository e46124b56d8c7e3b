//! FTP (RFC 959, RFC 2428): data connections are announced in control connections, with addresses that NAT has to
//! change.
//!
//! Under NAT, control connections of virtual port 21 have a helper, as IPVS's `ip_vs_ftp`. It reads `PORT` and `EPRT`
//! of clients, and tells the director which connection the server will open; it rewrites the server's answers to `PASV`
//! and `EPSV`, so that the client connects to the virtual address. When an answer changes its length, sequence and
//! acknowledgement numbers of all later segments are changed with it.
//!
//! As with IPVS, an answer is rewritten once for each question: one that is sent again goes out as it is.

mod address;
mod control;
mod helper;
pub mod parse;

pub use self::control::{Control, Controls};
pub(crate) use self::helper::Helper;
