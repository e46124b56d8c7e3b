//! All that is foreign: the functions that programs find instead of the C library's, and the system calls that they
//! take.
//!
//! A function of the first part leads to the rest of the library, or on to the next definition of its name. None can
//! panic.
#![expect(unsafe_code, reason = "the C library's functions take pointers, and are replaced by their names")]
#![cfg_attr(test, expect(dead_code, reason = "programs find functions by their names, but tests do not"))]

use core::ffi::{CStr, c_char, c_int, c_uint, c_void};
use core::slice;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

use libc::{FILE, iovec, mode_t, msghdr, sockaddr, socklen_t, ssize_t};

use crate::files::{self, File};
use crate::place::Place;
use crate::value::{checked, family, positive};
use crate::{message, relay};

/// Calls the next definition of a function.
macro_rules! next {
    ($name:ident($($argument:expr),*) as fn($($type:ty),*) -> $result:ty) => {{
        static NEXT: Next = Next { name: concat!(stringify!($name), "\0"), address: AtomicUsize::new(0) };
        // SAFETY: it is the address of the C library's function, which has this signature, or of one that only fails.
        let function: unsafe extern "C" fn($($type),*) -> $result = unsafe { core::mem::transmute(NEXT.address()) };
        // SAFETY: the arguments are the program's own, or valid for this function.
        unsafe { function($($argument),*) }
    }};
}

/// Makes functions that programs find first. In tests they are functions like others: a test must not replace its own
/// libraries.
macro_rules! replace {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty $body:block)*) => {$(
        /// Stands in for the C library's function of this name, and is as safe.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        unsafe extern "C" fn $name($($argument: $type),*) -> $result $body
    )*};
}

/// Makes those that look at a file by its path.
macro_rules! look_elsewhere {
    ($(fn $name:ident[$($before:ident)?](path, $($after:ident: $type:ty),*);)*) => {
        replace! {$(
            fn $name($($before: c_int,)? path: *const c_char, $($after: $type),*) -> c_int {
                // SAFETY: a string of the program.
                match unsafe { stand_in(path) } {
                    Some(path) => next!(
                        $name($($before,)? path, $($after),*)
                        as fn($(only!($before c_int),)? *const c_char, $($type),*) -> c_int
                    ),
                    None => -1,
                }
            }
        )*}
    };
}

/// Makes those that open a file by its path. A mode comes after an ellipsis in C: where arguments are passed in
/// registers (all 64-bit Linux) in the next one. If the program gave none, what is there is handed on, and ignored as
/// the flags do not ask for it.
macro_rules! open_elsewhere {
    ($(fn $name:ident[$($before:ident)?](path)[$($mode:ident)?];)*) => {
        replace! {$(
            fn $name($($before: c_int,)? path: *const c_char, flags: c_int $(, $mode: mode_t)?) -> c_int {
                // SAFETY: a string of the program.
                match unsafe { our_file(path) } {
                    Some(file) => result(file.open(flags)),
                    None => next!(
                        $name($($before,)? path, flags $(, $mode)?)
                        as fn($(only!($before c_int),)? *const c_char, c_int $(, only!($mode mode_t))?) -> c_int
                    ),
                }
            }
        )*}
    };
}

/// Makes those that open a stream of a file by its path.
macro_rules! open_streams_elsewhere {
    ($(fn $name:ident;)*) => {
        replace! {$(
            fn $name(path: *const c_char, mode: *const c_char) -> *mut FILE {
                // SAFETY: both are strings of the program.
                match unsafe { open_stream(path, mode) } {
                    Some(file) => file,
                    None => next!($name(path, mode) as fn(*const c_char, *const c_char) -> *mut FILE),
                }
            }
        )*}
    };
}

/// Makes those that resolve links in a path. There are none in the paths of the director's files.
macro_rules! resolve_elsewhere {
    ($(fn $name:ident[$($room:ident)?];)*) => {
        replace! {$(
            fn $name(path: *const c_char, resolved: *mut c_char $(, $room: usize)?) -> *mut c_char {
                // SAFETY: a string of the program.
                match unsafe { stand_in(path) } {
                    None => core::ptr::null_mut(),
                    Some(found) if found == path => next!(
                        $name(path, resolved $(, $room)?)
                        as fn(*const c_char, *mut c_char $(, only!($room usize))?) -> *mut c_char
                    ),
                    // SAFETY: it gets a copy in memory of its own,
                    Some(_) if resolved.is_null() => unsafe { libc::strdup(path) },
                    // SAFETY: or in the program's room, which has the 4096 bytes that any path may have.
                    Some(_) => unsafe { libc::strcpy(resolved, path) },
                }
            }
        )*}
    };
}

/// The type, as often as there is an argument.
macro_rules! only {
    ($argument:ident $type:ty) => {
        $type
    };
}

open_elsewhere! {
    fn open[](path)[mode];
    fn open64[](path)[mode];
    fn openat[folder](path)[mode];
    fn openat64[folder](path)[mode];
    fn __open_2[](path)[];
    fn __open64_2[](path)[];
    fn __openat_2[folder](path)[];
    fn __openat64_2[folder](path)[];
}

open_streams_elsewhere! { fn fopen; fn fopen64; }

resolve_elsewhere! { fn realpath[]; fn __realpath_chk[room]; }

look_elsewhere! {
    fn access[](path, mode: c_int);
    fn faccessat[folder](path, mode: c_int, flags: c_int);
    fn stat[](path, found: *mut c_void);
    fn stat64[](path, found: *mut c_void);
    fn lstat[](path, found: *mut c_void);
    fn lstat64[](path, found: *mut c_void);
    fn fstatat[folder](path, found: *mut c_void, flags: c_int);
    fn fstatat64[folder](path, found: *mut c_void, flags: c_int);
    fn statx[folder](path, flags: c_int, wanted: c_uint, found: *mut c_void);
}

replace! {
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
        if domain == libc::AF_NETLINK && protocol == libc::NETLINK_GENERIC {
            return result(relay::socket(kind));
        }
        result(make_socket(domain, kind, protocol))
    }

    fn bind(descriptor: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
        if let Some(slot) = relay::connected(descriptor) {
            if length >= NETLINK_ADDRESS && !address.is_null() {
                // SAFETY: the program's address has this length.
                let address = unsafe { address.cast::<[u8; 12]>().read() };
                slot.port.store(message::port(&address), Ordering::Relaxed);
            }
            return 0;
        }
        next!(bind(descriptor, address, length) as fn(c_int, *const sockaddr, socklen_t) -> c_int)
    }

    fn getsockname(descriptor: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int {
        if let Some(slot) = relay::connected(descriptor) {
            let port = slot.port.load(Ordering::Relaxed);
            let port = if port == 0 { std::process::id() } else { port };
            // SAFETY: the program's room has the length that it says.
            unsafe { fill_address(address.cast(), length, port) };
            return 0;
        }
        next_getsockname(descriptor, address, length)
    }

    fn setsockopt(
        descriptor: c_int, level: c_int, option: c_int, value: *const c_void, length: socklen_t
    ) -> c_int {
        if message::is_old_interface(level, option) {
            return refuse(libc::ENOPROTOOPT);
        }
        if level == libc::SOL_NETLINK && relay::connected(descriptor).is_some() {
            return 0;
        }
        next!(
            setsockopt(descriptor, level, option, value, length)
            as fn(c_int, c_int, c_int, *const c_void, socklen_t) -> c_int
        )
    }

    fn getsockopt(
        descriptor: c_int, level: c_int, option: c_int, value: *mut c_void, length: *mut socklen_t
    ) -> c_int {
        if message::is_old_interface(level, option) {
            return refuse(libc::ENOPROTOOPT);
        }
        next!(
            getsockopt(descriptor, level, option, value, length)
            as fn(c_int, c_int, c_int, *mut c_void, *mut socklen_t) -> c_int
        )
    }

    fn sendmsg(descriptor: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
        if let Some(slot) = relay::find(descriptor) {
            // SAFETY: the program's message is valid for the time of the call, or null.
            if let Some(message) = unsafe { message.as_ref() } {
                return length(relay::send(descriptor, slot, &Outgoing { message, flags }));
            }
        }
        next_sendmsg(descriptor, message, flags)
    }

    fn recvmsg(descriptor: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
        if let Some(slot) = relay::find(descriptor) {
            // SAFETY: the program's message is valid for the time of the call, or null.
            if let Some(message) = unsafe { message.as_mut() } {
                return length(relay::receive(descriptor, slot, &mut Incoming { message, flags }));
            }
        }
        next_recvmsg(descriptor, message, flags)
    }

    fn close(descriptor: c_int) -> c_int {
        relay::TABLE.forget(descriptor);
        next!(close(descriptor) as fn(c_int) -> c_int)
    }

    fn dup2(from: c_int, to: c_int) -> c_int {
        let made = next!(dup2(from, to) as fn(c_int, c_int) -> c_int);
        relay::duplicated(from, made);
        made
    }

    fn dup3(from: c_int, to: c_int, flags: c_int) -> c_int {
        let made = next_dup3(from, to, flags);
        relay::duplicated(from, made);
        made
    }

    fn execv(path: *const c_char, arguments: *const *const c_char) -> c_int {
        // SAFETY: a string and a list of strings of the program.
        if unsafe { loads_ipvs(path, arguments) } {
            return refuse(libc::ENOENT);
        }
        next!(execv(path, arguments) as fn(*const c_char, *const *const c_char) -> c_int)
    }

    fn execve(
        path: *const c_char, arguments: *const *const c_char, environment: *const *const c_char
    ) -> c_int {
        // SAFETY: a string and a list of strings of the program.
        if unsafe { loads_ipvs(path, arguments) } {
            return refuse(libc::ENOENT);
        }
        next!(
            execve(path, arguments, environment)
            as fn(*const c_char, *const *const c_char, *const *const c_char) -> c_int
        )
    }
}

/// A message that a program sends.
pub(crate) struct Outgoing<'a> {
    message: &'a msghdr,
    flags: c_int,
}

impl Outgoing<'_> {
    /// The bytes of the message, as far as there is room.
    pub(crate) fn gather<'a>(&self, room: &'a mut [u8]) -> &'a [u8] {
        message::gather(parts(self.message), room)
    }

    /// As the program sends it.
    pub(crate) fn pass(&self, descriptor: c_int) -> io::Result<usize> {
        checked(next_sendmsg(descriptor, self.message, self.flags))
    }

    /// To the director: a socket that is connected takes no name of a receiver.
    pub(crate) fn send(&self, descriptor: c_int) -> io::Result<usize> {
        let message = anonymous(self.message);
        checked(next_sendmsg(descriptor, &raw const message, self.flags | libc::MSG_NOSIGNAL))
    }
}

/// A message that a program receives.
pub(crate) struct Incoming<'a> {
    message: &'a mut msghdr,
    flags: c_int,
}

impl Incoming<'_> {
    pub(crate) const fn is_peek(&self) -> bool {
        self.flags & libc::MSG_PEEK != 0
    }

    /// From the kernel, as the program asked.
    pub(crate) fn pass(&mut self, descriptor: c_int) -> io::Result<usize> {
        checked(next_recvmsg(descriptor, self.message, self.flags))
    }

    /// From the director, which has no name. 0 when it is gone.
    pub(crate) fn receive(&mut self, descriptor: c_int) -> io::Result<usize> {
        let mut message = anonymous(self.message);
        let length = checked(next_recvmsg(descriptor, &raw mut message, self.flags))?;
        self.message.msg_flags = message.msg_flags;
        self.message.msg_controllen = 0;
        Ok(length)
    }

    /// The first part of what was received.
    pub(crate) fn bytes(&self, length: usize) -> &[u8] {
        let part = parts(self.message).next().unwrap_or_default();
        part.get(..length).unwrap_or(part)
    }

    /// Says that the kernel has sent it.
    pub(crate) fn fill_sender(&mut self) {
        // SAFETY: the program's room for a name, if any, has the length beside it.
        unsafe { fill_address(self.message.msg_name, &raw mut self.message.msg_namelen, 0) };
    }
}

/// A message without a name and ancillary data.
const fn anonymous(message: &msghdr) -> msghdr {
    let mut message = *message;
    (message.msg_name, message.msg_namelen) = (core::ptr::null_mut(), 0);
    (message.msg_control, message.msg_controllen) = (core::ptr::null_mut(), 0);
    message
}

/// The pieces of memory of a message.
fn parts(message: &msghdr) -> impl Iterator<Item = &[u8]> {
    let vectors: &[iovec] = match (message.msg_iov.is_null(), message.msg_iovlen) {
        (true, _) | (false, 0) => &[],
        // SAFETY: a program that calls sendmsg or recvmsg has that many there.
        (false, count) => unsafe { slice::from_raw_parts(message.msg_iov, count) },
    };
    vectors.iter().filter(|vector| !vector.iov_base.is_null()).map(|vector| {
        // SAFETY: as above; what the kernel has not filled was the program's own memory before.
        unsafe { slice::from_raw_parts(vector.iov_base.cast::<u8>(), vector.iov_len) }
    })
}

/// What `LVS_DIRECTOR` says.
pub(crate) fn director() -> Option<Place> {
    // SAFETY: as safe as for every library that asks for a variable: the program must not change it meanwhile.
    let value = unsafe { libc::getenv(c"LVS_DIRECTOR".as_ptr()) };
    // SAFETY: a string, for as long as nobody changes it.
    let value = if value.is_null() { None } else { Some(unsafe { CStr::from_ptr(value) }.to_bytes()) };
    Place::of(value)
}

/// A socket that is nothing but one.
pub(crate) fn make_socket(domain: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    let made = next!(socket(domain, kind, protocol) as fn(c_int, c_int, c_int) -> c_int);
    // SAFETY: it is new, and nobody else knows of it.
    positive(made).map(|socket| unsafe { OwnedFd::from_raw_fd(socket) })
}

/// Connects to the director; `flags` are those of socket(2).
pub(crate) fn connect(place: &Place, flags: c_int) -> io::Result<OwnedFd> {
    let socket = make_socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | flags, 0)?;
    let mut path = [0; Place::LONGEST];
    for (to, &from) in path.iter_mut().zip(place.path()) {
        *to = c_char::from_ne_bytes([from]);
    }
    let address = libc::sockaddr_un { sun_family: family(libc::AF_UNIX), sun_path: path };
    let length = socklen_t::try_from(size_of::<libc::sockaddr_un>()).unwrap_or(0);
    // SAFETY: the address has this length and ends with a NUL.
    let result = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) };
    positive(result).map(|_| socket)
}

/// The port id of a netlink socket; 0 if it has none.
pub(crate) fn port(socket: c_int) -> u32 {
    let (mut address, mut length) = ([0; 12], NETLINK_ADDRESS);
    match next_getsockname(socket, address.as_mut_ptr().cast(), &raw mut length) {
        0 => message::port(&address),
        _ => 0,
    }
}

/// The inode of what a descriptor means; 0 if it means nothing.
pub(crate) fn inode(descriptor: c_int) -> u64 {
    // SAFETY: all zero is a description of a file.
    let mut found: libc::stat64 = unsafe { core::mem::zeroed() };
    // SAFETY: there is room for one.
    match unsafe { libc::fstat64(descriptor, &raw mut found) } {
        0 => found.st_ino,
        _ => 0,
    }
}

/// Whether a descriptor goes when a program is executed and whether it blocks, as flags of socket(2).
pub(crate) fn flags(descriptor: c_int) -> c_int {
    // SAFETY: these only ask. A failure is -1: all flags.
    let (own, file) =
        unsafe { (libc::fcntl(descriptor, libc::F_GETFD), libc::fcntl(descriptor, libc::F_GETFL)) };
    let cloexec = if own & libc::FD_CLOEXEC == 0 { 0 } else { libc::SOCK_CLOEXEC };
    cloexec | if file & libc::O_NONBLOCK == 0 { 0 } else { libc::SOCK_NONBLOCK }
}

/// Lets `to` mean what `from` means; `flags` are those of socket(2).
pub(crate) fn replace(from: &OwnedFd, to: c_int, flags: c_int) -> io::Result<()> {
    positive(next_dup3(from.as_raw_fd(), to, flags & libc::SOCK_CLOEXEC)).map(drop)
}

/// Sends a datagram.
pub(crate) fn send(socket: c_int, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the bytes have this length.
    checked(unsafe { libc::send(socket, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) })
}

/// An empty file in memory.
pub(crate) fn memory_file(cloexec: bool) -> io::Result<OwnedFd> {
    // SAFETY: the name is a string.
    let made = unsafe { libc::memfd_create(c"ipvs".as_ptr(), if cloexec { libc::MFD_CLOEXEC } else { 0 }) };
    // SAFETY: it is new, and nobody else knows of it.
    positive(made).map(|file| unsafe { OwnedFd::from_raw_fd(file) })
}

fn next_dup3(from: c_int, to: c_int, flags: c_int) -> c_int {
    next!(dup3(from, to, flags) as fn(c_int, c_int, c_int) -> c_int)
}

fn next_sendmsg(descriptor: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    next!(sendmsg(descriptor, message, flags) as fn(c_int, *const msghdr, c_int) -> ssize_t)
}

fn next_recvmsg(descriptor: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    next!(recvmsg(descriptor, message, flags) as fn(c_int, *mut msghdr, c_int) -> ssize_t)
}

fn next_getsockname(descriptor: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int {
    next!(getsockname(descriptor, address, length) as fn(c_int, *mut sockaddr, *mut socklen_t) -> c_int)
}

/// The next definition of a function in the order in which the dynamic linker looks, found at the first call.
struct Next {
    /// Ends with a NUL.
    name: &'static str,
    /// 0 as long as it is not known.
    address: AtomicUsize,
}

impl Next {
    #[inline]
    fn address(&self) -> usize {
        match self.address.load(Ordering::Relaxed) {
            0 => self.find(),
            address => address,
        }
    }

    /// Several threads may find it at once: they find the same.
    #[cold]
    fn find(&self) -> usize {
        // SAFETY: the name ends with a NUL.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr().cast()) }.addr();
        let address = if found == 0 { missing as *const () as usize } else { found };
        self.address.store(address, Ordering::Relaxed);
        address
    }
}

/// Stands for functions that a C library does not have, which nobody calls there.
extern "C" fn missing() -> ssize_t {
    set_errno(libc::ENOSYS);
    -1
}

/// The file at a path, if it is the director's.
/// # Safety
/// `path` is a string or null.
#[inline]
unsafe fn our_file<'a>(path: *const c_char) -> Option<File<'a>> {
    // SAFETY: as the caller says.
    if path.is_null() { None } else { File::at(unsafe { CStr::from_ptr(path) }.to_bytes()) }
}

/// Where to look instead of a path: the path itself, or a file of the kernel's like the director's one. `None`, with
/// `ENOENT`, if the director does not have it.
///
/// # Safety
/// `path` is a string or null.
#[inline]
unsafe fn stand_in(path: *const c_char) -> Option<*const c_char> {
    // SAFETY: as the caller says.
    match unsafe { our_file(path) } {
        None => Some(path),
        Some(file) if file.exists() => Some(file.stand_in().as_ptr()),
        Some(_) => {
            set_errno(libc::ENOENT);
            None
        }
    }
}

/// A stream of a file of the director's; `None` for other files.
///
/// # Safety
/// Both are strings or null.
unsafe fn open_stream(path: *const c_char, mode: *const c_char) -> Option<*mut FILE> {
    // SAFETY: as the caller says.
    let file = unsafe { our_file(path) }.filter(|_| !mode.is_null())?;
    // SAFETY: as the caller says.
    let letters = unsafe { CStr::from_ptr(mode) }.to_bytes();
    let descriptor = match file.open(files::flags(letters)) {
        Ok(descriptor) => descriptor,
        Err(error) => {
            refuse(error.raw_os_error().unwrap_or(libc::EIO));
            return Some(core::ptr::null_mut());
        }
    };
    // SAFETY: the mode is the one for which it was opened.
    let stream = unsafe { libc::fdopen(descriptor.as_raw_fd(), mode) };
    if !stream.is_null() {
        // It belongs to the stream now.
        let _ = descriptor.into_raw_fd();
    }
    Some(stream)
}

/// Whether a program shall be executed that would load the kernel's IPVS.
///
/// # Safety
/// `path` is a string, `arguments` a list of strings that null ends; or they are null.
unsafe fn loads_ipvs(path: *const c_char, arguments: *const *const c_char) -> bool {
    if path.is_null() || arguments.is_null() {
        return false;
    }
    // SAFETY: as the caller says.
    if !unsafe { CStr::from_ptr(path) }.to_bytes().ends_with(b"modprobe") {
        return false;
    }
    // SAFETY: as the caller says: none is looked at behind the null.
    let words = (0..).map(|number| unsafe { *arguments.add(number) }).take_while(|word| !word.is_null());
    // SAFETY: strings of the list.
    words.map(|word| unsafe { CStr::from_ptr(word) }).any(|word| word == c"ip_vs")
}

/// Writes a netlink address and its length.
///
/// # Safety
/// `address` has room for as many bytes as `length` says, or either is null.
unsafe fn fill_address(address: *mut c_void, length: *mut socklen_t, port: u32) {
    if address.is_null() || length.is_null() {
        return;
    }
    // SAFETY: as the caller says.
    let room =
        unsafe { slice::from_raw_parts_mut(address.cast::<u8>(), (*length).min(NETLINK_ADDRESS) as usize) };
    for (to, from) in room.iter_mut().zip(message::address(port)) {
        *to = from;
    }
    // SAFETY: as the caller says.
    unsafe { *length = NETLINK_ADDRESS };
}

/// As functions of the C library return it.
fn result(result: io::Result<OwnedFd>) -> c_int {
    match result {
        Ok(descriptor) => descriptor.into_raw_fd(),
        Err(error) => refuse(error.raw_os_error().unwrap_or(libc::EIO)),
    }
}

/// A failure, as functions of the C library return it.
fn refuse(number: c_int) -> c_int {
    set_errno(number);
    -1
}

/// The same for lengths.
fn length(result: io::Result<usize>) -> ssize_t {
    match result.map(ssize_t::try_from) {
        Ok(Ok(length)) => length,
        Ok(Err(_)) => ssize_t::MAX,
        Err(error) => {
            set_errno(error.raw_os_error().unwrap_or(libc::EIO));
            -1
        }
    }
}

fn set_errno(number: c_int) {
    // SAFETY: the thread's own number.
    unsafe { *libc::__errno_location() = number };
}

const NETLINK_ADDRESS: socklen_t = 12;
