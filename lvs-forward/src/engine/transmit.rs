//! Frames on their way to a port, in the form that its device takes.

use super::counters::EngineCounters;
use super::ports::{PortForm, Ports};
use crate::forwarder::{LocalTraffic, Options};
use crate::frame::{Frame, Offload, PortId};
use crate::host::Host;
use crate::offload::complete_checksum;
use crate::output::{Cut, Pieces, is_wrapped};
use crate::parse::{Link, Parsed, parse};
use crate::reason::PassReason;

/// Sends a frame by the port that it names; it must not be touched any more.
pub(super) fn send(frame: &mut Frame<'_>, ports: &mut impl Ports, counters: &mut EngineCounters) {
    // Every device takes finished frames, which are nearly all, so that it need not be asked.
    if frame.offload != Offload::NONE {
        let carries = |form: PortForm| form.offloads.carry(&frame.offload) && !is_wrapped(frame, form.link);
        if !ports.form(frame.port).is_some_and(carries) {
            send_pieces(frame, Cut::SEGMENTS, ports, counters);
            return;
        }
    }
    if ports.hand_over(frame).is_err() {
        counters.unsendable += 1;
    }
}

/// Sends a frame in pieces that the port's device and the way take.
pub(super) fn send_pieces(
    frame: &mut Frame<'_>,
    cut: Cut,
    ports: &mut impl Ports,
    counters: &mut EngineCounters,
) {
    match emit_pieces(frame, cut, ports) {
        Some(count) if count > 1 => {
            counters.cut += 1;
            counters.pieces += count;
        }
        Some(_) => {}
        None => counters.unsendable += 1,
    }
}

/// What goes to the local port, if there is one.
#[derive(Clone, Copy)]
pub(super) struct LocalWay {
    port: Option<PortId>,
    traffic: LocalTraffic,
}

impl LocalWay {
    pub(super) const fn of(options: &Options) -> Self {
        Self { port: options.local, traffic: options.local_traffic }
    }

    fn port_for(self, reason: PassReason) -> Option<PortId> {
        self.port.filter(|_| self.traffic.takes(reason))
    }
}

/// Hands a packet to this machine itself to the local port, without its link header.
pub(super) fn pass(
    frame: &mut Frame<'_>,
    (way, reason): (LocalWay, PassReason),
    host: &Host,
    ports: &mut impl Ports,
    counters: &mut EngineCounters,
) {
    let link = ports.form(frame.port).map(|form| form.link);
    // What the local stack sent and the forwarder passed would go round for ever, unless it is for a server there, or
    // an answer of one.
    let comes_back = reason == PassReason::LocalServer;
    let local = way.port_for(reason).filter(|local| comes_back || *local != frame.port);
    if link.and_then(|link| unwrap_link(frame, link, local, host)).is_some() {
        counters.passed += 1;
        send(frame, ports, counters);
    } else {
        counters.not_passed += 1;
    }
}

/// Sends the pieces, finished if need be; says how many there were.
fn emit_pieces(frame: &mut Frame<'_>, cut: Cut, ports: &mut impl Ports) -> Option<u64> {
    let PortForm { link, offloads } = ports.form(frame.port)?;
    if frame.offload.merged.is_none() && !offloads.checksum {
        match parse(frame, link).ok()? {
            Parsed::Ip(layout, _) => complete_checksum(frame, &layout).ok()?,
            Parsed::Arp(_) | Parsed::Foreign => {}
        }
    }
    let mut pieces = Pieces::of(frame, link, cut).ok()?;
    let mut count = 0;
    // A piece's memory is the next one's, so that none can be handed over.
    while let Some(piece) = pieces.next().ok()? {
        ports.transmit(&piece).ok()?;
        count += 1;
    }
    Some(count)
}

/// Makes a frame one of the local port, if there is one for it.
fn unwrap_link(frame: &mut Frame<'_>, link: Link, local: Option<PortId>, host: &Host) -> Option<()> {
    let local = local?;
    match parse(frame, link) {
        Ok(Parsed::Ip(layout, _)) => {
            let destination = layout.addresses(frame.bytes())?.destination();
            if !host.owns(destination) && !host.is_local_server(destination) {
                return None;
            }
            frame.set_len(layout.end())?;
            frame.shrink_front(layout.network())?;
            frame.port = local;
            Some(())
        }
        Ok(Parsed::Arp(_) | Parsed::Foreign) | Err(_) => None,
    }
}
