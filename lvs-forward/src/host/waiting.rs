//! Packets that wait for their next hop's link-layer address: few, short, not for long.

use lvs_core::{Family, Tick};

use super::mac::MacAddress;
use crate::frame::{Frame, Offload, PortId};
use crate::header::edit::Tags;

/// How many packets can wait in all.
const PLACES: usize = 16;
/// How many can wait for one neighbour.
const PER_HOP: usize = 2;
/// The longest packet that can wait, without its link header.
pub(crate) const MAX_LEN: usize = 1_600;
/// How long one waits, in milliseconds: a little more than a neighbour is asked for.
const PATIENCE_MS: u64 = 3_500;

struct Place {
    bytes: [u8; MAX_LEN],
    /// 0 when the place is free.
    len: u16,
    hop: u128,
    port: PortId,
    /// Set when the neighbour has answered.
    ready: Option<MacAddress>,
    until: Tick,
    order: u32,
    offload: Offload,
    mark: u32,
    tags: Tags,
    family: Family,
}

impl Place {
    const FREE: Self = Self {
        bytes: [0; MAX_LEN],
        len: 0,
        hop: 0,
        port: PortId(0),
        ready: None,
        until: Tick::ZERO,
        order: 0,
        offload: Offload::NONE,
        mark: 0,
        tags: Tags::NONE,
        family: Family::V4,
    };
}

/// A packet that need not wait any longer, as a frame that begins with its IP header.
pub(crate) struct Ready<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) mac: MacAddress,
    pub(crate) tags: Tags,
    pub(crate) family: Family,
}

pub(crate) struct Waiting {
    places: [Place; PLACES],
    order: u32,
    /// How many are ready, so that nobody needs to look when none is.
    ready: usize,
}

impl Waiting {
    pub(crate) const fn new() -> Self {
        Self { places: [const { Place::FREE }; PLACES], order: 0, ready: 0 }
    }

    pub(crate) const fn any_ready(&self) -> bool {
        self.ready > 0
    }

    /// Keeps a copy of a packet, in a frame that begins with its IP header; `None` when it cannot wait.
    pub(crate) fn push(
        &mut self,
        now: Tick,
        frame: &Frame<'_>,
        family: Family,
        tags: Tags,
        port: PortId,
        hop: u128,
    ) -> Option<()> {
        for place in &mut self.places {
            // Looked at only here: what nobody needs the place of may as well stay.
            if place.len > 0 && place.ready.is_none() && place.until <= now {
                place.len = 0;
            }
        }
        let waits = |place: &&Place| place.len > 0 && place.hop == hop && place.port == port;
        // One silent neighbour must not take the places of all others.
        if self.places.iter().filter(waits).count() >= PER_HOP {
            return None;
        }
        let place = self.places.iter_mut().find(|place| place.len == 0)?;
        place.bytes.get_mut(..frame.len())?.copy_from_slice(frame.bytes());
        place.len = u16::try_from(frame.len()).ok()?;
        place.hop = hop;
        place.port = port;
        place.ready = None;
        place.until = now.plus_millis(PATIENCE_MS);
        place.order = self.order;
        place.offload = frame.offload;
        place.mark = frame.mark;
        place.tags = tags;
        place.family = family;
        self.order = self.order.wrapping_add(1);
        Some(())
    }

    /// The neighbour has answered.
    pub(crate) fn release(&mut self, port: PortId, hop: u128, mac: MacAddress) {
        for place in &mut self.places {
            if place.len > 0 && place.hop == hop && place.port == port && place.ready.is_none() {
                place.ready = Some(mac);
                self.ready += 1;
            }
        }
    }

    /// The neighbour will not answer.
    pub(crate) fn discard(&mut self, port: PortId, hop: u128) {
        for place in &mut self.places {
            if place.hop == hop && place.port == port && place.ready.is_none() {
                place.len = 0;
            }
        }
    }

    /// Copies the oldest packet that need not wait any longer to `buffer[start..]`.
    pub(crate) fn pop<'a>(&mut self, buffer: &'a mut [u8], start: usize) -> Option<Ready<'a>> {
        if self.ready == 0 {
            return None;
        }
        let newest = self.order;
        // By order of arrival and not by place, so that packets of one flow stay in order.
        let age = |place: &Place| newest.wrapping_sub(place.order);
        let ready = self.places.iter_mut().filter(|place| place.len > 0 && place.ready.is_some());
        let place = ready.max_by_key(|place| age(place))?;
        let mac = place.ready.take()?;
        self.ready -= 1;
        let len = usize::from(place.len);
        place.len = 0;
        let end = start + len;
        buffer.get_mut(start..end)?.copy_from_slice(place.bytes.get(..len)?);
        let mut frame = Frame::new(buffer, start, end, place.port)?.with_offload(place.offload);
        frame.mark = place.mark;
        Some(Ready { frame, mac, tags: place.tags, family: place.family })
    }
}
