//! The answers at the JSON socket.

use core::fmt;
use core::net::SocketAddr;
use std::sync::mpsc::Receiver;

use lvs_core::conn::Connection;
use lvs_forward::PortId;
use lvs_forward::parse::Link;

use super::{Problem, RuntimeHandle};
use crate::Seconds;
use crate::control::api::{
    ApiEvent, ApiHandler, ConnectionPage, ConnectionRow, HealthRow, ProbeRow, ProblemRow, Request, Response,
    ServerRow, ServiceRow, TraceBegun, TraceInterface, TracePage, TraceRequest, TraceRow, Wake,
};
use crate::control::{CommandError, Cursor, DesiredServer, Errno, ServiceName};
use crate::filter::hex_of;
use crate::health::Report;
use crate::metrics;
use crate::trace::{Action, TraceRecord};
use crate::worker::WorkerGone;

impl ApiHandler for RuntimeHandle {
    fn answer(&self, request: Request) -> Response {
        match request {
            Request::Services => Response::of(&self.service_rows()),
            Request::Plan(None) => said(self.plan_file().map(|plan| plan.would())),
            Request::Plan(Some(text)) => match text.parse() {
                Ok(source) => said(self.plan(&source).map(|plan| plan.would())),
                Err(error) => Response::failed(crate::config::ConfigError::show(&error, "").to_string()),
            },
            Request::Reload => said(self.reload_file().map(|plan| plan.did())),
            Request::Health => Response::of(&self.health_row()),
            Request::Drain { service, server, deadline } => {
                let deadline = deadline.map(Seconds::get);
                Response::done(name(&service).and_then(|service| self.drain(service, server, deadline)))
            }
            Request::Undrain { service, server } => {
                Response::done(name(&service).and_then(|service| self.undrain(service, server)))
            }
            Request::Drains => Response::of(&self.drains()),
            Request::Explain(question) => match self.explain(&question) {
                Ok(told) => Response::of(&told),
                Err(error) => Response::failed(error.to_string()),
            },
            Request::Trace(request) => self.trace(request),
            Request::Statistics => match self.statistics() {
                Ok(statistics) => Response::of(&statistics.counted()),
                Err(gone) => ending(gone),
            },
            Request::Overview => match self.overview() {
                Ok(overview) => Response::of(&overview.row()),
                Err(gone) => ending(gone),
            },
            Request::Stats => match self.overview() {
                Ok(overview) => Response::of(&metrics::families(&overview)),
                Err(gone) => ending(gone),
            },
            // The server's side does it, by the other methods.
            Request::Connections { .. } | Request::Events => Response::default(),
            Request::Sysctl(key, value) => Response::done(self.set_sysctl(&key, &value)),
        }
    }

    fn connections(
        &self,
        server: Option<SocketAddr>,
        most: usize,
        at: Option<Cursor>,
    ) -> Result<ConnectionPage, String> {
        // The controller is free between two pages: a long table keeps neither commands nor checks waiting.
        let controller = self.0.controller.lock();
        let at = at.unwrap_or_else(|| controller.beginning());
        let page = controller.connections_page(at).map_err(|error| match error {
            CommandError::Gone => ENDING.to_owned(),
            CommandError::Refused(_) => {
                "the director was started anew since: begin without `after`".to_owned()
            }
        })?;
        drop(controller);
        let mut wanted =
            page.connections.iter().filter(|of| server.is_none_or(|server| of.destination == server));
        let taken: Vec<_> = wanted.by_ref().take(most).collect();
        // A page with more than is wanted ends behind what is.
        let next = match (wanted.next(), taken.last()) {
            (Some(_), Some(last)) => Some(at.behind(last)),
            (Some(_), None) => Some(at),
            (None, _) => page.next,
        };
        Ok(ConnectionPage { rows: taken.into_iter().map(connection_row).collect(), next })
    }

    fn events(&self, wake: Wake) -> Receiver<ApiEvent> {
        self.0.events.listen_with(Some(wake))
    }
}

impl RuntimeHandle {
    fn trace(&self, request: TraceRequest) -> Response {
        let answer = match request {
            TraceRequest::Begin { filter } => {
                let links = self.0.group.with_first(|_, forwarder, _| {
                    let ports = (0..=u8::MAX).map_while(|port| forwarder.host().port(PortId(port)));
                    ports.map(|port| port.link() == Link::Bare).collect::<Vec<_>>()
                });
                let Ok(links) = links else { return Response::failed(ENDING) };
                self.begin_trace(filter.as_deref()).map(|trace| {
                    let name =
                        |at: usize| self.interfaces().get(at).cloned().unwrap_or_else(|| "local".to_owned());
                    let interfaces = links.into_iter().enumerate();
                    let interfaces =
                        interfaces.map(|(at, ip)| TraceInterface { name: name(at), ip }).collect();
                    Response::of(&TraceBegun { trace, interfaces })
                })
            }
            TraceRequest::Next { trace } => self.read_trace(trace).map(|(records, lost, over)| {
                let rows = records.iter().map(trace_row).collect();
                Response::of(&TracePage { rows, lost, over })
            }),
            TraceRequest::End { trace } => self.end_trace(trace).map(|()| Response::default()),
        };
        answer.unwrap_or_else(|error| Response::failed(error.to_string()))
    }

    pub(super) fn health_row(&self) -> HealthRow {
        let (ready, reports) = self.health();
        let row = |report: Report| ProbeRow {
            probe: report.probe.to_string(),
            users: report.users,
            state: report.state.to_string(),
            why: report.why.map(|why| why.to_string()),
            since: report.since.elapsed().as_secs_f64(),
        };
        let problem = |problem: Problem| ProblemRow {
            part: problem.part.to_string(),
            why: problem.why,
            since: problem.since.elapsed().as_secs_f64(),
        };
        let problems = self.problems().list().into_iter().map(problem).collect();
        HealthRow { ready, problems, probes: reports.into_iter().map(row).collect() }
    }

    fn service_rows(&self) -> Vec<ServiceRow> {
        let row = |server: &DesiredServer| ServerRow {
            address: server.address,
            weight: server.spec.weight,
            effective_weight: (!server.status.absent).then(|| server.effective_weight()),
            draining: server.status.draining,
        };
        let rows = self.services().into_iter().map(|(name, scheduler, servers)| ServiceRow {
            service: name.to_string(),
            scheduler,
            servers: servers.iter().map(row).collect(),
        });
        rows.collect()
    }
}

fn trace_row(record: &TraceRecord) -> TraceRow {
    let action = match record.action {
        Action::Drop => "drop",
        Action::Pass => "pass",
        Action::Send => "send",
        Action::Keep => "keep",
    };
    TraceRow {
        packet: record.id,
        worker: record.worker as u32,
        interface: record.port.0.into(),
        sent: record.sent,
        nanoseconds: record.time.as_nanos() as u64,
        action: action.to_owned(),
        comment: record.comment.clone(),
        frame: hex_of(&record.bytes),
    }
}

fn connection_row(connection: &Connection) -> ConnectionRow {
    ConnectionRow {
        protocol: connection.flow.protocol.to_string(),
        client: connection.flow.source(),
        virtual_address: connection.flow.destination(),
        server: connection.destination,
        method: connection.method.to_string(),
        state: connection.state.to_string(),
        expires: connection.expires_in as f64 / 1_000.0,
        packets: connection.in_packets.into(),
    }
}

fn said<E: fmt::Display>(text: Result<String, E>) -> Response {
    match text {
        Ok(text) => Response::of(&text),
        Err(error) => Response::failed(error.to_string()),
    }
}

fn ending(_: WorkerGone) -> Response {
    Response::failed(ENDING)
}

const ENDING: &str = "the director is ending";

/// A service by the name that listings give it.
fn name(text: &str) -> Result<ServiceName, Errno> {
    ServiceName::parse(text).ok_or(Errno::NoService)
}
