//! Connections and templates as listings show them.

use core::net::{IpAddr, SocketAddr};

use crate::model::flow::Flow;
use crate::model::id::{ConnId, ServerId};
use crate::model::key::TemplateTarget;
use crate::model::method::Method;
use crate::model::state::State;

/// A template of persistence as listings show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Template<'a> {
    /// The template's entry.
    pub id: ConnId,
    /// The first address of the clients' network.
    pub client: IpAddr,
    /// What they are sent on from. Port 65535 for one that was put aside and only ages.
    pub target: TemplateTarget,
    /// The clients' real server.
    pub server: ServerId,
    /// The real server's address, and its port if the template is for one port, else 0.
    pub destination: SocketAddr,
    /// The forwarding method that the server had when it was made.
    pub method: Method,
    /// Whether a connection from it was established, or answered under UDP.
    pub assured: bool,
    /// How many connections keep it alive.
    pub connections: u32,
    /// Milliseconds until it ends, if no further connection comes; 0 when its time is up.
    pub expires_in: u64,
    /// The call that it is for, under [`PersistenceEngine::Sip`](crate::service::PersistenceEngine::Sip).
    pub call: Option<&'a [u8]>,
}

/// A connection as listings show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Connection {
    /// The connection's entry.
    pub id: ConnId,
    /// From the client to the virtual address.
    pub flow: Flow,
    /// The connection's real server.
    pub server: ServerId,
    /// The real server's address, and the port that the connection uses there.
    pub destination: SocketAddr,
    /// The forwarding method of the connection.
    pub method: Method,
    /// The protocol's state.
    pub state: State,
    /// Milliseconds until it ends, if no further packet comes; 0 when its time is up.
    pub expires_in: u64,
    /// Packets from the client so far (modulo 2^32).
    pub in_packets: u32,
    /// The firewall mark of its first packet, 0 for none.
    pub mark: u32,
    /// What controls it: the template or the FTP connection that it came from.
    pub controller: Option<ConnId>,
    /// Whether the client's port is not known yet (FTP data); it is 0 in `flow` then.
    pub lacks_client_port: bool,
    /// Whether it came from another director.
    pub synced: bool,
}
