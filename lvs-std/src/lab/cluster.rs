//! The classic layout of a Linux Virtual Server: a client, a director, real servers.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lvs_core::{Family, Method};

use crate::device::xdp::XdpOptions;
use crate::steering::By;

use super::{Lab, LabError, Node, Switch};

/// What a [`Cluster`] shall look like.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// The forwarding method that the real servers are prepared for.
    pub method: Method,
    /// How many real servers there are. Default 3; at most [`Cluster::MAX_SERVERS`].
    pub servers: u8,
    /// Whether clients and servers are on one network, reached by one interface of the director, or on two.
    pub arms: Arms,
    /// MTU of every interface in bytes. Default 1,500.
    pub mtu: u32,
    /// By which devices the director's ports are opened: packet sockets (the default), or `AF_XDP` in a
    /// [privileged](Lab::privileged) lab.
    pub xdp: Option<XdpOptions>,
    /// Whether what comes to the director may have checksums that are left to be finished. Default: true.
    pub partial_checksums: bool,
    /// How many queues for each direction every interface has. Default: one.
    pub queues: u32,
    /// How many workers the director has, and what tells clients apart for them. Default: one.
    pub workers: (usize, By),
    /// Whether bulk TCP takes the [offload](crate::offload), in a [privileged](Lab::privileged) lab with packet
    /// sockets. Default: false.
    pub offload: bool,
}

impl Plan {
    /// Three real servers for `method`, on one network with the clients, MTU 1,500.
    #[must_use]
    pub const fn new(method: Method) -> Self {
        Self {
            method,
            servers: 3,
            arms: Arms::One,
            mtu: 1_500,
            xdp: None,
            partial_checksums: true,
            queues: 1,
            workers: (1, By::Endpoint),
            offload: false,
        }
    }

    /// The cluster with another number of real servers.
    #[must_use]
    pub const fn with_servers(mut self, servers: u8) -> Self {
        self.servers = servers;
        self
    }

    /// The cluster with other arms of the director. Two make sense for NAT alone: with the other methods the servers
    /// answer the clients directly.
    #[must_use]
    pub const fn with_arms(mut self, arms: Arms) -> Self {
        self.arms = arms;
        self
    }

    /// The cluster with `AF_XDP` sockets as the director's ports.
    #[must_use]
    pub const fn with_xdp(mut self, options: XdpOptions) -> Self {
        self.xdp = Some(options);
        self
    }

    /// The cluster with every checksum finished that comes to the director.
    #[must_use]
    pub const fn with_finished_checksums(mut self) -> Self {
        self.partial_checksums = false;
        self
    }

    /// The cluster with so many queues for each direction at every interface.
    #[must_use]
    pub const fn with_queues(mut self, queues: u32) -> Self {
        self.queues = queues;
        self
    }

    /// The cluster with several workers in the director.
    #[must_use]
    pub const fn with_workers(mut self, workers: usize, by: By) -> Self {
        self.workers = (workers, by);
        self
    }

    /// The cluster with an offload for bulk TCP.
    #[must_use]
    pub const fn with_offload(mut self) -> Self {
        self.offload = true;
        self
    }

    /// The cluster with another MTU.
    #[must_use]
    pub const fn with_mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }
}

/// The director's interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a layout must handle each")]
pub enum Arms {
    /// `eth0` alone: clients and servers share a network.
    One,
    /// `eth0` to the clients, `eth1` to the servers.
    Two,
}

/// A running layout, dual-stacked, with one address plan for IPv4 and IPv6:
///
/// | who | IPv4 | IPv6 |
/// |---|---|---|
/// | client | 192.0.2.7/24 | `2001:db8:c::7/64` |
/// | virtual address (VIP) | 192.0.2.100 | `2001:db8:c::100` |
/// | director, to the clients | 192.0.2.254 | `2001:db8:c::fe` |
/// | director, to the servers | 10.0.1.254 | `2001:db8:1::fe` |
/// | real server n (from 1) | 10.0.1.10+n/24 | `2001:db8:1::10`+n/64 |
/// | its tunnel end | 10.0.1.20+n | `2001:db8:1::20`+n |
///
/// The director's kernel has none of its addresses: they belong to whatever director is started in its node. The real
/// servers' kernels are prepared for the method as IPVS asks for it. NAT: their default route is the director. DR and
/// TUN: they have the VIP on their loopback interface, hide it from ARP (`arp_ignore`, `arp_announce`) and have a
/// direct route to the clients. The tunnel ends are left to a decapsulator on `eth0`; for what it unwraps there is
/// a cable within the server, from [`INNER`](Cluster::INNER) to the kernel. (A TUN device would do as well, but not
/// every machine lets everybody have one.)
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Where the clients run; `eth0`.
    pub client: Node,
    /// Where the director runs; `eth0`, and `eth1` with two arms.
    pub director: Node,
    /// Where the real servers run; `eth0` each.
    pub servers: Vec<Node>,
    /// The networks: the clients' and servers' one, or the clients' and the servers'.
    pub switches: Vec<Switch>,
    pub(super) plan: Plan,
}

impl Cluster {
    /// The most real servers that the address plan has room for.
    pub const MAX_SERVERS: u8 = 9;

    /// The interface of a TUN server by which a decapsulator hands over Ethernet frames to the server's kernel, and
    /// that kernel's own end of it, where they arrive.
    pub const INNER: [&str; 2] = ["inner1", "inner0"];

    /// Builds the namespaces, cables, addresses and routes.
    ///
    /// # Errors
    /// When the kernel refuses a step; see [`LabError`].
    ///
    /// # Panics
    /// When the plan asks for more than [`MAX_SERVERS`](Self::MAX_SERVERS).
    pub fn new(lab: Lab, plan: &Plan) -> Result<Self, LabError> {
        assert!(plan.servers <= Self::MAX_SERVERS, "the address plan has room for nine real servers");
        let clients_lan = lab.switch("lan")?;
        let (client, director) = (lab.node("client")?, lab.node("director")?);
        clients_lan.join_by(&client, "eth0", client.name(), plan.queues)?;
        clients_lan.join_by(&director, "eth0", director.name(), plan.queues)?;
        silence(&director, "eth0")?;
        let mut switches = vec![clients_lan];
        if plan.arms == Arms::Two {
            let servers_lan = lab.switch("servers")?;
            servers_lan.join_by(&director, "eth1", director.name(), plan.queues)?;
            silence(&director, "eth1")?;
            director.set_mtu("eth1", plan.mtu)?;
            switches.push(servers_lan);
        }
        if !plan.partial_checksums {
            for switch in &switches {
                switch.node().set_checksum_offload(director.name(), false)?;
            }
        }
        director.set_mtu("eth0", plan.mtu)?;
        client.set_mtu("eth0", plan.mtu)?;
        for family in [Family::V4, Family::V6] {
            client.add_address("eth0", Self::client_address(family), Self::prefix(family))?;
        }
        let mut servers = Vec::new();
        for number in 1..=plan.servers {
            let server = lab.node(&format!("rs{number}"))?;
            let Some(lan) = switches.last() else { break };
            lan.join_by(&server, "eth0", server.name(), plan.queues)?;
            server.set_mtu("eth0", plan.mtu)?;
            prepare(&server, number, plan.method)?;
            if let Method::Tunnel(_) = plan.method {
                let [ours, kernels] = Self::INNER;
                lab.connect((&server, ours), (&server, kernels))?;
                silence(&server, ours)?;
            }
            servers.push(server);
        }
        Ok(Self { client, director, servers, switches, plan: *plan })
    }

    /// The client's address.
    #[must_use]
    pub const fn client_address(family: Family) -> IpAddr {
        clients_net(family, 7, 0x7)
    }

    /// The virtual address.
    #[must_use]
    pub const fn vip(family: Family) -> IpAddr {
        clients_net(family, 100, 0x100)
    }

    /// The director's own address in the clients' subnet.
    #[must_use]
    pub const fn director_to_clients(family: Family) -> IpAddr {
        clients_net(family, 254, 0xfe)
    }

    /// The director's own address in the servers' subnet.
    #[must_use]
    pub const fn director_to_servers(family: Family) -> IpAddr {
        servers_net(family, 254, 0xfe)
    }

    /// The address of real server `number`, from 1.
    #[must_use]
    pub const fn server_address(number: u8, family: Family) -> IpAddr {
        servers_net(family, 10 + number, 0x10 + number as u16)
    }

    /// The tunnel end of real server `number`, from 1.
    #[must_use]
    pub const fn tunnel_address(number: u8, family: Family) -> IpAddr {
        servers_net(family, 20 + number, 0x20 + number as u16)
    }

    /// The length of every subnet's prefix: 24 or 64 bits.
    #[must_use]
    pub const fn prefix(family: Family) -> u8 {
        match family {
            Family::V4 => 24,
            Family::V6 => 64,
        }
    }
}

/// Keeps the kernel from speaking on an interface that a program takes over as a host of its own.
fn silence(node: &Node, interface: &str) -> Result<(), LabError> {
    node.set_sysctl(&format!("net.ipv6.conf.{interface}.disable_ipv6"), "1")
}

/// Addresses, routes and settings of a real server, as its method needs them.
fn prepare(server: &Node, number: u8, method: Method) -> Result<(), LabError> {
    if !method.sees_replies() {
        server.set_sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
        server.set_sysctl("net.ipv4.conf.all.arp_announce", "2")?;
    }
    for family in [Family::V4, Family::V6] {
        server.add_address("eth0", Cluster::server_address(number, family), Cluster::prefix(family))?;
        if method.sees_replies() {
            let any = match family {
                Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            server.add_route(any, 0, Cluster::director_to_servers(family))?;
        } else {
            server.add_address("lo", Cluster::vip(family), host_prefix(family))?;
            server.add_link_route(clients_net(family, 0, 0), Cluster::prefix(family), "eth0")?;
        }
    }
    Ok(())
}

const fn host_prefix(family: Family) -> u8 {
    match family {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}

const fn clients_net(family: Family, v4: u8, v6: u16) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(192, 0, 2, v4)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, v6)),
    }
}

const fn servers_net(family: Family, v4: u8, v6: u16) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 0, 1, v4)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, v6)),
    }
}
