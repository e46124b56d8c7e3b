//! Datagrams that come in fragments are put together before anything is decided about them, as Linux does before IPVS
//! sees them.
//!
//! Read these sections first:
//!
//! * RFC 791 §3.2 (p. 24-29) and RFC 8200 §4.5: identification, offset and "more fragments"; which headers are
//!   repeated.
//! * RFC 5722 §3-4 and RFC 8200 §4.5: fragments that overlap spoil their datagram.
//! * RFC 6946: IPv6 packets with a fragment header that are whole.
//! * RFC 3168 §5.3: what becomes of the fragments' ECN fields.
//! * RFC 4963: why an identification must not wait long; RFC 1122 §3.3.2 and RFC 8200 §4.5 for the time-outs, which
//!   are Linux's here.
//!
//! Every datagram in the making has a slot and a place of memory that it is put together in, both lent in the
//! beginning. What is whole stays in its place while it is decided and rewritten, so that it is copied once.

mod fields;
mod slot;

pub(crate) use self::fields::FragmentFields;
pub use self::slot::Slot;
pub(crate) use self::slot::{Key, Reassembled};

use lvs_core::{Family, Tick};

use self::slot::{Part, State};
use crate::frame::{Added, Frame, HEADROOM};
use crate::header::edit::write_header_checksum;
use crate::header::layout::Layout;
use crate::header::{ipv4, ipv6, put16};
use crate::memory::Memory;
use crate::outcome::{Datagram, Outcome};
use crate::reason::DropReason;

/// Room for datagrams that come in fragments: a number of [`Slot`]s, and memory that is shared out evenly among them.
///
/// A datagram takes one slot from its first fragment until it is [taken](crate::Forwarder::take), or until its time is
/// up (30 seconds for IPv4, 60 for IPv6, as in Linux). When as many are unfinished as there is room for, the one that
/// came first gives way, counted as [`DropReason::FragmentsFull`].
///
/// Memory from the heap has 32 slots more, for those that are whole and wait to be taken: so frames in batches fare
/// as one by one, as long as no more than 32 datagrams of a batch become whole. In lent memory they use up the room of
/// those in the making, until the batch is over and they are taken.
///
/// ```
/// use lvs_forward::reassembly::{Fragments, PLACE, Slot};
/// # fn room() -> Fragments {
/// // Without an allocator, memory comes from wherever the program has some; here it is leaked.
/// let slots = Box::leak(Box::new([Slot::EMPTY; 4]));
/// let bytes = Box::leak(vec![0; 4 * PLACE].into_boxed_slice());
/// Fragments::lent(slots, bytes)
/// # }
/// assert_eq!(room().datagrams(), 4);
/// assert_eq!(Fragments::NONE.datagrams(), 0);
/// ```
pub struct Fragments {
    slots: Memory<Slot>,
    bytes: Memory<u8>,
    /// How many may be unfinished at a time.
    most: usize,
    /// The slot to be tried first for the next datagram. One after the other, so that which one it gets does not depend
    /// on when those before it were taken.
    next: usize,
    /// Nothing can have run out of time before.
    soonest: Tick,
}

/// Memory for one datagram of any length, in bytes: the longest payload with its headers, [`HEADROOM`] before it, and a
/// little room behind.
pub const PLACE: usize = FRONT + 65_536 + TAIL;

/// What became of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gathered {
    /// Others are missing.
    Waits,
    /// The datagram in this place is whole.
    Whole(usize),
    Refused(DropReason),
}

/// What the fragments of one datagram have in common besides addresses and protocol. `None` for a packet that is none;
/// an IPv6 packet with a fragment header is one even if it is all of its datagram.
#[must_use]
pub fn identification(bytes: &[u8], layout: &Layout) -> Option<u32> {
    FragmentFields::of(bytes, layout).map(|fields| fields.identification)
}

impl Fragments {
    /// No room: every fragment is dropped and counted.
    pub const NONE: Self =
        Self { slots: Memory::NONE, bytes: Memory::NONE, most: 0, next: 0, soonest: Tick::ZERO };

    /// Room for as many datagrams as there are slots (65,535 at most), each of which gets an equal share of `bytes`.
    /// With [`PLACE`] bytes it takes any datagram; what is longer than its share is dropped. A share must exceed
    /// [`PLACE`] - 65,536 bytes to be of any use.
    #[must_use]
    pub const fn lent(slots: &'static mut [Slot], bytes: &'static mut [u8]) -> Self {
        let most = slots.len();
        Self { slots: Memory::Lent(slots), bytes: Memory::Lent(bytes), most, next: 0, soonest: Tick::ZERO }
    }

    /// Room for this many unfinished datagrams of any length and 32 finished ones, from the heap: [`PLACE`] bytes each,
    /// of which systems with virtual memory provide what is used. 65,503 at most; none at all for 0.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn with_room(datagrams: usize) -> Self {
        let most = datagrams.min(usize::from(u16::MAX) - FINISHED);
        let places = if most == 0 { 0 } else { most + FINISHED };
        let slots = (0..places).map(|_| Slot::EMPTY).collect();
        let bytes = alloc::vec![0; places * PLACE].into_boxed_slice();
        Self { slots: Memory::Owned(slots), bytes: Memory::Owned(bytes), most, next: 0, soonest: Tick::ZERO }
    }

    /// How many datagrams can be in the making at a time.
    #[must_use]
    pub const fn datagrams(&self) -> usize {
        self.most
    }

    /// Takes a fragment in: a copy of its payload, and of its headers if it is the first. `overrun` is told why
    /// a datagram had to give way to it.
    pub(crate) fn gather(
        &mut self,
        now: Tick,
        key: Key,
        frame: &Frame<'_>,
        layout: &Layout,
        fields: &FragmentFields,
        overrun: &mut dyn FnMut(DropReason),
    ) -> Gathered {
        // A scan: fragments are rare, slots few, and a table by hash would have to be safe from keys that strangers
        // choose.
        // What is past its time is not there, also before that is reported.
        let known = self.slots.get().iter().position(|slot| is_in_the_making(slot, now) && slot.key == key);
        let Some(at) = known.or_else(|| self.make_room(now, overrun)) else {
            return Gathered::Refused(DropReason::FragmentsFull);
        };
        let Some((slot, place)) = self.place(at) else {
            return Gathered::Refused(DropReason::FragmentsFull);
        };
        if known.is_none() {
            slot.open(key, now);
        }
        let kept = keep(slot, place, frame, layout, fields);
        if known.is_none() && matches!(kept, Gathered::Waits) {
            let until = deadline(layout.family, now);
            self.soonest = if self.soonest == Tick::ZERO { until } else { self.soonest.min(until) };
        }
        match kept {
            Gathered::Waits | Gathered::Refused(DropReason::FragmentDuplicate) => kept,
            // RFC 5722 §4: with one fragment that contradicts, none of them is to be believed.
            Gathered::Refused(_) => {
                self.free(at);
                kept
            }
            Gathered::Whole(_) => Gathered::Whole(at),
        }
    }

    /// The datagram in a place as a frame, with the link header of its first fragment.
    pub(crate) fn frame(&mut self, at: usize) -> Option<Frame<'_>> {
        let (slot, place) = self.place(at)?;
        let start = FRONT.checked_sub(usize::from(slot.head))?;
        let mut frame = Frame::new(place, start, FRONT + slot.len(), slot.port)?;
        frame.mark = slot.mark;
        Some(frame.assembled(&slot.assembly))
    }

    /// Keeps what became of the datagram in a place until it is taken.
    pub(crate) fn keep(&mut self, now: Tick, at: usize, reassembled: Reassembled) -> Option<Datagram> {
        let slot = self.slots.get_mut().get_mut(at)?;
        slot.state = State::Done(reassembled);
        slot.since = now;
        Some(Datagram { place: u16::try_from(at).ok()?, since: now, identification: slot.key.identification })
    }

    /// Hands a datagram out and frees its place: its bytes stay until the next fragment comes.
    pub(crate) fn take(&mut self, datagram: Datagram) -> Option<(Frame<'_>, Outcome)> {
        let (slot, place) = self.place(datagram.place.into())?;
        let State::Done(done) = slot.state else { return None };
        // The place may have been given to another datagram since.
        if slot.since != datagram.since || slot.key.identification != datagram.identification {
            return None;
        }
        slot.state = State::Free;
        let mut frame = Frame::new(place, done.start, done.end, done.port)?.with_offload(done.offload);
        frame.mark = done.mark;
        let frame = if done.assembled { frame.assembled(&slot.assembly) } else { frame };
        Some((frame, done.outcome))
    }

    /// Gives an unfinished datagram up.
    pub(crate) fn discard(&mut self, now: Tick, key: &Key) {
        let mut slots = self.slots.get_mut().iter_mut();
        if let Some(slot) = slots.find(|slot| is_in_the_making(slot, now) && slot.key == *key) {
            slot.state = State::Free;
        }
    }

    /// Gives a place back.
    pub(crate) fn free(&mut self, at: usize) {
        if let Some(slot) = self.slots.get_mut().get_mut(at) {
            slot.state = State::Free;
        }
    }

    /// When the first unfinished datagram may run out of time.
    pub(crate) fn expires_at(&self) -> Option<Tick> {
        (self.soonest != Tick::ZERO).then_some(self.soonest)
    }

    /// Whether something may have run out of time.
    pub(crate) fn has_expired(&self, now: Tick) -> bool {
        self.soonest != Tick::ZERO && self.soonest <= now
    }

    /// A datagram whose time is up, as far as it has come: a frame of its first fragment if that is there. To be called
    /// until it is `None`; the place is free then.
    pub(crate) fn expired(&mut self, now: Tick) -> Option<(Key, Option<Frame<'_>>)> {
        if !self.has_expired(now) {
            return None;
        }
        let due = |slot: &Slot| deadline(slot.key.family(), slot.since);
        let Some(at) = self.slots.get().iter().position(|slot| slot.is_gathering() && due(slot) <= now)
        else {
            let waiting = self.slots.get().iter().filter(|slot| slot.is_gathering());
            self.soonest = waiting.map(due).min().unwrap_or(Tick::ZERO);
            return None;
        };
        self.free(at);
        let (slot, place) = self.place(at)?;
        let first = slot.assembly.pieces.first().filter(|piece| piece.start == 0);
        let frame = first.and_then(|piece| {
            let start = FRONT.checked_sub(usize::from(slot.head))?;
            let mut frame = Frame::new(place, start, FRONT + usize::from(piece.end), slot.port)?;
            frame.mark = slot.mark;
            Some(frame)
        });
        Some((slot.key, frame))
    }

    /// A free slot, or one that has to give way: the unfinished datagram that came first, or a finished one that nobody
    /// takes.
    fn make_room(&mut self, now: Tick, overrun: &mut dyn FnMut(DropReason)) -> Option<usize> {
        let slots = self.slots.get_mut();
        let unfinished = slots.iter().filter(|slot| is_in_the_making(slot, now)).count();
        let (before, from) = slots.split_at(self.next.min(slots.len()));
        let free = || {
            let behind = from.iter().position(Slot::is_free).map(|at| before.len() + at);
            behind.or_else(|| before.iter().position(Slot::is_free))
        };
        if unfinished < self.most
            && let Some(at) = free()
        {
            self.next = at + 1;
            return Some(at);
        }
        if unfinished < self.most
            && let Some(at) =
                slots.iter().position(|slot| slot.is_gathering() && !is_in_the_making(slot, now))
        {
            // Its time is up, and it has yet to be reported.
            overrun(DropReason::FragmentTimeout);
            return Some(at);
        }
        let age = |slot: &Slot| now.millis_since(slot.since);
        let may_go = |slot: &&Slot| {
            let untaken = !slot.is_gathering() && unfinished < self.most && age(slot) >= UNTAKEN_MS;
            is_in_the_making(slot, now) || untaken
        };
        // The one that came first is the likeliest never to become whole, and nothing that a stranger sends can block
        // the memory for the 30 seconds that fragments may take.
        let oldest = slots.iter().filter(may_go).map(age).max()?;
        let at = slots.iter().position(|slot| may_go(&slot) && age(slot) == oldest)?;
        overrun(DropReason::FragmentsFull);
        Some(at)
    }

    fn place(&mut self, at: usize) -> Option<(&mut Slot, &mut [u8])> {
        let slots = self.slots.get_mut();
        // Every place has room for the longest datagram, so that the fragments are copied once, to where they belong.
        let share = (self.bytes.get().len() / slots.len().max(1)).min(PLACE);
        let bytes = self.bytes.get_mut().get_mut(at * share..)?.get_mut(..share)?;
        Some((slots.get_mut(at)?, bytes))
    }
}

impl core::fmt::Debug for Fragments {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Fragments").field("datagrams", &self.datagrams()).finish_non_exhaustive()
    }
}

/// Whether a slot has an unfinished datagram whose time is not up.
fn is_in_the_making(slot: &Slot, now: Tick) -> bool {
    slot.is_gathering() && deadline(slot.key.family(), slot.since) > now
}

/// Adds a fragment to its datagram.
fn keep(
    slot: &mut Slot,
    place: &mut [u8],
    frame: &Frame<'_>,
    layout: &Layout,
    fields: &FragmentFields,
) -> Gathered {
    let refused = |reason| Gathered::Refused(reason);
    let bytes = frame.bytes();
    let Some(payload) = bytes.get(fields.payload..layout.end()) else {
        return refused(DropReason::Malformed);
    };
    // What is longer than IP can say would be found out at the end, but spoils the datagram now.
    if fields.offset + payload.len() + (fields.payload - layout.network()) > usize::from(u16::MAX) {
        return refused(DropReason::FragmentConflict);
    }
    let added = slot.add(Part {
        family: layout.family,
        offset: fields.offset,
        len: payload.len(),
        more: fields.more,
        packet_len: layout.packet_len(),
        dont_fragment: fields.dont_fragment,
        class: layout.traffic_class(bytes).unwrap_or_default() & 3,
    });
    let len = match added {
        Added::Takes(len) => len,
        Added::Duplicate | Added::Empty => return refused(DropReason::FragmentDuplicate),
        Added::Contradicts => return refused(DropReason::FragmentConflict),
        Added::Full => return refused(DropReason::FragmentsFull),
    };
    let at = FRONT + fields.offset;
    let room = place.len().saturating_sub(TAIL);
    let to =
        place.get_mut(..room).and_then(|place| place.get_mut(at..)).and_then(|place| place.get_mut(..len));
    match (to, payload.get(..len)) {
        (Some(to), Some(payload)) => to.copy_from_slice(payload),
        _ => return refused(DropReason::FragmentsFull),
    }
    if fields.is_first() {
        let headers = bytes.get(..fields.payload).zip(FRONT.checked_sub(fields.payload));
        let copied = headers.and_then(|(head, start)| {
            place.get_mut(start..FRONT).filter(|_| start >= HEADROOM)?.copy_from_slice(head);
            u16::try_from(fields.payload).ok()
        });
        let Some(head) = copied else {
            return refused(DropReason::Malformed);
        };
        (slot.head, slot.link, slot.next) = (head, layout.network() as u16, fields.next);
        (slot.port, slot.mark) = (frame.port, frame.mark);
    }
    if !slot.is_whole() {
        return Gathered::Waits;
    }
    let Some(congestion) = slot.congestion() else {
        return refused(DropReason::FragmentConflict);
    };
    // Which place it is, the caller knows.
    match complete(slot, place, layout.family, congestion) {
        Some(()) => Gathered::Whole(0),
        None => refused(DropReason::Malformed),
    }
}

/// Makes the first fragment's headers those of the whole.
fn complete(slot: &mut Slot, place: &mut [u8], family: Family, congestion: u8) -> Option<()> {
    let mut start = FRONT.checked_sub(usize::from(slot.head))?;
    if let Some((named_at, next)) = slot.next {
        // The headers before the fragment header take its place.
        place.copy_within(start..FRONT - ipv6::FRAGMENT_LEN, start + ipv6::FRAGMENT_LEN);
        start += ipv6::FRAGMENT_LEN;
        slot.head -= ipv6::FRAGMENT_LEN as u16;
        *place.get_mut(start + usize::from(named_at))? = next;
    }
    let headers = place.get_mut(start..)?;
    let link = usize::from(slot.link);
    let headers_len = usize::from(slot.head).checked_sub(link)?;
    match family {
        Family::V4 => {
            put16(headers, link + ipv4::TOTAL_LEN, u16::try_from(headers_len + slot.len()).ok()?)?;
            let flags = if slot.forbids_fragments() { ipv4::DONT_FRAGMENT } else { 0 };
            put16(headers, link + ipv4::FRAGMENT, flags)?;
            // Congestion that any fragment met is the datagram's (RFC 3168 §5.3).
            *headers.get_mut(link + ipv4::TOS)? |= congestion;
            write_header_checksum(headers, link, headers_len)
        }
        Family::V6 => {
            let payload = headers_len.checked_sub(ipv6::LEN)? + slot.len();
            put16(headers, link + ipv6::PAYLOAD_LEN, u16::try_from(payload).ok()?)?;
            *headers.get_mut(link + 1)? |= congestion << 4;
            Some(())
        }
    }
}

/// When a datagram's time is up that began then.
const fn deadline(family: Family, since: Tick) -> Tick {
    since.plus_secs(match family {
        Family::V4 => 30,
        Family::V6 => 60,
    })
}

/// Where a datagram's payload stands in its place: behind the headroom, a link header and the longest headers that are
/// repeated in each fragment.
const FRONT: usize = HEADROOM + 288;
/// Room behind the payload, for a helper that makes it longer.
const TAIL: usize = 64;
/// Slots beside those of unfinished datagrams: as many as the frames that a worker takes in at a time.
#[cfg(feature = "alloc")]
const FINISHED: usize = 32;
/// How long a finished datagram may wait to be taken, in milliseconds.
const UNTAKEN_MS: u64 = 1_000;
