//! TUN and TAP interfaces: `/dev/net/tun`, `linux/if_tun.h`, the kernel's `Documentation/networking/tuntap.rst`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::sys::interface;

/// What an interface is to be, and how it talks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// TAP instead of TUN.
    pub(crate) ethernet: bool,
    /// Several files may have it open, each with a queue of its own.
    pub(crate) several: bool,
    /// Length of the virtio-net header before each frame.
    pub(crate) header: usize,
}

/// Opens an interface of this shape, which makes it if there is none of that name; returns its name, in which the
/// kernel replaces `%d` by a number. It goes when its last file is closed, unless it was made persistent elsewhere.
pub(crate) fn open(name: &str, shape: Shape) -> io::Result<(File, String)> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")?;
    let mut request = interface::request(name)?;
    let kind = if shape.ethernet { libc::IFF_TAP } else { libc::IFF_TUN };
    let queues = if shape.several { libc::IFF_MULTI_QUEUE } else { 0 };
    request.ifr_ifru.ifru_flags = (kind | queues | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    interface::ioctl(&file, libc::TUNSETIFF, &mut request)?;
    let name = interface::name_of(&request);
    let header = shape.header as libc::c_int;
    // SAFETY: TUNSETVNETHDRSZ takes a pointer to one integer, which it only reads.
    let result =
        unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, core::ptr::from_ref(&header)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok((file, name)) }
}

/// Tells the kernel which unfinished frames (`TUN_F_*`) it may hand over.
pub(crate) fn set_offload(file: impl AsFd, flags: u32) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    let result =
        unsafe { libc::ioctl(file.as_fd().as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether the file still has its interface.
pub(crate) fn is_attached(file: impl AsFd) -> io::Result<()> {
    let mut request = interface::request("lo")?;
    interface::ioctl(file, libc::TUNGETIFF, &mut request)
}
