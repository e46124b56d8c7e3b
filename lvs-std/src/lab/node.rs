//! One machine of a lab: a network namespace.

use core::fmt;
use core::net::IpAddr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::LabError;
use super::isolate::{Isolation, isolation};
use crate::sys::rtnetlink::{Hop, Interface, Netlink};
use crate::sys::{ethtool, netns};

/// A machine: a network namespace with its own interfaces, routes, sockets and sysctls.
///
/// A node lives as long as one clone of it, or a socket or thread inside of it, does; never longer than the process.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    name: String,
    namespace: File,
    netlink: Mutex<Netlink>,
}

impl Node {
    /// Makes a namespace; its loopback interface is up, and [`QUIET`] is off.
    pub(super) fn new(name: &str) -> Result<Self, LabError> {
        let make = || {
            netns::unshare_network()?;
            // A socket stays in the namespace where it was opened, so later requests need no thread inside.
            let mut netlink = Netlink::open()?;
            netlink.set_up("lo", true)?;
            // The descriptor keeps the namespace alive when the thread that made it is gone.
            Ok((File::open("/proc/thread-self/ns/net")?, netlink))
        };
        let (namespace, netlink) = in_thread(make).map_err(|source| LabError::Setup {
            node: name.to_owned(),
            step: "make its network namespace".to_owned(),
            source,
        })?;
        let node = Self(Arc::new(Inner { name: name.to_owned(), namespace, netlink: Mutex::new(netlink) }));
        for setting in QUIET {
            node.set_sysctl(setting, "0")?;
        }
        Ok(node)
    }

    /// The node's name, as given to [`Lab::node`](super::Lab::node).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Runs a closure inside and returns what it returns. Sockets made there belong to the node for ever, threads
    /// started there run there. A panic of the closure goes on in the caller.
    ///
    /// The closure runs on a thread of its own, so that the caller's namespace never changes.
    ///
    /// # Errors
    /// When the kernel refuses the thread or its move into the namespace.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R, LabError> {
        in_thread(|| {
            netns::enter_network(self.0.namespace.as_fd())?;
            Ok(work())
        })
        .map_err(|source| self.refused("enter its namespace".to_owned(), source))
    }

    /// Starts a named thread inside.
    ///
    /// # Errors
    /// When the kernel refuses the thread or its move into the namespace.
    pub fn spawn<R: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<JoinHandle<R>, LabError> {
        self.run(|| thread::Builder::new().name(name.to_owned()).spawn(work))?
            .map_err(|source| self.refused(format!("start the thread {name}"), source))
    }

    /// Index, MAC address and MTU of an interface.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn interface(&self, interface: &str) -> Result<Interface, LabError> {
        self.ask(|| format!("look at {interface}"), |netlink| netlink.interface(interface))
    }

    /// Gives an interface an address with the length of its subnet's prefix in bits. It is usable at once: there is no
    /// duplicate address detection.
    ///
    /// # Errors
    /// When the interface does not exist or has the address already.
    pub fn add_address(&self, interface: &str, address: IpAddr, prefix: u8) -> Result<(), LabError> {
        self.ask(
            || format!("add address {address}/{prefix} to {interface}"),
            |netlink| {
                let index = netlink.interface(interface)?.index;
                netlink.add_address(index, address, prefix)
            },
        )
    }

    /// Takes an address from an interface.
    ///
    /// # Errors
    /// When the interface does not exist or does not have the address.
    pub fn remove_address(&self, interface: &str, address: IpAddr, prefix: u8) -> Result<(), LabError> {
        self.ask(
            || format!("take address {address}/{prefix} from {interface}"),
            |netlink| {
                let index = netlink.interface(interface)?.index;
                netlink.remove_address(index, address, prefix)
            },
        )
    }

    /// Routes a destination by a gateway. The prefix length 0 makes it the default route.
    ///
    /// # Errors
    /// When the gateway cannot be reached or the route exists already.
    pub fn add_route(&self, destination: IpAddr, prefix: u8, gateway: IpAddr) -> Result<(), LabError> {
        self.ask(
            || format!("route {destination}/{prefix} by {gateway}"),
            |netlink| netlink.add_route(destination, prefix, Hop::Gateway(gateway)),
        )
    }

    /// Routes a destination directly onto an interface: its hosts are neighbours there.
    ///
    /// # Errors
    /// When the interface does not exist, is down, or the route exists already.
    pub fn add_link_route(&self, destination: IpAddr, prefix: u8, interface: &str) -> Result<(), LabError> {
        self.ask(
            || format!("route {destination}/{prefix} onto {interface}"),
            |netlink| {
                let index = netlink.interface(interface)?.index;
                netlink.add_route(destination, prefix, Hop::OnLink(index))
            },
        )
    }

    /// The MTU in bytes of the path to a destination, as far as the node's kernel has learnt it from ICMP; `None`
    /// when it knows of nothing smaller than its interface's.
    ///
    /// # Errors
    /// When the node has no route to the destination.
    pub fn path_mtu(&self, destination: IpAddr) -> Result<Option<u32>, LabError> {
        self.ask(|| format!("ask for the path to {destination}"), |netlink| netlink.path_mtu(destination))
    }

    /// Brings an interface up.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn set_up(&self, interface: &str) -> Result<(), LabError> {
        self.ask(|| format!("bring {interface} up"), |netlink| netlink.set_up(interface, true))
    }

    /// Takes an interface down.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn set_down(&self, interface: &str) -> Result<(), LabError> {
        self.ask(|| format!("take {interface} down"), |netlink| netlink.set_up(interface, false))
    }

    /// Gives an interface that is down another name.
    ///
    /// # Errors
    /// When there is no such interface, when it is up, or when another one has the new name.
    pub fn rename_interface(&self, interface: &str, new: &str) -> Result<(), LabError> {
        self.ask(|| format!("rename {interface} to {new}"), |netlink| netlink.rename(interface, new))
    }

    /// Moves an interface to another node, where it comes up without addresses.
    ///
    /// # Errors
    /// When there is no such interface, or the other node has one of that name.
    pub fn move_interface(&self, interface: &str, to: &Self) -> Result<(), LabError> {
        self.ask(
            || format!("move {interface} to {}", to.name()),
            |netlink| netlink.move_to(interface, to.0.namespace.as_fd()),
        )?;
        to.set_up(interface)
    }

    /// Sets an interface's MTU in bytes.
    ///
    /// # Errors
    /// When there is no such interface or it cannot have that MTU.
    pub fn set_mtu(&self, interface: &str, mtu: u32) -> Result<(), LabError> {
        self.ask(|| format!("set the MTU of {interface} to {mtu}"), |netlink| netlink.set_mtu(interface, mtu))
    }

    /// Lets an interface send and receive merged frames of so many bytes: Linux merges more than 64 KiB where both ends
    /// of a cable allow that ("BIG TCP").
    ///
    /// # Errors
    /// When there is no such interface, or it cannot have frames of that length.
    pub fn set_merged_lengths(&self, interface: &str, bytes: u32) -> Result<(), LabError> {
        self.ask(
            || format!("let {interface} merge up to {bytes} bytes"),
            |netlink| netlink.set_merged_lengths(interface, bytes),
        )
    }

    /// Whether the kernel may leave checksums of what it sends by an interface to whoever sends that to a real wire. It
    /// does so by default, since a cable of a lab has no wire.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn set_checksum_offload(&self, interface: &str, on: bool) -> Result<(), LabError> {
        self.run(|| ethtool::set_transmit_checksum(interface, on))?.map_err(|source| {
            self.refused(
                format!("turn {interface}'s checksum offload {}", if on { "on" } else { "off" }),
                source,
            )
        })
    }

    /// Sets how many queues of an interface receive, and how many send: at most as many as it was
    /// [made with](super::Lab::connect_by).
    ///
    /// # Errors
    /// When there is no such interface, or the kernel refuses: it does for queues that a socket has.
    pub fn set_queues(&self, interface: &str, receive: u32, transmit: u32) -> Result<(), LabError> {
        self.run(|| ethtool::set_queues(interface, ethtool::Queues { receive, transmit }))?
            .map_err(|source| self.refused(format!("set the queues of {interface}"), source))
    }

    /// Sets one of the node's own network sysctls, such as `net.ipv4.ip_forward`. In a name with an interface's name in
    /// it that has a dot, write the dot as a slash, as sysctl(8) does.
    ///
    /// # Errors
    /// When there is no such setting, or `/proc/sys` may not be written (some containers).
    pub fn set_sysctl(&self, name: &str, value: &str) -> Result<(), LabError> {
        let swapped: String = name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect();
        self.run(|| fs::write(format!("/proc/sys/{swapped}"), value))?
            .map_err(|source| self.refused(format!("set {name} to {value}"), source))
    }

    /// The command line that looks into the node from outside while this process lives; a command to run there may be
    /// appended, without one it is a shell. For the user that started this process.
    #[must_use]
    pub fn nsenter(&self) -> String {
        let (process, descriptor) = (std::process::id(), self.0.namespace.as_raw_fd());
        let user = match isolation() {
            Some(Isolation::UserAndNetwork) => format!("-U -t {process} --preserve-credentials "),
            Some(Isolation::Network) | None => String::new(),
        };
        format!("nsenter {user}-n/proc/{process}/fd/{descriptor}")
    }

    /// Joins an interface of this node with one of another by a cable: a veth pair, with the offloads that the kernel
    /// gives it by default, and so many queues. Both ends are up.
    pub(super) fn connect(
        &self,
        interface: &str,
        (other, peer): (&Self, &str),
        queues: u32,
    ) -> Result<(), LabError> {
        self.ask(
            || format!("join {interface} with {peer} of {}", other.name()),
            |netlink| netlink.add_veth(interface, (peer, other.0.namespace.as_fd()), queues),
        )?;
        other.set_up(peer)?;
        self.set_up(interface)
    }

    /// Makes an interface for the frames of one VLAN of another interface, as `eth0.100` of `eth0`. It is up.
    ///
    /// # Errors
    /// When there is no such interface, or it has this VLAN already.
    pub fn add_vlan(&self, trunk: &str, vlan: u16) -> Result<(), LabError> {
        let name = format!("{trunk}.{vlan}");
        self.ask(
            || format!("make {name}"),
            |netlink| {
                let index = netlink.interface(trunk)?.index;
                netlink.add_vlan(&name, index, vlan)
            },
        )?;
        self.set_up(&name)
    }

    pub(super) fn add_bridge(&self, bridge: &str) -> Result<(), LabError> {
        self.ask(|| format!("make the bridge {bridge}"), |netlink| netlink.add_bridge(bridge))?;
        self.set_up(bridge)
    }

    pub(super) fn attach(&self, port: &str, bridge: &str) -> Result<(), LabError> {
        self.ask(
            || format!("make {port} a port of {bridge}"),
            |netlink| {
                let index = netlink.interface(bridge)?.index;
                netlink.set_controller(port, index)
            },
        )
    }

    /// How many routing rules (ip-rule(8)) the node has for IPv4.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn count_routing_rules(&self) -> Result<usize, LabError> {
        self.ask(|| "count the routing rules".to_owned(), Netlink::count_rules)
    }

    /// Removes an interface, and with it the other end of its cable.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn remove_interface(&self, interface: &str) -> Result<(), LabError> {
        self.ask(|| format!("remove {interface}"), |netlink| netlink.remove_link(interface))
    }

    fn ask<R>(
        &self,
        step: impl FnOnce() -> String,
        work: impl FnOnce(&mut Netlink) -> io::Result<R>,
    ) -> Result<R, LabError> {
        let mut netlink = self.0.netlink.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut netlink).map_err(|source| self.refused(step(), source))
    }

    fn refused(&self, step: String, source: io::Error) -> LabError {
        LabError::Setup { node: self.0.name.clone(), step, source }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Node").field(&self.0.name).finish()
    }
}

/// What every node has turned off. IPv4's per-interface defaults are inherited from the machine, so they are set in any
/// case: a lab must behave the same everywhere.
const QUIET: [&str; 6] = [
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.default.rp_filter",
    "net.ipv4.conf.all.arp_ignore",
    "net.ipv4.conf.all.arp_announce",
    "net.ipv6.conf.default.accept_ra",
    "net.ipv6.conf.default.accept_dad",
];

/// Runs `work` on a thread that is gone afterwards.
fn in_thread<R: Send>(work: impl FnOnce() -> io::Result<R> + Send) -> io::Result<R> {
    thread::scope(|scope| match thread::Builder::new().spawn_scoped(scope, work)?.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
