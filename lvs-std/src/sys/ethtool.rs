//! What a driver says of an interface, and what it can be told: `SIOCETHTOOL`, `linux/ethtool.h`.

use core::ptr;
use std::io;

use super::interface;

/// The name of the driver, such as `veth`.
pub(crate) fn driver(name: &str) -> io::Result<String> {
    let mut answer = DriverInfo { command: GET_DRIVER, text: [0; 192] };
    ask(name, &mut answer)?;
    let driver: Vec<u8> = answer.text.iter().copied().take(32).take_while(|byte| *byte != 0).collect();
    Ok(String::from_utf8_lossy(&driver).into_owned())
}

/// How many queues an interface has: one at least for each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Queues {
    pub(crate) receive: u32,
    pub(crate) transmit: u32,
}

/// How many queues receive, and how many send.
pub(crate) fn queues(name: &str) -> io::Result<Queues> {
    let mut answer = Channels { command: GET_CHANNELS, ..Channels::default() };
    ask(name, &mut answer)?;
    let Channels { receive, transmit, combined, .. } = answer;
    Ok(Queues { receive: (receive + combined).max(1), transmit: (transmit + combined).max(1) })
}

/// Sets how many queues receive, and how many send.
#[cfg(feature = "lab")]
pub(crate) fn set_queues(name: &str, queues: Queues) -> io::Result<()> {
    let mut channels = Channels { command: GET_CHANNELS, ..Channels::default() };
    ask(name, &mut channels)?;
    (channels.command, channels.receive, channels.transmit) = (SET_CHANNELS, queues.receive, queues.transmit);
    ask(name, &mut channels)
}

/// Whether checksums of packets that are sent may be left to others.
#[cfg(feature = "lab")]
pub(crate) fn set_transmit_checksum(name: &str, on: bool) -> io::Result<()> {
    ask(name, &mut Value { command: SET_TRANSMIT_CHECKSUM, data: u32::from(on) })
}

/// `struct ethtool_drvinfo`: the text begins with the driver's 32 bytes.
#[repr(C)]
struct DriverInfo {
    command: u32,
    text: [u8; 192],
}

/// `struct ethtool_channels`.
#[derive(Default)]
#[repr(C)]
struct Channels {
    command: u32,
    most_receive: u32,
    most_transmit: u32,
    most_other: u32,
    most_combined: u32,
    receive: u32,
    transmit: u32,
    other: u32,
    combined: u32,
}

/// `struct ethtool_value`.
#[repr(C)]
#[cfg(feature = "lab")]
struct Value {
    command: u32,
    data: u32,
}

/// The types above: laid out as the kernel's for their commands, plain numbers only.
trait Request {}
impl Request for DriverInfo {}
impl Request for Channels {}
#[cfg(feature = "lab")]
impl Request for Value {}

const _: () = assert!(size_of::<DriverInfo>() == 196 && size_of::<Channels>() == 36);

fn ask<T: Request>(name: &str, about: &mut T) -> io::Result<()> {
    let socket = interface::inquirer()?;
    let mut request = interface::request(name)?;
    request.ifr_ifru.ifru_data = ptr::from_mut(about).cast();
    // The kernel reads and writes one structure of the command's type there, which `about` is.
    interface::ioctl(&socket, SIOCETHTOOL, &mut request)
}

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const GET_DRIVER: u32 = 0x3;
const GET_CHANNELS: u32 = 0x3c;
#[cfg(feature = "lab")]
const SET_CHANNELS: u32 = 0x3d;
#[cfg(feature = "lab")]
const SET_TRANSMIT_CHECKSUM: u32 = 0x17;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_has_no_driver() {
        assert_eq!(driver("nosuchdevice").unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
}
