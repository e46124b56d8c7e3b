//! What a director would do with a packet, and why.

use core::fmt::Write as _;
use core::net::IpAddr;
use std::collections::BTreeSet;

use crate::control::api::Question;
use crate::control::{ServerSpec, convert};
use lvs_core::sched::Schedule as _;
use lvs_core::{Family, Flow, Protocol, ServiceKey};
use lvs_forward::host::Host;

use super::SharedController;
use super::{ExplainError, RuntimeGroup, disruption};
use crate::worker::WorkerGone;

/// The answer, a line for each step. Nothing changes by it.
pub(super) fn explain(
    question: &Question,
    controller: &SharedController,
    group: &RuntimeGroup,
) -> Result<String, ExplainError> {
    let unknown = |_| ExplainError::Protocol(question.protocol.to_ascii_lowercase());
    let protocol: Protocol = question.protocol.parse().map_err(unknown)?;
    let (client, to) = (question.client, question.destination);
    let flow = Flow::new(protocol, client, to).ok_or(ExplainError::Families)?;
    let mut text = String::new();
    // Writing to a string cannot fail, here and below.
    let gone = |WorkerGone| ExplainError::Ending;
    let address = to.ip();
    let owns = group.with_first(move |_, forwarder, _| forwarder.host().owns(address)).map_err(gone)?;
    let _ = if owns {
        writeln!(text, "{address} is an address of the director")
    } else {
        writeln!(
            text,
            "{address} is no address of the director: the packet is routed on, unless it is a reply of a real server"
        )
    };
    if group.handles().len() > 1 {
        let worker = group.steer().owner(&flow, owns);
        let _ = writeln!(text, "worker {worker} has its packets");
    }
    let found = controller.lock().connection(flow).map_err(gone)?;
    if let Some(connection) = found {
        let _ = writeln!(
            text,
            "it belongs to a connection in state {}, by {} to {}, which ends in {} s without packets",
            connection.state,
            connection.method,
            connection.destination,
            connection.expires_in / 1_000
        );
        return Ok(text);
    }
    let _ = writeln!(text, "it belongs to no connection that the director knows");
    let family = Family::of(to.ip());
    // In the order in which the director looks them up: mark, address and port, then every port.
    let candidates = [
        (question.mark != 0).then_some(ServiceKey::Mark { family, mark: question.mark }),
        Some(ServiceKey::Address { protocol, address: to.ip(), port: to.port() }),
        Some(ServiceKey::Address { protocol, address: to.ip(), port: 0 }),
    ];
    let controller = controller.lock();
    let service = candidates
        .into_iter()
        .flatten()
        .find_map(|key| Some((key, controller.desired().service(convert::name(key))?)));
    let Some((key, declared)) = service else {
        let _ = writeln!(text, "no service is for it: it is left to the director's host");
        return Ok(text);
    };
    let name = convert::name(key);
    let servers: Vec<IpAddr> = declared.servers.iter().map(|server| server.address.ip()).collect();
    let local =
        move |host: &Host| servers.into_iter().filter(|server| host.is_local_server(*server)).collect();
    let local: BTreeSet<IpAddr> =
        group.with_first(move |_, forwarder, _| local(forwarder.host())).map_err(gone)?;
    let _ = writeln!(text, "the service {name} is for it, scheduler {}", declared.spec.scheduler);
    let mut usable = Vec::new();
    for server in &declared.servers {
        let weight = server.effective_weight();
        let why = match (server.status.absent, server.status.draining, weight) {
            (true, ..) => "not used: its checks fail",
            (_, true, _) => "no new connections: it is drained",
            (_, _, 0) => "no new connections: its weight is 0",
            _ => "can be chosen",
        };
        let whose = if local.contains(&server.address.ip()) { ", by this machine's own stack" } else { "" };
        let _ = writeln!(text, "  {}  weight {weight}  {why}{whose}", server.address);
        if !server.status.absent {
            let spec = ServerSpec { weight, ..server.spec };
            usable.extend(convert::server_config(server.address, &spec));
        }
    }
    let Some(config) = convert::service_config(name.family(), &declared.spec) else {
        let _ = writeln!(text, "it has no scheduler: a new connection is refused");
        return Ok(text);
    };
    if let Some(persistence) = config.persistence {
        let _ = writeln!(
            text,
            "a client that was here in the last {} s goes where it went then",
            persistence.timeout
        );
    }
    let scheduler = config.scheduler.name();
    let _ = if disruption::hashes(scheduler) {
        match disruption::hashed_server(key, &(config, usable), client) {
            Some(server) => writeln!(text, "{scheduler} sends this client to {server}"),
            None => writeln!(text, "{scheduler} has no server for this client: it is refused"),
        }
    } else if declared.servers.iter().any(|server| !server.status.absent && server.effective_weight() > 0) {
        writeln!(text, "{scheduler} chooses among them by their load and its turn when the packet comes")
    } else {
        writeln!(text, "none can be chosen: a new connection is refused")
    };
    Ok(text)
}
