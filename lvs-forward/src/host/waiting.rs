//! Packets that wait for their next hop's link-layer address: few, short, not for long.
//!
//! Each waits in the list of its neighbour, whose fate is its own: the neighbour answers, and it leaves; the neighbour
//! stays silent or gives way to another, and it is a counted drop. So none is forgotten.

use lvs_core::Family;

use super::list::{Linked, Links, List};
use super::mac::MacAddress;
use crate::frame::{Frame, Offload, PortId};
use crate::memory::{Empty, Places};

/// How many packets can wait for one neighbour.
const PER_HOP: usize = 2;
/// The longest packet that can wait, without its link header.
pub(crate) const MAX_LEN: usize = 1_600;

/// A packet that waits, or a place for one.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    bytes: [u8; MAX_LEN],
    len: u16,
    port: PortId,
    /// The neighbour that it waits for.
    neighbour: u32,
    /// Where it goes, once the neighbour has answered.
    mac: MacAddress,
    offload: Offload,
    mark: u32,
    family: Family,
    order: Links,
    strangers: Links,
    /// Whether it is in the list of what strangers caused.
    strange: bool,
}

impl Empty for Place {
    const EMPTY: Self = Self {
        bytes: [0; MAX_LEN],
        len: 0,
        port: PortId(0),
        neighbour: super::list::NONE,
        mac: MacAddress::ZERO,
        offload: Offload::NONE,
        mark: 0,
        family: Family::V4,
        order: Links::NONE,
        strangers: Links::NONE,
        strange: false,
    };
}

/// The packets of one neighbour, those that are ready, or the free places; each place is in one of these.
const ORDER: usize = 0;
/// The packets that wait for neighbours of no server and no route, the oldest first.
const STRANGERS: usize = 1;

impl Linked<ORDER> for Place {
    fn links(&mut self) -> &mut Links {
        &mut self.order
    }
}

impl Linked<STRANGERS> for Place {
    fn links(&mut self) -> &mut Links {
        &mut self.strangers
    }
}

/// The packets that wait for one neighbour, in their order.
pub(super) type Queue = List<ORDER>;

/// A packet that need not wait any longer, as a frame that begins with its IP header.
pub(crate) struct Ready<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) mac: MacAddress,
    pub(crate) family: Family,
}

/// What a packet that has to wait is.
pub(super) struct Arrived<'p, 'f> {
    /// A frame that begins with its IP header.
    pub(super) frame: &'p Frame<'f>,
    pub(super) family: Family,
    /// The neighbour that it waits for, and its port.
    pub(super) neighbour: u32,
    pub(super) port: PortId,
    /// Whether it waits for a real server or a router, which must not lose its place to a stranger.
    pub(super) wanted: bool,
}

#[cfg_attr(feature = "alloc", derive(Clone))]
pub(crate) struct Waiting {
    places: Places<Place>,
    ready: Queue,
    free: Queue,
    strangers: List<STRANGERS>,
}

impl Waiting {
    pub(super) const fn new(places: Places<Place>) -> Self {
        Self { places, ready: Queue::EMPTY, free: Queue::EMPTY, strangers: List::EMPTY }
    }

    pub(super) const fn any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many packets can wait.
    pub(super) fn bound(&self) -> usize {
        self.places.bound()
    }

    /// Takes memory for more packets, if there may be more and few places are left.
    pub(super) fn grow_if_short(&mut self) {
        if self.free.len() + self.places.spare() < SPARE {
            self.places.grow();
        }
    }

    /// The neighbour of the oldest packet that a stranger caused.
    pub(super) fn oldest_stranger(&self) -> Option<u32> {
        self.places.get(self.strangers.first()?).map(|place| place.neighbour)
    }

    /// Whether one more packet can wait for the neighbour of this queue, if there is a place.
    pub(super) fn may_wait(&self, queue: &Queue, packet: &Arrived<'_, '_>) -> bool {
        // One silent neighbour must not take the places of all others, and half of the places is out of the reach of
        // strangers.
        queue.len() < PER_HOP
            && packet.frame.len() <= MAX_LEN
            && (packet.wanted || self.strangers.len() < self.places.bound().div_ceil(2))
    }

    /// Keeps a copy of a packet in the queue of its neighbour; `None` when there is no place.
    pub(super) fn push(&mut self, queue: &mut Queue, packet: &Arrived<'_, '_>) -> Option<()> {
        let at = self.free.pop(&mut self.places).or_else(|| self.places.take())?;
        let place = self.places.get_mut(at)?;
        let frame = packet.frame;
        place.bytes.get_mut(..frame.len())?.copy_from_slice(frame.bytes());
        place.len = frame.len() as u16;
        (place.port, place.neighbour) = (packet.port, packet.neighbour);
        (place.offload, place.mark) = (frame.offload, frame.mark);
        (place.family, place.strange) = (packet.family, !packet.wanted);
        queue.push(&mut self.places, at);
        if !packet.wanted {
            self.strangers.push(&mut self.places, at);
        }
        Some(())
    }

    /// Takes the oldest packet out of a queue, and loses it. False when there is none.
    pub(super) fn lose(&mut self, queue: &mut Queue) -> bool {
        let Some(at) = queue.pop(&mut self.places) else { return false };
        self.no_stranger(at);
        self.free.push(&mut self.places, at);
        true
    }

    /// The neighbour of a queue has answered: what waited for it is ready to leave.
    pub(super) fn release(&mut self, queue: &mut Queue, mac: MacAddress) {
        while let Some(at) = queue.pop(&mut self.places) {
            self.no_stranger(at);
            if let Some(place) = self.places.get_mut(at) {
                place.mac = mac;
            }
            self.ready.push(&mut self.places, at);
        }
    }

    fn no_stranger(&mut self, at: u32) {
        if self.places.get_mut(at).is_some_and(|place| core::mem::take(&mut place.strange)) {
            self.strangers.remove(&mut self.places, at);
        }
    }

    /// Copies the packet that has been ready for longest to `buffer[start..]`.
    pub(super) fn pop<'a>(&mut self, buffer: &'a mut [u8], start: usize) -> Option<Ready<'a>> {
        let at = self.ready.pop(&mut self.places)?;
        self.free.push(&mut self.places, at);
        let place = self.places.get(at)?;
        let len = usize::from(place.len);
        let end = start + len;
        buffer.get_mut(start..end)?.copy_from_slice(place.bytes.get(..len)?);
        let mut frame = Frame::new(buffer, start, end, place.port)?.with_offload(place.offload);
        frame.mark = place.mark;
        Some(Ready { frame, mac: place.mac, family: place.family })
    }
}

/// Memory for more packets is taken when fewer places than this are left.
const SPARE: usize = 8;
