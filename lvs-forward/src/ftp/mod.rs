//! FTP (RFC 959, RFC 2428), as far as a helper for its data connections needs it.

mod address;
pub mod parse;
