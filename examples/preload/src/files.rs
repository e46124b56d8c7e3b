//! The files by which IPVS tells of itself, and their way over the director's socket.
//!
//! A datagram is a netlink message of a type of its own. `READ` is answered with the text in pieces and an end of dump,
//! `STREAM` with an acknowledgement, after which every datagram is what is written to the file. Both may be answered
//! with an error.

use core::time::Duration;
use std::fs;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::message::{self, attributes, messages};
use crate::{ffi, relay};

/// A file that is the director's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum File<'a> {
    /// `/proc/net/NAME`: only to be read.
    Text(&'a [u8]),
    /// `/proc/sys/net/ipv4/vs/NAME`: a switch.
    Switch(&'a [u8]),
    /// `/proc/sys/net/ipv4/vs`.
    Folder,
}

impl<'a> File<'a> {
    /// The file at this path, if it is one of these.
    pub(crate) fn at(path: &'a [u8]) -> Option<Self> {
        let path = path.strip_prefix(b"/proc/")?;
        if let Some(rest) = path.strip_prefix(SWITCHES) {
            return match rest.strip_prefix(b"/") {
                None if rest.is_empty() => Some(Self::Folder),
                Some(b"") => Some(Self::Folder),
                Some(name) if !name.contains(&b'/') => Some(Self::Switch(name)),
                Some(_) | None => None,
            };
        }
        let own = path.strip_prefix(b"self/").or_else(|| path.strip_prefix(b"thread-self/"));
        let name = own.unwrap_or(path).strip_prefix(b"net/")?;
        TEXTS.contains(&name).then_some(Self::Text(name))
    }

    /// Whether the director has it: false also when there is no director.
    pub(crate) fn exists(self) -> bool {
        match self {
            // Reading a list of connections could take long; that there is a director says enough.
            Self::Text(_) | Self::Folder => relay::open(libc::SOCK_CLOEXEC, relay::FIRST).is_ok(),
            Self::Switch(_) => self.ask(READ, libc::SOCK_CLOEXEC, |_| Ok(())).is_ok(),
        }
    }

    /// A file of the kernel's that is of the same kind, so that its owner, mode and type are right.
    pub(crate) const fn stand_in(self) -> &'static core::ffi::CStr {
        match self {
            Self::Text(_) => c"/proc/net/dev",
            Self::Switch(_) => c"/proc/sys/net/ipv4/ip_forward",
            Self::Folder => c"/proc/sys/net/ipv4",
        }
    }

    /// A new descriptor of it, opened as open(2) says.
    pub(crate) fn open(self, flags: i32) -> io::Result<OwnedFd> {
        let cloexec = if flags & libc::O_CLOEXEC == 0 { 0 } else { libc::SOCK_CLOEXEC };
        let writing = flags & libc::O_ACCMODE != libc::O_RDONLY;
        match self {
            Self::Text(_) | Self::Switch(_) if !writing => {
                let mut file = fs::File::from(ffi::memory_file(cloexec != 0)?);
                self.ask(READ, libc::SOCK_CLOEXEC, |piece| file.write_all(piece))?;
                file.rewind()?;
                Ok(file.into())
            }
            Self::Switch(_) => self.ask(STREAM, cloexec, |_| Ok(())),
            Self::Text(_) => Err(io::Error::from_raw_os_error(libc::EACCES)),
            Self::Folder => Err(io::Error::from_raw_os_error(libc::EISDIR)),
        }
    }

    /// Asks for something to be done with the file, and hands out what comes; then the connection.
    fn ask(
        self,
        command: u8,
        flags: i32,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<OwnedFd> {
        let mut room = [0; REQUEST];
        let request = self.request(command, &mut room);
        let request = request.ok_or_else(|| io::Error::from_raw_os_error(libc::ENAMETOOLONG))?;
        let absent = |_| io::Error::from_raw_os_error(libc::ENOENT);
        let connection = UnixStream::from(relay::open(flags, relay::FIRST).map_err(absent)?);
        connection.set_read_timeout(Some(PATIENCE))?;
        ffi::send(connection.as_raw_fd(), request)?;
        answer(&connection, command, &mut take)?;
        Ok(connection.into())
    }

    /// The request as it is sent; `None` if the name is too long.
    fn request(self, command: u8, room: &mut [u8; REQUEST]) -> Option<&[u8]> {
        let (folder, name): (&[u8], &[u8]) = match self {
            Self::Text(name) => (b"/proc/net/", name),
            Self::Switch(name) => (b"/proc/sys/net/ipv4/vs/", name),
            Self::Folder => return None,
        };
        let attribute = 4 + folder.len() + name.len() + 1;
        let length = message::HEADERS + attribute;
        if length > room.len() {
            return None;
        }
        let flags = if command == READ { REQUEST_FLAG } else { REQUEST_FLAG | ACK_FLAG };
        let head = u32::try_from(length).ok()?.to_ne_bytes().into_iter();
        let head = head.chain(FILES.to_ne_bytes()).chain(flags.to_ne_bytes()).chain([0; 8]);
        let head = head.chain([command, 1, 0, 0]);
        let head = head.chain(u16::try_from(attribute).ok()?.to_ne_bytes()).chain(PATH.to_ne_bytes());
        let bytes = head.chain(folder.iter().copied()).chain(name.iter().copied()).chain([0]);
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = from;
        }
        room.get(..length)
    }
}

/// The flags of open(2) that a mode of fopen(3) stands for.
pub(crate) fn flags(mode: &[u8]) -> i32 {
    let access = match (mode.first(), mode.contains(&b'+')) {
        (Some(b'r'), false) => libc::O_RDONLY,
        (_, true) => libc::O_RDWR,
        (_, false) => libc::O_WRONLY,
    };
    access | if mode.contains(&b'e') { libc::O_CLOEXEC } else { 0 }
}

/// Reads an answer to its end, and hands out the pieces of text in it.
fn answer(
    mut connection: &UnixStream,
    command: u8,
    take: &mut impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut room = [0; DATAGRAM];
    loop {
        let length = match connection.read(&mut room) {
            Ok(0) => return Err(io::Error::from_raw_os_error(libc::ECONNRESET)),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for message in messages(room.get(..length).unwrap_or_default()) {
            match message::kind(message) {
                message::DONE => return Ok(()),
                message::ERROR => match message::error(message) {
                    Some(0) if command == STREAM => return Ok(()),
                    Some(0) => {}
                    error => {
                        let number = error.and_then(i32::checked_neg).unwrap_or(libc::EPROTO);
                        return Err(io::Error::from_raw_os_error(number));
                    }
                },
                FILES => {
                    for (_, piece) in attributes(message).filter(|&(kind, _)| kind == TEXT) {
                        take(piece)?;
                    }
                }
                _ => {}
            }
        }
    }
}

const SWITCHES: &[u8] = b"sys/net/ipv4/vs";
const TEXTS: [&[u8]; 5] =
    [b"ip_vs", b"ip_vs_conn", b"ip_vs_conn_sync", b"ip_vs_stats", b"ip_vs_stats_percpu"];
/// How long the director may take for a piece of an answer. Lists of connections come in pieces.
const PATIENCE: Duration = Duration::from_secs(10);
/// Room for a request: the longest name of a switch is much shorter.
const REQUEST: usize = 320;
/// Room for a datagram of an answer.
const DATAGRAM: usize = 64 << 10;
/// The type of messages about files.
const FILES: u16 = 0x1c;
const READ: u8 = 1;
const STREAM: u8 = 3;
/// Attribute: the path, with a NUL.
const PATH: u16 = 1;
/// Attribute: a piece of the text.
const TEXT: u16 = 2;
/// `NLM_F_REQUEST`.
const REQUEST_FLAG: u16 = 1;
/// `NLM_F_ACK`.
const ACK_FLAG: u16 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_ipvs_are_known_by_all_their_paths() {
        assert_eq!(File::at(b"/proc/net/ip_vs"), Some(File::Text(b"ip_vs")));
        assert_eq!(File::at(b"/proc/self/net/ip_vs_conn"), Some(File::Text(b"ip_vs_conn")));
        assert_eq!(File::at(b"/proc/thread-self/net/ip_vs_stats"), Some(File::Text(b"ip_vs_stats")));
        assert_eq!(File::at(b"/proc/sys/net/ipv4/vs/sloppy_tcp"), Some(File::Switch(b"sloppy_tcp")));
        assert_eq!(File::at(b"/proc/sys/net/ipv4/vs"), Some(File::Folder));
        assert_eq!(File::at(b"/proc/sys/net/ipv4/vs/"), Some(File::Folder));
    }

    #[test]
    fn other_files_are_not_ours() {
        for path in [
            "",
            "/",
            "/proc/",
            "/proc/net/dev",
            "/proc/net/ip_vs_other",
            "/proc/net/ip_vs/",
            "/proc/sys/net/ipv4/vsx",
            "/proc/sys/net/ipv4/vs/a/b",
            "/proc/sys/net/ipv4/ip_forward",
            "proc/net/ip_vs",
            "/etc/hosts",
        ] {
            assert_eq!(File::at(path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn a_request_is_a_netlink_message() {
        let mut room = [0; REQUEST];
        let request = File::Text(b"ip_vs").request(READ, &mut room).unwrap();
        let mut expected = vec![40, 0, 0, 0, 0x1c, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 20, 0, 1, 0];
        expected.extend(b"/proc/net/ip_vs\0");
        assert_eq!(request, expected);
        let name = [b'x'; 400];
        assert_eq!(File::Switch(&name).request(STREAM, &mut room), None);
    }
}
