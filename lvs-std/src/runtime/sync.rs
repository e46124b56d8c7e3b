//! The sync daemons at work beside a worker: a thread that carries their messages between the director and the wire.
//!
//! The interface of a daemon is opened once more for it, so that the worker need not know of them. Nothing here is on
//! the way of a packet.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::shutdown::Shutdown;
use crate::control::{self, DaemonSpec, Errno, SyncDaemons};
use crate::device::Device;
use crate::device::packet::{self, PacketOptions};
use crate::worker::{Handle, WorkerGone, WorkerGroup};
use lvs_core::sync::SyncEntry;
use lvs_core::{Event, Store};
use lvs_forward::host::Port;
use lvs_forward::{Frame, HEADROOM, PortId};

/// The daemons, and the interfaces by which they may talk: the director's ports, in order.
#[derive(Clone)]
pub(super) struct Sync {
    interfaces: Arc<[String]>,
    state: Arc<Mutex<State>>,
    /// A daemon was started.
    started: Arc<Condvar>,
}

#[derive(Default)]
struct State {
    daemons: SyncDaemons,
    /// Interfaces that are open.
    open: Vec<(PortId, Device)>,
}

impl Sync {
    /// Daemons that do not run yet, with a thread for them. `events` gives the director's events as long as there are
    /// any.
    pub(super) fn start<S: Store + 'static>(
        interfaces: Vec<String>,
        handle: Handle<S>,
        mut events: impl FnMut() -> Option<Event> + Send + 'static,
        shutdown: Shutdown,
    ) -> io::Result<Self> {
        let sync = Self { interfaces: interfaces.into(), state: Arc::default(), started: Arc::default() };
        let own = sync.clone();
        thread::Builder::new().name("sync".to_owned()).spawn(move || {
            loop {
                own.pause();
                if shutdown.sleep(Duration::ZERO) {
                    return;
                }
                let mut entries = Vec::new();
                while let Some(event) = events() {
                    if let Event::Sync(entry) = event {
                        entries.push(entry);
                    }
                }
                if own.turn(entries, &handle).is_err() {
                    return;
                }
            }
        })?;
        Ok(sync)
    }

    /// Starts a daemon, and opens its interface for it.
    fn start_daemon<S: Store + 'static>(
        &self,
        asked: &DaemonSpec,
        handle: &Handle<S>,
    ) -> Result<DaemonSpec, Errno> {
        let at = self.interfaces.iter().position(|interface| *interface == asked.interface);
        let port = at.map(|at| PortId(at as u8)).ok_or(Errno::NoDevice)?;
        let mut state = self.state();
        // The worker needs them on its own thread, and a command cannot borrow from this one, so they go there and come
        // back. Whoever else asks for them waits for the lock meanwhile.
        let mut daemons = core::mem::take(&mut state.daemons);
        let wanted = asked.clone();
        let (daemons, done) = handle
            .with(move |director, forwarder, now| {
                let mtu = forwarder.host().port(port).map_or(1_500, Port::mtu);
                let filled = filled(wanted, mtu);
                let done = daemons.start(director, now, &filled, Some(port));
                (daemons, done.map(|()| filled))
            })
            .map_err(|WorkerGone| Errno::Ending)?;
        state.daemons = daemons;
        let filled = done.map_err(|_| Errno::Invalid)?;
        self.started.notify_all();
        if !state.open.iter().any(|(open, _)| *open == port) {
            let options = PacketOptions { receive_slots: SLOTS, ..PacketOptions::default() };
            // It was there when the director started; a daemon without it is silent.
            if let Ok(packet) = packet::open(&asked.interface, &options) {
                state.open.push((port, packet.device));
            }
        }
        Ok(filled)
    }

    /// Carries what there is in both directions.
    fn turn<S: Store + 'static>(
        &self,
        entries: Vec<SyncEntry>,
        handle: &Handle<S>,
    ) -> Result<(), WorkerGone> {
        let mut state = self.state();
        if !state.daemons.is_running() {
            state.open.clear();
            return Ok(());
        }
        let mut messages = Vec::new();
        for (port, device) in &mut state.open {
            // A device that is gone stays silent.
            let frames = device.drain().unwrap_or_default();
            // Messages go to groups.
            let groups = frames.into_iter().filter(|frame| frame.first().is_some_and(|byte| byte & 1 != 0));
            messages.extend(groups.map(|frame| (*port, frame)));
        }
        let mut daemons = core::mem::take(&mut state.daemons);
        let (daemons, out) = handle.with(move |director, forwarder, now| {
            for (port, mut bytes) in messages {
                let len = bytes.len();
                if let Some(frame) = Frame::new(&mut bytes, 0, len, port) {
                    daemons.receive(director, forwarder.host(), now, &frame);
                }
            }
            for entry in entries {
                daemons.tell(director, now, &entry);
            }
            let (mut buffer, mut out) = (vec![0; HEADROOM + 2_048], Vec::new());
            while let Some(frame) = daemons.poll(forwarder.host(), now, &mut buffer) {
                out.push((frame.port, frame.bytes().to_vec()));
            }
            (daemons, out)
        })?;
        state.daemons = daemons;
        for (port, frame) in out {
            if let Some((_, device)) = state.open.iter_mut().find(|(open, _)| *open == port) {
                // The next message says more.
                let _ = device.send(&frame);
            }
        }
        Ok(())
    }

    /// Waits until it is worth looking again: not long while a daemon runs, and otherwise until one does, or for a
    /// while.
    fn pause(&self) {
        let state = self.state();
        if state.daemons.is_running() {
            drop(state);
            thread::sleep(PAUSE);
        } else {
            drop(self.started.wait_timeout(state, IDLE));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The daemons of a director, for its controller.
pub(super) struct SyncControl<S: Store> {
    pub(super) sync: Sync,
    pub(super) group: WorkerGroup<S>,
}

impl<S: Store + 'static> control::Daemons for SyncControl<S> {
    fn start(&mut self, spec: &DaemonSpec) -> Result<DaemonSpec, Errno> {
        match self.group.handles() {
            [only] => self.sync.start_daemon(spec, only),
            _ => {
                tracing::error!("sync daemons need a director with one worker: `workers = 1` in the file");
                Err(Errno::Unsupported)
            }
        }
    }

    fn stop(&mut self, stopped: control::Role) {
        // The controller knows that it runs.
        let _ = self.sync.state().daemons.stop(stopped);
    }
}

/// What IPVS fills in: the longest message that the interface carries, and the usual group, port and TTL.
fn filled(mut spec: DaemonSpec, mtu: u16) -> DaemonSpec {
    let group = *spec.group.get_or_insert(GROUP);
    let headers = if group.is_ipv4() { 20 + 8 } else { 40 + 8 };
    let backup = spec.role == control::Role::Backup;
    // A backup takes messages of any ordinary length, whatever its own interface carries.
    let least = if backup { 1_024 } else { 1 };
    let usual = (if backup { mtu.max(1_500) } else { mtu }).saturating_sub(headers);
    let length = spec.max_len.map_or(usual, |length| length.clamp(least, u16::MAX - headers));
    spec.max_len = Some(length);
    spec.port.get_or_insert(8_848);
    spec.ttl.get_or_insert(1);
    spec
}

/// The group that IPVS uses.
const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 81));
/// Between two looks while no daemon runs: what the director says of single connections is thrown away.
const IDLE: Duration = Duration::from_millis(500);
/// Between two looks: messages that are full go every 20 ms.
const PAUSE: Duration = Duration::from_millis(20);
/// Slots of the receiving ring: a MiB, for what comes between two looks.
const SLOTS: usize = 15;
