//! What can be asked at the JSON socket, and who answers.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use lvs_core::conn::Connection;
use lvs_std::control::{DesiredServer, Errno, ServiceName};
use lvs_std::worker::WorkerGone;

use super::drain::Drains;
use super::events::{ApiEvent, Events};
use super::explain::{Question, explain};
use super::{Reloader, SharedController};
use crate::run::LargeGroup;
use crate::statistics;
use lvs_std::config::part_of_rate;

/// A question.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    /// What was declared, and how it is doing.
    Services,
    /// What a reload would change: of this text, or of the director's file.
    Plan(Option<String>),
    /// Read the director's file again and apply it.
    Reload,
    /// The checks of real servers.
    Health,
    /// No new connections for a real server; what is left after so many seconds is cut.
    Drain { service: String, server: SocketAddr, deadline: Option<f64> },
    /// New connections for it again.
    Undrain { service: String, server: SocketAddr },
    /// The real servers that are being drained.
    Drains,
    /// What would be done with a packet.
    Explain(Question),
    /// What became of packets, by reasons.
    Statistics,
    /// The connections, or those of one real server.
    Connections { server: Option<SocketAddr>, limit: Option<usize> },
    /// Everything that happens from now on, a line each, for as long as the connection lasts.
    Events,
    /// A switch by its name, and its value.
    Sysctl(String, String),
}

/// An answer.
#[derive(Debug, Default, serde::Deserialize, serde::Serialize)]
pub(crate) struct Response {
    /// Why not, if it is not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// What was asked for.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub(crate) result: serde_json::Value,
}

impl Response {
    /// It was done; this was asked for.
    fn of(result: &impl serde::Serialize) -> Self {
        match serde_json::to_value(result) {
            Ok(result) => Self { error: None, result },
            Err(error) => Self::failed(error.to_string()),
        }
    }

    /// It was done or refused.
    fn done(done: Result<(), Errno>) -> Self {
        match done {
            Ok(()) => Self::default(),
            Err(errno) => Self::failed(errno.to_string()),
        }
    }

    /// It was not done.
    pub(crate) fn failed(why: impl Into<String>) -> Self {
        Self { error: Some(why.into()), ..Self::default() }
    }
}

/// A connection in an answer.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ConnectionRow {
    pub(crate) protocol: String,
    pub(crate) client: SocketAddr,
    pub(crate) virtual_address: SocketAddr,
    pub(crate) server: SocketAddr,
    pub(crate) method: String,
    pub(crate) state: String,
    /// Seconds until it ends without packets.
    pub(crate) expires: f64,
    /// Packets of the client.
    pub(crate) packets: u64,
}

/// What is known of the checks.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
pub(crate) struct HealthRow {
    /// Whether every check has had an answer.
    pub(crate) ready: bool,
    /// Each check once, however many services share it.
    pub(crate) probes: Vec<ProbeRow>,
}

/// A check in an answer.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
pub(crate) struct ProbeRow {
    /// What is probed.
    pub(crate) probe: String,
    /// How many servers of services share it.
    pub(crate) users: usize,
    /// `unknown`, `up` or `down`.
    pub(crate) state: String,
    /// What was wrong with the last attempt.
    pub(crate) why: Option<String>,
    /// For how many seconds the state has been so.
    pub(crate) since: f64,
}

/// A service in an answer.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ServiceRow {
    /// As listings name it: `TCP 10.99.0.1:80`, `FWM 7`.
    pub(crate) service: String,
    /// Its scheduler.
    pub(crate) scheduler: String,
    /// Its servers, the one added last first.
    pub(crate) servers: Vec<ServerRow>,
}

/// A real server in an answer.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ServerRow {
    /// Address and port.
    pub(crate) address: SocketAddr,
    /// The weight that was declared.
    pub(crate) weight: i32,
    /// The weight that the director works with; none while it does not use the server at all.
    pub(crate) effective_weight: Option<i32>,
    /// It gets no new connections, by an operator's wish.
    pub(crate) draining: bool,
}

/// Answers questions about a director.
#[derive(Clone)]
pub(crate) struct ApiServer {
    controller: SharedController,
    group: LargeGroup,
    reloader: Option<Arc<Reloader>>,
    drains: Drains,
    events: Events,
}

impl ApiServer {
    pub(super) fn new(
        controller: SharedController,
        group: LargeGroup,
        reloader: Option<Arc<Reloader>>,
        events: Events,
    ) -> io::Result<Self> {
        let drains = Drains::new(controller.clone(), events.clone())?;
        Ok(Self { controller, group, reloader, drains, events })
    }

    /// What happens, for whoever asks for it.
    pub(super) fn listen(&self) -> Receiver<ApiEvent> {
        self.events.listen()
    }

    fn connections(&self, server: Option<SocketAddr>, limit: usize) -> Response {
        let Ok(all) = self.group.connections() else { return Response::failed("the director is ending") };
        let wanted = all.into_iter().filter(|of| server.is_none_or(|server| of.destination == server));
        let row = |connection: Connection| ConnectionRow {
            protocol: connection.flow.protocol.to_string(),
            client: connection.flow.source(),
            virtual_address: connection.flow.destination(),
            server: connection.destination,
            method: connection.method.to_string(),
            state: connection.state.to_string(),
            expires: connection.expires_in as f64 / 1_000.0,
            packets: connection.in_packets.into(),
        };
        Response::of(&wanted.take(limit).map(row).collect::<Vec<_>>())
    }

    fn reloaded(&self, work: impl FnOnce(&Reloader) -> Result<String, String>) -> Response {
        let Some(reloader) = &self.reloader else {
            return Response::failed("this director was not started with a configuration file");
        };
        match work(reloader) {
            Ok(text) => Response::of(&text),
            Err(error) => Response::failed(error),
        }
    }

    fn health(&self) -> HealthRow {
        let (ready, reports) =
            self.reloader.as_ref().map_or((true, Vec::new()), |reloader| reloader.health());
        let row = |report: lvs_std::health::Report| ProbeRow {
            probe: report.probe.to_string(),
            users: report.users,
            state: report.state.to_string(),
            why: report.why.map(|why| why.to_string()),
            since: report.since.elapsed().as_secs_f64(),
        };
        HealthRow { ready, probes: reports.into_iter().map(row).collect() }
    }

    fn services(&self) -> Vec<ServiceRow> {
        let controller = self.controller.lock();
        let row = |server: &DesiredServer| ServerRow {
            address: server.address,
            weight: server.spec.weight,
            effective_weight: (!server.status.absent).then(|| server.effective_weight()),
            draining: server.status.draining,
        };
        let rows = controller.desired().services().map(|(name, declared)| ServiceRow {
            service: name.to_string(),
            scheduler: declared.spec.scheduler.clone(),
            servers: declared.servers.iter().map(row).collect(),
        });
        rows.collect()
    }

    pub(super) fn answer(&self, request: Request) -> Response {
        match request {
            Request::Services => Response::of(&self.services()),
            Request::Plan(text) => self.reloaded(|reloader| reloader.plan(text.as_deref())),
            Request::Reload => self.reloaded(Reloader::reload),
            Request::Health => Response::of(&self.health()),
            Request::Drain { service, server, deadline } => {
                let deadline =
                    deadline.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default());
                Response::done(
                    name(&service).and_then(|service| self.drains.begin(service, server, deadline)),
                )
            }
            Request::Undrain { service, server } => {
                Response::done(name(&service).and_then(|service| self.drains.end(service, server)))
            }
            Request::Drains => Response::of(&self.drains.rows()),
            Request::Explain(question) => match explain(&question, &self.controller, &self.group) {
                Ok(text) => Response::of(&text),
                Err(why) => Response::failed(why),
            },
            Request::Statistics => {
                let Some(shown) = self.group.snapshot().map(|shown| shown.worker) else {
                    return Response::failed("the director has no worker");
                };
                let live = self.group.with_each(|_, director, forwarder, _| {
                    (director.counters(), forwarder.counters().clone())
                });
                let sum = live.ok().and_then(|each| {
                    each.into_iter().reduce(|mut sum, one| {
                        sum.0 += one.0;
                        sum.1 += &one.1;
                        sum
                    })
                });
                let Some((director, forwarder)) = sum else {
                    return Response::failed("the director is ending");
                };
                let rows = statistics::frames(&director, &forwarder, &shown);
                let counted = rows.into_iter().filter_map(|row| match <[String; 2]>::try_from(row) {
                    Ok([count, what]) => Some((what, count.parse::<u64>().unwrap_or_default())),
                    Err(_) => None,
                });
                Response::of(&counted.collect::<BTreeMap<_, _>>())
            }
            Request::Connections { server, limit } => self.connections(server, limit.unwrap_or(usize::MAX)),
            // The socket's side does it.
            Request::Events => Response::default(),
            Request::Sysctl(key, value) => {
                let workers = self.group.handles().len();
                let done = self.group.with_each(move |_, director, forwarder, _| {
                    let (mut config, mut options) = (director.config().clone(), *forwarder.options());
                    let rate = core::mem::replace(&mut options.icmp_rate, u32::MAX);
                    lvs_conformance::sysctl::set(&mut config.tuning, &mut options, &key, &value)?;
                    options.icmp_rate = match options.icmp_rate {
                        u32::MAX => rate,
                        asked => part_of_rate(asked, workers),
                    };
                    director.set_config(config);
                    forwarder.set_options(options);
                    Ok::<(), String>(())
                });
                // What is said of a value depends on it alone: all say the same.
                match done.map(|each| each.into_iter().collect::<Result<(), String>>()) {
                    Ok(Ok(())) => Response::default(),
                    Ok(Err(error)) => Response::failed(error),
                    Err(WorkerGone) => Response::failed("the director is ending"),
                }
            }
        }
    }
}

/// A service by the name that listings give it.
fn name(text: &str) -> Result<ServiceName, Errno> {
    ServiceName::parse(text).ok_or(Errno::NoService)
}
