//! One method's cluster: real servers that serve the folder, and the director between them and the client.

use core::error::Error;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use lvs_core::conn::Connection;
use lvs_core::{Config, Family, Method, Scheduler, ServerConfig, ServiceConfig, ServiceKey, Weight};
use lvs_std::control::{Controller, NoDaemons, TableCommand, convert};
use lvs_std::health::{Check, Http, Policy, Probe, Schedule};
use lvs_std::lab::{Balancer, BalancerCounters, Cluster, Lab, LabError, Node, Plan};
use lvs_std::worker::WorkerGone;

use crate::folder::Folder;
use crate::http;
use lvs_std::config::{ServiceHealth, VirtualService};

/// The real servers and their weights.
pub(crate) const WEIGHTS: [(&str, u32); 3] = [("rs1", 3), ("rs2", 2), ("rs3", 1)];

/// A running cluster.
pub(crate) struct Stage {
    name: &'static str,
    cluster: Cluster,
    balancer: Balancer,
    controller: Arc<Mutex<Controller>>,
    method: Method,
}

impl Stage {
    /// Builds it and starts everything in it.
    pub(crate) fn new(
        lab: Lab,
        name: &'static str,
        method: Method,
        folder: &Folder,
    ) -> Result<Self, Box<dyn Error>> {
        let cluster = Cluster::new(lab, &Plan::new(method).with_servers(WEIGHTS.len() as u8))?;
        let shared: Arc<Path> = folder.path().into();
        let mut services = Vec::new();
        for family in [Family::V4, Family::V6] {
            let mut servers = Vec::new();
            for ((node, number), (_, weight)) in cluster.servers.iter().zip(1..).zip(WEIGHTS) {
                let (listens, reached) = addresses(method, family, number);
                let listener = node.run(|| TcpListener::bind(listens))??;
                let (shared, server) = (Arc::clone(&shared), node.name().to_owned());
                node.spawn("http", move || http::serve(&listener, &shared, &server))?;
                if !method.sees_replies() {
                    // For the director's checks, which ask a server by its own address.
                    let own = SocketAddr::new(Cluster::server_address(number, family), vip(family).port());
                    let listener = node.run(|| TcpListener::bind(own))??;
                    let (shared, server) = (folder.path().into(), node.name().to_owned());
                    node.spawn("http", move || http::serve(&listener, &shared, &server))?;
                }
                let weight = Weight::new(weight).unwrap_or(Weight::ONE);
                servers.push(ServerConfig::new(reached, method).with_weight(weight));
            }
            let scheduler = Scheduler::from_name("wrr").unwrap_or_default();
            let key = ServiceKey::tcp(vip(family).ip(), vip(family).port());
            services.push((key, ServiceConfig::new(scheduler), servers));
        }
        // What its machine's kernel asks the servers from: the director itself is another host on that network.
        cluster.director.add_address("eth0", CHECKER, 24)?;
        let balancer = cluster.balance(Config::new(lvs_std::random_seed()?), Vec::new())?;
        let mut controller = Controller::new(balancer.handle().clone(), Box::new(NoDaemons));
        for (key, config, servers) in services {
            let name = convert::name(key);
            controller
                .submit(TableCommand::NewService(name, convert::service_spec(key.family(), &config)))?;
            for server in servers {
                let spec = convert::server_spec(&server);
                controller.submit(TableCommand::NewServer(name, server.address, spec))?;
            }
        }
        let controller = Arc::new(Mutex::new(controller));
        Ok(Self { name, cluster, balancer, controller, method })
    }

    /// The IPv4 service with its servers, each checked by HTTP at its own address.
    pub(crate) fn checked(&self, schedule: Schedule, path: &str) -> Result<VirtualService, Box<dyn Error>> {
        let family = Family::V4;
        let port = if self.method.sees_replies() { 8080 } else { vip(family).port() };
        let check = Check::from(Http::new("GET", path, None)?);
        let (mut servers, mut probes) = (Vec::new(), Vec::new());
        for (number, (_, weight)) in (1..).zip(WEIGHTS) {
            let (_, reached) = addresses(self.method, family, number);
            servers.push(
                ServerConfig::new(reached, self.method)
                    .with_weight(Weight::new(weight).unwrap_or(Weight::ONE)),
            );
            let target = SocketAddr::new(Cluster::server_address(number, family), port);
            probes.push(vec![Probe::new(target, check.clone(), schedule)]);
        }
        let key = ServiceKey::tcp(vip(family).ip(), vip(family).port());
        let config = ServiceConfig::new(Scheduler::from_name("wrr").unwrap_or_default());
        let mut service = VirtualService::new(key, config);
        service.servers = servers;
        service.health = ServiceHealth::new(Policy::default(), probes);
        Ok(service)
    }

    /// Where the director is.
    pub(crate) const fn director(&self) -> &Node {
        &self.cluster.director
    }

    /// Commands the director.
    pub(crate) const fn controller(&self) -> &Arc<Mutex<Controller>> {
        &self.controller
    }

    /// The director's connections.
    pub(crate) fn connections(&self) -> Result<Vec<Connection>, WorkerGone> {
        self.controller.lock().unwrap_or_else(PoisonError::into_inner).connections()
    }

    /// Pulls the cable of a real server, or plugs it in again.
    pub(crate) fn connect(&self, server: &str, plugged: bool) -> Result<(), LabError> {
        let Some(switch) = self.cluster.switches.last() else { return Ok(()) };
        if plugged { switch.node().set_up(server) } else { switch.node().set_down(server) }
    }

    /// Where the clients are.
    pub(crate) const fn client(&self) -> &Node {
        &self.cluster.client
    }

    /// Stops the director.
    pub(crate) fn stop(self) -> Result<BalancerCounters, LabError> {
        self.balancer.stop()
    }

    /// The commands that look into each node, a line for each.
    pub(crate) fn nodes(&self) -> String {
        let nodes = [&self.cluster.client, &self.cluster.director].into_iter().chain(&self.cluster.servers);
        nodes.map(|node| format!("  {:3} {:8}  {}\n", self.name, node.name(), node.nsenter())).collect()
    }
}

/// The address of the kernel of the director's machine, in the servers' network.
const CHECKER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 253));

/// The address that the clients ask.
pub(crate) const fn vip(family: Family) -> SocketAddr {
    SocketAddr::new(Cluster::vip(family), 80)
}

/// Where a real server listens, and how the director reaches it. NAT changes address and port; with the other methods
/// the server itself listens on the virtual address.
const fn addresses(method: Method, family: Family, number: u8) -> (SocketAddr, SocketAddr) {
    let own = Cluster::server_address(number, family);
    match method {
        Method::Nat => (SocketAddr::new(own, 8080), SocketAddr::new(own, 8080)),
        Method::Bypass | Method::Direct | Method::Local => (vip(family), SocketAddr::new(own, 80)),
        Method::Tunnel(_) => (vip(family), SocketAddr::new(Cluster::tunnel_address(number, family), 80)),
    }
}
