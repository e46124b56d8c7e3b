//! What an interface is: the ioctls of `netdevice(7)` (`linux/sockios.h`, `linux/if.h`).

use core::mem;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Facts about a network interface of this network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    /// The interface's number.
    pub(crate) index: u32,
    /// The interface's kind, `ARPHRD_*` (`linux/if_arp.h`).
    pub(crate) hardware: u16,
    /// The longest IP packet that it sends.
    pub(crate) mtu: usize,
    /// The address that the kernel uses on it.
    pub(crate) mac: [u8; 6],
    /// Whether somebody has brought it up.
    pub(crate) up: bool,
    /// Whether it is up and has a carrier: what is sent may arrive.
    pub(crate) running: bool,
}

impl Interface {
    /// The interface with this name.
    pub(crate) fn named(name: &str) -> io::Result<Self> {
        let socket = inquirer()?;
        let index = rustix::net::netdevice::name_to_index(&socket, name)?;
        let mut request = request(name)?;
        ioctl(&socket, libc::SIOCGIFHWADDR, &mut request)?;
        // SAFETY: SIOCGIFHWADDR has just written this field.
        let address = unsafe { request.ifr_ifru.ifru_hwaddr };
        let mut mac = [0; 6];
        for (to, from) in mac.iter_mut().zip(address.sa_data) {
            *to = from as u8;
        }
        ioctl(&socket, libc::SIOCGIFMTU, &mut request)?;
        // SAFETY: SIOCGIFMTU has just written this field.
        let mtu = unsafe { request.ifr_ifru.ifru_mtu };
        ioctl(&socket, libc::SIOCGIFFLAGS, &mut request)?;
        // SAFETY: SIOCGIFFLAGS has just written this field.
        let flags = libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags });
        Ok(Self {
            index,
            hardware: address.sa_family,
            mtu: usize::try_from(mtu).unwrap_or(0),
            mac,
            up: flags & libc::IFF_UP != 0,
            running: flags & libc::IFF_UP != 0 && flags & libc::IFF_RUNNING != 0,
        })
    }
}

/// The name that the interface with this number has now.
#[cfg(feature = "runtime")]
pub(crate) fn name_of_index(index: u32) -> io::Result<String> {
    Ok(rustix::net::netdevice::index_to_name(inquirer()?, index)?)
}

/// Whether an interface with this number still exists.
pub(crate) fn exists(socket: impl AsFd, index: u32) -> bool {
    rustix::net::netdevice::index_to_name_inlined(socket, index).is_ok()
}

/// Brings the interface up.
pub(crate) fn set_up(name: &str) -> io::Result<()> {
    let socket = inquirer()?;
    let mut request = request(name)?;
    ioctl(&socket, libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: SIOCGIFFLAGS has just written this field.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    ioctl(&socket, libc::SIOCSIFFLAGS, &mut request)
}

/// The name in a request.
pub(crate) fn name_of(request: &libc::ifreq) -> String {
    let bytes: Vec<u8> =
        request.ifr_name.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Any socket will do to ask about interfaces.
pub(super) fn inquirer() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?)
}

/// An otherwise empty request about the interface `name`.
pub(crate) fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: integers, arrays and a union of such: all bits zero is a valid value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() || name.bytes().any(|byte| byte == 0) {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

/// An ioctl that takes and returns an interface request.
pub(crate) fn ioctl(fd: impl AsFd, number: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: every number that this crate passes here takes a pointer to one `ifreq`, which is live and writable.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), number, core::ptr::from_mut(request)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_described() {
        let interface = Interface::named("lo").unwrap();
        assert_eq!(interface.hardware, libc::ARPHRD_LOOPBACK);
        assert_eq!(interface.mac, [0; 6]);
        assert!(interface.mtu >= 1_280);
    }

    #[test]
    fn names_that_cannot_be_are_no_devices() {
        for name in ["", "a-name-of-16-byte", "no\0such", "nosuchdevice"] {
            let error = Interface::named(name).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV), "{name:?}");
        }
    }
}
