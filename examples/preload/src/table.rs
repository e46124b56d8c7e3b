//! Which descriptors are ours.
//!
//! Every call with a descriptor looks here first, so for those that are not ours it is one load. A number may have come
//! to mean something else without our knowledge (`close_range`, `fclose`), so what is found is compared with the inode
//! of what it means now.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// The sockets of a process that are, or may become, connections to the director.
#[derive(Debug)]
pub(crate) struct Table {
    /// 0, or the number of a slot and 1, by descriptor.
    slots_of: [AtomicU8; DESCRIPTORS],
    slots: [Slot; SLOTS],
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Slot {
    /// 0 when it is free.
    inode: AtomicU64,
    /// The port id that the program believes to have.
    pub(crate) port: AtomicU32,
    /// Whether it is connected to the director already; otherwise it is a netlink socket of the kernel.
    pub(crate) connected: AtomicBool,
    /// The last wait for the director was in vain.
    pub(crate) given_up: AtomicBool,
    /// How far the answer to the last request has come.
    answer: AtomicU8,
    pub(crate) request: Request,
}

/// How far the answer to the last request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It is complete, or nothing was asked.
    Complete,
    /// Nothing has been read of it.
    Awaited,
    /// A part has been read.
    Begun,
}

/// Descriptors above are never ours.
const DESCRIPTORS: usize = 4_096;
const SLOTS: usize = 32;

impl Table {
    pub(crate) const fn new() -> Self {
        Self { slots_of: [const { AtomicU8::new(0) }; DESCRIPTORS], slots: [const { Slot::new() }; SLOTS] }
    }

    /// What is known of a descriptor. `inode` is asked only for those that are in the table.
    #[inline]
    pub(crate) fn find(&self, descriptor: i32, inode: impl FnOnce() -> u64) -> Option<&Slot> {
        let number = self.slot_of(descriptor)?.load(Ordering::Acquire);
        if number == 0 {
            return None;
        }
        let slot = self.slots.get(usize::from(number) - 1)?;
        if slot.inode.load(Ordering::Acquire) == inode() {
            return Some(slot);
        }
        self.forget(descriptor);
        None
    }

    /// Notes a descriptor that has this inode, not 0. `inode_of` is asked for others when all slots seem taken. `None`
    /// if there is no place.
    pub(crate) fn insert(&self, descriptor: i32, inode: u64, inode_of: impl Fn(i32) -> u64) -> Option<&Slot> {
        let entry = self.slot_of(descriptor)?;
        self.forget(descriptor);
        let taken = self.take(inode).or_else(|| {
            self.tidy(inode_of);
            self.take(inode)
        });
        let (number, slot) = taken?;
        entry.store(number, Ordering::Release);
        Some(slot)
    }

    /// Takes a descriptor out.
    #[inline]
    pub(crate) fn forget(&self, descriptor: i32) {
        let Some(entry) = self.slot_of(descriptor) else { return };
        // Nearly always it is not there: a load is cheaper than an exchange.
        if entry.load(Ordering::Relaxed) == 0 {
            return;
        }
        let number = entry.swap(0, Ordering::AcqRel);
        if let Some(slot) = usize::from(number).checked_sub(1).and_then(|index| self.slots.get(index)) {
            slot.inode.store(0, Ordering::Release);
        }
    }

    fn slot_of(&self, descriptor: i32) -> Option<&AtomicU8> {
        usize::try_from(descriptor).ok().and_then(|descriptor| self.slots_of.get(descriptor))
    }

    fn take(&self, inode: u64) -> Option<(u8, &Slot)> {
        (1..).zip(&self.slots).find(|(_, slot)| {
            let taken = slot.inode.compare_exchange(0, inode, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            if taken {
                slot.clear();
            }
            taken
        })
    }

    /// Forgets descriptors that have come to mean something else.
    fn tidy(&self, inode_of: impl Fn(i32) -> u64) {
        for (descriptor, entry) in (0..).zip(&self.slots_of) {
            if entry.load(Ordering::Relaxed) != 0 {
                let _ = self.find(descriptor, || inode_of(descriptor));
            }
        }
    }
}

impl Slot {
    const fn new() -> Self {
        Self {
            inode: AtomicU64::new(0),
            port: AtomicU32::new(0),
            connected: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            answer: AtomicU8::new(0),
            request: Request::new(),
        }
    }

    fn clear(&self) {
        self.port.store(0, Ordering::Relaxed);
        self.connected.store(false, Ordering::Relaxed);
        self.given_up.store(false, Ordering::Relaxed);
        self.set_progress(Progress::Complete);
        self.request.keep(&[]);
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// The descriptor means another socket from now on, which is connected to the director.
    pub(crate) fn connect(&self, inode: u64) {
        self.inode.store(inode, Ordering::Release);
        self.connected.store(true, Ordering::Relaxed);
    }

    pub(crate) fn progress(&self) -> Progress {
        match self.answer.load(Ordering::Relaxed) {
            1 => Progress::Awaited,
            2 => Progress::Begun,
            // Only the three numbers below are ever stored.
            0 | 3.. => Progress::Complete,
        }
    }

    pub(crate) fn set_progress(&self, progress: Progress) {
        let number = match progress {
            Progress::Complete => 0,
            Progress::Awaited => 1,
            Progress::Begun => 2,
        };
        self.answer.store(number, Ordering::Relaxed);
    }

    /// Takes over what is known of another one.
    pub(crate) fn copy(&self, from: &Self) {
        self.port.store(from.port.load(Ordering::Relaxed), Ordering::Relaxed);
        self.connected.store(from.is_connected(), Ordering::Relaxed);
    }
}

/// The last request of a connection, in case it must be sent again. Nobody ever waits for it: threads that use one
/// netlink socket at once, which netlink's own numbering makes pointless, lose it.
#[derive(Debug)]
pub(crate) struct Request {
    busy: AtomicBool,
    /// 0 when there is none.
    length: AtomicU32,
    words: [AtomicU64; Self::LONGEST / 8],
}

impl Request {
    /// In bytes. The requests of IPVS are below 300.
    pub(crate) const LONGEST: usize = 512;

    const fn new() -> Self {
        Self {
            busy: AtomicBool::new(false),
            length: AtomicU32::new(0),
            words: [const { AtomicU64::new(0) }; Self::LONGEST / 8],
        }
    }

    /// Keeps a request; none if it is too long.
    pub(crate) fn keep(&self, request: &[u8]) {
        if self.busy.swap(true, Ordering::Acquire) {
            return;
        }
        let fits = if request.len() <= Self::LONGEST { request } else { &[] };
        for (word, part) in self.words.iter().zip(fits.chunks(8)) {
            let mut bytes = [0; 8];
            for (byte, &from) in bytes.iter_mut().zip(part) {
                *byte = from;
            }
            word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
        }
        self.length.store(u32::try_from(fits.len()).unwrap_or(0), Ordering::Relaxed);
        self.busy.store(false, Ordering::Release);
    }

    /// What is kept, if anything.
    pub(crate) fn kept<'a>(&self, room: &'a mut [u8; Self::LONGEST]) -> Option<&'a [u8]> {
        if self.busy.swap(true, Ordering::Acquire) {
            return None;
        }
        for (part, word) in room.chunks_mut(8).zip(&self.words) {
            part.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        let length = self.length.load(Ordering::Relaxed);
        self.busy.store(false, Ordering::Release);
        let length = usize::try_from(length).ok().filter(|&length| length > 0)?;
        room.get(..length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_found_by_its_number_as_long_as_it_means_the_same() {
        let table = Table::new();
        assert!(table.find(5, || unreachable!()).is_none(), "the inode of a stranger is not asked");
        table.insert(5, 70, |_| 0).unwrap().port.store(9, Ordering::Relaxed);
        assert_eq!(table.find(5, || 70).map(|slot| slot.port.load(Ordering::Relaxed)), Some(9));
        assert!(table.find(5, || 71).is_none());
        assert!(table.find(5, || 70).is_none(), "it was forgotten");
    }

    #[test]
    fn numbers_that_can_be_no_descriptor_of_ours_are_strangers() {
        let table = Table::new();
        for descriptor in [-1, i32::MIN, 4_096, i32::MAX] {
            assert!(table.insert(descriptor, 1, |_| 0).is_none());
            assert!(table.find(descriptor, || 1).is_none());
            table.forget(descriptor);
        }
    }

    #[test]
    fn a_slot_that_was_lost_is_taken_again() {
        let table = Table::new();
        for descriptor in 0..32 {
            assert!(table.insert(descriptor, 100, |_| 100).is_some());
        }
        assert!(table.insert(40, 100, |_| 100).is_none(), "all are in use");
        let slot = table.insert(40, 100, |descriptor| if descriptor == 7 { 3 } else { 100 });
        assert!(slot.is_some_and(|slot| !slot.is_connected()));
        assert!(table.find(7, || 3).is_none());
        assert!(table.find(8, || 100).is_some());
    }

    #[test]
    fn a_number_that_is_used_again_starts_anew() {
        let table = Table::new();
        let slot = table.insert(3, 10, |_| 0).unwrap();
        slot.connect(11);
        slot.request.keep(b"request");
        table.forget(3);
        let slot = table.insert(3, 12, |_| 0).unwrap();
        assert!(!slot.is_connected());
        assert_eq!(slot.request.kept(&mut [0; Request::LONGEST]), None);
    }

    #[test]
    fn a_request_is_kept_to_the_byte_and_one_that_is_too_long_not_at_all() {
        let request = Request::new();
        let mut room = [0; Request::LONGEST];
        for length in [1, 7, 8, 9, 511, 512] {
            let bytes: Vec<u8> = (0..length).map(|n| n as u8).collect();
            request.keep(&bytes);
            assert_eq!(request.kept(&mut room), Some(&*bytes));
        }
        request.keep(&[1; 513]);
        assert_eq!(request.kept(&mut room), None);
    }
}
