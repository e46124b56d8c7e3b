use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

/// A folder of the test's own, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ownership-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn socket(&self, name: &str) -> OwnedSocket {
        OwnedSocket::take(&self.path(name)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn listen(socket: &OwnedSocket) -> std::io::Result<(OwnedFd, BoundPath)> {
    socket.listen(Transport::Stream, Access::default(), 8)
}

#[test]
fn what_one_owns_nobody_else_gets_under_any_name_and_the_owner_is_named() {
    let folder = Folder::new("names");
    let (state, socket) = (folder.path("state"), folder.path("sock"));
    fs::write(&state, "kept").unwrap();
    fs::create_dir(folder.path("sub")).unwrap();
    symlink(&state, folder.path("link")).unwrap();
    symlink(&folder.0, folder.path("sub/folder")).unwrap();
    symlink(folder.path("later"), folder.path("dangling")).unwrap();
    fs::hard_link(&state, folder.path("sub/hard")).unwrap();
    let interface = format!("none{}", std::process::id());
    let first =
        Claims::new().with_state(&state).with_socket(&socket).with_interface(&interface).take().unwrap();
    let refused = |claims: Claims| {
        let Err(OwnershipError::Held { by, what }) = claims.take() else { panic!("it is owned") };
        assert!(what.contains(' '), "{what}");
        by
    };
    let own = Some(std::process::id());
    for name in ["state", "link", "sub/folder/state", "sub/../state"] {
        assert_eq!(refused(Claims::new().with_state(folder.path(name))), own, "{name}");
    }
    assert_eq!(
        refused(Claims::new().with_state(folder.path("sub/hard"))),
        None,
        "its lock is the file's own"
    );
    for name in ["sock", "sub/folder/sock"] {
        assert_eq!(refused(Claims::new().with_socket(folder.path(name))), own, "{name}");
    }
    assert_eq!(refused(Claims::new().with_interface(&interface)), own);
    let vlans = format!("vlan{}", std::process::id());
    let several = Claims::new().with_interface(&vlans).with_interface(&interface).with_interface(&vlans);
    assert_eq!(refused(several), own, "another's, not its own for a second port there");
    Claims::new().with_interface(&vlans).with_interface(&vlans).take().unwrap();
    // One thing that is owned refuses all, and what was taken before is free again.
    let both = Claims::new().with_state(folder.path("other")).with_socket(&socket);
    refused(both);
    let _later = OwnedState::take(&folder.path("dangling")).unwrap();
    assert_eq!(refused(Claims::new().with_state(folder.path("later"))), own, "what a link leads to");
    Claims::new().with_state(folder.path("other")).take().unwrap();
    assert_eq!(fs::read(&state).unwrap(), b"kept");
    drop(first);
    Claims::new().with_state(&state).with_socket(&socket).with_interface(&interface).take().unwrap();
}

#[test]
fn what_a_killed_director_still_holds_for_a_moment_is_waited_for() {
    let folder = Folder::new("going");
    let lock = fs::File::create(folder.path("sock.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    // The process that is written down has ended long ago.
    fs::write(folder.path("sock.lock"), "4194305\n").unwrap();
    let freed = std::thread::spawn(move || {
        std::thread::sleep(core::time::Duration::from_millis(200));
        drop(lock);
    });
    OwnedSocket::take(&folder.path("sock")).unwrap();
    freed.join().unwrap();
}

#[test]
fn a_lock_file_that_is_no_regular_file_is_refused_and_no_link_of_it_followed() {
    let folder = Folder::new("lock-files");
    for name in ["fifo", "folder", "link"] {
        let lock = folder.path(&format!("{name}.lock"));
        match name {
            "fifo" => mknodat(CWD, &lock, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap(),
            "folder" => fs::create_dir(&lock).unwrap(),
            _ => symlink(folder.path("target"), &lock).unwrap(),
        }
        let refused = OwnedSocket::take(&folder.path(name));
        assert!(matches!(refused, Err(OwnershipError::Io { .. })), "{name}: {refused:?}");
    }
    assert!(!folder.path("target").exists(), "no link is followed");
}

#[test]
fn whatever_else_is_at_a_sockets_path_stays_as_it_is() {
    let folder = Folder::new("kinds");
    let target = folder.path("target");
    fs::write(&target, "kept").unwrap();
    let mut living: Vec<Box<dyn core::any::Any>> = Vec::new();
    let kinds = [
        "file",
        "empty",
        "folder",
        "fifo",
        "link",
        "dangling",
        "link-to-socket",
        "listening",
        "full",
        "bound",
        "datagram",
    ];
    for kind in kinds {
        let path = folder.path(kind);
        match kind {
            "file" => fs::write(&path, "kept").unwrap(),
            "empty" => fs::write(&path, "").unwrap(),
            "folder" => fs::create_dir(&path).unwrap(),
            "fifo" => mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap(),
            "link" => symlink(&target, &path).unwrap(),
            "dangling" => symlink(folder.path("nowhere"), &path).unwrap(),
            "link-to-socket" => {
                drop(UnixListener::bind(folder.path("dead")).unwrap());
                symlink(folder.path("dead"), &path).unwrap();
            }
            "listening" => living.push(Box::new(UnixListener::bind(&path).unwrap())),
            "full" => {
                // Nobody accepts, and no further connection is taken.
                let listener = OwnedSocket::take(&folder.path("full")).unwrap();
                let (fd, bound) = listener.listen(Transport::Stream, Access::default(), 0).unwrap();
                living.push(Box::new(UnixStream::connect(&path).unwrap()));
                living.push(Box::new((fd, bound)));
            }
            "bound" => {
                let flags = rustix::net::SocketFlags::CLOEXEC;
                let (family, kind) = (rustix::net::AddressFamily::UNIX, rustix::net::SocketType::SEQPACKET);
                let fd = rustix::net::socket_with(family, kind, flags, None).unwrap();
                rustix::net::bind(&fd, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
                living.push(Box::new(fd));
            }
            _ => living.push(Box::new(UnixDatagram::bind(&path).unwrap())),
        }
        let before = fs::symlink_metadata(&path).unwrap();
        // Even by whoever has the lock.
        let lock = OwnedSocket::take(&folder.path("lock-of-another-name")).unwrap();
        let socket = OwnedSocket::adopt_for_tests(&lock, path.clone());
        let error = listen(&socket).unwrap_err();
        let in_use = matches!(kind, "listening" | "full" | "bound" | "datagram");
        let expected = if in_use { std::io::ErrorKind::AddrInUse } else { std::io::ErrorKind::AlreadyExists };
        assert_eq!(error.kind(), expected, "{kind}: {error}");
        let after = fs::symlink_metadata(&path).unwrap();
        assert_eq!(
            (before.ino(), before.mode(), before.len()),
            (after.ino(), after.mode(), after.len()),
            "{kind}"
        );
    }
    assert_eq!(fs::read(&target).unwrap(), b"kept");
    assert!(!folder.path("nowhere").exists());
}

#[test]
fn a_socket_that_a_killed_director_left_is_replaced_but_not_another_users() {
    let folder = Folder::new("dead");
    let path = folder.path("sock");
    drop(UnixListener::bind(&path).unwrap());
    let socket = folder.socket("sock");
    if rustix::process::geteuid().is_root() && std::os::unix::fs::chown(&path, Some(65_534), None).is_ok() {
        assert_eq!(listen(&socket).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        assert!(path.exists());
        std::os::unix::fs::chown(&path, Some(0), None).unwrap();
    }
    let (_fd, bound) = listen(&socket).unwrap();
    UnixStream::connect(&path).unwrap();
    drop(bound);
    assert!(!path.exists(), "it goes with its owner");
    let left: Vec<_> = fs::read_dir(&folder.0).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["sock.lock"], "and nothing else stays");
}

#[test]
fn a_socket_takes_nothing_with_it_that_has_its_path_by_then() {
    let folder = Folder::new("replaced");
    let path = folder.path("sock");
    let (_fd, bound) = listen(&folder.socket("sock")).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "another's").unwrap();
    drop(bound);
    assert_eq!(fs::read(&path).unwrap(), b"another's");
}

#[test]
fn a_socket_never_has_more_than_its_mode_whatever_the_umask() {
    let folder = Folder::new("umask");
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    let before = rustix::process::umask(Mode::empty());
    // Before anything but the kernel's `bind` has touched it.
    let socket = OwnedSocket::take(&folder.path("new/folder/sock")).unwrap();
    let bound = socket.bind(Transport::Messages, Access::default());
    rustix::process::umask(before);
    let (_fd, bound) = bound.unwrap();
    assert_eq!(mode(&folder.path("new/folder/sock")), 0o600);
    for made in ["new", "new/folder"] {
        assert_eq!(mode(&folder.path(made)) & 0o022, 0, "nobody else may put sockets into it: {made}");
    }
    // What the umask has withheld is given.
    fs::set_permissions(folder.path("new/folder/sock"), fs::Permissions::from_mode(0o600)).unwrap();
    let group = rustix::process::getegid().as_raw();
    bound.open_up(Access::for_group(group)).unwrap();
    assert_eq!(mode(&folder.path("new/folder/sock")), 0o660);
    assert_eq!(fs::metadata(folder.path("new/folder/sock")).unwrap().gid(), group);
}

#[test]
fn this_user_is_admitted_and_a_group_that_it_is_not_in_changes_nothing() {
    let (one, _other) = UnixStream::pair().unwrap();
    assert!(Access::default().admits(one.as_fd()));
    assert!(Access::for_group(4_000_000_000).admits(one.as_fd()), "still the user");
}

#[test]
fn a_successor_owns_what_was_handed_over_and_nothing_else_passes_for_it() {
    let folder = Folder::new("successor");
    let interface = format!("gone{}", std::process::id());
    let claims = Claims::new()
        .with_state(folder.path("state"))
        .with_socket(folder.path("sock"))
        .with_interface(&interface);
    let first = claims.clone().take().unwrap();
    let handed = first.hand_over().unwrap();
    assert_eq!(handed.len(), 3);
    drop(first);
    assert!(matches!(claims.clone().take(), Err(OwnershipError::Held { .. })), "on the way it is owned too");
    let second = Ownership::adopt(handed).unwrap();
    assert!(matches!(claims.clone().take(), Err(OwnershipError::Held { .. })));
    assert!(second.state().is_some() && second.interface(&interface).is_some());
    listen(second.socket(&folder.path("sock")).unwrap()).unwrap();
    // Descriptors of other things, and of other claims.
    for claim in [
        Claim::State(folder.path("state")),
        Claim::Socket(folder.path("sock")),
        Claim::Interface(interface.clone()),
    ] {
        let strangers = fs::File::open(&folder.0).unwrap();
        let refused = Ownership::adopt(vec![(claim, strangers.into())]);
        assert!(matches!(refused, Err(OwnershipError::Foreign { .. })), "{refused:?}");
    }
    // Its lock file, opened anew, is no proof.
    let opened = fs::File::open(folder.path("sock.lock")).unwrap();
    let refused = Ownership::adopt(vec![(Claim::Socket(folder.path("sock")), opened.into())]);
    assert!(matches!(refused, Err(OwnershipError::Held { .. })), "{refused:?}");
    drop(second);
    claims.take().unwrap();
}

#[test]
fn a_successor_owns_the_state_file_under_its_other_names_too() {
    let folder = Folder::new("hard");
    let (path, hard) = (folder.path("state"), folder.path("sub/hard"));
    fs::write(&path, "kept").unwrap();
    fs::create_dir(folder.path("sub")).unwrap();
    fs::hard_link(&path, &hard).unwrap();
    let is_held = |path: &Path| matches!(OwnedState::take(path), Err(OwnershipError::Held { .. }));
    let first = Claims::new().with_state(&path).take().unwrap();
    // Also if the first one replaces the file while it hands over.
    for replaces in [false, true] {
        let handed = first.hand_over().unwrap();
        assert_eq!(handed.len(), 2);
        if replaces {
            fs::write(folder.path("new"), "newer").unwrap();
            fs::rename(folder.path("new"), &path).unwrap();
        }
        let second = Ownership::adopt(handed).unwrap();
        assert_eq!(second.hand_over().unwrap().len(), 2);
        assert!(is_held(&path) && is_held(&hard));
    }
    let handed = first.hand_over().unwrap();
    drop(first);
    let second = Ownership::adopt(handed).unwrap();
    assert!(is_held(&path) && is_held(&hard), "by the second one alone");
    drop(second);
    for path in [&path, &hard] {
        drop(OwnedState::take(path).unwrap());
    }
    // Where no lock file could be made, the file's own lock is all there is.
    let file = fs::File::open(&path).unwrap();
    let claim = || Claim::State(path.clone());
    let second = Ownership::adopt(vec![(claim(), file.into())]).unwrap();
    assert!(is_held(&path) && second.state().is_some());
    // Another open file of it is no proof, and a stranger's none of anything.
    let again = fs::File::open(&path).unwrap();
    let refused = Ownership::adopt(vec![(claim(), again.into())]);
    assert!(matches!(refused, Err(OwnershipError::Held { .. })), "{refused:?}");
    drop(second);
    let owned = Claims::new().with_state(&path).take().unwrap();
    let lock = owned.hand_over().unwrap().swap_remove(0).1;
    let stranger = fs::File::open(&folder.0).unwrap();
    let refused = Ownership::adopt(vec![(claim(), lock), (claim(), stranger.into())]);
    assert!(matches!(refused, Err(OwnershipError::Foreign { .. })), "{refused:?}");
}

#[test]
fn what_comes_in_place_of_an_ownership_is_refused() {
    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
    let pair = |kind| socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    let folder = Folder::new("handover");
    let claims = Claims::new().with_state(folder.path("state")).with_socket(folder.path("sock"));
    let owned = claims.clone().take().unwrap();
    // The whole of it, and nothing at all.
    for owned in [&owned, &Ownership::default()] {
        let (here, there) = pair(SocketType::SEQPACKET);
        owned.send(&here).unwrap();
        let adopted = Ownership::receive(&there).unwrap();
        assert_eq!(adopted.hand_over().unwrap().len(), owned.hand_over().unwrap().len());
    }
    // Bytes without a descriptor, unknown words, too many of them, an end before the end.
    for bytes in [&b"s/nowhere"[..], b"x", b"", &[b'.'; 2], &[b's'; 5_000]] {
        let (here, there) = pair(SocketType::SEQPACKET);
        send(&here, bytes, SendFlags::NOSIGNAL).unwrap();
        drop(here);
        let refused = Ownership::receive(&there);
        assert!(matches!(refused, Err(OwnershipError::Io { .. })), "{bytes:?}: {refused:?}");
    }
    let (here, there) = pair(SocketType::SEQPACKET);
    drop(there);
    owned.send(&here).unwrap_err();
    let (here, there) = pair(SocketType::STREAM);
    owned.send(&here).unwrap_err();
    Ownership::receive(&there).unwrap_err();
    // None of these owns anything.
    drop(owned);
    claims.take().unwrap();
}
