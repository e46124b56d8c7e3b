//! Application-level gateways: what must be read or changed in a packet's payload so that it can be balanced.

#[cfg(feature = "ftp")]
pub mod ftp;
#[cfg(feature = "sip")]
pub mod sip;
