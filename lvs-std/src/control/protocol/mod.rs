//! Netlink messages: bytes from and to [commands](crate::control::Command) and [answers](crate::control::Answer).
//!
//! What is accepted, what is refused and with which number, and the order of attributes in answers are the kernel's
//! (Linux 6.1). Numbers are in host order unless they are marked as network order there. Reading never fails on any
//! bytes: what is cut counts as absent.

pub(crate) mod answer;
pub(crate) mod attribute;
pub(crate) mod nest;
pub(crate) mod request;
pub(crate) mod session;

/// Length of a `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// Length of it with the `struct genlmsghdr` behind it.
pub(crate) const GENERIC: usize = 20;

/// `nlmsg_type` values.
pub(crate) mod kind {
    /// An error or acknowledgement.
    pub(crate) const ERROR: u16 = 2;
    /// The end of a dump.
    pub(crate) const DONE: u16 = 3;
    /// Types below are control messages.
    pub(crate) const FIRST: u16 = 0x10;
    /// The controller of generic netlink families.
    pub(crate) const CONTROLLER: u16 = 0x10;
    /// The family `IPVS`. The kernel draws a number at each boot; a constant one lets clients reconnect.
    pub(crate) const IPVS: u16 = 0x1b;
    /// Files, a protocol of our own.
    pub(crate) const FILES: u16 = 0x1c;
}

/// `nlmsg_flags` values.
pub(crate) mod flag {
    pub(crate) const REQUEST: u16 = 1;
    pub(crate) const MULTI: u16 = 2;
    pub(crate) const ACK: u16 = 4;
    pub(crate) const DUMP: u16 = 0x300;
    pub(crate) const CAPPED: u16 = 0x100;
    /// Attributes follow behind what is repeated of the request.
    pub(crate) const ACK_TLVS: u16 = 0x200;
}

/// `IPVS_CMD_*`.
pub(crate) mod cmd {
    pub(crate) const NEW_SERVICE: u8 = 1;
    pub(crate) const SET_SERVICE: u8 = 2;
    pub(crate) const DEL_SERVICE: u8 = 3;
    pub(crate) const GET_SERVICE: u8 = 4;
    pub(crate) const NEW_DEST: u8 = 5;
    pub(crate) const SET_DEST: u8 = 6;
    pub(crate) const DEL_DEST: u8 = 7;
    pub(crate) const GET_DEST: u8 = 8;
    pub(crate) const NEW_DAEMON: u8 = 9;
    pub(crate) const DEL_DAEMON: u8 = 10;
    pub(crate) const GET_DAEMON: u8 = 11;
    pub(crate) const SET_CONFIG: u8 = 12;
    pub(crate) const GET_CONFIG: u8 = 13;
    pub(crate) const SET_INFO: u8 = 14;
    pub(crate) const GET_INFO: u8 = 15;
    pub(crate) const ZERO: u8 = 16;
    pub(crate) const FLUSH: u8 = 17;
}

/// Commands of our messages about files.
pub(crate) mod file {
    /// Attribute: the path of one.
    pub(crate) const PATH: u16 = 1;
    /// Attribute: text of one.
    pub(crate) const DATA: u16 = 2;
    /// The text of one.
    pub(crate) const READ: u8 = 1;
    /// Writes to one.
    pub(crate) const WRITE: u8 = 2;
    /// Writes every further datagram to one.
    pub(crate) const STREAM: u8 = 3;
}

/// First-level attributes, `IPVS_CMD_ATTR_*`.
pub(crate) mod attr {
    pub(crate) const SERVICE: u16 = 1;
    pub(crate) const DEST: u16 = 2;
    pub(crate) const DAEMON: u16 = 3;
    pub(crate) const TIMEOUT_TCP: u16 = 4;
    pub(crate) const TIMEOUT_TCP_FIN: u16 = 5;
    pub(crate) const TIMEOUT_UDP: u16 = 6;
}

/// The fields of a `struct nlmsghdr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) port: u32,
}

/// A message out of a datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) header: Header,
    /// All of it, header included.
    pub(crate) bytes: &'a [u8],
}

impl Message<'_> {
    /// The generic header's command, if the message is long enough for one.
    pub(crate) fn command(&self) -> Option<u8> {
        self.bytes.get(..GENERIC)?.get(HEADER).copied()
    }

    /// What is behind both headers.
    pub(crate) fn attributes(&self) -> &[u8] {
        self.bytes.get(GENERIC..).unwrap_or_default()
    }
}

/// The messages of a datagram, up to the first whose length makes no sense.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    core::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        let (kind, rest) = rest.split_first_chunk()?;
        let (flags, rest) = rest.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (port, _) = rest.split_first_chunk()?;
        let length = u32::from_ne_bytes(*length) as usize;
        if length < HEADER {
            return None;
        }
        let message = bytes.get(..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        let header = Header {
            kind: u16::from_ne_bytes(*kind),
            flags: u16::from_ne_bytes(*flags),
            sequence: u32::from_ne_bytes(*sequence),
            port: u32::from_ne_bytes(*port),
        };
        Some(Message { header, bytes: message })
    })
}

/// A message with these headers and attributes.
pub(crate) fn message(header: Header, command: u8, version: u8, attributes: &[u8]) -> Vec<u8> {
    let mut bytes = begin(header, GENERIC + attributes.len());
    bytes.extend([command, version, 0, 0]);
    bytes.extend(attributes);
    bytes
}

/// The header of a message of this length.
pub(crate) fn begin(header: Header, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(header.kind.to_ne_bytes());
    bytes.extend(header.flags.to_ne_bytes());
    bytes.extend(header.sequence.to_ne_bytes());
    bytes.extend(header.port.to_ne_bytes());
    bytes
}
