//! A cluster with a director at work in it and servers that answer.

use core::error::Error;
use core::net::SocketAddr;

use lvs_core::{
    Config, Family, Method, Protocol, Scheduler, ServerConfig, ServiceConfig, ServiceKey, Weight,
};
use lvs_std::lab::harness::Outcome;
use lvs_std::lab::{BalancerCounters, Cluster, Lab, Node, Plan};
use lvs_std::worker::Handle;

use crate::traffic::serve;

/// A service for TCP and one for UDP on the virtual address, over three servers with the weights 3, 2 and 1.
pub(crate) struct Balancer {
    pub(crate) cluster: Cluster,
    balancer: lvs_std::lab::Balancer,
    method: Method,
    family: Family,
    /// Of the servers' addresses; only tunnels may differ from the service's.
    server_family: Family,
}

const PORT: u16 = 80;
/// Only NAT can change the port, so there it does.
const NAT_PORT: u16 = 8080;

impl Balancer {
    pub(crate) fn start(
        lab: Lab,
        plan: &Plan,
        family: Family,
        scheduler: &str,
    ) -> Result<Self, Box<dyn Error>> {
        Self::start_mixed(lab, plan, [family, family], scheduler)
    }

    /// With families for clients and servers.
    pub(crate) fn start_mixed(
        lab: Lab,
        plan: &Plan,
        [family, server_family]: [Family; 2],
        scheduler: &str,
    ) -> Result<Self, Box<dyn Error>> {
        let cluster = Cluster::new(lab, plan)?;
        let mut servers = Vec::new();
        for (node, number) in cluster.servers.iter().zip(1..) {
            let address = match plan.method {
                Method::Nat => SocketAddr::new(Cluster::server_address(number, family), NAT_PORT),
                Method::Bypass | Method::Direct | Method::Local | Method::Tunnel(_) => {
                    SocketAddr::new(Cluster::vip(family), PORT)
                }
            };
            serve(node, address, number)?;
            let weight = Weight::from(4 - u16::from(number));
            servers.push(
                ServerConfig::new(server(plan.method, server_family, number), plan.method)
                    .with_weight(weight),
            );
        }
        let mut services = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let scheduler = Scheduler::from_name(scheduler).ok_or("there is no such scheduler")?;
            services.push((key(protocol, family), ServiceConfig::new(scheduler), servers.clone()));
        }
        let balancer = cluster.balance(Config::new(lvs_std::random_seed()?), services)?;
        Ok(Self { cluster, balancer, method: plan.method, family, server_family })
    }

    pub(crate) fn client(&self) -> &Node {
        &self.cluster.client
    }

    /// The server of this number, from 1.
    pub(crate) fn server(&self, number: usize) -> &Node {
        &self.cluster.servers[number - 1]
    }

    /// The director's handle.
    pub(crate) fn handle(&self) -> &Handle {
        self.balancer.handle()
    }

    pub(crate) fn vip(&self) -> SocketAddr {
        SocketAddr::new(Cluster::vip(self.family), PORT)
    }

    /// Takes a server out of both services.
    pub(crate) fn remove_server(&self, number: u8) -> Outcome {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let address = server(self.method, self.server_family, number);
            let key = key(protocol, self.family);
            let removed = self
                .balancer
                .group()
                .with_each(move |_, director, _, _| director.remove_server(key, address))?;
            removed.into_iter().collect::<Result<Vec<_>, _>>()?;
        }
        Ok(())
    }

    /// Stops the director; nothing may have been lost for a reason that is the director's own.
    pub(crate) fn stop(self) -> Result<BalancerCounters, Box<dyn Error>> {
        let counters = self.balancer.stop()?;
        for port in &counters.director.ports {
            assert_eq!((port.received.invalid, port.received.cut), (0, 0), "{counters:#?}");
            assert_eq!((port.transmitted.refused, port.transmitted.too_long), (0, 0), "{counters:#?}");
            assert_eq!(port.transmitted.unsupported, 0, "{counters:#?}");
        }
        assert_eq!(counters.director.worker.unsendable, 0, "{counters:#?}");
        assert!(counters.tunnel_ends.iter().all(|end| end.lost == 0), "{counters:#?}");
        Ok(counters)
    }
}

fn key(protocol: Protocol, family: Family) -> ServiceKey {
    ServiceKey::Address { protocol, address: Cluster::vip(family), port: PORT }
}

/// How the director reaches a server.
fn server(method: Method, family: Family, number: u8) -> SocketAddr {
    match method {
        Method::Nat => SocketAddr::new(Cluster::server_address(number, family), NAT_PORT),
        Method::Bypass | Method::Direct | Method::Local => {
            SocketAddr::new(Cluster::server_address(number, family), PORT)
        }
        Method::Tunnel(_) => SocketAddr::new(Cluster::tunnel_address(number, family), PORT),
    }
}
