//! Application-level gateways: what must be read or changed in a packet's payload so that it can be balanced.

pub mod ftp;
pub mod sip;
