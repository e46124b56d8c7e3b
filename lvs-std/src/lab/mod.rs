//! Small networks for tests and demonstrations: machines, cables and switches out of network namespaces.
//!
//! A lab needs no root and no installed tool, only a kernel that allows unprivileged user namespaces. It lives inside
//! one process: however that ends, killed included, nothing of it stays behind, and nothing in it can reach the
//! machine's own network. The kernels inside are real: sockets, ARP, routing, offloads, path MTU discovery.
//!
//! The first [`Lab`] must be made while the process has one thread, so at the start of `main`. The `main` of a test
//! binary is in [`harness`].
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::{TcpListener, TcpStream};
//!
//! use lvs_std::lab::Lab;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let lab = Lab::new()?;
//!     let (left, right) = (lab.node("left")?, lab.node("right")?);
//!     lab.connect((&left, "eth0"), (&right, "eth0"))?;
//!     left.add_address("eth0", "192.0.2.1".parse()?, 24)?;
//!     right.add_address("eth0", "192.0.2.2".parse()?, 24)?;
//!
//!     let listener = right.run(|| TcpListener::bind("192.0.2.2:80"))??;
//!     let server = right.spawn("server", move || listener.accept()?.0.write_all(b"hello"))?;
//!     let mut text = String::new();
//!     left.run(|| TcpStream::connect("192.0.2.2:80"))??.read_to_string(&mut text)?;
//!     assert_eq!(text, "hello");
//!     server.join().expect("the server thread ends")?;
//!     Ok(())
//! }
//! ```

mod balancer;
mod cluster;
mod disk;
mod error;
pub mod harness;
mod isolate;
mod node;
mod obstacle;
mod pulse;

use std::path::Path;

pub use crate::sys::rtnetlink::Interface;
pub use balancer::{Balanced, Balancer, BalancerCounters};
pub use cluster::{Arms, Cluster, Plan};
pub use disk::Disk;
pub use error::LabError;
pub use node::Node;
pub use obstacle::Obstacle;
pub use pulse::{Pulse, undisturbed};

/// The place where nodes are made: a process that has left the machine's network.
#[derive(Clone, Copy, Debug)]
pub struct Lab(());

impl Lab {
    /// Moves this process into a user and a network namespace of its own, unless an earlier lab did so. From then on
    /// its user is root there and nobody outside, and the machine's own network is out of its reach.
    ///
    /// # Errors
    /// [`LabError::Threads`] when the process has several threads already; [`LabError::Isolate`], with the
    /// remedy, when the kernel refuses.
    pub fn new() -> Result<Self, LabError> {
        isolate::isolate()?;
        Ok(Self(()))
    }

    /// Moves this process into a network namespace of its own, and lets it keep its privileges over the machine: for
    /// devices that need them, such as [`xdp`](crate::device::xdp). The machine's own network is out of its reach all
    /// the same.
    ///
    /// # Errors
    /// [`LabError::Privileges`] when the process has none, or has given them up by [`new`](Self::new).
    pub fn privileged() -> Result<Self, LabError> {
        isolate::isolate_network()?;
        Ok(Self(()))
    }

    /// Makes a machine without any interface but loopback. The name appears in errors.
    ///
    /// # Errors
    /// When the kernel refuses the namespace, for example at the limit `user.max_net_namespaces`.
    pub fn node(&self, name: &str) -> Result<Node, LabError> {
        Node::new(name)
    }

    /// Makes a switch.
    ///
    /// # Errors
    /// When the kernel refuses the namespace or the bridge in it.
    pub fn switch(&self, name: &str) -> Result<Switch, LabError> {
        let node = Node::new(name)?;
        node.add_bridge(BRIDGE)?;
        Ok(Switch(node))
    }

    /// Mounts a small disk at a folder, which is made if need be. Only this process sees it there, and what it starts.
    ///
    /// Threads that run already do not see it: like the lab itself, it must be made at the start of `main`.
    ///
    /// # Errors
    /// When the kernel refuses a mount namespace, or the disk in it.
    pub fn disk(&self, folder: &Path, bytes: u64) -> Result<Disk, LabError> {
        Disk::mount(folder, bytes)
    }

    /// Joins two nodes by a cable between the named interfaces, which it makes and brings up. Their offloads are those
    /// that the kernel gives a veth pair by default.
    ///
    /// # Errors
    /// When an interface of that name exists already, or the name is longer than 15 bytes.
    pub fn connect(&self, one: (&Node, &str), other: (&Node, &str)) -> Result<(), LabError> {
        self.connect_by(one, other, 1)
    }

    /// Joins two nodes as [`connect`](Self::connect) does, by a cable whose ends have so many queues for each
    /// direction.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect).
    pub fn connect_by(&self, one: (&Node, &str), other: (&Node, &str), queues: u32) -> Result<(), LabError> {
        one.0.connect(one.1, other, queues)
    }
}

/// An Ethernet switch: a node with a bridge.
#[derive(Clone, Debug)]
pub struct Switch(Node);

impl Switch {
    /// Joins a node to the switch by a cable. The node's end has the name `interface`, the switch's end the name of the
    /// node; both are up.
    ///
    /// # Errors
    /// When an interface of that name exists already at either end, or a name is longer than 15 bytes.
    pub fn join(&self, node: &Node, interface: &str) -> Result<(), LabError> {
        self.join_as(node, interface, node.name())
    }

    /// Like [`join`](Self::join), with a name for the switch's end: for a node with two cables to one switch.
    ///
    /// # Errors
    /// As for [`join`](Self::join).
    pub fn join_as(&self, node: &Node, interface: &str, port: &str) -> Result<(), LabError> {
        self.join_by(node, interface, port, 1)
    }

    fn join_by(&self, node: &Node, interface: &str, port: &str, queues: u32) -> Result<(), LabError> {
        node.connect(interface, (&self.0, port), queues)?;
        self.0.attach(port, BRIDGE)
    }

    /// The node in which the bridge lives.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.0
    }
}

/// The bridge's name in a switch's namespace.
const BRIDGE: &str = "bridge";
