//! The sync daemons at work beside a worker: a thread that carries their messages between the director and the wire.
//!
//! Their interface is opened once more for it, so that the worker need not know of them. Nothing here is on the way of a packet.

use core::time::Duration;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use lvs_core::sync::SyncEntry;
use lvs_core::{Event, Store};
use lvs_forward::{Frame, HEADROOM, PortId};
use lvs_std::device::Device;
use lvs_std::device::packet::{self, PacketOptions};
use lvs_std::worker::{Handle, WorkerGone};

use crate::daemon::Daemons;
use crate::ipvsadm::Command;
use crate::ipvsadm::control::ControlError;

/// The daemons, and the interfaces by which they may talk: the director's ports, in order.
#[derive(Clone)]
pub(super) struct Sync {
    interfaces: Arc<[String]>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    daemons: Daemons,
    /// Interfaces that are open.
    open: Vec<(PortId, Device)>,
}

impl Sync {
    /// Daemons that do not run yet, with a thread for them. `events` gives the director's events as long as there are any.
    pub(super) fn start<S: Store + 'static, const A: usize, const N: usize>(
        interfaces: Vec<String>,
        handle: Handle<S, A, N>,
        mut events: impl FnMut() -> Option<Event> + Send + 'static,
    ) -> io::Result<Self> {
        let sync = Self { interfaces: interfaces.into(), state: Arc::default() };
        let own = sync.clone();
        thread::Builder::new().name("sync".to_owned()).spawn(move || {
            loop {
                thread::sleep(PAUSE);
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

    /// Does what a command asks of the daemons; `None` if it is not theirs.
    pub(super) fn carry_out<S: Store + 'static, const A: usize, const N: usize>(
        &self,
        command: &Command,
        handle: &Handle<S, A, N>,
    ) -> Result<Option<Result<(), ControlError>>, WorkerGone> {
        let mut state = self.state();
        let mut daemons = core::mem::take(&mut state.daemons);
        let (interfaces, command) = (self.interfaces.clone(), command.clone());
        let (daemons, done, port) = handle.with(move |director, _, now| {
            let mut used = None;
            let done = daemons.carry_out(director, now, &command, |name| {
                let at = interfaces.iter().position(|interface| interface == name)?;
                used = Some(PortId(at as u8));
                used
            });
            (daemons, done, used)
        })?;
        state.daemons = daemons;
        if let (Some(Ok(())), Some(port)) = (&done, port)
            && !state.open.iter().any(|(open, _)| *open == port)
        {
            let name = self.interfaces.get(usize::from(port.0)).map_or("", String::as_str);
            let mut options = PacketOptions::default();
            options.receive_slots = SLOTS;
            // It was there when the director started; a daemon without it is silent.
            if let Ok(packet) = packet::open(name, &options) {
                state.open.push((port, packet.device));
            }
        }
        Ok(done)
    }

    /// Carries what there is in both directions.
    fn turn<S: Store + 'static, const A: usize, const N: usize>(
        &self,
        entries: Vec<SyncEntry>,
        handle: &Handle<S, A, N>,
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Between two looks: messages that are full go every 20 ms.
const PAUSE: Duration = Duration::from_millis(20);
/// Slots of the receiving ring: a MiB, for what comes between two looks.
const SLOTS: usize = 15;
