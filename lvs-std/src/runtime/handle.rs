//! What a running director can be asked and told.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use super::drain::Drains;
use super::events::Events;
use super::explain::explain;
use super::reload::Reconciler;
use super::shutdown::Shutdown;
use super::statistics::Subject;
use super::trace::{TraceError, Traces};
use super::{
    ExplainError, Plan, Problems, ReloadError, RuntimeController, RuntimeGroup, SharedController, Statistics,
    SysctlError, overview, sysctl,
};
use crate::config::{ConfigSource, Configuration};
use crate::control::api::{ApiEvent, DrainRow, Explanation, PastEvent, Question, Step};
use crate::control::{DesiredServer, Errno, ServiceName};
use crate::health::Report;
use crate::metrics::{Overview, Watched};
use crate::trace::TraceRecord;
use crate::worker::WorkerGone;

/// Asks and commands a running director. Clones reach the same one; none of them keeps it running.
///
/// The methods are of four kinds: what reads ([`statistics`](Self::statistics), [`health`](Self::health),
/// [`explain`](Self::explain), [`plan`](Self::plan)), what changes the table ([`reload`](Self::reload),
/// [`drain`](Self::drain), [`with_controller`](Self::with_controller)), what tells ([`events`](Self::events)), and
/// [`stop`](Self::stop). The controller lists the [connections](crate::control::Controller::connections). Each may be
/// called from any thread; none is called by a packet.
#[derive(Clone)]
pub struct RuntimeHandle(pub(super) Arc<Parts>);

/// The parts of a running director.
pub(super) struct Parts {
    pub(super) controller: SharedController,
    pub(super) group: RuntimeGroup,
    pub(super) reconciler: Option<Arc<Reconciler>>,
    pub(super) drains: Drains,
    pub(super) events: Events,
    pub(super) problems: Problems,
    pub(super) shutdown: Shutdown,
    pub(super) interfaces: Vec<String>,
    pub(super) traces: Traces,
}

impl Parts {
    /// Ends everything beside the workers.
    pub(super) fn end(&self) {
        self.shutdown.end();
        self.drains.end_all();
        self.events.close();
        if let Some(reconciler) = &self.reconciler {
            reconciler.end();
        }
    }
}

impl RuntimeHandle {
    /// What a reload of another configuration would change. Nothing changes by it.
    ///
    /// # Errors
    /// [`ReloadError::NoFile`] when the director was started without a configuration.
    pub fn plan(&self, source: &ConfigSource) -> Result<Plan, ReloadError> {
        Ok(self.reconciler()?.plan(&source.configuration))
    }

    /// What a reload of the file would change that the director was started with.
    ///
    /// # Errors
    /// [`ReloadError::NoFile`] without a file, [`ReloadError::Read`] when it cannot be used.
    pub fn plan_file(&self) -> Result<Plan, ReloadError> {
        let reconciler = self.reconciler()?;
        Ok(reconciler.plan(&reconciler.read_file()?.configuration))
    }

    /// Applies another configuration, as a whole or not at all, and returns what has changed by it.
    ///
    /// Three are compared: what was applied last, what the new configuration says, and what there is. What operators
    /// changed meanwhile, and the new configuration says as the last one did, stays.
    ///
    /// # Errors
    /// [`ReloadError`].
    pub fn reload(&self, source: impl Into<ConfigSource>) -> Result<Plan, ReloadError> {
        self.reconciler()?.reload(&source.into())
    }

    /// Reads the file again that the director was started with, and applies it.
    ///
    /// # Errors
    /// [`ReloadError`].
    pub fn reload_file(&self) -> Result<Plan, ReloadError> {
        let reconciler = self.reconciler()?;
        reconciler.reload(&reconciler.read_file()?)
    }

    /// From now on a real server gets no new connections. After the deadline, if there is one, what is left is cut.
    /// The end is told by [`ApiEvent::Drained`] or [`ApiEvent::Cut`].
    ///
    /// # Errors
    /// [`Errno::NoService`], [`Errno::NoEntry`] without such a server; [`Errno::Range`] for a deadline beyond
    /// [`Seconds::MOST`](crate::Seconds::MOST).
    pub fn drain(
        &self,
        service: ServiceName,
        server: SocketAddr,
        deadline: Option<Duration>,
    ) -> Result<(), Errno> {
        self.0.drains.begin(service, server, deadline)
    }

    /// Gives a real server new connections again.
    ///
    /// # Errors
    /// [`Errno::NoService`], [`Errno::NoEntry`] without such a server.
    pub fn undrain(&self, service: ServiceName, server: SocketAddr) -> Result<(), Errno> {
        self.0.drains.end(service, server)
    }

    /// The real servers that are being drained, with what is left of each.
    #[must_use]
    pub fn drains(&self) -> Vec<DrainRow> {
        self.0.drains.rows()
    }

    /// What the director would do with a packet, and why, step by step. Nothing changes by it: the worker that the
    /// packet would come to tries it on a copy of what it knows, between two batches.
    ///
    /// # Errors
    /// [`ExplainError`].
    pub fn explain(&self, question: &Question) -> Result<Explanation, ExplainError> {
        let configured = self.configuration().map(|of| of.interfaces).unwrap_or_default();
        let mut told =
            explain(question, (&self.0.controller, &self.0.group), &self.0.interfaces, &configured)?;
        // What would be done with a packet does not help when its way is gone.
        told.steps.extend(self.0.problems.list().into_iter().map(|problem| Step {
            step: "problem".to_owned(),
            says: format!("not as it should be: {}: {}", problem.part, problem.why),
        }));
        Ok(told)
    }

    /// Records from now on what becomes of packets, of those that a [filter](crate::filter::PacketFilter) means or of
    /// all, and returns the trace's number. One trace at a time; it is over when nobody has read it for ten seconds.
    ///
    /// # Errors
    /// [`TraceError`].
    pub fn begin_trace(&self, filter: Option<&str>) -> Result<u64, TraceError> {
        self.0.traces.begin(&self.0.group, filter)
    }

    /// What was recorded since, how many records were lost so far, and whether there will be no more: it was
    /// [ended](Self::end_trace), and all of it has been read.
    ///
    /// # Errors
    /// [`TraceError::Over`].
    pub fn read_trace(&self, trace: u64) -> Result<(Vec<TraceRecord>, u64, bool), TraceError> {
        let (session, ended) = self.0.traces.session(trace)?;
        let records = session.read(TRACE_PAGE);
        let over = ended && records.is_empty();
        if over {
            self.0.traces.forget(trace);
        }
        Ok((records, session.lost(), over))
    }

    /// Records nothing any more. What was recorded can still be read.
    ///
    /// # Errors
    /// [`TraceError`].
    pub fn end_trace(&self, trace: u64) -> Result<(), TraceError> {
        self.0.traces.end(&self.0.group, trace)
    }

    /// What the director has done so far.
    ///
    /// # Errors
    /// [`WorkerGone`].
    pub fn statistics(&self) -> Result<Statistics, WorkerGone> {
        Statistics::read(&self.subject())
    }

    /// Everything that a watcher shows: counters, services with their real servers, health.
    ///
    /// # Errors
    /// [`WorkerGone`].
    pub fn overview(&self) -> Result<Overview, WorkerGone> {
        let (total, workers, capacity) = overview::counters(&self.0.group)?;
        let services = overview::services(&self.0.controller)?;
        Ok(Overview {
            total,
            workers,
            interfaces: self.0.interfaces.clone(),
            capacity,
            services,
            health: self.health_row(),
            events: self.past_events(),
        })
    }

    /// What happened last, the newest first: a hundred events at most.
    #[must_use]
    pub fn past_events(&self) -> Vec<PastEvent> {
        self.0.events.past()
    }

    /// What is known of the checks: whether each has had an answer, and what each has found.
    #[must_use]
    pub fn health(&self) -> (bool, Vec<Report>) {
        self.0.reconciler.as_ref().map_or((true, Vec::new()), |reconciler| reconciler.health())
    }

    /// What of the director does not work as it should. A program may add what it finds out itself.
    #[must_use]
    pub fn problems(&self) -> &Problems {
        &self.0.problems
    }

    /// What was declared: each service with its scheduler and its real servers, the one added last first.
    #[must_use]
    pub fn services(&self) -> Vec<(ServiceName, String, Vec<DesiredServer>)> {
        let controller = self.0.controller.lock();
        let services = controller.desired().services();
        services.map(|(name, of)| (name, of.spec.scheduler.clone(), of.servers.clone())).collect()
    }

    /// What happens from now on. A receiver that lags by more than a thousand events is left.
    #[must_use]
    pub fn events(&self) -> Receiver<ApiEvent> {
        self.0.events.listen()
    }

    /// Runs a closure with the controller, which carries out ipvsadm's commands. Nobody else commands the director
    /// meanwhile.
    pub fn with_controller<R>(&self, work: impl FnOnce(&mut RuntimeController) -> R) -> R {
        work(&mut self.0.controller.lock())
    }

    /// The names of the interfaces, in the order of the ports.
    #[must_use]
    pub fn interfaces(&self) -> &[String] {
        &self.0.interfaces
    }

    /// The workers, for what must be read from or told to their directors themselves.
    #[must_use]
    pub fn group(&self) -> &RuntimeGroup {
        &self.0.group
    }

    /// The configuration that was applied last, if there was one.
    #[must_use]
    pub fn configuration(&self) -> Option<Configuration> {
        self.0.reconciler.as_ref().and_then(|reconciler| reconciler.configuration())
    }

    /// Sets a switch from the text that its file would take: `net.ipv4.vs.*`, and those of the host that the director
    /// is.
    ///
    /// # Errors
    /// [`SysctlError`]; nothing has changed then.
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<(), SysctlError> {
        sysctl::set(&self.0.controller, key, value)
    }

    /// Ends the director: [`Runtime::join`](super::Runtime::join) returns when all workers have stopped.
    pub fn stop(&self) {
        self.0.group.stop();
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        let Parts { group, interfaces, .. } = &*self.0;
        Subject { group, interfaces, configuration: self.configuration() }
    }

    fn reconciler(&self) -> Result<&Reconciler, ReloadError> {
        self.0.reconciler.as_deref().ok_or(ReloadError::NoFile)
    }
}

impl Watched for RuntimeHandle {
    fn overview(&self) -> Result<Overview, WorkerGone> {
        Self::overview(self)
    }
}

impl fmt::Debug for RuntimeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeHandle").field("interfaces", &self.0.interfaces).finish_non_exhaustive()
    }
}

/// Bytes of frames that are read of a trace at a time, about.
const TRACE_PAGE: usize = 1 << 19;
