//! The machine on which steps are taken.

use core::net::IpAddr;
use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use super::step::Step;
use crate::filter::{bytes_of_hex, hex_of};
use crate::sys::rtnetlink::host::DefaultRoute;
use crate::sys::rtnetlink::{Netlink, whole};

/// What there is of a step's matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Now {
    /// The step is taken.
    AsWanted,
    /// There is something else, or nothing.
    Else(Before),
}

/// What was there before a step was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Before {
    /// Nothing.
    Absent,
    /// The interface, but it was down.
    Down,
    /// Another value.
    Value(String),
    /// Another default route, as the kernel says it, in hexadecimal digits.
    Route(String),
}

/// A machine that can be looked at and changed, step by step.
pub(crate) trait Machine {
    /// What there is now.
    fn look(&mut self, step: &Step) -> io::Result<Now>;

    /// Takes the step. All of it happens, or nothing.
    fn apply(&mut self, step: &Step) -> io::Result<()>;

    /// Makes what the step changed as it was before.
    fn restore(&mut self, step: &Step, before: &Before) -> io::Result<()>;
}

/// This machine, in one network namespace: that of the thread that opened it, which alone may use it.
pub(crate) struct Kernel(Netlink);

impl Kernel {
    pub(crate) fn open() -> io::Result<Self> {
        Netlink::open().map(Self)
    }

    pub(super) fn netlink(&mut self) -> &mut Netlink {
        &mut self.0
    }

    fn index(&mut self, name: &str) -> io::Result<u32> {
        let link = self.0.find_link(name)?;
        link.map(|link| link.index).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    fn index_of(&mut self, interface: Option<&String>) -> io::Result<Option<u32>> {
        interface.map(|name| self.index(name)).transpose()
    }
}

impl Machine for Kernel {
    fn look(&mut self, step: &Step) -> io::Result<Now> {
        match step {
            Step::Link { name, .. } => Ok(match self.0.find_link(name)? {
                Some(link) if link.up => Now::AsWanted,
                Some(_) => Now::Else(Before::Down),
                None => Now::Else(Before::Absent),
            }),
            Step::Sysctl { interface, name, value } => {
                match fs::read_to_string(Step::file(interface, name)) {
                    Ok(now) if now.trim() == value => Ok(Now::AsWanted),
                    Ok(now) => Ok(Now::Else(Before::Value(now.trim().to_owned()))),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Now::Else(Before::Absent)),
                    Err(error) => Err(error),
                }
            }
            Step::Address { interface, address } => {
                let Some(link) = self.0.find_link(interface)? else { return Ok(Now::Else(Before::Absent)) };
                let all = self.0.all_addresses()?;
                let there = all.contains(&(link.index, *address, whole(*address)));
                Ok(if there { Now::AsWanted } else { Now::Else(Before::Absent) })
            }
            Step::Route { gateway, interface } => {
                let index = match self.index_of(interface.as_ref()) {
                    Ok(index) => index,
                    Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                        return Ok(Now::Else(Before::Absent));
                    }
                    Err(error) => return Err(error),
                };
                Ok(match self.0.default_route(*gateway, Step::metric(*gateway))? {
                    Some(route) if route.is_by(*gateway, index) => Now::AsWanted,
                    Some(route) => Now::Else(Before::Route(hex_of(&route.to_bytes()))),
                    None => Now::Else(Before::Absent),
                })
            }
        }
    }

    fn apply(&mut self, step: &Step) -> io::Result<()> {
        match step {
            Step::Link { name, tunnel } => {
                if self.0.find_link(name)?.is_none() {
                    self.0.make_link(name, tunnel.kind())?;
                }
                self.0.bring(name, true)
            }
            Step::Sysctl { interface, name, value } => set(interface, name, value),
            Step::Address { interface, address } => {
                let index = self.index(interface)?;
                self.0.add_quiet_address(index, *address)
            }
            Step::Route { gateway, interface } => {
                let index = self.index_of(interface.as_ref())?;
                self.0.lead_all_by(*gateway, index, Step::metric(*gateway))
            }
        }
    }

    fn restore(&mut self, step: &Step, before: &Before) -> io::Result<()> {
        match (step, before) {
            (Step::Link { name, .. }, Before::Absent) => {
                // The interface that a module brings stays as long as the module: then it is at least as good as gone.
                self.0.delete_link(name).or_else(|_| self.0.bring(name, false))
            }
            (Step::Link { name, .. }, Before::Down) => self.0.bring(name, false),
            (Step::Sysctl { interface, name, .. }, Before::Value(value)) => set(interface, name, value),
            (Step::Address { interface, address }, Before::Absent) => {
                let index = self.index(interface)?;
                self.0.delete_quiet_address(index, *address)
            }
            (Step::Route { gateway, interface }, Before::Absent) => {
                let index = self.index_of(interface.as_ref())?;
                self.0.lead_all_no_more_by(*gateway, index, Step::metric(*gateway))
            }
            (Step::Route { .. }, Before::Route(bytes)) => {
                let route = bytes_of_hex(bytes).map_err(|_| senseless(step, before))?;
                self.0.put_back(&DefaultRoute::parse(&route)?)
            }
            (Step::Link { .. } | Step::Sysctl { .. } | Step::Address { .. } | Step::Route { .. }, _) => {
                Err(senseless(step, before))
            }
        }
    }
}

fn set(interface: &str, name: &str, value: &str) -> io::Result<()> {
    fs::write(Step::file(interface, name), value)
}

/// A record that this program has not written.
fn senseless(step: &Step, before: &Before) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("`{step}` cannot have had {before:?} before"))
}

/// Which of these addresses this machine has, with interface and prefix length.
pub(super) fn holders(kernel: &mut Kernel, of: &[IpAddr]) -> io::Result<Vec<(u32, IpAddr, u8)>> {
    Ok(kernel.0.all_addresses()?.into_iter().filter(|(_, address, _)| of.contains(address)).collect())
}
