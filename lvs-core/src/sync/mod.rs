//! Connection synchronisation: how directors tell each other about connections, as messages.
//!
//! A master sends what [`Event::Sync`](crate::Event::Sync) gives it, packed into datagrams by [`Master`]; a backup
//! takes datagrams apart with [`decode()`] and gives each entry to
//! [`Director::apply_sync`](crate::Director::apply_sync). The messages are those of the kernel's sync daemon, to the
//! byte: a Linux machine can be at the other end. They go to UDP port 8848 of a multicast group, by default 224.0.0.81,
//! with a TTL of 1 and no authentication; sockets are the caller's.
//!
//! ```
//! use lvs_core::sync::{Message, SyncEntry, Version, decode};
//! let (client, virt) = ("198.51.100.7:40000".parse()?, "192.0.2.1:80".parse()?);
//! let mut entry = SyncEntry::new(6, client, virt, "10.0.0.11:8080".parse()?).unwrap();
//! (entry.state, entry.timeout) = (1, 900);
//!
//! let mut buffer = [0; 1_472];
//! let mut message = Message::new(&mut buffer, Version::One, 5).unwrap();
//! message.push(&entry, None)?;
//! let datagram = message.finish();
//!
//! let received = decode(datagram, 5)?.next().unwrap()?;
//! assert_eq!((received.entry.client(), received.entry.timeout), (client, 900));
//! assert!(decode(datagram, 6).is_err(), "of another group of directors");
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod decode;
mod encode;
mod master;

pub use crate::model::sync_entry::{Sequences, Shift, SyncEntry};
pub use decode::{Entries, EntryError, MessageError, Received, decode};
pub use encode::{Message, PushError, Version};
pub use master::{LEAST_MESSAGE, Master};

/// What a message of version 1 begins with; version 0 has half of it.
const HEADER: usize = 8;
const HEADER_V0: usize = 4;
/// An entry before its addresses.
const FIXED: usize = 24;
/// An entry of version 0 without sequence data.
const ENTRY_V0: usize = 24;
/// Sequence data.
const SEQUENCES: usize = 24;
/// Options of an entry.
const OPTION_SEQUENCES: u8 = 1;
const OPTION_DATA: u8 = 2;
const OPTION_NAME: u8 = 3;
/// A receiver that does not know an option with this bit ignores it, and without it the entry.
const OPTION_MAY_BE_IGNORED: u8 = 0x40;
/// The type of an IPv6 entry.
const TYPE_V6: u8 = 0x01;
