//! An offload whose kernel is simulated: its programs are interpreted, instruction by instruction, over maps in this
//! process's memory. Tests and fuzz targets compare with it what the programs do with what the director would have
//! done, without privilege and for any frame.
//!
//! ```text
//! Simulation::arrive(frame)  -> Filter: has the socket it?   Ingress: what becomes of it at the interface?
//! Simulation::process(frame) -> what a worker does with a frame that the socket has: look, process, learn
//! ```

use core::fmt;
use core::sync::atomic::Ordering;

use lvs_core::{Director, Store, Tick};
use lvs_forward::host::MacAddress;
use lvs_forward::{Checksum, Forwarder, Frame, Outcome, PortId};

use super::maps::{Maps, Numbers, key, route};
use super::program::{
    CHANGE_TAIL, NEXT, PSEUDO_HEADER, REDIRECT, REPLACE_CHECKSUM, SHOT, STORE_BYTES, filter, ingress,
};
use super::recognise::{Gate, LOAD_BYTES, LOOK_UP, packet};
use super::{FlowOffload, FlowOffloadCounters, Port};
use crate::bpf::ebpf_machine::{CONTEXT, Kernel, MAPS, Stack, VALUES, number, run};
use crate::sys::bpf::Instruction;
use crate::sys::cells::Cell;

/// An offload with a simulated kernel.
#[derive(Debug)]
pub struct Simulation {
    offload: FlowOffload,
    /// By the ports' numbers.
    programs: Vec<Option<Programs>>,
}

#[derive(Debug)]
struct Programs {
    interface: u32,
    filter: Vec<Instruction>,
    ingress: Vec<Instruction>,
}

/// What becomes of a frame that comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "whoever compares looks at both")]
pub struct Arrival {
    /// Whether the director gets it.
    pub to_director: bool,
    /// What the interface does with it.
    pub at_interface: AtInterface,
}

/// What an interface does with a frame, behind its packet sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever compares handles each")]
pub enum AtInterface {
    /// The kernel's own stack gets it.
    Stack,
    /// It left by another port, or the same one, as it is now.
    Sent(PortId),
    /// It is lost.
    Lost,
}

/// A program did what the kernel would not have let it do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulationError(String);

impl fmt::Display for SimulationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for SimulationError {}

impl Simulation {
    /// One without ports, for at most so many connections at a time, at least 1.
    #[must_use]
    pub fn new(connections: u16) -> Self {
        let connections = u32::from(connections.max(1));
        let offload = FlowOffload::over(Maps::simulated(connections), connections);
        Self { offload, programs: Vec::new() }
    }

    /// Puts the programs at a port: an Ethernet interface with this number and MAC address. `chooses` says whether the
    /// director's socket gets frames to that address and to groups only.
    ///
    /// # Errors
    /// [`SimulationError`], when the programs cannot be built.
    pub fn add_port(
        &mut self,
        port: PortId,
        mac: MacAddress,
        interface: u32,
        chooses: bool,
    ) -> Result<(), SimulationError> {
        let gate = Gate { mac: mac.0, chooses, shares: true, interface };
        let built = |program: Option<_>| {
            program.ok_or_else(|| SimulationError("a jump of the program leads nowhere".to_owned()))
        };
        let filter = built(filter(&gate, &Numbers::SIMULATED))?;
        let ingress = built(ingress(&gate, &Numbers::SIMULATED))?;
        let at = usize::from(port.0);
        if self.programs.len() <= at {
            self.programs.resize_with(at + 1, || None);
        }
        if let Some(place) = self.programs.get_mut(at) {
            *place = Some(Programs { interface, filter, ingress });
        }
        self.offload.set_port(port, Port { gate, _ingress: None });
        Ok(())
    }

    /// Runs the programs of the frame's port on it, as if it had just come in. A frame that is sent is afterwards as it
    /// left.
    ///
    /// # Errors
    /// [`SimulationError`], when a program does what the kernel would not have let it do.
    pub fn arrive(&self, frame: &mut Frame<'_>) -> Result<Arrival, SimulationError> {
        let Some(programs) = self.programs.get(usize::from(frame.port.0)).and_then(Option::as_ref) else {
            return Ok(Arrival { to_director: true, at_interface: AtInterface::Stack });
        };
        let mut arriving = Arriving::new(&self.offload.maps, frame);
        let fault = |fault: crate::bpf::ebpf_machine::Fault| SimulationError(fault.to_string());
        let taken = run(&programs.filter, &mut arriving).map_err(fault)? as u32;
        let verdict = (run(&programs.ingress, &mut arriving).map_err(fault)? as u32).cast_signed();
        let Arriving { bytes, segment, sent_by, .. } = arriving;
        let at_interface = match verdict {
            NEXT => AtInterface::Stack,
            SHOT => AtInterface::Lost,
            REDIRECTED => {
                let by = |programs: &Option<Programs>| {
                    programs.as_ref().is_some_and(|programs| Some(programs.interface) == sent_by)
                };
                let port = self.programs.iter().position(by).and_then(|port| u8::try_from(port).ok());
                let port = port.ok_or_else(|| SimulationError(format!("sent by {sent_by:?}, no port")))?;
                AtInterface::Sent(PortId(port))
            }
            other => return Err(SimulationError(format!("{other} is no verdict"))),
        };
        if let AtInterface::Sent(port) = at_interface {
            if segment == 0 {
                frame.offload.merged = None;
            }
            frame.port = port;
            frame
                .set_len(bytes.len())
                .ok_or_else(|| SimulationError("it is longer than it was".to_owned()))?;
            frame.bytes_mut().copy_from_slice(&bytes);
        }
        Ok(Arrival { to_director: taken > 0, at_interface })
    }

    /// What a worker does with a frame of its socket: has it processed, and learns from it.
    pub fn process<S: Store>(
        &mut self,
        now: Tick,
        director: &mut Director<S>,
        forwarder: &mut Forwarder,
        frame: &mut Frame<'_>,
    ) -> Outcome {
        let frames = core::slice::from_mut(frame);
        self.offload.look(frames);
        let mut outcome = [Outcome::Consumed];
        forwarder.process_batch(director, now, frames, &mut outcome);
        self.offload.learn(now, director, forwarder, frames, &outcome);
        let [outcome] = outcome;
        outcome
    }

    /// Counts at the director what has passed, and ends what is no longer right, as a worker does before and after a
    /// command.
    pub fn sync<S: Store>(&mut self, now: Tick, director: &mut Director<S>, forwarder: &mut Forwarder) {
        self.offload.sync_counters(now, director, forwarder.host_mut(), true);
    }

    /// What it did so far.
    #[must_use]
    pub const fn counters(&self) -> FlowOffloadCounters {
        self.offload.counters()
    }
}

/// `TCX_REDIRECT`.
const REDIRECTED: i32 = 7;

/// A frame in the kernel (`struct sk_buff`), and the maps that programs reach.
pub(super) struct Arriving<'a> {
    maps: &'a Maps,
    pub(super) bytes: Vec<u8>,
    /// Bytes of a segment of a merged frame; 0 for a frame that is not merged.
    segment: u32,
    /// Whether the checksum is left to be finished.
    partial: bool,
    /// The interface by which it was sent.
    sent_by: Option<u32>,
    /// The route that was found last.
    found: Option<[u8; route::LEN]>,
}

impl<'a> Arriving<'a> {
    pub(super) fn new(maps: &'a Maps, frame: &Frame<'_>) -> Self {
        let partial = match frame.offload.checksum {
            Checksum::Complete => false,
            Checksum::Partial { .. } => true,
        };
        Self {
            maps,
            bytes: frame.bytes().to_vec(),
            segment: frame.offload.merged.map_or(0, |merged| merged.segment.into()),
            partial,
            sent_by: None,
            found: None,
        }
    }

    /// The word of eight bytes at an address among the cells.
    fn cell(&self, address: u64) -> Option<&core::sync::atomic::AtomicU64> {
        let cells = if address >= COMMON { self.maps.common() } else { self.maps.cells() };
        let offset = address.checked_sub(if address >= COMMON { COMMON } else { CELLS })?;
        let word = usize::try_from(offset / 8).ok()?;
        let words = size_of::<Cell>() / 8;
        cells.get(word / words)?.get(word % words).filter(|_| offset.is_multiple_of(8))
    }

    fn range(&self, offset: u64, len: u64) -> Option<core::ops::Range<usize>> {
        let (start, len) = (usize::try_from(offset).ok()?, usize::try_from(len).ok()?);
        let end = start.checked_add(len)?;
        (end <= self.bytes.len()).then_some(start..end)
    }

    /// `bpf_l4_csum_replace` with a difference: the checksum at `offset` after the sum of what it covers has changed by
    /// that much.
    fn replace_checksum(&mut self, offset: u64, difference: u32, pseudo: bool) -> Option<u64> {
        let Some(place) = self.range(offset, 2) else { return Some(FAILED) };
        let bytes = self.bytes.get_mut(place)?;
        let sum = u32::from(number(bytes) as u16);
        // RFC 1624 §3, equation 3. Where the checksum is left to be finished, the field is the sum of the
        // pseudo-header, and nothing else changes it.
        let sum = match (self.partial, pseudo) {
            (false, _) => !fold(plus(difference, !sum)),
            (true, true) => fold(plus(difference, sum)),
            (true, false) => sum as u16,
        };
        bytes.copy_from_slice(&sum.to_ne_bytes());
        Some(0)
    }
}

impl Kernel for Arriving<'_> {
    fn context(&self, offset: u64) -> Option<u32> {
        match i16::try_from(offset).ok()? {
            packet::LENGTH => u32::try_from(self.bytes.len()).ok(),
            // To this host: what a socket that shares frames must not be given is what this machine sends.
            packet::KIND => Some(0),
            // The tag of a frame with one, which stands elsewhere in the kernel; here it stands in the frame.
            packet::IS_TAGGED => Some(self.bytes.get(12..14).is_some_and(|kind| kind == [0x81, 0]).into()),
            packet::SEGMENT => Some(self.segment),
            _ => None,
        }
    }

    fn load(&self, address: u64, size: usize) -> Option<u64> {
        if let Some(offset) = address.checked_sub(ROUTES) {
            let (found, offset) = (self.found.as_ref()?, usize::try_from(offset).ok()?);
            return found.get(offset..offset.checked_add(size)?).map(number);
        }
        let value = self.cell(address)?.load(Ordering::Relaxed);
        (size == 8).then_some(value)
    }

    fn store(&mut self, address: u64, value: u64) -> Option<()> {
        self.cell(address)?.store(value, Ordering::Relaxed);
        Some(())
    }

    fn add(&mut self, address: u64, value: u64) -> Option<()> {
        self.cell(address)?.fetch_add(value, Ordering::Relaxed);
        Some(())
    }

    fn map_value(&self, number: i32) -> Option<u64> {
        (number == Numbers::SIMULATED.common).then_some(COMMON)
    }

    fn call(&mut self, function: i32, arguments: [u64; 5], stack: &mut Stack) -> Option<u64> {
        let [first, second, third, fourth, fifth] = arguments;
        match function {
            LOOK_UP => {
                let map = i32::try_from(first.checked_sub(MAPS)?).ok()?;
                if map == Numbers::SIMULATED.routes {
                    let route = self.maps.route(stack.bytes(second, key::LEN)?);
                    self.found = route;
                    return Some(if route.is_some() { ROUTES } else { 0 });
                }
                let index = number(stack.bytes(second, 4)?);
                let is_there = map == Numbers::SIMULATED.cells && index < self.maps.cells().len() as u64;
                Some(if is_there { CELLS + index * size_of::<Cell>() as u64 } else { 0 })
            }
            REDIRECT => {
                self.sent_by = u32::try_from(first).ok();
                Some(REDIRECTED.cast_unsigned().into())
            }
            // The others have the frame first.
            _ if first != CONTEXT => None,
            LOAD_BYTES => {
                let to = stack.bytes_mut(third, usize::try_from(fourth).ok()?)?;
                let Some(from) = self.range(second, fourth) else {
                    to.fill(0);
                    return Some(FAILED);
                };
                to.copy_from_slice(self.bytes.get(from)?);
                Some(0)
            }
            STORE_BYTES => {
                let from = stack.bytes(third, usize::try_from(fourth).ok()?)?;
                let Some(to) = self.range(second, fourth) else { return Some(FAILED) };
                self.bytes.get_mut(to)?.copy_from_slice(from);
                Some(0)
            }
            REPLACE_CHECKSUM if third == 0 && fifth & !(PSEUDO_HEADER as u64) == 0 => {
                self.replace_checksum(second, u32::try_from(fourth).ok()?, fifth != 0)
            }
            CHANGE_TAIL => {
                self.bytes.resize(usize::try_from(second).ok().filter(|&len| len <= 1 << 16)?, 0);
                // The kernel takes a frame whose length changes for one segment.
                self.segment = 0;
                Some(0)
            }
            _ => None,
        }
    }
}

/// A sum of 32-bit words in ones' complement (RFC 1071 §2).
const fn plus(one: u32, other: u32) -> u32 {
    let (sum, carry) = one.overflowing_add(other);
    sum + carry as u32
}

const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// Where programs find map values.
const CELLS: u64 = VALUES;
const COMMON: u64 = VALUES + (1 << 56);
const ROUTES: u64 = VALUES + (2 << 56);
/// `-EFAULT`.
const FAILED: u64 = (-14_i64).cast_unsigned();
