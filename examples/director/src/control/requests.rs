//! What can be asked at the JSON socket, and who answers.

use core::net::SocketAddr;
use std::sync::Arc;

use lvs_std::control::DeclaredServer;
use lvs_std::worker::WorkerGone;

use super::{Reloader, SharedDesk};
use crate::replay::sysctl;
use crate::run::LargeHandle;

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

    /// It was not done.
    pub(crate) fn failed(why: impl Into<String>) -> Self {
        Self { error: Some(why.into()), ..Self::default() }
    }
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
pub(crate) struct Clerk {
    desk: SharedDesk,
    handle: LargeHandle,
    reloader: Option<Arc<Reloader>>,
}

impl Clerk {
    pub(super) const fn new(desk: SharedDesk, handle: LargeHandle, reloader: Option<Arc<Reloader>>) -> Self {
        Self { desk, handle, reloader }
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
        let desk = self.desk.lock();
        let row = |server: &DeclaredServer| ServerRow {
            address: server.address,
            weight: server.spec.weight,
            effective_weight: (!server.standing.absent).then(|| server.effective_weight()),
            draining: server.standing.draining,
        };
        let rows = desk.ledger().services().map(|(name, declared)| ServiceRow {
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
            Request::Sysctl(key, value) => {
                let done = self.handle.with(move |director, forwarder, _| {
                    let (mut config, mut options) = (director.config().clone(), *forwarder.options());
                    sysctl::set(&mut config.tuning, &mut options, &key, &value)?;
                    director.set_config(config);
                    forwarder.set_options(options);
                    Ok::<(), String>(())
                });
                match done {
                    Ok(Ok(())) => Response::default(),
                    Ok(Err(error)) => Response::failed(error),
                    Err(WorkerGone) => Response::failed("the director is ending"),
                }
            }
        }
    }
}
