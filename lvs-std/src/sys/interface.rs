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
    /// The interface with this name. Whoever asks again and again keeps an [`Inquirer`].
    pub(crate) fn named(name: &str) -> io::Result<Self> {
        Inquirer::open()?.find(name)?.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }
}

/// Asks what interfaces there are in its network namespace, without a further descriptor for each question: a process
/// that has none left must not take its interfaces for gone.
#[derive(Debug)]
pub(crate) struct Inquirer(OwnedFd);

impl Inquirer {
    /// Of the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        inquirer().map(Self)
    }

    /// The interface with this name, if there is one.
    pub(crate) fn find(&self, name: &str) -> io::Result<Option<Interface>> {
        there(self.read(name))
    }

    /// The name that the interface with this number has now, if there is one.
    #[cfg(any(feature = "runtime", feature = "realserver"))]
    pub(crate) fn name_of(&self, index: u32) -> io::Result<Option<String>> {
        there(rustix::net::netdevice::index_to_name(&self.0, index).map_err(io::Error::from))
    }

    fn read(&self, name: &str) -> io::Result<Interface> {
        let socket = &self.0;
        let mut request = request(name)?;
        let index = rustix::net::netdevice::name_to_index(socket, name)?;
        ioctl(socket, libc::SIOCGIFHWADDR, &mut request)?;
        // SAFETY: SIOCGIFHWADDR has just written this field.
        let address = unsafe { request.ifr_ifru.ifru_hwaddr };
        let mut mac = [0; 6];
        for (to, from) in mac.iter_mut().zip(address.sa_data) {
            *to = from as u8;
        }
        ioctl(socket, libc::SIOCGIFMTU, &mut request)?;
        // SAFETY: SIOCGIFMTU has just written this field.
        let mtu = unsafe { request.ifr_ifru.ifru_mtu };
        ioctl(socket, libc::SIOCGIFFLAGS, &mut request)?;
        // SAFETY: SIOCGIFFLAGS has just written this field.
        let flags = libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags });
        Ok(Interface {
            index,
            hardware: address.sa_family,
            mtu: usize::try_from(mtu).unwrap_or(0),
            mac,
            up: flags & libc::IFF_UP != 0,
            running: flags & libc::IFF_UP != 0 && flags & libc::IFF_RUNNING != 0,
        })
    }
}

/// What was found, unless the kernel says that there is no such interface: any other error tells nothing about that.
fn there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO)) => Ok(None),
        Err(error) => Err(error),
    }
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
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    Ok(socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
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

    #[test]
    fn an_interface_that_is_not_there_is_none_and_any_other_failure_an_error() {
        let inquirer = Inquirer::open().unwrap();
        let loopback = inquirer.find("lo").unwrap().unwrap();
        assert_eq!(inquirer.find("nosuchdevice").unwrap(), None);
        #[cfg(feature = "runtime")]
        {
            assert_eq!(inquirer.name_of(loopback.index).unwrap().as_deref(), Some("lo"));
            assert_eq!(inquirer.name_of(u32::MAX >> 1).unwrap(), None);
        }
        // No question about interfaces can be put to a file.
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        let wrong = Inquirer(file.into());
        assert!(wrong.find("lo").is_err());
        let _ = loopback;
    }
}
