//! Maps, programs and links of BPF: bpf(2), `linux/bpf.h`; the instruction set is that of RFC 9669.

use core::mem::size_of;
use core::ptr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::sys::option;

/// One instruction (RFC 9669 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    pub(crate) code: u8,
    /// The destination's and the source's number, in the order of C's bit fields on this machine.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

const _: () = assert!(size_of::<Instruction>() == 8);

/// What a map does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// From a key to a value.
    Hash = 1,
    /// From a number of 32 bits to a value, which this process can map as well.
    Array = 2,
    /// From a queue's number to an `AF_XDP` socket.
    Sockets = 17,
}

/// A map. It lives as long as this, or a program that uses it.
#[derive(Debug)]
pub(crate) struct Map {
    fd: OwnedFd,
    key: usize,
    value: usize,
}

impl Map {
    /// A map of at most `entries` entries with keys and values of so many bytes. All its memory is taken now.
    pub(crate) fn new(kind: Kind, key: usize, value: usize, entries: u32) -> io::Result<Self> {
        let flags = if kind == Kind::Array { MAPPABLE } else { 0 };
        Self::with_flags((kind, flags), key, value, entries)
    }

    /// A hash map of at most `entries` entries, each of which takes its memory when it is set.
    pub(crate) fn growing(key: usize, value: usize, entries: u32) -> io::Result<Self> {
        Self::with_flags((Kind::Hash, GROWING), key, value, entries)
    }

    fn with_flags((kind, flags): (Kind, u32), key: usize, value: usize, entries: u32) -> io::Result<Self> {
        let size = |bytes: usize| u32::try_from(bytes).map_err(|_| invalid());
        let mut attributes = CreateMap {
            kind: kind as u32,
            key: size(key)?,
            value: size(value)?,
            entries,
            flags,
            inner: 0,
            node: 0,
            name: NAME,
        };
        Ok(Self { fd: made(call(CREATE_MAP, &mut attributes)?), key, value })
    }

    /// Sets the value of a key.
    pub(crate) fn set(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if key.len() != self.key || value.len() != self.value {
            return Err(invalid());
        }
        let mut attributes = Element {
            map: self.fd.as_raw_fd() as u32,
            padding: 0,
            key: key.as_ptr() as u64,
            value: value.as_ptr() as u64,
            flags: 0,
        };
        call(SET_ELEMENT, &mut attributes).map(drop)
    }

    /// Takes a key out. It is no error if the map does not have it.
    pub(crate) fn remove(&self, key: &[u8]) -> io::Result<()> {
        if key.len() != self.key {
            return Err(invalid());
        }
        let map = self.fd.as_raw_fd() as u32;
        let mut attributes = Element { map, padding: 0, key: key.as_ptr() as u64, value: 0, flags: 0 };
        match call(REMOVE_ELEMENT, &mut attributes) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// The map's number in the instructions that use it.
    pub(crate) fn number(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Which frames a socket gets: it answers with how many bytes of them.
    Filter,
    /// Frames that come in by an interface, behind the packet sockets and before the kernel's own stack (`TCX`).
    Ingress,
    /// Frames as they come in.
    Xdp,
}

impl Purpose {
    /// `BPF_PROG_TYPE_*` and the type of attachment, `BPF_*`.
    const fn numbers(self) -> (u32, u32) {
        match self {
            Self::Filter => (1, 0),
            Self::Ingress => (3, ATTACH_INGRESS),
            Self::Xdp => (6, ATTACH_XDP),
        }
    }
}

/// A program, checked by the kernel.
#[derive(Debug)]
pub(crate) struct Program(OwnedFd);

impl Program {
    /// Loads it. The maps whose numbers it uses must be open.
    pub(crate) fn load(purpose: Purpose, instructions: &[Instruction]) -> io::Result<Self> {
        let (kind, attach) = purpose.numbers();
        let mut attributes = LoadProgram {
            kind,
            count: u32::try_from(instructions.len()).map_err(|_| invalid())?,
            instructions: instructions.as_ptr() as u64,
            license: LICENSE.as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log: 0,
            version: 0,
            flags: 0,
            name: NAME,
            interface: 0,
            attach,
        };
        match call(LOAD_PROGRAM, &mut attributes) {
            Ok(fd) => Ok(Self(made(fd))),
            // The same again, to hear what the kernel's checker has to say.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EACCES)) => {
                let mut log = vec![0_u8; LOG];
                (attributes.log_level, attributes.log_size) = (1, LOG as u32);
                attributes.log = log.as_mut_ptr() as u64;
                match call(LOAD_PROGRAM, &mut attributes) {
                    Ok(fd) => Ok(Self(made(fd))),
                    Err(_) => {
                        let text: Vec<u8> = log.into_iter().take_while(|byte| *byte != 0).collect();
                        let text = String::from_utf8_lossy(&text);
                        Err(io::Error::new(error.kind(), format!("{error}: {}", text.trim())))
                    }
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Makes it the filter of a socket, in place of any other.
    pub(crate) fn attach_to(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        option::set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_BPF, &self.0.as_raw_fd())
    }

    /// Runs it on a frame as if that had come in; says what the program answered, and leaves the frame as the program
    /// did.
    #[cfg(test)]
    pub(crate) fn run(&self, frame: &mut Vec<u8>) -> io::Result<u32> {
        let length = u32::try_from(frame.len()).map_err(|_| invalid())?;
        let bytes = frame.as_mut_ptr() as u64;
        let program = self.0.as_raw_fd() as u32;
        let mut attributes = TestRun {
            program,
            answer: 0,
            length,
            room: length,
            frame: bytes,
            out: bytes,
            repeat: 1,
            duration: 0,
        };
        call(TEST_RUN, &mut attributes)?;
        frame.truncate(attributes.room as usize);
        Ok(attributes.answer)
    }
}

/// A program at work on an interface, until this is dropped or the process ends, however it does.
#[derive(Debug)]
pub(crate) struct Attachment(
    #[expect(dead_code, reason = "held for as long as the program is to work")] OwnedFd,
);

impl Attachment {
    /// Attaches a program to an interface: in the driver, or before the kernel's own stack.
    pub(crate) fn new(program: &Program, interface: u32, native: bool) -> io::Result<Self> {
        let mut attributes = CreateLink {
            program: program.0.as_raw_fd() as u32,
            interface,
            attach: ATTACH_XDP,
            flags: if native { FLAG_NATIVE } else { FLAG_GENERIC },
        };
        Ok(Self(made(call(CREATE_LINK, &mut attributes)?)))
    }

    /// Attaches a program to what comes in by an interface, before those that are there. Needs Linux 6.6 or newer.
    pub(crate) fn ingress(program: &Program, interface: u32) -> io::Result<Self> {
        let program = program.0.as_raw_fd() as u32;
        let mut attributes = CreateLink { program, interface, attach: ATTACH_INGRESS, flags: FLAG_BEFORE };
        Ok(Self(made(call(CREATE_LINK, &mut attributes)?)))
    }
}

/// `BPF_MAP_CREATE`.
#[repr(C)]
struct CreateMap {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
    flags: u32,
    inner: u32,
    node: u32,
    name: [u8; 16],
}

/// `BPF_MAP_UPDATE_ELEM`, `BPF_MAP_DELETE_ELEM`.
#[repr(C)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `BPF_PROG_LOAD`.
#[repr(C)]
struct LoadProgram {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach: u32,
}

/// `BPF_PROG_TEST_RUN`.
#[cfg(test)]
#[repr(C)]
struct TestRun {
    program: u32,
    answer: u32,
    length: u32,
    room: u32,
    frame: u64,
    out: u64,
    repeat: u32,
    duration: u32,
}

/// `BPF_LINK_CREATE`.
#[repr(C)]
struct CreateLink {
    program: u32,
    interface: u32,
    attach: u32,
    flags: u32,
}

/// What bpf(2) takes: plain numbers, of which those that are addresses point to live memory of the length that others
/// say.
trait Attributes {}
impl Attributes for CreateMap {}
impl Attributes for Element {}
impl Attributes for LoadProgram {}
impl Attributes for CreateLink {}
#[cfg(test)]
impl Attributes for TestRun {}

/// bpf(2). A call that is interrupted is made again.
fn call<T: Attributes>(command: u32, attributes: &mut T) -> io::Result<i32> {
    loop {
        // SAFETY: pointer and length are those of one live value of this file's types, each laid out as the kernel's
        // for its command (`repr(C)`; where padding could be, there is a field). The addresses in them are of slices
        // that the callers hold, with their lengths, or of memory as long as the map's keys and values; the kernel
        // writes into the value itself and into the log, which is as long as said.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, command, ptr::from_mut(attributes), size_of::<T>() as libc::c_uint)
        };
        if result >= 0 {
            return Ok(result as i32);
        }
        let error = io::Error::last_os_error();
        // `EAGAIN` is how the kernel's checker gives up on a long program when a signal is pending.
        if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) {
            return Err(error);
        }
    }
}

/// A descriptor that a call of bpf(2) has returned.
fn made(fd: i32) -> OwnedFd {
    // SAFETY: the callers pass what a call that makes a descriptor has just returned; nobody else knows of it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

const CREATE_MAP: u32 = 0;
const SET_ELEMENT: u32 = 2;
const REMOVE_ELEMENT: u32 = 3;
const LOAD_PROGRAM: u32 = 5;
#[cfg(test)]
const TEST_RUN: u32 = 10;
const CREATE_LINK: u32 = 28;
/// `BPF_XDP`.
const ATTACH_XDP: u32 = 37;
/// `BPF_TCX_INGRESS`.
const ATTACH_INGRESS: u32 = 46;
/// `BPF_F_BEFORE`: without naming another one, before all.
const FLAG_BEFORE: u32 = 1 << 3;
/// `BPF_F_NO_PREALLOC`.
const GROWING: u32 = 1;
/// `BPF_F_MMAPABLE`.
const MAPPABLE: u32 = 1 << 10;
/// `XDP_FLAGS_SKB_MODE` and `XDP_FLAGS_DRV_MODE` (`linux/if_link.h`).
const FLAG_GENERIC: u32 = 1 << 1;
const FLAG_NATIVE: u32 = 1 << 2;
/// The program's own; it calls nothing that is for GPL programs only.
const LICENSE: &core::ffi::CStr = c"MIT OR Apache-2.0";
/// What listings of maps and programs show.
const NAME: [u8; 16] = *b"director\0\0\0\0\0\0\0\0";
/// Room for what the checker says.
const LOG: usize = 1 << 20;
