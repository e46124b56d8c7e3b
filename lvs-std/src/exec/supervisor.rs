//! The thread at which the calls of led programs arrive.

use core::time::Duration;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::SocketType;

use super::caller::Caller;
use super::files::{Files, written};
use super::filter::{Kind, kind};
use super::folder::Listed;
use super::kernel::{bind, get_option, kernel_socket, set_option};
use super::link::LOOK;
use super::place::Place;
use super::receive::{Receive, write_address};
use super::socket::{Owner, Socket};
use crate::sys::seccomp::{Call, Listener};

/// Answers the calls of all programs that have one filter.
#[derive(Debug)]
pub(super) struct Supervisor {
    listener: Arc<Listener>,
    director: PathBuf,
    files: Arc<Files>,
    sockets: Vec<Socket>,
    /// Calls that wait for something to receive.
    parked: Vec<Receive>,
    room: Vec<u8>,
}

impl Supervisor {
    pub(super) fn new(listener: Listener, director: PathBuf) -> io::Result<Self> {
        let (listener, files) = (Arc::new(listener), Arc::new(Files::new(director.clone())?));
        let (sockets, parked, room) = (Vec::new(), Vec::new(), vec![0; LONGEST]);
        Ok(Self { listener, director, files, sockets, parked, room })
    }

    /// Serves until no led program is left.
    pub(super) fn run(mut self) {
        loop {
            let Some(ready) = self.wait() else { return };
            if ready.calls
                && let Ok(call) = self.listener.receive()
            {
                self.call(call);
            }
            for (socket, ready) in self.sockets.iter_mut().zip(ready.sockets) {
                if ready || socket.looks() {
                    socket.turn(&self.director, &mut self.room);
                }
            }
            self.sockets.retain(|socket| !socket.is_gone());
            self.unpark();
        }
    }

    /// Waits until there is something to do. `None` when nobody is left.
    fn wait(&self) -> Option<Ready> {
        let mut descriptors = vec![PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN)];
        let mut counts = Vec::with_capacity(self.sockets.len());
        for socket in &self.sockets {
            let before = descriptors.len();
            descriptors.extend(socket.interests().map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)));
            counts.push(descriptors.len() - before);
        }
        let parked = self.parked.iter().map(|receive| PollFd::from_borrowed_fd(receive.end(), PollFlags::IN));
        descriptors.extend(parked);
        let due = self.sockets.iter().any(Socket::looks).then_some(LOOK);
        // No event tells that a program that waits has a signal to handle, so it is looked at.
        let look = (!self.parked.is_empty()).then_some(SIGNALS);
        let limit = due.or(look).map(|limit| Timespec { tv_sec: 0, tv_nsec: limit.subsec_nanos().into() });
        // Interrupted is as good as nothing to do.
        let _ = poll(&mut descriptors, limit.as_ref());
        let (listener, mut rest) = descriptors.split_first()?;
        if listener.revents().contains(PollFlags::HUP) && !listener.revents().contains(PollFlags::IN) {
            return None;
        }
        let mut sockets = Vec::with_capacity(counts.len());
        for count in counts {
            let (own, others) = rest.split_at_checked(count)?;
            sockets.push(own.iter().any(|one| !one.revents().is_empty()));
            rest = others;
        }
        Some(Ready { calls: listener.revents().contains(PollFlags::IN), sockets })
    }

    /// Answers calls that waited, as far as they can be.
    fn unpark(&mut self) {
        let (listener, room, sockets) = (&self.listener, &mut self.room, &self.sockets);
        self.parked.retain(|receive| {
            let call = &receive.call;
            if !listener.waits(call) {
                return false;
            }
            let expected = sockets.iter().any(|socket| socket.inode() == receive.inode && socket.expects());
            let result = receive.attempt(room, expected).or_else(|| receive.caller.interruption().map(Err));
            if let Some(result) = result {
                listener.answer(call, result);
            }
            result.is_none()
        });
    }

    fn call(&mut self, call: Call) {
        let caller = Caller::new(&self.listener, call);
        let Some(kind) = kind(call.number) else { return self.listener.pass(&call) };
        let result = match kind {
            Kind::Socket => return self.socket(&call, &caller),
            Kind::File(folder, path, does) => {
                let path = caller.text(call.word(path));
                let folder = folder.map(|index| call.int(index));
                let name = self.files.folder_name();
                let place = path.ok().and_then(|path| Place::find(&caller, folder, &path, name));
                let Some(place) = place else { return self.listener.pass(&call) };
                let (files, listener) = (Arc::clone(&self.files), Arc::clone(&self.listener));
                return self.apart(call, move || files.answer(&listener, &call, &caller, &place, does));
            }
            Kind::Write | Kind::WriteVector => return self.write(call, caller, kind),
            Kind::List => {
                let listed = caller
                    .descriptor_name(call.int(0))
                    .and_then(|name| Listed::of(&name, &caller, self.files.folder_name()));
                listed.map(|listed| listed.list(&call, &caller))
            }
            Kind::Execute(path) => loads_module(&call, &caller, path).then_some(Err(libc::ENOENT)),
            Kind::Ring => None,
            Kind::Bind
            | Kind::Connect
            | Kind::OwnName
            | Kind::PeerName
            | Kind::GetOption
            | Kind::SetOption
            | Kind::ReceiveFrom
            | Kind::ReceiveMessage
            | Kind::ReceiveMessages => match self.find(&call, &caller) {
                Some(at) => return self.on_socket(call, caller, kind, at),
                None => None,
            },
        };
        match result {
            Some(result) => self.listener.answer(&call, result),
            None => self.listener.pass(&call),
        }
    }

    /// Does something that may wait on a thread of its own, which answers the call.
    fn apart(&self, call: Call, work: impl FnOnce() + Send + 'static) {
        if thread::Builder::new().name("file".to_owned()).spawn(work).is_err() {
            self.listener.answer(&call, Err(libc::ENOMEM));
        }
    }

    /// Which socket a descriptor of the caller's is.
    fn find(&self, call: &Call, caller: &Caller) -> Option<usize> {
        if self.sockets.is_empty() {
            return None;
        }
        let name = caller.descriptor_name(call.int(0))?;
        let inode: u64 = name.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        self.sockets.iter().position(|socket| socket.inode() == inode)
    }

    /// socket(2) for generic netlink.
    fn socket(&mut self, call: &Call, caller: &Caller) {
        let kind = call.int(1);
        let (blocks, close_on_exec) = (kind & libc::SOCK_NONBLOCK == 0, kind & libc::SOCK_CLOEXEC != 0);
        let kind = match kind & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) {
            libc::SOCK_RAW => SocketType::RAW,
            libc::SOCK_DGRAM => SocketType::DGRAM,
            _ => return self.listener.answer(call, Err(libc::ESOCKTNOSUPPORT)),
        };
        let may = caller.user() == Some(rustix::process::geteuid().as_raw());
        let made = match kernel_socket(kind, caller) {
            Ok(kernel) => Ok(Some(kernel)),
            // Some sandboxes have no netlink, but directors.
            Err(error) if UNAVAILABLE.contains(&error.raw_os_error().unwrap_or(0)) => Ok(None),
            Err(error) => Err(error),
        };
        let owner = Owner { process: caller.process(), may };
        match made.and_then(|kernel| Socket::new(kernel, blocks, owner)) {
            Ok((socket, end)) => {
                self.sockets.push(socket);
                self.listener.give(call, end.as_fd(), close_on_exec);
            }
            Err(error) => self.listener.answer(call, Err(error.raw_os_error().unwrap_or(libc::ENFILE))),
        }
    }

    /// What only a netlink socket has.
    fn on_socket(&mut self, call: Call, caller: Caller, kind: Kind, at: usize) {
        let Some(socket) = self.sockets.get_mut(at) else { return };
        // What was sent before is carried before, as by the kernel.
        socket.turn(&self.director, &mut self.room);
        let result = match kind {
            Kind::Bind | Kind::Connect => bind(socket, &call, &caller, kind),
            Kind::OwnName => {
                let (port, groups) = socket.address();
                write_address(&caller, call.word(1), call.word(2), port, groups).map(|()| 0)
            }
            // The kernel, connected or not.
            Kind::PeerName => write_address(&caller, call.word(1), call.word(2), 0, 0).map(|()| 0),
            Kind::GetOption => get_option(socket, &call, &caller),
            Kind::SetOption => set_option(socket, &call, &caller),
            Kind::ReceiveFrom | Kind::ReceiveMessage | Kind::ReceiveMessages => {
                let Ok(end) = caller.descriptor(call.int(0)) else { return self.listener.pass(&call) };
                let receive = Receive::new(call, caller, kind, end, socket.inode());
                match receive.attempt(&mut self.room, socket.expects()) {
                    Some(result) => result,
                    None => return self.parked.push(receive),
                }
            }
            Kind::Socket
            | Kind::File(..)
            | Kind::Write
            | Kind::WriteVector
            | Kind::List
            | Kind::Execute(_)
            | Kind::Ring => return self.listener.pass(&call),
        };
        self.listener.answer(&call, result);
    }

    /// Writes to a switch, if it is one.
    fn write(&self, call: Call, caller: Caller, kind: Kind) {
        let name = self.files.has_writers().then(|| caller.descriptor_name(call.int(0))).flatten();
        let path = name.as_deref().and_then(Path::to_str).and_then(written).map(str::to_owned);
        let Some(path) = path else { return self.listener.pass(&call) };
        let (files, listener) = (Arc::clone(&self.files), Arc::clone(&self.listener));
        self.apart(call, move || {
            let text = if kind == Kind::Write {
                caller.read(call.word(1), call.word(2) as usize)
            } else {
                gather(&caller, call.word(1), call.word(2))
            };
            listener.answer(&call, text.and_then(|text| files.write(&caller, &path, &text)));
        });
    }
}

/// What a wait has found.
struct Ready {
    calls: bool,
    sockets: Vec<bool>,
}

/// What a writev(2) writes.
fn gather(caller: &Caller, pieces: u64, count: u64) -> Result<Vec<u8>, i32> {
    let mut text = Vec::new();
    for (address, length) in caller.pieces(pieces, count)? {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if text.len().saturating_add(length) > LONGEST_TEXT {
            return Err(libc::EINVAL);
        }
        text.extend(caller.read(address, length)?);
    }
    Ok(text)
}

/// Whether a program is about to load the kernel's module: whoever is led shall not have the kernel's IPVS beside the
/// director's.
fn loads_module(call: &Call, caller: &Caller, path: usize) -> bool {
    let Ok(path_text) = caller.text(call.word(path)) else { return false };
    if Path::new(OsStr::from_bytes(&path_text)).file_name() != Some(OsStr::new("modprobe")) {
        return false;
    }
    let words = call.word(path + 1);
    (0..MOST_WORDS)
        .map_while(|index| caller.word(words.wrapping_add(8 * index)).ok().filter(|word| *word != 0))
        .any(|word| caller.text(word).is_ok_and(|text| text.starts_with(b"ip_vs")))
}

/// How often a program that waits is asked whether it has a signal to handle.
const SIGNALS: Duration = Duration::from_millis(50);
/// No value of a switch is longer.
const LONGEST_TEXT: usize = 1_024;
/// More than the longest datagram.
const LONGEST: usize = 1 << 17;
const MOST_WORDS: u64 = 64;
/// What a kernel or a filter without netlink answers.
const UNAVAILABLE: [i32; 4] = [libc::EPROTONOSUPPORT, libc::EAFNOSUPPORT, libc::EPERM, libc::EACCES];
