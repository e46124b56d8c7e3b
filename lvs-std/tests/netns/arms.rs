//! A director with two interfaces: a client is behind eth0, and a real server behind eth1.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use lvs_std::config::ConfigSource;
use lvs_std::lab::harness::Outcome;
use lvs_std::lab::{Lab, Node};
use lvs_std::runtime::{Runtime, RuntimeOptions};

pub(crate) struct Arms {
    lab: Lab,
    pub(crate) client: Node,
    pub(crate) director: Node,
    pub(crate) server: Node,
}

impl Arms {
    /// The nodes, and the client's cable. The server has none yet.
    pub(crate) fn new(lab: Lab) -> Outcome<Self> {
        let (client, director, server) = (lab.node("client")?, lab.node("director")?, lab.node("server")?);
        lab.connect((&client, "eth0"), (&director, "eth0"))?;
        client.add_address("eth0", CLIENT, 24)?;
        Ok(Self { lab, client, director, server })
    }

    /// Joins the server to the director, anew if it was before.
    pub(crate) fn join_server(&self) -> Outcome {
        self.join_server_by(1)
    }

    /// By a cable with so many queues.
    pub(crate) fn join_server_by(&self, queues: u32) -> Outcome {
        self.lab.connect_by((&self.server, "eth0"), (&self.director, "eth1"), queues)?;
        self.server.add_address("eth0", SERVER, 24)?;
        self.server.add_route(IpAddr::from([0; 4]), 0, IpAddr::from([10, 2, 0, 254]))?;
        Ok(())
    }

    pub(crate) fn start(&self, configuration: &str) -> Outcome<Runtime> {
        let source: ConfigSource = configuration.parse()?;
        Ok(self.director.run(|| Runtime::start(source, RuntimeOptions::default()))??)
    }
}

pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2));
pub(crate) const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 100));
pub(crate) const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 11));
/// Long enough for a machine that has other things to do.
pub(crate) const LONG: Duration = Duration::from_secs(60);
