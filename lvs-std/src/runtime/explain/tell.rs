//! The facts in words.

use lvs_core::{Direction, Method, Path, Reason, ServiceKey, Verdict};
use lvs_forward::parse::Link;
use lvs_forward::{Outcome, PortId};

use super::facts::{Facts, ServerFact, ServiceFact};
use crate::control::api::{Explanation, Step};
use crate::control::{DesiredServer, DesiredState, convert};
use crate::describe;

/// What is told, and what that goes by.
pub(super) struct Told<'a> {
    pub(super) facts: &'a Facts,
    pub(super) desired: &'a DesiredState,
    pub(super) interfaces: &'a [String],
}

impl Told<'_> {
    pub(super) fn explanation(&self, worker: usize, several: bool, kernel: String) -> Explanation {
        let facts = self.facts;
        let mut steps = vec![self.arrival()];
        if several {
            steps.push(step("worker", format!("worker {worker} has its packets")));
        }
        self.destination(&mut steps);
        self.connection(&mut steps);
        if let Some(service) = &facts.service {
            self.service(service, &mut steps);
        }
        if let Some((template, new)) = &facts.template {
            let client = template.client;
            steps.push(step(
                "persistence",
                if *new {
                    format!("a template is made: clients of {client} go to {} from now on", template.server)
                } else {
                    format!(
                        "a template sends clients of {client} to {}, for {} s from their last connection on",
                        template.server,
                        template.expires_in / 1_000
                    )
                },
            ));
        }
        let (verdict, reason) = self.verdict(&mut steps);
        self.departure(&mut steps);
        steps.push(step("kernel", kernel.clone()));
        let leaves = matches!(facts.outcome, Some(Outcome::Send | Outcome::SendPieces(_)));
        Explanation {
            verdict: verdict.to_owned(),
            reason,
            service: facts.service.as_ref().map(|service| convert::name(service.key).to_string()),
            server: facts.server.map(|(address, _)| address),
            method: facts.server.map(|(_, method)| method.to_string()),
            worker,
            interface: leaves.then(|| self.port(facts.left.0)),
            kernel,
            steps,
        }
    }

    fn port(&self, port: PortId) -> String {
        self.interfaces.get(usize::from(port.0)).cloned().unwrap_or_else(|| "this machine's stack".to_owned())
    }

    fn arrival(&self) -> Step {
        let facts = self.facts;
        let what = describe::frame(&facts.bytes, facts.link);
        let made_up = facts.made_up.map_or_else(String::new, |made_up| format!(" (taken as {made_up})"));
        step("frame", format!("{what}, comes in by {}{made_up}", self.port(facts.port)))
    }

    fn destination(&self, steps: &mut Vec<Step>) {
        let Some(packet) = self.facts.packet else { return };
        let address = packet.flow.addresses.destination();
        let said = match packet.path {
            Path::Local => format!("{address} is an address of the director"),
            Path::Captured => {
                format!(
                    "{address} is no address of the director, but the packet's mark makes it one of its own"
                )
            }
            Path::Through => format!(
                "{address} is no address of the director: the packet is routed on, unless it is a reply of a real \
                 server"
            ),
        };
        steps.push(step("destination", said));
    }

    fn connection(&self, steps: &mut Vec<Step>) {
        let facts = self.facts;
        if facts.packet.is_none() {
            return;
        }
        let said = match &facts.connection {
            Some(of) => format!(
                "it belongs to a connection in state {}, by {} to {}, which ends in {} s without packets",
                of.state,
                of.method,
                of.destination,
                of.expires_in / 1_000
            ),
            None => "it belongs to no connection that the director knows".to_owned(),
        };
        steps.push(step("connection", said));
        if facts.connection.is_none() && facts.service.is_none() {
            steps.push(step("service", "no service is for it".to_owned()));
        }
    }

    fn service(&self, service: &ServiceFact, steps: &mut Vec<Step>) {
        let name = convert::name(service.key);
        let by = match service.key {
            ServiceKey::Mark { mark, .. } => format!("found by its mark {mark}"),
            ServiceKey::Address { port: 0, .. } => "found by its address, for all ports".to_owned(),
            ServiceKey::Address { .. } => "found by its address and port".to_owned(),
        };
        let scheduler = service.scheduler;
        steps.push(step("service", format!("the service {name} is for it ({by}), scheduler {scheduler}")));
        let declared = self.desired.service(name).map(|declared| declared.servers.as_slice());
        let declared = declared.unwrap_or_default();
        let absent = declared
            .iter()
            .filter(|server| server.status.absent)
            .map(|server| format!("{}  not used: its checks fail, or it waits in reserve", server.address));
        let present = service.servers.iter().map(|server| {
            let declared = declared.iter().find(|of| of.address == server.address);
            self.server(server, declared)
        });
        steps.extend(present.chain(absent).map(|said| step("server", said)));
        if let Some(persistence) = service.persistence {
            let timeout = persistence.timeout;
            steps.push(step(
                "persistence",
                format!("a client that was here in the last {timeout} s goes where it went then"),
            ));
        }
    }

    fn server(&self, server: &ServerFact, declared: Option<&DesiredServer>) -> String {
        let draining = declared.is_some_and(|of| of.status.draining);
        let why = match (draining, server.overloaded, server.held_back, server.weight) {
            (true, ..) => "no new connections: it is drained".to_owned(),
            (_, Some(upper), ..) => format!("no new connections: it has {upper}, its upper threshold"),
            (_, _, Some(millis), _) => {
                format!("no new connections for {} s: connections to it have failed", millis.div_ceil(1_000))
            }
            (.., 0) => "no new connections: its weight is 0".to_owned(),
            _ => "can be chosen".to_owned(),
        };
        let whose = if server.is_local { ", by this machine's own stack" } else { "" };
        let ServerFact { address, weight, active, inactive, .. } = server;
        format!(
            "{address}  weight {weight}, {active} active and {inactive} inactive connections: {why}{whose}"
        )
    }

    /// What is decided; the verdict's word and its reason.
    fn verdict(&self, steps: &mut Vec<Step>) -> (&'static str, Option<String>) {
        let facts = self.facts;
        let scheduler = facts.service.as_ref().map(|service| service.scheduler);
        let mut reason = facts.dropped.map(|reason| reason.name().to_owned());
        let (word, said) = match (&facts.verdict, facts.server) {
            (Some(Verdict::Forward(forward)), Some((server, method))) => {
                if let Some(scheduler) = scheduler
                    && facts.template.is_none_or(|(_, new)| new)
                {
                    steps.push(step("choice", format!("{scheduler} sends this client to {server}")));
                }
                match forward.direction {
                    Direction::Request => {
                        ("forward", format!("to {} by {method}: {}", forward.target, rewriting(method)))
                    }
                    Direction::Reply => {
                        ("reply", format!("a reply of {server} by {method}, to {}", forward.target))
                    }
                }
            }
            (Some(Verdict::Forward(forward)), None) => ("forward", format!("to {}", forward.target)),
            (Some(Verdict::Drop(why)), _) => ("drop", words(*why).to_owned()),
            (Some(Verdict::Reject(why)), _) => {
                ("reject", format!("{}; the sender is told (port unreachable)", words(*why)))
            }
            (Some(Verdict::Pass(why)), _) => {
                reason = reason.or_else(|| Some(why.name().to_owned()));
                ("pass", format!("{}: it is left to the director's host", words(*why)))
            }
            (Some(Verdict::Inspect), _) => ("drop", "its content could not be read".to_owned()),
            (None, _) => match facts.outcome {
                Some(Outcome::Drop(why)) => {
                    ("drop", format!("the frame is dropped before a decision: {why}"))
                }
                Some(Outcome::Pass(why)) => {
                    reason = reason.or_else(|| Some(why.name().to_owned()));
                    ("pass", format!("the director does not balance it ({why})"))
                }
                Some(Outcome::Send | Outcome::SendPieces(_)) => {
                    ("host", "the director answers or routes it as a host".to_owned())
                }
                Some(Outcome::Consumed | Outcome::Assembled(_)) => {
                    ("host", "it is a message for the director as a host".to_owned())
                }
                None => ("wait", "a fragment: it waits for the others of its datagram".to_owned()),
            },
        };
        if let Some(Verdict::Drop(why) | Verdict::Reject(why)) = facts.verdict {
            reason = reason.or_else(|| Some(why.name().to_owned()));
        }
        steps.push(step("verdict", said));
        (word, reason)
    }

    /// What leaves, and by which way.
    fn departure(&self, steps: &mut Vec<Step>) {
        let facts = self.facts;
        let (port, link, bytes) = &facts.left;
        let leaves = |what: &str| {
            let to = next_hop(*link, bytes);
            format!(
                "{what} leaves by {} (MTU {}){to}: {}",
                self.port(*port),
                facts.mtu,
                describe::frame(bytes, *link)
            )
        };
        let dropped = |counted: Option<lvs_forward::DropReason>| {
            counted.map_or_else(String::new, |reason| format!(" (the packet is dropped: {reason})"))
        };
        let said = match facts.outcome {
            Some(Outcome::Send) if facts.dropped.is_some() => {
                format!("{}{}", leaves("an answer to the sender"), dropped(facts.dropped))
            }
            Some(Outcome::Send) => leaves("the frame"),
            Some(Outcome::SendPieces(_)) => {
                format!("{}; in pieces, since it is larger than the way takes", leaves("the frame"))
            }
            Some(Outcome::Drop(reason)) => format!("the frame is dropped, counted as {reason}"),
            Some(Outcome::Pass(reason)) => format!("the frame is left to the host, counted as {reason}"),
            Some(Outcome::Consumed) if facts.packet.is_some() && facts.dropped.is_none() => {
                "the packet waits for the link-layer address of its next hop".to_owned()
            }
            Some(Outcome::Consumed | Outcome::Assembled(_)) => {
                format!("nothing is left of the frame{}", dropped(facts.dropped))
            }
            None => return,
        };
        steps.push(step("frame out", said));
        for (port, link, bytes) in &facts.own {
            let what = describe::frame(bytes, *link);
            steps.push(step("sent besides", format!("{what}, by {}", self.port(*port))));
        }
    }
}

fn step(step: &str, says: String) -> Step {
    Step { step: step.to_owned(), says }
}

/// The link-layer address that a frame is for.
fn next_hop(link: Link, bytes: &[u8]) -> String {
    match (link, bytes.first_chunk::<6>()) {
        (Link::Ethernet, Some(mac)) => format!(" to {}", lvs_forward::host::MacAddress(*mac)),
        (Link::Ethernet | Link::Bare, _) => String::new(),
    }
}

const fn rewriting(method: Method) -> &'static str {
    match method {
        Method::Nat => "destination address and port are rewritten",
        Method::Direct => "only the link header is rewritten, the server has the virtual address too",
        Method::Tunnel(_) => "the packet is wrapped, the server unwraps it",
        Method::Local => "by this machine's own stack, unchanged",
        Method::Bypass => "no server takes it: it goes where it is addressed to",
    }
}

/// What a reason means.
const fn words(reason: Reason) -> &'static str {
    match reason {
        Reason::Fragment => "a later fragment, which does not tell its connection",
        Reason::NoConnection => "it is about no connection that is known",
        Reason::NoServer => "no server can be chosen: a new connection is refused",
        Reason::NoService => "no service is for it",
        Reason::NotStarting => "it begins no connection (a SYN or INIT would)",
        Reason::FtpDataPort => "it comes from port 20, which is left to active FTP",
        Reason::ServerRemoved => "its connection's server was removed",
        Reason::TableFull => "the connection table is full, and nothing in it can be given up",
        Reason::BackupOnly => "this director is a backup, and leaves clients alone",
        Reason::NoCallId => "its service goes by Call-ID, and it has none",
        Reason::CallsFull => "there is no room for another Call-ID",
        Reason::Defence => "the defence drop_packet refuses it",
        Reason::StrayReply => "a real server's reply that belongs to no connection",
    }
}
