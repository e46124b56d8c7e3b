//! The demo's director as a table that the checks keep.

use core::net::SocketAddr;
use std::collections::HashMap;

use lvs_core::{ServerConfig, ServiceKey, Weight};
use lvs_std::health::Presence;
use lvs_std::runtime::{ServerTable, Wanted};
use lvs_std::worker::{Handle, WorkerGone};

/// A director without a controller: what its servers were given at the start is all that was declared.
pub(crate) struct Undeclared(pub(crate) Handle);

impl ServerTable for Undeclared {
    fn declared(&self, _: ServiceKey) -> HashMap<SocketAddr, u32> {
        HashMap::new()
    }

    fn place(&self, service: ServiceKey, wanted: &Wanted) -> Result<(), WorkerGone> {
        let sorry = wanted
            .sorry
            .map(|(sorry, serves)| (sorry, if serves { Presence::Present(1) } else { Presence::Absent }));
        let wanted: Vec<_> = wanted.servers.iter().copied().chain(sorry).collect();
        let refused = self.0.with(move |director, forwarder, now| {
            let mut refused = Vec::new();
            for (server, place) in wanted {
                let there = director.servers(service).any(|(_, there)| there.address() == server.address);
                let done = match (there, place) {
                    (false, Presence::Present(weight)) => {
                        forwarder.host_mut().look_for(now, server.address.ip());
                        let added = director.add_server(service, weighing(server, weight));
                        added.map(drop).map_err(|error| error.to_string())
                    }
                    (true, Presence::Present(weight)) => director
                        .edit_server(service, weighing(server, weight))
                        .map_err(|error| error.to_string()),
                    (true, Presence::Absent) => {
                        director.remove_server(service, server.address).map_err(|error| error.to_string())
                    }
                    (false, Presence::Absent) => Ok(()),
                };
                refused.extend(done.err().map(|error| (server.address, error)));
            }
            refused
        })?;
        for (address, error) in refused {
            tracing::error!("{service}: the real server {address} cannot be changed: {error}");
        }
        Ok(())
    }
}

fn weighing(server: ServerConfig, weight: u32) -> ServerConfig {
    // Advice beyond what a server can weigh is as much as it can.
    server.with_weight(Weight::new(weight.min(i32::MAX.cast_unsigned())).unwrap_or(Weight::ONE))
}
