//! Control sockets as somebody's own: bound with the right mode at once, and removed only where they are ours.

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, RenameFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::owner::patiently;
use super::{OwnershipError, lock};
use crate::sys::option::{peer_groups, peer_user};

/// The path of a control socket that no other director binds or removes. Clones own the same one.
#[derive(Clone, Debug)]
pub struct OwnedSocket {
    /// As it was given: what is bound must be short (`sun_path`, `unix(7)`), and whole paths are longer.
    path: PathBuf,
    lock: Arc<fs::File>,
}

/// Who may connect to a control socket, and ask there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// The socket's mode. Default 0600.
    pub mode: u32,
    /// The group whose members may command the director, besides the superuser and the user that it runs as. The
    /// socket belongs to this group then. Default none.
    pub group: Option<u32>,
}

impl Default for Access {
    fn default() -> Self {
        Self { mode: 0o600, group: None }
    }
}

impl Access {
    /// Members of this group may command the director too.
    #[must_use]
    pub const fn for_group(group: u32) -> Self {
        Self { mode: 0o660, group: Some(group) }
    }

    /// Whether who is at the other end of a socket may command the director: the superuser, the user that this process
    /// runs as, and members of the group. The kernel noted who that is when the connection was made.
    #[must_use]
    pub fn admits(&self, peer: BorrowedFd<'_>) -> bool {
        let own = rustix::process::geteuid().as_raw();
        let is_member = |group| peer_groups(peer).is_ok_and(|groups| groups.contains(&group));
        peer_user(peer).is_ok_and(|user| user == 0 || user == own) || self.group.is_some_and(is_member)
    }
}

/// How a control socket carries bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the two that control sockets use")]
pub enum Transport {
    /// Whole messages (`SOCK_SEQPACKET`).
    Messages,
    /// A stream of bytes (`SOCK_STREAM`).
    Stream,
}

/// The file of a bound socket, which is removed with this value if it still is that socket.
#[derive(Debug)]
pub struct BoundPath {
    id: FileId,
    /// Kept beyond the removal, so that a successor binds afterwards.
    owned: OwnedSocket,
}

type FileId = (u64, u64);

impl OwnedSocket {
    /// Takes the path of a control socket. Missing folders are made; what is at the path is not touched.
    ///
    /// # Errors
    /// [`OwnershipError`].
    pub fn take(path: &Path) -> Result<Self, OwnershipError> {
        let what = what(path);
        let fail = |error| OwnershipError::Io { what: what.clone(), error };
        let real = lock::in_real_folder(path).map_err(fail)?;
        let lock = patiently(|| lock::take(&real, &what))?;
        Ok(Self { path: path.to_owned(), lock: Arc::new(lock) })
    }

    pub(super) fn adopt(path: PathBuf, fd: OwnedFd) -> Result<Self, OwnershipError> {
        let what = what(&path);
        let lock = fs::File::from(fd);
        let real = lock::in_real_folder(&path);
        let real = real.map_err(|error| OwnershipError::Io { what: what.clone(), error })?;
        lock::check(&lock, &real, &what)?;
        Ok(Self { path, lock: Arc::new(lock) })
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Another path under the same lock: what is there is to be judged by itself.
    #[cfg(test)]
    pub(super) fn adopt_for_tests(lock: &Self, path: PathBuf) -> Self {
        Self { path, ..lock.clone() }
    }

    pub(super) fn lock(&self) -> &fs::File {
        &self.lock
    }

    /// Listens at the path. A socket of this user's that a former director left behind goes; anything else that is
    /// there stays as it is. The socket does not block.
    ///
    /// # Errors
    /// [`AddrInUse`](io::ErrorKind::AddrInUse) when a living program has bound the path,
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) when something else is there.
    pub fn listen(
        &self,
        transport: Transport,
        access: Access,
        backlog: i32,
    ) -> io::Result<(OwnedFd, BoundPath)> {
        let (socket, bound) = self.bind(transport, access)?;
        bound.open_up(access)?;
        // Until now the kernel refuses connections, so nobody has come in by anything less than the whole of it.
        rustix::net::listen(&socket, backlog)?;
        Ok((socket, bound))
    }

    pub(super) fn bind(&self, transport: Transport, access: Access) -> io::Result<(OwnedFd, BoundPath)> {
        let address = SocketAddrUnix::new(&self.path)?;
        let kind = match transport {
            Transport::Messages => SocketType::SEQPACKET,
            Transport::Stream => SocketType::STREAM,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
        // The file that `bind` makes has the socket's own mode, less the umask: it never has more than this, not for a
        // moment.
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(access.mode))?;
        if let Err(error) = rustix::net::bind(&socket, &address) {
            if error != rustix::io::Errno::ADDRINUSE {
                return Err(error.into());
            }
            self.remove_dead()?;
            rustix::net::bind(&socket, &address)?;
        }
        let bound = BoundPath { id: id_of(&fs::symlink_metadata(&self.path)?), owned: self.clone() };
        Ok((socket, bound))
    }

    /// Removes a socket that nobody has bound any more. With the lock held no director can be about to bind it.
    fn remove_dead(&self) -> io::Result<()> {
        let there = match fs::symlink_metadata(&self.path) {
            Ok(there) => there,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let stays = |why| Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        if !there.file_type().is_socket() {
            return stays("something that is no socket is there already; it stays as it is");
        }
        if there.uid() != rustix::process::geteuid().as_raw() {
            return stays("another user's socket is there already; it stays as it is");
        }
        match is_bound(&self.path)? {
            true => Err(io::Error::new(io::ErrorKind::AddrInUse, "another program has bound it")),
            false => remove_exactly(&self.path, id_of(&there)),
        }
    }
}

impl BoundPath {
    /// Gives the file the group and those bits of the mode that the umask withheld.
    pub(super) fn open_up(&self, access: Access) -> io::Result<()> {
        let path = &self.owned.path;
        // By a descriptor that stands for this file and follows no link, since a name may lead elsewhere by now.
        let file = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let found = rustix::fs::fstat(&file)?;
        if (found.st_dev, found.st_ino) != self.id {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody has replaced it meanwhile"));
        }
        if let Some(group) = access.group {
            rustix::fs::chownat(&file, "", None, Some(Gid::from_raw(group)), AtFlags::EMPTY_PATH)?;
        }
        let mode = Mode::from_raw_mode(access.mode);
        if Mode::from_raw_mode(found.st_mode) != mode {
            use std::os::fd::AsRawFd as _;
            // `fchmod` takes no descriptor of this kind (`O_PATH`, `open(2)`); by its place in /proc it is the same.
            rustix::fs::chmodat(CWD, format!("/proc/self/fd/{}", file.as_raw_fd()), mode, AtFlags::empty())?;
        }
        Ok(())
    }
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        // If it is no longer there, or another one, nothing is to be removed.
        let _ = remove_exactly(&self.owned.path, self.id);
    }
}

/// Whether a program has bound a socket's file, listening or not.
///
/// Asked by a kind of socket that no director binds. The kernel looks for the owner before it compares the kinds, so
/// the answer is "refused" where there is no owner, and "wrong kind" where there is one; a queue of connections that
/// is full does not matter.
fn is_bound(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    match rustix::net::connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT) => Ok(false),
        Ok(()) | Err(rustix::io::Errno::PROTOTYPE) => Ok(true),
        // Who may not know leaves it alone.
        Err(error) => Err(error.into()),
    }
}

/// Removes a file if it is the one that is meant. Whatever else may have its name by now keeps it.
fn remove_exactly(path: &Path, id: FileId) -> io::Result<()> {
    let meant = |path: &Path| fs::symlink_metadata(path).is_ok_and(|there| id_of(&there) == id);
    if !meant(path) {
        return Ok(());
    }
    // Looking and removing are two steps, and between them another file could get the name. So it is moved aside
    // first, which takes whatever has the name now, and looked at there.
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".removed-{}", std::process::id()));
    let aside = PathBuf::from(aside);
    match rustix::fs::renameat_with(CWD, path, CWD, &aside, RenameFlags::NOREPLACE) {
        Ok(()) if meant(&aside) => fs::remove_file(&aside),
        Ok(()) => Ok(rustix::fs::renameat_with(CWD, &aside, CWD, path, RenameFlags::NOREPLACE)?),
        // Some file systems cannot promise that (`rename(2)`).
        Err(rustix::io::Errno::INVAL) => fs::remove_file(path),
        Err(error) => Err(error.into()),
    }
}

fn id_of(file: &fs::Metadata) -> FileId {
    (file.dev(), file.ino())
}

fn what(path: &Path) -> String {
    format!("the control socket {}", path.display())
}
