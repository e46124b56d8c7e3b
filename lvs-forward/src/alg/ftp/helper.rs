//! Segments of FTP control connections: read, rewritten, and renumbered.

use core::net::{IpAddr, SocketAddr};

use lvs_core::conn::{Expectation, State, TcpState};
use lvs_core::{Content, Direction, Director, Family, Forward, Packet, Store, TcpFlags, Tick};

use super::control::{Control, Controls, Mode};
use super::parse::{
    Command, Place, Search, Text, client_command, extended_passive_reply, extended_passive_text,
    passive_reply, passive_text,
};
use crate::checksum::Delta;
use crate::frame::{Checksum, Frame};
use crate::hash::Key;
use crate::header::layout::Layout;
use crate::header::{get16, get32, ipv4, ipv6, protocol, put16, put32, tcp};
use crate::offload::{merged_payload, normalise, pseudo_header, write_full};
use crate::reason::{Counters, DropReason};

/// What a segment's connection is to the helper.
pub(crate) struct Helper<'h> {
    pub(crate) controls: &'h mut Controls,
    pub(crate) counters: &'h mut Counters,
    pub(crate) key: Key,
}

impl Helper<'_> {
    /// Reads a segment of a control connection before it is translated, tells the director of the data connections that
    /// it announces, and rewrites what the client must see otherwise. Returns where the packet's parts stand now.
    pub(crate) fn help<S: Store>(
        &mut self,
        director: &mut Director<S>,
        now: Tick,
        frame: &mut Frame<'_>,
        layout: &Layout,
        packet: &Packet,
        forward: &Forward,
    ) -> Result<Layout, DropReason> {
        let Content::Tcp(flags) = packet.content else {
            return Ok(*layout);
        };
        frame.set_len(layout.end()).ok_or(DropReason::Malformed)?;
        // Edits below change a complete sum or a partial one of exactly this segment, and no third kind.
        normalise(frame, layout)?;
        // What is read here opens ports, and rewriting would hide the damage.
        if !is_intact(frame, layout) {
            return Err(DropReason::BadChecksum);
        }
        let connection = director.connection(forward.connection, now);
        let open = connection.is_some_and(|found| found.state == State::Tcp(TcpState::Established));
        match forward.direction {
            Direction::Request => {
                if flags.contains(TcpFlags::SYN) && !flags.contains(TcpFlags::ACK) {
                    // An earlier connection of the same ports may have left its numbers here.
                    self.controls.forget(self.key, forward.connection);
                }
                if open {
                    self.read_command(director, now, frame, layout, packet, forward);
                }
                let client = packet.flow.source();
                // The client acknowledges what it saw, and the server must read what it said (RFC 3022 §4.4).
                if let Some(control) = self.controls.find(self.key, now, forward.connection, client)
                    && !control.shift.is_none()
                {
                    renumber_acknowledgements(frame, layout, control).ok_or(DropReason::Malformed)?;
                }
                Ok(*layout)
            }
            Direction::Reply => {
                let client = packet.flow.destination();
                // Before the numbers are moved: a position is remembered as the server counts.
                let layout = if open {
                    self.rewrite_answer(director, now, frame, layout, packet, forward)?
                } else {
                    *layout
                };
                if let Some(control) = self.controls.find(self.key, now, forward.connection, client)
                    && !control.shift.is_none()
                {
                    let at = layout.transport() + tcp::SEQUENCE;
                    let old = get32(frame.bytes(), at).ok_or(DropReason::Malformed)?;
                    change_word(frame, &layout, at, old, control.shift.seen(old))
                        .ok_or(DropReason::Malformed)?;
                }
                Ok(layout)
            }
        }
    }

    /// What the client asks the server for.
    fn read_command<S: Store>(
        &mut self,
        director: &mut Director<S>,
        now: Tick,
        frame: &Frame<'_>,
        layout: &Layout,
        packet: &Packet,
        forward: &Forward,
    ) {
        let command = payload(frame, layout).and_then(|payload| client_command(payload, layout.family()));
        let client = packet.flow.source();
        match command {
            Some(Command::Active(address)) => {
                let expectation = Expectation::FromServer { client: address };
                match director.expect(now, forward.connection, expectation) {
                    Ok(_) => self.counters.expected += 1,
                    Err(_) => self.counters.unhelped += 1,
                }
                if let Some(control) = self.controls.find(self.key, now, forward.connection, client) {
                    control.mode = Mode::Active;
                }
            }
            Some(command @ (Command::Passive | Command::ExtendedPassive)) => {
                match self.controls.open(self.key, now, forward.connection, client) {
                    Some(control) if command == Command::Passive => control.mode = Mode::Passive,
                    Some(control) => control.mode = Mode::ExtendedPassive,
                    None => self.counters.unhelped += 1,
                }
            }
            None => {}
        }
    }

    /// The server's answer to such a question gets the virtual address, and the director is told of the data
    /// connection.
    fn rewrite_answer<S: Store>(
        &mut self,
        director: &mut Director<S>,
        now: Tick,
        frame: &mut Frame<'_>,
        layout: &Layout,
        packet: &Packet,
        forward: &Forward,
    ) -> Result<Layout, DropReason> {
        let client = packet.flow.destination();
        let server = packet.flow.source();
        let Some(control) = self.controls.find(self.key, now, forward.connection, client) else {
            return Ok(*layout);
        };
        let Some((place, text)) = payload(frame, layout)
            .and_then(|payload| answer(control.mode, payload, server, forward.address()))
        else {
            return Ok(*layout);
        };
        let text = text.as_bytes();
        let by = text.len() as i32 - (place.end - place.start) as i32;
        if usize::try_from(by).is_ok_and(|more| more > frame.headroom()) {
            // Nothing has happened yet, so the server may say it again.
            return Err(DropReason::NoHeadroom);
        }
        let expectation = Expectation::FromClient { server_port: place.address.port() };
        // Another host's address would make the director open ways that nobody configured (RFC 2577 §3).
        if place.address.ip() != server.ip() || director.expect(now, forward.connection, expectation).is_err()
        {
            // What the director does not expect, the client could not open either.
            control.mode = Mode::Active;
            self.counters.unhelped += 1;
            return Ok(*layout);
        }
        // One rewrite for each question, as with IPVS: an answer that is sent again goes out as it is.
        control.mode = Mode::Active;
        self.counters.expected += 1;
        let sequence =
            get32(frame.bytes(), layout.transport() + tcp::SEQUENCE).ok_or(DropReason::Malformed)?;
        if by != 0 {
            control.shift.lengthen(sequence, by);
        }
        replace(frame, layout, &place, text)
    }
}

/// What is to stand where in a server's answer.
fn answer(mode: Mode, payload: &[u8], server: SocketAddr, virtual_address: IpAddr) -> Option<(Place, Text)> {
    let found = match mode {
        Mode::Active => return None,
        Mode::Passive => passive_reply(payload),
        Mode::ExtendedPassive => extended_passive_reply(payload, server.ip()),
    };
    let Search::Found(place) = found else { return None };
    let port = place.address.port();
    match (mode, SocketAddr::new(virtual_address, port)) {
        (Mode::Passive, SocketAddr::V4(address)) => Some((place, passive_text(address))),
        (Mode::ExtendedPassive, _) => Some((place, extended_passive_text(port))),
        (Mode::Passive | Mode::Active, _) => None,
    }
}

/// A segment's payload; of a merged frame, that of all its segments.
fn payload<'f>(frame: &'f Frame<'_>, layout: &Layout) -> Option<&'f [u8]> {
    let (start, len) = merged_payload(frame.bytes(), layout)?;
    frame.bytes().get(start..)?.get(..len)
}

/// Whether the checksum is right, as far as it is written.
fn is_intact(frame: &Frame<'_>, layout: &Layout) -> bool {
    if frame.offload.checksum != Checksum::Complete {
        return true;
    }
    let segment = frame.bytes().get(layout.transport()..layout.end());
    let sum = pseudo_header(frame.bytes(), layout).zip(segment).map(|(sum, segment)| sum.bytes(segment));
    sum.is_some_and(|sum| sum.fold() == 0xffff)
}

/// Puts `text` into the place of another one in a segment's payload. A longer one moves what stands before it into the
/// headroom.
fn replace(frame: &mut Frame<'_>, layout: &Layout, place: &Place, text: &[u8]) -> Result<Layout, DropReason> {
    let bad = DropReason::Malformed;
    let (payload, _) = merged_payload(frame.bytes(), layout).ok_or(bad)?;
    let (start, end) = (payload + place.start, payload + place.end);
    let old = end - start;
    let before = frame.len();
    if text.len() > old {
        let more = text.len() - old;
        let checksum = frame.offload.checksum;
        frame.grow_front(more).ok_or(DropReason::NoHeadroom)?;
        // The headers keep their distance from the frame's first byte.
        frame.offload.checksum = checksum;
        frame.bytes_mut().copy_within(more..more + start, 0);
    } else {
        frame.bytes_mut().copy_within(end.., start + text.len());
        frame.set_len(before - (old - text.len())).ok_or(bad)?;
    }
    frame
        .bytes_mut()
        .get_mut(start..)
        .and_then(|rest| rest.get_mut(..text.len()))
        .ok_or(bad)?
        .copy_from_slice(text);
    let layout = layout.with_end(frame.len()).ok_or(bad)?;
    lengthen(frame, &layout, before).ok_or(bad)?;
    Ok(layout)
}

/// Makes the headers true for a packet of another length; the frame was `before` bytes long.
fn lengthen(frame: &mut Frame<'_>, layout: &Layout, before: usize) -> Option<()> {
    let network = layout.network();
    let complete = frame.offload.checksum == Checksum::Complete;
    let bytes = frame.bytes_mut();
    match layout.family() {
        Family::V4 => {
            let old = get16(bytes, network + ipv4::TOTAL_LEN)?;
            let new = u16::try_from(layout.packet_len()).ok()?;
            put16(bytes, network + ipv4::TOTAL_LEN, new)?;
            let checksum = get16(bytes, network + ipv4::CHECKSUM)?;
            put16(bytes, network + ipv4::CHECKSUM, Delta::ZERO.word(old, new).update(checksum))?;
        }
        Family::V6 => {
            let payload = layout.packet_len().checked_sub(ipv6::LEN)?;
            put16(bytes, network + ipv6::PAYLOAD_LEN, u16::try_from(payload).ok()?)?;
        }
    }
    // The payload has moved by any number of bytes, odd ones too, so that the sum is made anew.
    if complete {
        return write_full(bytes, layout);
    }
    // The sum of the pseudo-header holds the length of the segment.
    let length = |end: usize| u16::try_from(end.checked_sub(layout.transport())?).ok();
    let delta = Delta::ZERO.word(length(before)?, length(layout.end())?);
    let field = layout.transport() + tcp::CHECKSUM;
    put16(bytes, field, delta.update_partial(get16(bytes, field)?))
}

/// Makes acknowledgement numbers of the client's those of what the server said.
fn renumber_acknowledgements(frame: &mut Frame<'_>, layout: &Layout, control: &Control) -> Option<()> {
    let header = layout.transport();
    let flags = TcpFlags::from_byte(*frame.bytes().get(header + tcp::FLAGS)?);
    if flags.contains(TcpFlags::ACK) {
        let at = header + tcp::ACKNOWLEDGEMENT;
        let old = get32(frame.bytes(), at)?;
        change_word(frame, layout, at, old, control.shift.said(old))?;
    }
    let (end, _) = merged_payload(frame.bytes(), layout)?;
    let mut at = header + tcp::LEN;
    while at < end {
        let kind = *frame.bytes().get(at)?;
        let len = match kind {
            END => break,
            NOP => 1,
            _ => usize::from(*frame.bytes().get(at + 1).filter(|&&len| len >= 2)?),
        };
        if at + len > end {
            break;
        }
        if kind == SELECTIVE {
            // Edges of four bytes each.
            for edge in (at + 2..at + len).step_by(4).filter(|edge| edge + 4 <= at + len) {
                let old = get32(frame.bytes(), edge)?;
                change_word(frame, layout, edge, old, control.shift.said(old))?;
            }
        }
        at += len;
    }
    Some(())
}

/// Replaces a word of a TCP header, and what it does to the checksum.
fn change_word(frame: &mut Frame<'_>, layout: &Layout, at: usize, old: u32, new: u32) -> Option<()> {
    debug_assert_eq!(layout.protocol(), protocol::TCP);
    let complete = frame.offload.checksum == Checksum::Complete;
    let bytes = frame.bytes_mut();
    put32(bytes, at, new)?;
    if complete {
        // A word at an odd place counts with its bytes swapped.
        let odd = !(at - layout.transport()).is_multiple_of(2);
        let (old, new) = if odd { (old.rotate_left(8), new.rotate_left(8)) } else { (old, new) };
        let delta = Delta::ZERO.word((old >> 16) as u16, (new >> 16) as u16).word(old as u16, new as u16);
        let field = layout.transport() + tcp::CHECKSUM;
        put16(bytes, field, delta.update(get16(bytes, field)?))?;
    }
    Some(())
}

/// Kinds of TCP options.
const END: u8 = 0;
const NOP: u8 = 1;
const SELECTIVE: u8 = 5;
