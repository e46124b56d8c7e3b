//! Memory-mapped rings of packet sockets, `TPACKET_V2` (`linux/if_packet.h`; packet(7); the kernel's
//! `Documentation/networking/packet_mmap.rst`).
//!
//! Each slot opens with a status word that says whose it is. A slot that is ours is touched by nobody else until its
//! status is written, so its bytes may be lent as a plain slice; the status itself is only ever read with acquire
//! and written with release order. Version 2 has one status per frame, so a frame can be had as soon as it is there
//! (version 3 hands over blocks, which are packed more tightly and wait for a timer).

use core::mem::{offset_of, size_of};
use core::ptr::{self, NonNull};
use core::slice;
use core::sync::atomic::{AtomicU32, Ordering};
use std::io;
use std::os::fd::AsFd as _;

use libc::tpacket2_hdr;

use crate::sys::mapping::Mapping;
use crate::sys::packet::PacketSocket;

/// Where the kernel expects the data of a slot to be sent to begin (`TPACKET2_HDRLEN` less the address that follows
/// the header in received slots).
const TRANSMIT_DATA: usize = libc::TPACKET2_HDRLEN - size_of::<libc::sockaddr_ll>();
/// The unit of allocation: large, so that little is wasted when slots do not divide it.
const BLOCK: usize = 1 << 20;

const _: () = assert!(size_of::<tpacket2_hdr>() == 32 && offset_of!(tpacket2_hdr, tp_status) == 0);

/// How a ring is cut into slots.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    /// Bytes of a slot, a multiple of `TPACKET_ALIGNMENT`.
    slot: usize,
    slots: usize,
    slots_per_block: usize,
}

impl Geometry {
    /// At least `slots` slots of at least `slot` bytes; `None` when a slot is longer than a block or there is none.
    fn new(slot: usize, slots: usize) -> Option<Self> {
        let slot = slot.checked_next_multiple_of(libc::TPACKET_ALIGNMENT)?;
        let slots_per_block = BLOCK.checked_div(slot).filter(|&count| count > 0)?;
        let slots = slots.max(1).checked_next_multiple_of(slots_per_block)?;
        Some(Self { slot, slots, slots_per_block })
    }

    const fn blocks(self) -> usize {
        self.slots / self.slots_per_block
    }

    const fn bytes(self) -> usize {
        self.blocks() * BLOCK
    }

    const fn offset(self, index: usize) -> usize {
        index / self.slots_per_block * BLOCK + index % self.slots_per_block * self.slot
    }
}

/// The mapped memory of one ring. The mapping keeps the kernel's pages alive, also after the socket is closed.
#[derive(Debug)]
struct Memory {
    mapping: Mapping,
    geometry: Geometry,
}

impl Memory {
    /// Makes the ring `option` (`PACKET_RX_RING`, `PACKET_TX_RING`) of a socket that has no other ring, and maps it.
    fn map(socket: &PacketSocket, option: i32, slot: usize, slots: usize) -> io::Result<Self> {
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        let geometry = Geometry::new(slot, slots).ok_or_else(invalid)?;
        let number = |value: usize| libc::c_uint::try_from(value).map_err(|_| invalid());
        let request = libc::tpacket_req {
            tp_block_size: number(BLOCK)?,
            tp_block_nr: number(geometry.blocks())?,
            tp_frame_size: number(geometry.slot)?,
            tp_frame_nr: number(geometry.slots)?,
        };
        // The version comes first: it says how the slots' headers look, and cannot change once there is a ring.
        socket.set(libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V2 as libc::c_int))?;
        socket.set(option, &request)?;
        Ok(Self { mapping: Mapping::of(socket.as_fd(), 0, geometry.bytes(), false)?, geometry })
    }

    /// The first byte of a slot. Indices past the end wrap around.
    fn slot(&self, index: usize) -> NonNull<u8> {
        // SAFETY: the offset of a slot inside of the ring is inside of the mapping.
        unsafe { self.mapping.start().add(self.geometry.offset(index % self.geometry.slots)) }
    }

    fn status(&self, index: usize) -> &AtomicU32 {
        // SAFETY: a slot begins with its status word, aligned to 16; it is live as long as `self`, and both sides
        // access it only atomically.
        unsafe { self.slot(index).cast::<AtomicU32>().as_ref() }
    }

    /// The index after this one.
    fn after(&self, index: usize) -> usize {
        if index + 1 < self.geometry.slots { index + 1 } else { 0 }
    }
}

/// The ring into which the kernel writes received frames.
#[derive(Debug)]
pub(crate) struct ReceiveRing {
    memory: Memory,
    /// The oldest slot that was not given back.
    head: usize,
}

/// A received frame, still in its slot.
pub(crate) struct Slot<'a> {
    /// Everything of the slot behind its header, for editing.
    pub(crate) bytes: &'a mut [u8],
    /// Where the frame begins in `bytes`, and how many of its bytes are there.
    pub(crate) start: usize,
    /// Bytes of the frame in the slot.
    pub(crate) length: usize,
    /// Bytes that the frame had.
    pub(crate) original: usize,
    /// The VLAN tag that the kernel took out of the frame: protocol and control information.
    pub(crate) vlan: Option<(u16, u16)>,
    /// The slot is too short for it. The whole frame is the next one that can be received from the socket.
    pub(crate) queued: bool,
}

impl ReceiveRing {
    /// A ring of at least `slots` slots of `slot` bytes.
    pub(crate) fn new(socket: &PacketSocket, slot: usize, slots: usize) -> io::Result<Self> {
        Ok(Self { memory: Memory::map(socket, libc::PACKET_RX_RING, slot, slots)?, head: 0 })
    }

    /// The filled slots, oldest first. They stay ours until [`release`](Self::release).
    pub(crate) fn filled(&mut self) -> Filled<'_> {
        let (index, left) = (self.head, self.memory.geometry.slots);
        Filled { ring: self, index, left }
    }

    /// Gives the oldest `count` slots back to the kernel.
    pub(crate) fn release(&mut self, count: usize) {
        for _ in 0..count {
            self.memory.status(self.head).store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.head = self.memory.after(self.head);
        }
    }
}

/// Iterates over filled slots; see [`ReceiveRing::filled`].
pub(crate) struct Filled<'a> {
    ring: &'a mut ReceiveRing,
    index: usize,
    left: usize,
}

impl<'a> Iterator for Filled<'a> {
    type Item = Slot<'a>;

    fn next(&mut self) -> Option<Slot<'a>> {
        let memory = &self.ring.memory;
        self.left = self.left.checked_sub(1)?;
        let status = memory.status(self.index).load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        let slot = memory.slot(self.index);
        self.index = memory.after(self.index);
        // SAFETY: the acquired status says that the slot is ours, so the kernel has finished the header.
        let header = unsafe { slot.cast::<tpacket2_hdr>().read() };
        let room = memory.geometry.slot - size_of::<tpacket2_hdr>();
        // SAFETY: the bytes behind the header up to the slot's end are inside of the mapping, and ours until the
        // status is written, which needs `&mut` of the ring that `'a` borrows. `left` lets each slot be lent only
        // once, so no two slices overlap; none covers a status word. Memory from the kernel is initialised.
        let bytes = unsafe { slice::from_raw_parts_mut(slot.add(size_of::<tpacket2_hdr>()).as_ptr(), room) };
        let start = usize::from(header.tp_mac).saturating_sub(size_of::<tpacket2_hdr>()).min(room);
        let length = (header.tp_snaplen as usize).min(room - start);
        // Kernels before Linux 3.14 do not say which protocol a tag is of. It is 802.1Q then.
        let protocol = if status & libc::TP_STATUS_VLAN_TPID_VALID == 0 {
            libc::ETH_P_8021Q as u16
        } else {
            header.tp_vlan_tpid
        };
        let vlan = (status & libc::TP_STATUS_VLAN_VALID != 0).then_some((protocol, header.tp_vlan_tci));
        let queued = status & libc::TP_STATUS_COPY != 0;
        Some(Slot { bytes, start, length, original: header.tp_len as usize, vlan, queued })
    }
}

/// The ring from which the kernel sends frames.
#[derive(Debug)]
pub(crate) struct TransmitRing {
    memory: Memory,
    /// The oldest slot that was asked to be sent and is not known to be taken.
    head: usize,
    /// The slot to fill next.
    tail: usize,
    /// Slots from `head` to `tail`.
    pending: usize,
}

impl TransmitRing {
    /// A ring of at least `slots` slots, each for `longest` bytes of data.
    pub(crate) fn new(socket: &PacketSocket, longest: usize, slots: usize) -> io::Result<Self> {
        // The kernel's limit is the slot less its header, but it also asks for room for an address.
        let slot = libc::TPACKET2_HDRLEN + longest;
        let memory = Memory::map(socket, libc::PACKET_TX_RING, slot, slots)?;
        Ok(Self { memory, head: 0, tail: 0, pending: 0 })
    }

    /// Bytes that a slot takes.
    pub(crate) fn longest(&self) -> usize {
        self.memory.geometry.slot - libc::TPACKET2_HDRLEN
    }

    /// Frames that wait for the kernel to take them.
    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    /// The next free slot's data, to be filled and then submitted; `None` when the ring is full.
    pub(crate) fn claim(&mut self) -> Option<&mut [u8]> {
        let status = self.memory.status(self.tail).load(Ordering::Acquire);
        if self.pending == self.memory.geometry.slots || !is_free(status) {
            return None;
        }
        Some(self.data(self.tail))
    }

    /// Asks for the claimed slot's first `length` bytes to be sent with the next [`PacketSocket`] send.
    pub(crate) fn submit(&mut self, length: usize) {
        self.set_length(self.tail, length.min(self.longest()));
        self.memory.status(self.tail).store(libc::TP_STATUS_SEND_REQUEST, Ordering::Release);
        self.tail = self.memory.after(self.tail);
        self.pending += 1;
    }

    /// Looks how far the kernel came: it takes frames in order. `taken` is told of each, how many bytes it has and its
    /// beginning. Says whether the kernel stopped at one that it refused, which is taken out of the ring, the later
    /// ones moving up, since the kernel will look at that slot again.
    pub(crate) fn advance<const BEGINNING: usize>(
        &mut self,
        mut taken: impl FnMut(usize, [u8; BEGINNING]),
    ) -> bool {
        while self.pending > 0 {
            let status = self.memory.status(self.head).load(Ordering::Acquire);
            if status & libc::TP_STATUS_WRONG_FORMAT != 0 {
                self.remove_head();
                return true;
            }
            if status & libc::TP_STATUS_SEND_REQUEST != 0 {
                return false;
            }
            taken(self.length(self.head), self.beginning(self.head));
            self.head = self.memory.after(self.head);
            self.pending -= 1;
        }
        false
    }

    /// Takes back all frames that the kernel has not taken; says how many.
    pub(crate) fn discard(&mut self) -> usize {
        let mut index = self.head;
        for _ in 0..self.pending {
            self.memory.status(index).store(libc::TP_STATUS_AVAILABLE, Ordering::Release);
            index = self.memory.after(index);
        }
        self.tail = self.head;
        core::mem::take(&mut self.pending)
    }

    fn remove_head(&mut self) {
        let mut index = self.head;
        for _ in 1..self.pending {
            let next = self.memory.after(index);
            self.copy(next, index);
            index = next;
        }
        self.memory.status(index).store(libc::TP_STATUS_AVAILABLE, Ordering::Release);
        self.tail = index;
        self.pending -= 1;
    }

    /// Copies the frame in slot `from` to the other slot `to`, and asks for it to be sent.
    fn copy(&mut self, from: usize, to: usize) {
        let length = self.length(from);
        let source = self.data(from).as_ptr();
        let target = self.data(to).as_mut_ptr();
        // SAFETY: the data of two different slots do not overlap, `length` is at most the data's, and both slots are
        // ours: the kernel takes a requested frame only during a call to send, and none is under way.
        unsafe { ptr::copy_nonoverlapping(source, target, length) };
        self.set_length(to, length);
        self.memory.status(to).store(libc::TP_STATUS_SEND_REQUEST, Ordering::Release);
    }

    fn data(&mut self, index: usize) -> &mut [u8] {
        let length = self.longest();
        let slot = self.memory.slot(index);
        // SAFETY: the range is inside of the slot, and so of the mapping, behind the status word. Callers ask only
        // for slots that are ours, the result borrows the ring mutably, and memory from the kernel is initialised.
        unsafe { slice::from_raw_parts_mut(slot.add(TRANSMIT_DATA).as_ptr(), length) }
    }

    /// The first bytes of a slot's data. The kernel never writes to it: it may still be sending from there.
    fn beginning<const N: usize>(&self, index: usize) -> [u8; N] {
        const { assert!(N <= libc::TPACKET_ALIGNMENT) };
        let slot = self.memory.slot(index);
        // SAFETY: the range is inside of the slot, whose data is longer than `TPACKET_ALIGNMENT`; nobody writes to it
        // while `self` is borrowed, an array of bytes needs no alignment, and memory from the kernel is initialised.
        unsafe { slot.add(TRANSMIT_DATA).cast::<[u8; N]>().read() }
    }

    fn length(&self, index: usize) -> usize {
        let header = self.memory.slot(index).cast::<tpacket2_hdr>().as_ptr();
        // SAFETY: the header is inside of the mapping, aligned to 16, and written by nobody at this time.
        let length = unsafe { (&raw const (*header).tp_len).read() };
        (length as usize).min(self.longest())
    }

    fn set_length(&mut self, index: usize, length: usize) {
        let header = self.memory.slot(index).cast::<tpacket2_hdr>().as_ptr();
        // SAFETY: as in `length`; the slot is ours, so the kernel does not read it now.
        unsafe { (&raw mut (*header).tp_len).write(length as u32) };
    }
}

/// Whether a slot of a transmit ring may be filled. A time stamp in the status does not matter.
fn is_free(status: u32) -> bool {
    status & (libc::TP_STATUS_SEND_REQUEST | libc::TP_STATUS_SENDING | libc::TP_STATUS_WRONG_FORMAT) == 0
}

#[cfg(test)]
mod tests;
