//! What the helper remembers of FTP control connections, and how their sequence numbers are kept together when an
//! answer changes its length.
//!
//! Reading list: RFC 959 §4.1.2, RFC 2428, RFC 9293 §3.4 (sequence numbers), RFC 2018 (selective acknowledgements),
//! RFC 3022 §4.4.

use core::net::SocketAddr;

use lvs_core::{ConnId, Tick};

use crate::hash::{Key, bucket};
use crate::memory::Memory;

/// Room for FTP control connections in passive mode: a fixed number of [`Control`]s. Others need none.
///
/// A control connection that finds no room goes on without the helper, counted in
/// [`Counters::unhelped`](crate::Counters::unhelped): its passive data connections fail.
#[cfg_attr(feature = "alloc", derive(Clone))]
pub struct Controls {
    memory: Memory<Control>,
}

/// One control connection.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    connection: ConnId,
    /// Tells this connection from an earlier one in the same place.
    client: SocketAddr,
    /// When it was used last.
    used: Tick,
    /// A place that is nobody's.
    free: bool,
    pub(super) mode: Mode,
    /// How much later, or earlier, the client sees what the server says.
    pub(super) shift: Shift,
}

/// What the server's next answer may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// No address that matters.
    Active,
    /// The address of a reply 227.
    Passive,
    /// The port of a reply 229.
    ExtendedPassive,
}

/// How far sequence numbers are moved: before a position by one amount, behind it by another (which is how Linux
/// remembers it).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shift {
    position: u32,
    before: i32,
    after: i32,
}

impl Controls {
    /// No room.
    pub const NONE: Self = Self { memory: Memory::NONE };

    /// Room in memory that the program lends.
    #[must_use]
    pub const fn lent(places: &'static mut [Control]) -> Self {
        Self { memory: Memory::Lent(places) }
    }

    /// Room for this many control connections, from the heap.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn with_room(connections: usize) -> Self {
        Self { memory: Memory::Owned(alloc::vec![Control::EMPTY; connections].into_boxed_slice()) }
    }

    /// How many control connections find room.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.memory.get().len()
    }

    /// What is known of a connection.
    pub(super) fn find(
        &mut self,
        key: Key,
        now: Tick,
        connection: ConnId,
        client: SocketAddr,
    ) -> Option<&mut Control> {
        let at = self.window(key, connection).find(|&at| {
            self.memory.get().get(at).is_some_and(|place| place.is(connection) && place.client == client)
        })?;
        let place = self.memory.get_mut().get_mut(at)?;
        place.used = now;
        Some(place)
    }

    /// What is known of a connection, from now on; `None` when there is no room. A place whose connection has been
    /// silent for longer than such connections live is free.
    pub(super) fn open(
        &mut self,
        key: Key,
        now: Tick,
        connection: ConnId,
        client: SocketAddr,
    ) -> Option<&mut Control> {
        if self.find(key, now, connection, client).is_none() {
            let fits = |place: &Control| {
                place.free || place.connection == connection || now.millis_since(place.used) > SILENT_MS
            };
            // A connection that lives keeps its place: losing the shift would break it, where a new one only goes
            // unhelped.
            let at = self.window(key, connection).find(|&at| self.memory.get().get(at).is_some_and(fits))?;
            let place = self.memory.get_mut().get_mut(at)?;
            *place = Control { connection, client, used: now, free: false, ..Control::EMPTY };
        }
        self.find(key, now, connection, client)
    }

    /// Forgets a connection, because another one begins in its place.
    pub(super) fn forget(&mut self, key: Key, connection: ConnId) {
        for at in self.window(key, connection) {
            if let Some(place) = self.memory.get_mut().get_mut(at).filter(|place| place.is(connection)) {
                place.free = true;
            }
        }
    }

    /// The places in which a connection may stand.
    fn window(&self, key: Key, connection: ConnId) -> impl Iterator<Item = usize> + use<> {
        let len = self.capacity();
        let first = bucket(key.hash(connection.index().into()), len);
        (0..WINDOW.min(len)).map(move |step| (first + step) % len.max(1))
    }
}

impl core::fmt::Debug for Controls {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Controls").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

impl Control {
    /// A place for a connection.
    pub const EMPTY: Self = Self {
        connection: ConnId::from_index(0),
        client: SocketAddr::new(core::net::IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED), 0),
        used: Tick::ZERO,
        free: true,
        mode: Mode::Active,
        shift: Shift { position: 0, before: 0, after: 0 },
    };

    fn is(&self, connection: ConnId) -> bool {
        !self.free && self.connection == connection
    }
}

impl Shift {
    /// What is said from `sequence` on has become longer by this many bytes.
    pub(super) const fn lengthen(&mut self, sequence: u32, by: i32) {
        // An answer that is sent again must not be counted twice.
        if self.before == self.after || is_after(sequence, self.position) {
            self.position = sequence;
            self.before = self.after;
        }
        self.after = self.after.wrapping_add(by);
    }

    /// Where the receiver sees this sequence number of the speaker's.
    pub(super) const fn seen(&self, sequence: u32) -> u32 {
        let by = if is_after(sequence, self.position) { self.after } else { self.before };
        sequence.wrapping_add_signed(by)
    }

    /// What the speaker said when the receiver acknowledges this.
    pub(super) const fn said(&self, acknowledged: u32) -> u32 {
        // Which amount applies depends on the speaker's number, which is what is looked for: tried with the earlier
        // one.
        let before = acknowledged.wrapping_add_signed(-self.before);
        let by = if is_after(before, self.position) { self.after } else { self.before };
        acknowledged.wrapping_add_signed(-by)
    }

    /// Whether nothing was ever moved.
    pub(super) const fn is_none(&self) -> bool {
        self.before == 0 && self.after == 0
    }
}

/// Whether sequence number `a` is later than `b` (RFC 9293 §3.4).
const fn is_after(a: u32, b: u32) -> bool {
    (b.wrapping_sub(a) as i32) < 0
}

/// Places in which one connection may stand.
const WINDOW: usize = 8;
/// A control connection that says nothing is over before, in milliseconds: twice as long as one in state ESTABLISHED
/// lives.
const SILENT_MS: u64 = 1_800_000;

#[cfg(test)]
mod tests {
    extern crate std;

    use std::boxed::Box;

    use lvs_core::Seed;
    use proptest::prelude::*;

    use super::*;

    const CLIENT: SocketAddr =
        SocketAddr::new(core::net::IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 7)), 40_000);

    #[test]
    fn an_answer_that_grew_moves_what_follows_but_not_itself() {
        let mut shift = Shift::default();
        shift.lengthen(5_012, 1);
        assert_eq!(shift.seen(5_012), 5_012, "the answer itself, and when it is said again");
        assert_eq!(shift.seen(5_058), 5_059);
        assert_eq!(shift.said(5_059), 5_058);
        assert_eq!(shift.said(5_012), 5_012);
        shift.lengthen(5_066, 1);
        assert_eq!((shift.seen(5_066), shift.seen(5_111)), (5_067, 5_113));
    }

    proptest! {
        #[test]
        fn what_is_acknowledged_was_said(
            start in any::<u32>(),
            steps in prop::collection::vec((20_u32..2_000, -17_i32..17), 1..6),
        ) {
            let mut shift = Shift::default();
            let mut sequence = start;
            for (len, by) in steps {
                shift.lengthen(sequence, by);
                sequence = sequence.wrapping_add(len);
                // The end of the answer, which is what the receiver acknowledges.
                prop_assert_eq!(shift.said(shift.seen(sequence)), sequence);
            }
        }
    }

    #[test]
    fn a_full_table_takes_no_more_until_a_connection_is_over() {
        let key = Key::new(Seed::from_bytes([1; 16]));
        let places = Box::leak(Box::new([Control::EMPTY; 4]));
        let mut controls = Controls::lent(places);
        let id = ConnId::from_index;
        for index in 0..4 {
            assert!(controls.open(key, Tick::ZERO, id(index), CLIENT).is_some());
        }
        assert!(controls.open(key, Tick::ZERO, id(9), CLIENT).is_none());
        assert!(controls.find(key, Tick::ZERO, id(3), SocketAddr::new(CLIENT.ip(), 1)).is_none());
        controls.forget(key, id(3));
        assert!(controls.find(key, Tick::ZERO, id(3), CLIENT).is_none());
        assert!(controls.open(key, Tick::ZERO, id(9), CLIENT).is_some());
        assert!(controls.open(key, Tick::from_millis(SILENT_MS + 1), id(10), CLIENT).is_some());
        let mut none = Controls::NONE;
        assert!(none.open(key, Tick::ZERO, id(9), CLIENT).is_none());
    }
}
