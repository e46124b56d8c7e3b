//! A worker: one thread's director, with the devices that it serves.
//!
//! ```text
//!           +------------------------- Worker ---------------------------+
//! device -> | receive a batch > Forwarder (Director) > transmit > flush  | -> device
//!           |   commands, sweep, own frames, events, numbers > wait      |
//!           +------------------------------------------------------------+
//!    Handle > commands                         events > Receiver<Event>
//!                                              numbers > Handle::snapshot
//! ```
//!
//! What the director passes to this host, packets to its own addresses but to no service, goes to the
//! [local port](lvs_forward::Options::local) if there is one: a TUN device whose interface has these addresses. This
//! machine's stack then answers, and what it sends is forwarded as any port's packets. So one address can have
//! balanced services and local ones, and the director can be a real server itself.
//!
//! Nothing is shared on the way of a packet: no lock, no allocation, no system call but the devices' own. Several
//! threads are several workers, each with a director of its own; a [`WorkerGroup`] commands them as one, and
//! [`Steer`](crate::steering::Steer) says which packet is whose.

mod addresses;
mod events;
mod group;
mod handle;
mod idle;
#[cfg(feature = "links")]
mod kept_addresses;
mod mailbox;
pub(crate) mod output;
mod questions;
#[cfg(feature = "signals")]
mod signals;
mod slots;
mod stats;

use core::fmt;
use core::time::Duration;
use std::io;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use lvs_core::{Director, Event, Heap, Store, Tick};
use lvs_forward::alg::ftp::Controls;
use lvs_forward::engine::{Engine, OWN_BUFFER, Ports};
use lvs_forward::host::{MAX_PORTS, Port};
use lvs_forward::parse::Link;
use lvs_forward::reassembly::Fragments;
use lvs_forward::{Forwarder, Frame, Outcome, PortId};

use self::events::EventSender;
pub use self::group::{AddressError, NewAddress, NewDevices, WorkerGroup};
use self::handle::Inbox;
pub use self::handle::{Handle, WorkerGone};
use self::mailbox::{HandedOver, Mailbox};
use self::output::{Out, Output};
use self::questions::{Asking, Questions};
use self::slots::{Input, Slots};
pub use self::stats::{PortSnapshot, Snapshot, WorkerCounters};
use crate::clock::Clock;
use crate::device::{BATCH, Device};
use crate::offload::FlowOffload;
use crate::trace::Tracer;

/// How a worker works.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct WorkerOptions {
    /// Never waits, but asks the devices again and again: the least delay for the price of a whole processor.
    /// Default: false.
    pub busy_poll: bool,
    /// How long the devices are asked again and again after the last frame, before the worker waits. To be woken takes
    /// a processor some microseconds, in a virtual machine more, which the sender of the next frame pays. An idle
    /// worker uses no processor either way. Default: 50 microseconds.
    pub linger: Duration,
    /// Events that can wait to be fetched; further ones are lost and counted. Default: 4,096, at least 1.
    pub events: usize,
    /// Datagrams in fragments that can be put together at a time, if the forwarder has no room for any yet. They, and
    /// 32 finished ones, take up to [`PLACE`](lvs_forward::reassembly::PLACE) bytes each, of which the machine provides
    /// what has been used. Default: 128.
    pub fragments: usize,
    /// Goes on when no device is left, because [others](WorkerGroup::give_devices) may take their places. Default:
    /// false.
    pub awaits_devices: bool,
    /// FTP control connections in passive mode under NAT that are helped, if the forwarder has no room for any yet;
    /// some 64 bytes each. Default: 1,024.
    pub ftp: usize,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            busy_poll: false,
            linger: Duration::from_micros(50),
            events: 4_096,
            fragments: 128,
            awaits_devices: false,
            ftp: 1_024,
        }
    }
}

/// A director, a forwarder and their devices, at work.
///
/// `A` and `N` are its host's: how many addresses and neighbours that knows.
///
/// [`run`](Self::run) is the whole loop, for a thread of its own. A program with a loop of its own calls
/// [`turn`](Self::turn) instead.
pub struct Worker<S: Store = Heap> {
    director: Director<S>,
    forwarder: Box<Forwarder>,
    inputs: Vec<Input>,
    output: Output,
    engine: Engine,
    /// What the worker counts beside its engine.
    counters: WorkerCounters,
    /// What it shares with the other workers of its director, if there are any.
    mailbox: Option<Mailbox>,
    /// What takes bulk transfers past it, if there is something.
    offload: Option<FlowOffload>,
    /// What records what becomes of packets, while somebody asks for it.
    tracer: Option<Box<Tracer>>,
    /// The director or the forwarder may have been changed since the last turn.
    touched: bool,
    inbox: Inbox<S>,
    events: EventSender,
    clock: Clock,
    busy_poll: bool,
    linger: Duration,
    awaits_devices: bool,
    /// Room for frames of the forwarder's own.
    buffer: Box<[u8]>,
    last_snapshot: Tick,
    /// The place of the real server that is next to be said to be wanted.
    wanted_next: usize,
}

/// Decides frames and sends them on their way; recorded, if somebody asks for it.
#[expect(clippy::too_many_arguments, reason = "the parts of a worker, which are borrowed one by one")]
fn process<S: Store>(
    tracer: &mut Option<Box<Tracer>>,
    link: Link,
    engine: &mut Engine,
    director: &mut Director<S>,
    forwarder: &mut Forwarder,
    now: Tick,
    frames: &mut [Frame<'_>],
    outcomes: &mut [Outcome],
    output: &mut Output,
) {
    match tracer {
        None => engine.process(director, forwarder, now, frames, outcomes, output),
        Some(tracer) => {
            tracer.process(link, engine, director, forwarder, now, frames, outcomes, output);
        }
    }
}

/// Sends what a forwarder has to send by itself. Says how many questions were not asked, since another worker has.
fn transmit(
    engine: &mut Engine,
    forwarder: &mut Forwarder,
    now: Tick,
    buffer: &mut [u8],
    questions: Option<&Questions>,
    ports: &mut impl Ports,
) -> u64 {
    let Some(questions) = questions else {
        engine.transmit_own(forwarder, now, buffer, ports);
        return 0;
    };
    let mut asking = Asking { ports, questions, shared: 0 };
    engine.transmit_own(forwarder, now, buffer, &mut asking);
    asking.shared
}

impl<S: Store> Worker<S> {
    /// A worker with its handle, and the queue of the director's events. The devices are the ports that the forwarder's
    /// host was given, in that order. It begins by asking for the link-layer addresses of the director's real servers,
    /// so that first packets need not wait for them.
    ///
    /// # Errors
    /// [`WorkerError`] when devices and ports do not correspond.
    pub fn new(
        mut director: Director<S>,
        mut forwarder: Box<Forwarder>,
        devices: Vec<Device>,
        options: WorkerOptions,
    ) -> Result<(Self, Handle<S>, Receiver<Event>), WorkerError> {
        let ports: Vec<Port> =
            (0..MAX_PORTS as u8).map_while(|port| forwarder.host().port(PortId(port)).copied()).collect();
        if ports.len() != devices.len() {
            return Err(WorkerError::Ports { ports: ports.len(), devices: devices.len() });
        }
        // Prefetches and vector instructions are `unsafe` in Rust, and the core has no unsafe code: so they are lent to
        // it.
        director.set_read_ahead(crate::cpu::read_ahead());
        director.set_hash_together(crate::cpu::hash_together());
        let local = forwarder.options().local;
        if let Some(local) = local
            && ports.get(usize::from(local.0)).is_none_or(|port| port.link() != Link::Bare)
        {
            return Err(WorkerError::Local(local));
        }
        let (mut inputs, mut outs) = (Vec::new(), Vec::new());
        for (device, port) in devices.into_iter().zip(&ports) {
            inputs.push(Input::new(device.receive, port.link()));
            outs.push(Out::new(device.transmit, port.link()));
        }
        if forwarder.fragments().datagrams() == 0 {
            forwarder.set_fragments(Fragments::with_room(options.fragments));
        }
        if forwarder.ftp().capacity() == 0 {
            forwarder.set_ftp(Controls::with_room(options.ftp));
        }
        let snapshot = Snapshot {
            at: Tick::ZERO,
            director: director.counters(),
            forwarder: forwarder.counters().clone(),
            ports: vec![PortSnapshot::default(); ports.len()],
            worker: WorkerCounters::default(),
        };
        let clock = Clock::start();
        for service in director.services() {
            for (_, server) in director.servers(service.key()) {
                forwarder.host_mut().look_for(clock.now(), server.address().ip());
            }
        }
        let (handle, inbox) = handle::channel(snapshot).map_err(WorkerError::Wake)?;
        let (events, fetch) = sync_channel(options.events.max(1));
        let worker = Self {
            director,
            forwarder,
            inputs,
            output: Output::new(outs),
            engine: Engine::new(),
            counters: WorkerCounters::default(),
            mailbox: None,
            offload: None,
            tracer: None,
            touched: false,
            inbox,
            events: EventSender::new(events),
            clock,
            busy_poll: options.busy_poll,
            linger: options.linger,
            awaits_devices: options.awaits_devices,
            buffer: vec![0; OWN_BUFFER].into_boxed_slice(),
            last_snapshot: Tick::ZERO,
            wanted_next: 0,
        };
        Ok((worker, handle, fetch))
    }

    /// Works until it is told to stop, or until no device is left. Whatever its handles ask for afterwards, or have
    /// asked for in vain, is answered with [`WorkerGone`], also while the worker itself is still there.
    pub fn run(&mut self) -> End {
        let end = self.work();
        self.inbox.close();
        end
    }

    fn work(&mut self) -> End {
        let mut last_moved = Instant::now();
        loop {
            let (moved, waiting) = self.round();
            if self.inbox.is_stopped() {
                self.finish();
                return End::Stopped;
            }
            if moved > 0 {
                last_moved = Instant::now();
                continue;
            }
            if let Some(end) = self.end() {
                self.finish();
                return end;
            }
            let behind = self.engine.is_behind() || self.offload.as_ref().is_some_and(FlowOffload::is_behind);
            let quiet = last_moved.elapsed();
            if !self.busy_poll && !behind && quiet >= self.linger {
                self.wait(waiting, quiet);
            }
        }
    }

    /// One round without waiting: a batch from each device, the commands that wait, and whatever is due. Returns how
    /// many frames came in.
    pub fn turn(&mut self) -> usize {
        self.round().0
    }

    /// The director, between two turns. What passed it by has been counted; connections that it is to forward no more
    /// end with the next turn.
    pub fn director(&mut self) -> &mut Director<S> {
        self.touch();
        &mut self.director
    }

    /// The forwarder, between two turns.
    pub fn forwarder(&mut self) -> &mut Forwarder {
        self.touch();
        &mut self.forwarder
    }

    /// Before somebody looks at either, and perhaps changes it.
    fn touch(&mut self) {
        if self.offload.is_some() {
            self.sync_offload(self.clock.now(), true);
            self.touched = true;
        }
    }

    /// Lets bulk transfers go past it. The offload's ports are those of the worker's devices.
    pub fn set_offload(&mut self, offload: FlowOffload) {
        self.offload = Some(offload);
    }

    /// What it was given.
    #[cfg(test)]
    pub(crate) const fn offload(&self) -> Option<&FlowOffload> {
        self.offload.as_ref()
    }

    /// A turn; also says how many frames still wait to be sent.
    fn round(&mut self) -> (usize, usize) {
        let mut moved = 0;
        if core::mem::take(&mut self.touched) {
            self.sync_offload(self.clock.now(), true);
        }
        for index in 0..self.inputs.len() {
            moved += self.receive(index);
        }
        let now = self.clock.now();
        if self.mailbox.is_some() {
            moved += self.read_mailbox(now);
        }
        let mut commanded = false;
        while let Some(command) = self.inbox.next() {
            if !commanded {
                // Whoever looks at counters shall see all that has passed.
                self.sync_offload(now, true);
                commanded = true;
            }
            let Self { director, forwarder, inputs, output, offload, tracer, .. } = self;
            let mut slots = Slots::new(inputs, output, offload, tracer);
            let answer = command(director, forwarder, &mut slots, now);
            // What it ends shall have ended when it is answered.
            self.sync_offload(now, true);
            answer();
        }
        self.sync_offload(now, false);
        self.transmit_own(now);
        if self.tracer.as_mut().is_some_and(|tracer| !tracer.turn(moved > 0)) {
            self.tracer = None;
        }
        // Before the sweep, so that no packet waits for it.
        let waiting = self.output.flush();
        self.engine.sweep(&mut self.director, now);
        while let Some(event) = self.director.poll_event() {
            // Never waits: a program that does not fetch its events must not hold up packets.
            if !self.events.send(event) {
                self.counters.events_lost += 1;
            }
        }
        self.events.tell_lost();
        if now.millis_since(self.last_snapshot) >= SNAPSHOT_MS {
            self.publish(now);
        }
        (moved, waiting)
    }

    /// A batch from one device.
    fn receive(&mut self, index: usize) -> usize {
        let Self {
            director,
            forwarder,
            inputs,
            output,
            engine,
            counters,
            mailbox,
            offload,
            tracer,
            clock,
            ..
        } = self;
        let Some(input) = inputs.get_mut(index).filter(|input| !input.failed) else { return 0 };
        let now = clock.now();
        let link = input.link;
        let mut judge = |frames: &mut [Frame<'_>]| {
            let mut away = 0;
            if let Some(mailbox) = mailbox {
                let mut handed_over = HandedOver::default();
                away = mailbox.dispatch(
                    now,
                    frames,
                    link,
                    |address| forwarder.host().owns(address),
                    &mut handed_over,
                );
                counters.handed_over += handed_over.sent;
                counters.handover_lost += handed_over.lost;
            }
            let mut outcomes = [Outcome::Consumed; BATCH];
            if away != 0 {
                // What stays is no longer a contiguous batch, so it is decided one by one. Frames for others are too
                // rare to matter.
                let stay = frames.iter_mut().enumerate().filter(|(at, _)| away & 1 << at == 0);
                for (_, frame) in stay {
                    let frame = core::slice::from_mut(frame);
                    process(tracer, link, engine, director, forwarder, now, frame, &mut outcomes, output);
                }
            } else if let Some(offload) = offload.as_mut().filter(|_| link == Link::Ethernet) {
                offload.look(frames);
                process(tracer, link, engine, director, forwarder, now, frames, &mut outcomes, output);
                offload.learn(now, director, forwarder, frames, &outcomes);
            } else {
                process(tracer, link, engine, director, forwarder, now, frames, &mut outcomes, output);
            }
            counters.batches += 1;
        };
        // Ports are counted in a byte, see `MAX_PORTS`.
        match input.receive.receive(PortId(index as u8), &mut judge) {
            Ok(count) => count,
            Err(_) => {
                // An interface that is gone does not end the worker, whose other devices may still have traffic.
                input.failed = true;
                0
            }
        }
    }

    /// Sends what its forwarder has to send by itself, but for what another worker has just asked.
    fn transmit_own(&mut self, now: Tick) {
        let Self { forwarder, output, engine, counters, mailbox, tracer, buffer, .. } = self;
        let questions = mailbox.as_ref().map(Mailbox::questions);
        let shared = match tracer {
            None => transmit(engine, forwarder, now, buffer, questions, output),
            Some(tracer) => transmit(engine, forwarder, now, buffer, questions, &mut tracer.own(output)),
        };
        counters.questions_shared += shared;
    }

    /// What other workers handed to this one.
    #[cold]
    fn read_mailbox(&mut self, now: Tick) -> usize {
        let Self { director, forwarder, inputs, output, engine, mailbox, tracer, .. } = self;
        let Some(mailbox) = mailbox else { return 0 };
        let mut outcomes = [Outcome::Consumed; BATCH];
        let mut count = 0;
        // Bounded, so that a flood of ARP or of fragments at the first worker does not keep this one from its own
        // devices.
        while count < MOST_COPIES
            && let Some(mut copy) = mailbox.next()
        {
            count += 1;
            let hearsay = copy.hearsay;
            if let Some(mut frame) = copy.frame() {
                if hearsay {
                    forwarder.host_mut().overhear(now, &mut frame);
                } else {
                    let link =
                        inputs.get(usize::from(frame.port.0)).map_or(Link::Ethernet, |input| input.link);
                    let frames = core::slice::from_mut(&mut frame);
                    process(tracer, link, engine, director, forwarder, now, frames, &mut outcomes, output);
                }
            }
            mailbox.keep(copy);
        }
        count
    }

    /// Counts what went past it.
    fn sync_offload(&mut self, now: Tick, at_once: bool) {
        let Self { director, forwarder, offload, counters, .. } = self;
        if let Some(offload) = offload {
            offload.sync_counters(now, director, forwarder.host_mut(), at_once);
            counters.offload = offload.counters();
        }
    }

    /// Says of a few real servers that the neighbours before them are still wanted: of all within half an hour.
    fn keep_wanted(&mut self, now: Tick) {
        let (servers, next) = self.director.servers_from(self.wanted_next, WANTED_AT_ONCE);
        for server in servers {
            self.forwarder.host_mut().still_wants(now, server.address().ip());
        }
        self.wanted_next = next;
    }

    fn publish(&mut self, now: Tick) {
        self.last_snapshot = now;
        self.keep_wanted(now);
        let Self { director, forwarder, inputs, output, engine, counters, inbox, .. } = self;
        inbox.publish(|snapshot| {
            snapshot.at = now;
            snapshot.director = director.counters();
            snapshot.forwarder.clone_from(forwarder.counters());
            snapshot.worker = counters.with_engine(engine.counters());
            for ((shown, input), out) in snapshot.ports.iter_mut().zip(inputs).zip(&mut output.ports) {
                shown.received = input.counters();
                shown.transmitted = out.counters();
                shown.failed = input.failed || out.failed;
            }
        });
    }

    /// Why there is nothing left to do, if there is not.
    fn end(&self) -> Option<End> {
        let ended = |input: &Input| input.failed || input.receive.ended();
        if !self.inputs.iter().all(ended) {
            return None;
        }
        match self.inputs.iter().any(|input| input.failed) {
            true if self.awaits_devices => None,
            true => Some(End::Failed),
            false => Some(End::Ended),
        }
    }

    fn finish(&mut self) {
        self.output.flush();
        let now = self.clock.now();
        if let Some(offload) = &mut self.offload {
            // Closed before the last count: what passed after it would be counted nowhere.
            offload.close();
        }
        self.sync_offload(now, true);
        if let Some(tracer) = &mut self.tracer {
            tracer.finish();
        }
        self.publish(now);
    }
}

impl<S: Store> fmt::Debug for Worker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("ports", &self.inputs.len()).finish_non_exhaustive()
    }
}

/// Why a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "whoever runs a worker handles each")]
pub enum End {
    /// All devices have come to their end (captures).
    Ended,
    /// All devices have come to their end, at least one of them because it failed: its interface is gone.
    Failed,
    /// The worker was told to stop.
    Stopped,
}

/// Why a worker cannot be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum WorkerError {
    /// The local port is none of the host's, or not a bare one.
    Local(PortId),
    /// The forwarder's host has more or fewer ports than there are devices.
    Ports {
        /// Ports of the host.
        ports: usize,
        /// Devices.
        devices: usize,
    },
    /// No file descriptor is left for waking the worker.
    Wake(io::Error),
}

impl fmt::Display for WorkerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(port) => write!(f, "port {} cannot be the local one: it is not a bare port", port.0),
            Self::Ports { ports, devices } => write!(f, "{devices} devices for {ports} ports"),
            Self::Wake(error) => write!(f, "cannot make the pipe that wakes the worker: {error}"),
        }
    }
}

impl core::error::Error for WorkerError {}

/// Copies that are read between two batches.
const MOST_COPIES: usize = 64;
const SNAPSHOT_MS: u64 = 1_000;
/// Real servers that are said to be wanted at once, with each snapshot: a hundred thousand take 26 minutes, and some
/// microseconds each time.
const WANTED_AT_ONCE: usize = 64;

const _: () = assert!(MAX_PORTS <= 256);
