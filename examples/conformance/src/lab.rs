//! The director of a scenario, in memory: its ports are lists of frames, and its time is counted.

use lvs_core::service::SchedulerOf;
use lvs_core::{Director, Event, Scheduler, Seed, Store, Tick};
use lvs_forward::alg::ftp::Controls;
use lvs_forward::output::pieces;
use lvs_forward::parse::Link;
use lvs_forward::reassembly::Fragments;
use lvs_forward::{DropReason, Forwarder, Frame, HEADROOM, Outcome, PortId};
use lvs_std::control::SyncDaemons;
use lvs_std::device::mark::{MarkRule, mark};
use lvs_std::ipvsadm::{self, Numeric};

use crate::apply;
use crate::compare::Sent;
use crate::rows::{self, ConnectionRow, ServiceRow};
use crate::scenario::{Hex, Setup};
use crate::setup::port_id;
use crate::sysctl;

/// A director with everything around it.
pub(crate) struct Lab<S: Store> {
    director: Director<S>,
    forwarder: Box<Forwarder>,
    ports: Vec<String>,
    marks: Vec<MarkRule>,
    daemons: SyncDaemons,
    now: Tick,
}

/// A frame that comes in.
pub(crate) struct Input<'a> {
    pub(crate) port: &'a str,
    pub(crate) bytes: &'a [u8],
}

impl<S> Lab<S>
where
    S: Store,
    SchedulerOf<S>: From<Scheduler>,
{
    /// Sets the director up.
    pub(crate) fn new(setup: &Setup, store: S) -> Result<Self, String> {
        let seed = Seed::from_bytes(SEED);
        let (config, options) = setup.settings(seed)?;
        Ok(Self {
            director: Director::new(config, store),
            forwarder: Box::new(
                Forwarder::new(*setup.host(seed)?, options)
                    .with_fragments(Fragments::with_room(FRAGMENTS))
                    .with_ftp(Controls::with_room(CONTROLS)),
            ),
            ports: setup.port_names(),
            marks: setup.mark_rules()?,
            daemons: SyncDaemons::default(),
            now: Tick::ZERO,
        })
    }

    /// Lets time pass, and everything end that is due; what leaves meanwhile.
    pub(crate) fn pass(&mut self, millis: u64) -> Vec<Sent> {
        let mut out = Vec::new();
        let mut left = millis;
        while left > 0 {
            let step = left.min(TICK_MILLIS);
            left -= step;
            self.now = self.now.plus_millis(step);
            self.director.sweep(self.now, usize::MAX);
            self.tell();
            self.poll(&mut out);
        }
        out
    }

    /// Lets time pass up to a moment of the recording, at least a little; what leaves meanwhile.
    pub(crate) fn pass_until(&mut self, secs: f64) -> Vec<Sent> {
        // Negative and absurd moments are none.
        let millis = ((secs * 1_000.0) as u64).min(LONGEST_MILLIS);
        self.pass(millis.saturating_sub(self.now.as_millis()).max(LEAST_MILLIS))
    }

    /// Turns a switch.
    pub(crate) fn sysctl(&mut self, key: &str, value: &str) -> Result<(), String> {
        let mut config = self.director.config().clone();
        let mut options = *self.forwarder.options();
        sysctl::set(&mut config.tuning, &mut options, key, value)?;
        self.director.set_config(config);
        self.forwarder.set_options(options);
        Ok(())
    }

    /// Carries out a call of ipvsadm; its exit status, and what it says.
    pub(crate) fn ipvsadm(&mut self, line: &str) -> (i32, Option<String>) {
        let command = match ipvsadm::parse(line.split_whitespace(), &Numeric) {
            Ok(command) => command,
            Err(error) => return (error.status().into(), Some(error.to_string())),
        };
        let ports = &self.ports;
        let port = |name: &str| port_id(ports, name).ok();
        let done = apply::apply(&mut self.director, &mut self.daemons, self.now, &command, port);
        match done {
            Ok(()) => (0, None),
            Err(error) => (error.status().into(), Some(error.to_string())),
        }
    }

    /// Puts frames in, as one batch if there are several; what leaves because of each.
    pub(crate) fn frames(&mut self, inputs: &[Input<'_>]) -> Result<Vec<Vec<Sent>>, String> {
        let mut buffers: Vec<Vec<u8>> = inputs
            .iter()
            .map(|input| [[0xaa; HEADROOM].as_slice(), input.bytes, &[0xaa; TAILROOM]].concat())
            .collect();
        let mut frames = Vec::new();
        for (input, buffer) in inputs.iter().zip(&mut buffers) {
            let port = port_id(&self.ports, input.port)?;
            let frame = Frame::new(buffer, HEADROOM, HEADROOM + input.bytes.len(), port);
            let mut frame = frame.ok_or("a frame is longer than its buffer")?;
            mark(&mut frame, Link::Ethernet, &self.marks);
            frames.push(frame);
        }
        let mut outcomes = vec![Outcome::Drop(DropReason::Malformed); frames.len()];
        match (frames.as_mut_slice(), outcomes.as_mut_slice()) {
            ([frame], [outcome]) => {
                *outcome = self.forwarder.process(&mut self.director, self.now, frame);
            }
            (frames, outcomes) => {
                self.forwarder.process_batch(&mut self.director, self.now, frames, outcomes);
            }
        }
        let mut all = Vec::new();
        for (frame, outcome) in frames.iter_mut().zip(outcomes) {
            let mut out = Vec::new();
            match outcome {
                Outcome::Send => out.push(self.sent(frame)),
                Outcome::SendPieces(cut) => {
                    let done = pieces(frame, Link::Ethernet, cut, &mut |piece| out.push(self.sent(&piece)));
                    done.map_err(|reason| format!("a frame cannot be cut: {}", reason.name()))?;
                }
                Outcome::Assembled(datagram) => {
                    if let Some(mut taken) = self.forwarder.take(datagram)
                        && let Outcome::SendPieces(_) | Outcome::Send = taken.outcome
                    {
                        let cut = taken.outcome.cut();
                        let frame = &mut taken.frame;
                        let ports = &self.ports;
                        let done =
                            pieces(frame, Link::Ethernet, cut, &mut |piece| out.push(sent(ports, &piece)));
                        done.map_err(|reason| format!("a datagram cannot be cut: {}", reason.name()))?;
                    }
                }
                Outcome::Pass(_) => {
                    self.daemons.receive(&mut self.director, self.forwarder.host(), self.now, frame);
                }
                Outcome::Consumed | Outcome::Drop(_) => {}
            }
            all.push(out);
        }
        if let Some(last) = all.last_mut() {
            self.poll(last);
        }
        Ok(all)
    }

    /// Lets the daemon know what the director wants to be told.
    fn tell(&mut self) {
        while let Some(event) = self.director.poll_event() {
            if let Event::Sync(entry) = event {
                self.daemons.tell(&self.director, self.now, &entry);
            }
        }
    }

    /// What the tables hold.
    pub(crate) fn snapshot(&self) -> (Vec<ServiceRow>, Vec<ConnectionRow>) {
        (rows::services(&self.director), rows::connections(&self.director, self.now))
    }

    /// Takes what the director as a host, and the sync daemon, have to send.
    fn poll(&mut self, out: &mut Vec<Sent>) {
        let mut buffer = vec![0; HEADROOM + 2_048];
        while let Some(frame) = self.forwarder.poll_transmit(self.now, &mut buffer) {
            if !is_of_the_link(frame.bytes()) {
                out.push(sent(&self.ports, &frame));
            }
        }
        while let Some(frame) = self.daemons.poll(self.forwarder.host(), self.now, &mut buffer) {
            out.push(sent(&self.ports, &frame));
        }
    }

    fn sent(&self, frame: &Frame<'_>) -> Sent {
        sent(&self.ports, frame)
    }
}

fn sent(ports: &[String], frame: &Frame<'_>) -> Sent {
    Sent { port: port_name(ports, frame.port), hex: Hex(frame.bytes().to_vec()) }
}

/// Whether a frame is about link-layer addresses and groups: none of that is recorded.
fn is_of_the_link(frame: &[u8]) -> bool {
    let kind = |at: usize| frame.get(at).copied();
    match frame.get(12..14) {
        Some([0x08, 0x06]) => true,
        Some([0x08, 0x00]) => kind(23) == Some(IGMP),
        Some([0x86, 0xdd]) => kind(20) == Some(ICMPV6) && matches!(kind(54), Some(130..=137 | 143)),
        Some(_) | None => false,
    }
}

fn port_name(ports: &[String], port: PortId) -> String {
    ports.get(usize::from(port.0)).cloned().unwrap_or_default()
}

/// Everything by chance depends on this: what a scenario shows must not.
const SEED: [u8; 16] = [7; 16];
/// How often a director looks at its clock while nothing comes in.
const TICK_MILLIS: u64 = 20;
/// Between two steps there is at least as much time as the table's clock can tell.
const LEAST_MILLIS: u64 = 4;
/// A day: no recording is longer.
const LONGEST_MILLIS: u64 = 86_400_000;
/// Protocol numbers.
const IGMP: u8 = 2;
const ICMPV6: u8 = 58;
/// Room after a frame: for what a helper adds to it.
const TAILROOM: usize = 256;
/// Datagrams that may be in the making at a time.
const FRAGMENTS: usize = 16;
/// FTP control connections that may be in passive mode.
const CONTROLS: usize = 64;
