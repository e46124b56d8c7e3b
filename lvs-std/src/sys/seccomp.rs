//! Seccomp user notification (`linux/seccomp.h`, `seccomp(2)`, `seccomp_unotify(2)`): system calls of other processes
//! that wait for an answer from this one.

use core::mem::{MaybeUninit, size_of};
use core::ptr;
use core::sync::atomic::{AtomicI32, Ordering};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use libc::sock_filter;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::Signal;

/// A system call that waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    id: u64,
    /// The thread that made it, as this process's pid namespace calls it.
    pub(crate) thread: i32,
    pub(crate) number: libc::c_long,
    pub(crate) arguments: [u64; 6],
}

impl Call {
    /// An argument that is a C `int` or `unsigned int`.
    pub(crate) fn int(&self, index: usize) -> i32 {
        self.word(index) as u32 as i32
    }

    pub(crate) fn word(&self, index: usize) -> u64 {
        self.arguments.get(index).copied().unwrap_or(0)
    }
}

/// The end of a filter at which its calls arrive.
#[derive(Debug)]
pub(crate) struct Listener(OwnedFd);

impl Listener {
    pub(crate) const fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// Takes the next call. An error when it has been given up meanwhile.
    pub(crate) fn receive(&self) -> io::Result<Call> {
        // The kernel refuses a structure that is not zeroed.
        let mut call = MaybeUninit::<libc::seccomp_notif>::zeroed();
        self.control(libc::SECCOMP_IOCTL_NOTIF_RECV, call.as_mut_ptr().cast())?;
        // SAFETY: zeroed, then written by the kernel; the structure has integers only.
        let libc::seccomp_notif { id, pid, data, .. } = unsafe { call.assume_init() };
        let (thread, number) = (pid.cast_signed(), libc::c_long::from(data.nr));
        Ok(Call { id, thread, number, arguments: data.args })
    }

    /// Whether the caller still waits for an answer to this call.
    pub(crate) fn waits(&self, call: &Call) -> bool {
        let mut id = call.id;
        self.control(libc::SECCOMP_IOCTL_NOTIF_ID_VALID, ptr::from_mut(&mut id).cast()).is_ok()
    }

    /// Lets the kernel carry the call out as it is.
    pub(crate) fn pass(&self, call: &Call) {
        self.send(call, 0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32);
    }

    /// Answers with a result: a value, or the number of an error.
    pub(crate) fn answer(&self, call: &Call, result: Result<i64, i32>) {
        match result {
            Ok(value) => self.send(call, value, 0, 0),
            Err(number) => self.send(call, 0, number.saturating_neg(), 0),
        }
    }

    /// Gives the caller a descriptor of what this one means; its number is the call's result.
    pub(crate) fn give(&self, call: &Call, descriptor: BorrowedFd<'_>, close_on_exec: bool) {
        let number = descriptor.as_raw_fd().cast_unsigned();
        let newfd_flags = if close_on_exec { libc::O_CLOEXEC.cast_unsigned() } else { 0 };
        let add =
            |flags| libc::seccomp_notif_addfd { id: call.id, flags, srcfd: number, newfd: 0, newfd_flags };
        // In one step where the kernel can do that (Linux 5.14): a signal between two would leave a descriptor behind.
        let mut both = add(libc::SECCOMP_ADDFD_FLAG_SEND as u32);
        if let Err(error) = self.control(libc::SECCOMP_IOCTL_NOTIF_ADDFD, ptr::from_mut(&mut both).cast()) {
            let mut first = add(0);
            let result = match error.raw_os_error() {
                Some(libc::EINVAL) => {
                    self.control(libc::SECCOMP_IOCTL_NOTIF_ADDFD, ptr::from_mut(&mut first).cast())
                }
                Some(_) | None => Err(error),
            };
            self.answer(call, result.map_err(|error| error.raw_os_error().unwrap_or(libc::EMFILE)));
        }
    }

    /// The caller may have gone meanwhile, in which case nobody misses the answer.
    fn send(&self, call: &Call, val: i64, error: i32, flags: u32) {
        let mut response = libc::seccomp_notif_resp { id: call.id, val, error, flags };
        drop(self.control(libc::SECCOMP_IOCTL_NOTIF_SEND, ptr::from_mut(&mut response).cast()));
    }

    fn control(&self, request: libc::Ioctl, argument: *mut libc::c_void) -> io::Result<i64> {
        // SAFETY: each caller passes the live structure that its request reads or writes.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result.into()) }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Has the command install a filter before it is executed, and send the filter's listener over `channel`; or, without
/// a descriptor, the four bytes of the error's number. The command ends when the thread that starts it does.
pub(crate) fn lead(command: &mut Command, filter: Vec<sock_filter>, channel: OwnedFd) {
    let before = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        let listener = install(&filter);
        let number = listener.as_ref().err().and_then(io::Error::raw_os_error).unwrap_or(0).to_ne_bytes();
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        let descriptors = listener.as_ref().map(|listener| [listener.as_fd()]);
        if let Ok(descriptors) = &descriptors {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        rustix::net::sendmsg(&channel, &[IoSlice::new(&number)], &mut control, SendFlags::NOSIGNAL)?;
        listener.map(drop)
    };
    // SAFETY: between fork and exec the closure makes system calls on values that it owns, and nothing else: it takes
    // no lock and does not allocate.
    unsafe { command.pre_exec(before) };
}

/// Installs a filter with a listener in this thread.
fn install(filter: &[sock_filter]) -> io::Result<OwnedFd> {
    let len = u16::try_from(filter.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    // With the first flag (Linux 5.19) signals that a program handles leave a call alone that is being answered.
    let mut flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let mut may = false;
    loop {
        // SAFETY: the program and the instructions that it points to live; the kernel only reads them.
        let result = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, ptr::from_ref(&program))
        };
        if let Ok(descriptor) = i32::try_from(result)
            && descriptor >= 0
        {
            // SAFETY: the kernel just made this descriptor, and nobody else knows of it.
            return Ok(unsafe { OwnedFd::from_raw_fd(descriptor) });
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // Who has no privileges must promise to gain none.
            Some(libc::EACCES) if !may => {
                rustix::thread::set_no_new_privs(true)?;
                may = true;
            }
            Some(libc::EINVAL) if flags != libc::SECCOMP_FILTER_FLAG_NEW_LISTENER => {
                flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
            }
            Some(_) | None => return Err(error),
        }
    }
}

/// Reads memory of another process. All of it lies in one page, or what cannot be read makes it fail.
pub(crate) fn read_memory(thread: i32, address: u64, room: &mut [u8]) -> io::Result<()> {
    let local = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: room.len() };
    // SAFETY: the local part is the live, writable slice. The kernel checks the remote part against that process.
    let done = unsafe { libc::process_vm_readv(thread, &raw const local, 1, &raw const remote, 1, 0) };
    whole(done, room.len())
}

/// Writes memory of another process.
pub(crate) fn write_memory(thread: i32, address: u64, bytes: &[u8]) -> io::Result<()> {
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: bytes.len() };
    // SAFETY: the kernel only reads the local part, which is the live slice, and checks the remote part.
    let done = unsafe { libc::process_vm_writev(thread, &raw const local, 1, &raw const remote, 1, 0) };
    whole(done, bytes.len())
}

fn whole(done: isize, length: usize) -> io::Result<()> {
    match usize::try_from(done) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(done) if done == length => Ok(()),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EFAULT)),
    }
}

/// `getdents64(2)`: how many bytes of the room were filled with entries.
pub(crate) fn directory_entries(directory: BorrowedFd<'_>, room: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most as many bytes as the live slice is long.
    let result =
        unsafe { libc::syscall(libc::SYS_getdents64, directory.as_raw_fd(), room.as_mut_ptr(), room.len()) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// `struct stat` of a file as the kernel writes it to a program's memory, with another mode if there is one.
pub(crate) fn status(file: BorrowedFd<'_>, mode: Option<u32>) -> io::Result<Vec<u8>> {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the kernel writes one structure to a live one.
    if unsafe { libc::fstat(file.as_raw_fd(), status.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed, then written by the kernel; the structure has integers only.
    let fields = unsafe { status.assume_init_mut() };
    fields.st_mode = mode.unwrap_or(fields.st_mode);
    // A file in memory has no name, one of the kernel's has one.
    fields.st_nlink = fields.st_nlink.max(1);
    // SAFETY: all of its bytes were zeroed before, so none is uninitialised, padding included.
    Ok(unsafe { bytes_of(&status) }.to_vec())
}

/// `struct statx` of a file, as [`status`] has `struct stat`.
pub(crate) fn extended_status(file: BorrowedFd<'_>, mask: u32, mode: Option<u32>) -> io::Result<Vec<u8>> {
    let mut status = MaybeUninit::<libc::statx>::zeroed();
    let (flags, at) = (libc::AT_EMPTY_PATH, status.as_mut_ptr());
    // SAFETY: the path is a NUL-terminated literal, and the kernel writes one structure to a live one.
    if unsafe { libc::statx(file.as_raw_fd(), c"".as_ptr(), flags, mask, at) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed, then written by the kernel; the structure has integers only.
    let fields = unsafe { status.assume_init_mut() };
    fields.stx_mode = mode.and_then(|mode| u16::try_from(mode).ok()).unwrap_or(fields.stx_mode);
    fields.stx_nlink = fields.stx_nlink.max(1);
    // SAFETY: all of its bytes were zeroed before, so none is uninitialised, padding included.
    Ok(unsafe { bytes_of(&status) }.to_vec())
}

/// The bytes of a value.
///
/// # Safety
/// Every byte of it is initialised, those that are padding too.
unsafe fn bytes_of<T>(value: &MaybeUninit<T>) -> &[u8] {
    // SAFETY: a live value of this length, whose bytes are initialised, as the caller guarantees.
    unsafe { core::slice::from_raw_parts(value.as_ptr().cast(), size_of::<T>()) }
}

/// Makes a second process out of this one, which must have one thread. `true` in the new one.
pub(crate) fn fork() -> io::Result<bool> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!("a process of {threads} threads cannot be divided")));
    }
    // SAFETY: there is no other thread, which could hold a lock that nobody would ever release in the new process.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(true),
        _ => Ok(false),
    }
}

/// Has the signals that somebody sends to this process written to a socket, each as a byte with its number, instead of
/// what they do otherwise. Those of the kernel, such as the terminal's, are only kept away: the whole process group has
/// them. Those that are ignored stay so.
pub(crate) fn forward_signals(socket: OwnedFd) -> io::Result<()> {
    // The handler uses it from now on, as long as the process lives.
    FORWARD_TO.store(socket.into_raw_fd(), Ordering::Relaxed);
    for signal in SIGNALS {
        if is_ignored(signal) {
            continue;
        }
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: zeroed; integers, and an empty set of signals.
        let fields = unsafe { action.assume_init_mut() };
        fields.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        fields.sa_sigaction = forward as *const () as usize;
        // SAFETY: a live structure with a handler of the kind that `SA_SIGINFO` says, which is safe at any moment.
        if unsafe { libc::sigaction(signal, action.as_ptr(), ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

static FORWARD_TO: AtomicI32 = AtomicI32::new(-1);

/// A signal handler: makes one system call that is allowed in one.
extern "C" fn forward(signal: i32, info: *const libc::siginfo_t, _: *const libc::c_void) {
    // SAFETY: the kernel passes a live structure, as `SA_SIGINFO` is set.
    let by_a_process = unsafe { info.as_ref() }.is_some_and(|info| info.si_code <= 0);
    if by_a_process {
        let (descriptor, byte) = (FORWARD_TO.load(Ordering::Relaxed), signal as u8);
        // What finds no room would find its like waiting.
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        // SAFETY: the byte lives; the descriptor is open as long as the process lives.
        unsafe { libc::send(descriptor, ptr::from_ref(&byte).cast(), 1, flags) };
    }
}

/// Lets the signals that end a program pass this process by, but not those that it starts.
pub(crate) fn outlive_signals() -> io::Result<()> {
    for signal in SIGNALS.into_iter().chain([libc::SIGTSTP]).filter(|signal| !is_ignored(*signal)) {
        // SAFETY: the handler does nothing.
        unsafe { signal_hook::low_level::register(signal, || {}) }?;
    }
    Ok(())
}

fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call only writes the present one to a live structure.
    let result = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zeroed, then perhaps written by the kernel; a handler of 0 is the default.
    result == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

const SIGNALS: [i32; 7] =
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM];
