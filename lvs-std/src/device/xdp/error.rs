//! Why interfaces cannot be opened.

use core::fmt;
use std::io;

/// Why an interface could not be opened.
#[derive(Debug)]
pub struct OpenError {
    interface: String,
    step: XdpStep,
    source: io::Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum XdpStep {
    Attach,
    Bind,
    Ethernet,
    Find,
    Load,
    Maps,
    Membership,
    Memory,
    Mtu,
    Register,
    Socket,
    Wait,
}

impl OpenError {
    /// What makes an error of a step's failure.
    pub(super) fn at(interface: &str, step: XdpStep) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { interface: interface.to_owned(), step, source }
    }

    pub(super) const fn step(&self) -> XdpStep {
        self.step
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, step, source } = self;
        write!(f, "interface `{interface}`: ")?;
        match step {
            XdpStep::Attach => {
                write!(f, "no XDP program can be attached to it (is there one already?): {source}")
            }
            XdpStep::Bind => write!(
                f,
                "cannot bind an AF_XDP socket to a queue of it (does another program have it?): {source}"
            ),
            XdpStep::Ethernet => f.write_str("it is no Ethernet; use a TUN device for bare IP"),
            XdpStep::Find => write!(f, "cannot be found in this network namespace: {source}"),
            XdpStep::Load => write!(
                f,
                "the kernel does not take the XDP program, for which CAP_BPF and CAP_NET_ADMIN on the machine itself \
                 are needed: {source}"
            ),
            XdpStep::Maps => write!(
                f,
                "the kernel makes no BPF maps, for which CAP_BPF on the machine itself is needed: {source}"
            ),
            XdpStep::Membership => write!(f, "it does not let foreign addresses through: {source}"),
            XdpStep::Memory => write!(f, "no memory for frames, ask for fewer: {source}"),
            XdpStep::Mtu => f.write_str("AF_XDP carries frames up to an MTU of 3,818; use packet sockets"),
            XdpStep::Register => {
                write!(
                    f,
                    "an AF_XDP socket is refused its memory or its rings (Linux 5.10 or newer?): {source}"
                )
            }
            XdpStep::Socket => write!(f, "cannot open an AF_XDP socket, which takes CAP_NET_RAW: {source}"),
            XdpStep::Wait => write!(f, "its queues cannot be waited for: {source}"),
        }
    }
}

impl core::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.source)
    }
}
