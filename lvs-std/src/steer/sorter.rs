//! What the kernel's program could not steer, and so left to the first worker: whose is it?

use core::net::IpAddr;

use heapless::{Deque, Vec};
use lvs_core::{Addresses, Flow, Tick};
use lvs_forward::fragments::identification;
use lvs_forward::icmp::tunnelled_flow;
use lvs_forward::parse::{Link, Meaning, Parsed, parse};
use lvs_forward::{Fragment, Frame, Layout};

use super::{By, Steer};

/// To whom a frame is to be handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// To nobody: the first worker is right, or it does not matter.
    Here,
    /// To this worker.
    At(usize),
    /// To all others too: what neighbours say of themselves.
    Everyone,
    /// A fragment whose ports are not known yet: it has to wait for the first one of its datagram.
    Later(Datagram),
    /// The first fragment of a datagram: those that wait for it go to this worker, and so does this one.
    First(Datagram, usize),
}

/// What the fragments of one datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Datagram {
    addresses: Addresses,
    identification: u32,
    protocol: u8,
}

/// Finds the owners of frames that the program leaves to the first worker.
#[derive(Debug)]
pub(crate) struct Sorter {
    steer: Steer,
    /// Datagrams whose first fragment has come, the newest last.
    known: Deque<(Datagram, usize, Tick), DATAGRAMS>,
}

impl Sorter {
    pub(crate) const fn new(steer: Steer) -> Self {
        Self { steer, known: Deque::new() }
    }

    /// Whether the kernel has steered this Ethernet frame, so that it is where it belongs.
    #[inline]
    pub(crate) fn is_steered(&self, frame: &Frame<'_>) -> bool {
        is_steered(frame.bytes(), self.steer.by)
    }

    /// Whose a frame is.
    #[cold]
    pub(crate) fn place(
        &mut self,
        now: Tick,
        frame: &Frame<'_>,
        link: Link,
        owns: impl Fn(IpAddr) -> bool,
    ) -> Place {
        let (layout, meaning) = match parse(frame, link) {
            Ok(Parsed::Arp(_)) => return Place::Everyone,
            Ok(Parsed::Ip(layout, meaning)) => (layout, meaning),
            Ok(Parsed::Foreign) | Err(_) => return Place::Here,
        };
        let owner = |flow: &Flow| {
            let request = owns(flow.addresses.destination());
            match self.steer.owner(flow, request) {
                0 => Place::Here,
                other => Place::At(other),
            }
        };
        match meaning {
            Meaning::Flow(packet) if layout.fragment() == Fragment::Whole || !has_ports(&layout) => {
                owner(&packet.flow)
            }
            Meaning::Flow(packet) => {
                let Some(datagram) = datagram(frame, &layout, packet.flow.addresses) else {
                    return Place::Here;
                };
                if layout.fragment() == Fragment::First {
                    let request = owns(packet.flow.addresses.destination());
                    let at = self.steer.owner(&packet.flow, request);
                    self.remember(now, datagram, at);
                    return Place::First(datagram, at);
                }
                match self.known.iter().rev().find(|(known, _, until)| *known == datagram && now <= *until) {
                    Some((_, 0, _)) => Place::Here,
                    Some((_, at, _)) => Place::At(*at),
                    None => Place::Later(datagram),
                }
            }
            Meaning::Error(packet, embedded) => {
                owner(&tunnelled_flow(frame.bytes(), &layout, &embedded).unwrap_or(packet.flow))
            }
            Meaning::Wrapped(embedded) => {
                tunnelled_flow(frame.bytes(), &layout, &embedded).map_or(Place::Here, |flow| owner(&flow))
            }
            Meaning::Control(SOLICITATION | ADVERTISEMENT) if layout.protocol() == ICMPV6 => Place::Everyone,
            Meaning::Control(_) | Meaning::Other => Place::Here,
        }
    }

    fn remember(&mut self, now: Tick, datagram: Datagram, at: usize) {
        if self.known.is_full() {
            self.known.pop_front();
        }
        // There is room now.
        let _ = self.known.push_back((datagram, at, now.plus_millis(PATIENCE_MS)));
    }
}

fn datagram(frame: &Frame<'_>, layout: &Layout, addresses: Addresses) -> Option<Datagram> {
    let identification = identification(frame.bytes(), layout)?;
    Some(Datagram { addresses, identification, protocol: layout.protocol() })
}

/// Whether whole packets of this protocol have ports in their transport header: AH and ESP have none.
fn has_ports(layout: &Layout) -> bool {
    matches!(layout.protocol(), 6 | 17 | 132)
}

/// Whether the kernel's program steers these frames, or leaves them to the first worker because they need more thought. Where they
/// stand in doubt, they are thought about: that finds the same owner.
#[inline]
pub(crate) fn is_steered(frame: &[u8], by: By) -> bool {
    let half = |at: usize| Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?));
    let mut at = 12;
    let mut found = half(at);
    for _ in 0..2 {
        if let Some(0x8100 | 0x88a8) = found {
            at += 4;
            found = half(at);
        }
    }
    let network = at + 2;
    match found {
        Some(0x0800) => {
            let balanced = matches!(frame.get(network + 9), Some(6 | 17 | 132 | 50 | 51));
            let whole = half(network + 6).is_some_and(|word| word & 0x3fff == 0);
            balanced && (whole || by != By::Endpoint)
        }
        Some(0x86dd) => match frame.get(network + 6) {
            Some(6 | 17 | 132 | 50) => true,
            Some(44) => by != By::Endpoint,
            _ => false,
        },
        _ => false,
    }
}

/// Frames that wait for something, by what they wait for: at most so many, the oldest give way.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    held: Deque<(Datagram, T), HELD>,
}

impl<T> Waiting<T> {
    pub(crate) const fn new() -> Self {
        Self { held: Deque::new() }
    }

    /// Keeps one; returns the one that gave way for it.
    pub(crate) fn hold(&mut self, datagram: Datagram, what: T) -> Option<T> {
        let gone = if self.held.is_full() { self.held.pop_front().map(|(_, gone)| gone) } else { None };
        // There is room now.
        let _ = self.held.push_back((datagram, what));
        gone
    }

    /// Takes what waited for this datagram's first fragment, in the order in which it came.
    pub(crate) fn take(&mut self, datagram: Datagram) -> Vec<T, HELD> {
        let mut taken = Vec::new();
        for _ in 0..self.held.len() {
            match self.held.pop_front() {
                Some((of, what)) if of == datagram => _ = taken.push(what),
                Some(other) => _ = self.held.push_back(other),
                None => {}
            }
        }
        taken
    }
}

/// Datagrams whose owner is remembered, and for how long: as long as the host's kernel would keep their fragments.
const DATAGRAMS: usize = 128;
const PATIENCE_MS: u64 = 30_000;
/// Fragments that can wait for the first one of their datagram: those of one of the longest.
const HELD: usize = 64;
const ICMPV6: u8 = 58;
/// Neighbour discovery (RFC 4861 §4.3, §4.4).
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
