//! `AF_XDP` sockets and the memory that they share with the kernel: `linux/if_xdp.h`, the kernel's
//! `Documentation/networking/af_xdp.rst`.
//!
//! The memory (UMEM) is cut into chunks of one frame each. A chunk is at each moment with one of: this program, as a
//! [`Chunk`]; the kernel, in a ring; or, sent on from where it was received, with the kernel while the receiver waits
//! for it as [`Away`]. Who has it may be read off these types, which cannot be copied, so its bytes can be lent as a
//! plain slice.

use core::num::NonZeroU32;
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::net::sockopt;
use rustix::net::xdp::{
    SocketAddrXdp, SocketAddrXdpFlags, SocketAddrXdpWithSharedUmem, XdpMmapOffsets, XdpRingOffset,
    XdpStatistics, XdpUmemReg, XdpUmemRegFlags,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::sys::mapping::Mapping;

/// Memory for frames that any number of sockets share.
#[derive(Debug)]
pub(crate) struct Umem {
    /// Through a shared reference, the bytes are reached only by way of a [`Chunk`], of which there is one for each.
    mapping: Mapping,
    chunk: usize,
    chunks: u32,
    /// Where each chunk is, for those who hand it to each other: [`HERE`], [`SENT`] or [`BACK`].
    state: Box<[AtomicU8]>,
}

/// A chunk that is this program's to fill. Dropping it loses its memory until the UMEM ends.
#[derive(Debug)]
pub(crate) struct Chunk(u32);

/// A chunk that was sent from where it lay, and will come back.
#[derive(Debug)]
pub(crate) struct Away(u32);

/// What became of a chunk whose bytes were lent.
#[derive(Debug)]
pub(crate) enum Settled {
    /// The chunk is still here.
    Kept(Chunk),
    /// The chunk was sent.
    Sent(Away),
}

/// The chunk is with this program, or in a ring of the one who had it last.
const HERE: u8 = 0;
/// The chunk is being sent, from a loan or by itself.
const SENT: u8 = 1;
/// The chunk was sent.
const BACK: u8 = 2;

impl Umem {
    /// Memory of `chunks` chunks of `chunk` bytes, a power of two of at least 2,048 and at most a page; and all of the
    /// chunks.
    pub(crate) fn new(chunk: usize, chunks: u32) -> io::Result<(Arc<Self>, Vec<Chunk>)> {
        let bytes = chunk.checked_mul(chunks as usize).filter(|bytes| *bytes > 0).ok_or_else(invalid)?;
        Ok(Self::on(Mapping::anonymous(bytes)?, chunk, chunks))
    }

    fn on(mapping: Mapping, chunk: usize, chunks: u32) -> (Arc<Self>, Vec<Chunk>) {
        let state = (0..chunks).map(|_| AtomicU8::new(HERE)).collect();
        (Arc::new(Self { mapping, chunk, chunks, state }), (0..chunks).map(Chunk).collect())
    }

    /// Lends a chunk's bytes.
    pub(crate) fn bytes<'a>(&'a self, chunk: &'a mut Chunk) -> &'a mut [u8] {
        // SAFETY: the chunk is inside of the mapping, since only `new` makes numbers below `chunks`. There is one
        // `Chunk` for each, borrowed mutably here, so nobody else has these bytes; the kernel has none that is not in a
        // ring. Memory from the kernel is initialised.
        unsafe {
            let start = self.mapping.start().add(chunk.0 as usize * self.chunk);
            slice::from_raw_parts_mut(start.as_ptr(), self.chunk)
        }
    }

    /// Says whether a chunk was sent while its bytes were lent.
    pub(crate) fn settle(&self, chunk: Chunk) -> Settled {
        match self.state.get(chunk.0 as usize) {
            // Relaxed is enough: a loan is sent and settled on one thread, so this reads its own store or a later one.
            Some(state) if state.load(Ordering::Relaxed) != HERE => Settled::Sent(Away(chunk.0)),
            Some(_) | None => Settled::Kept(chunk),
        }
    }

    /// The chunk, if it has come back.
    pub(crate) fn reclaim(&self, away: Away) -> Result<Chunk, Away> {
        match self.state.get(away.0 as usize) {
            // Ordered after the sender's last look at it.
            Some(state) if state.load(Ordering::Acquire) == BACK => {
                state.store(HERE, Ordering::Relaxed);
                Ok(Chunk(away.0))
            }
            Some(_) | None => Err(away),
        }
    }

    /// The chunk in which these bytes lie, if they lie in one.
    fn chunk_of(&self, bytes: &[u8]) -> Option<(u32, u64)> {
        let offset = (bytes.as_ptr() as usize).checked_sub(self.mapping.start().as_ptr() as usize)?;
        let index = u32::try_from(offset / self.chunk).ok().filter(|index| *index < self.chunks)?;
        (offset % self.chunk + bytes.len() <= self.chunk).then_some((index, offset as u64))
    }

    /// The chunk that an address from the kernel means.
    fn chunk_at(&self, address: u64) -> Option<u32> {
        let index = usize::try_from(address).ok()? / self.chunk;
        u32::try_from(index).ok().filter(|index| *index < self.chunks)
    }
}

/// A socket for one queue of an interface.
#[derive(Debug)]
pub(crate) struct XdpSocket {
    fd: OwnedFd,
    umem: Arc<Umem>,
}

/// How many descriptors the rings of a socket have room for: powers of two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) receive: u32,
    pub(crate) fill: u32,
    /// 0 for a socket that sends nothing.
    pub(crate) transmit: u32,
    pub(crate) completion: u32,
}

/// The rings of a socket.
#[derive(Debug)]
pub(crate) struct Rings {
    pub(crate) receive: ReceiveRing,
    /// For a socket that sends.
    pub(crate) transmit: Option<TransmitRing>,
    /// The queue's, for its first socket.
    pub(crate) queue: Option<(FillRing, CompletionRing)>,
}

/// Whose memory a socket uses, and how it is bound.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sharing<'a> {
    /// The first socket of the memory: says whether the driver is to write into it directly.
    First { zero_copy: bool },
    /// The first one of a further queue, which is bound in the same way.
    With(&'a XdpSocket),
    /// A further one of the same queue as this: all of a queue's sockets have its rings of chunks in common.
    Queue(&'a XdpSocket),
}

impl XdpSocket {
    /// A socket with its rings that is not bound yet, so that nothing arrives before it is set up.
    pub(crate) fn new(umem: &Arc<Umem>, sizes: Sizes, sharing: Sharing<'_>) -> io::Result<(Self, Rings)> {
        let fd = rustix::net::socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        match sharing {
            Sharing::First { .. } => sockopt::set_xdp_umem_reg(
                &fd,
                XdpUmemReg {
                    addr: umem.mapping.start().as_ptr() as u64,
                    len: umem.chunk as u64 * u64::from(umem.chunks),
                    chunk_size: umem.chunk as u32,
                    headroom: 0,
                    flags: XdpUmemRegFlags::empty(),
                    tx_metadata_len: 0,
                },
            )?,
            // The memory is registered once. A further socket gets it when it is bound, by the first one's descriptor.
            Sharing::With(_) | Sharing::Queue(_) => {}
        }
        // The kernel binds no first socket to a queue without both of these rings, not even one that sends nothing, and
        // no further one with them.
        let is_first = !matches!(sharing, Sharing::Queue(_));
        if is_first {
            sockopt::set_xdp_umem_fill_ring_size(&fd, sizes.fill)?;
            sockopt::set_xdp_umem_completion_ring_size(&fd, sizes.completion)?;
        }
        sockopt::set_xdp_rx_ring_size(&fd, sizes.receive)?;
        if sizes.transmit > 0 {
            sockopt::set_xdp_tx_ring_size(&fd, sizes.transmit)?;
        }
        let XdpMmapOffsets { rx, tx, fr, cr } = sockopt::xdp_mmap_offsets(&fd)?;
        let map = |at, offsets, entry, count| Ring::map(&fd, at, offsets, entry, count);
        let receive = map(libc::XDP_PGOFF_RX_RING as u64, rx, DESCRIPTOR, sizes.receive)?;
        let transmit = if sizes.transmit > 0 {
            let ring = map(libc::XDP_PGOFF_TX_RING as u64, tx, DESCRIPTOR, sizes.transmit)?;
            Some(TransmitRing { ring, umem: umem.clone() })
        } else {
            None
        };
        let queue = if is_first {
            let fill = map(libc::XDP_UMEM_PGOFF_FILL_RING, fr, ADDRESS, sizes.fill)?;
            let completion = map(libc::XDP_UMEM_PGOFF_COMPLETION_RING, cr, ADDRESS, sizes.completion)?;
            Some((
                FillRing { ring: fill, umem: umem.clone() },
                CompletionRing { ring: completion, umem: umem.clone() },
            ))
        } else {
            None
        };
        let receive = ReceiveRing { ring: receive, umem: umem.clone() };
        let rings = Rings { receive, transmit, queue };
        Ok((Self { fd, umem: umem.clone() }, rings))
    }

    /// Binds it to a queue of an interface, where frames then arrive that a program sends to it.
    pub(crate) fn bind(&self, interface: u32, queue: u32, sharing: Sharing<'_>) -> io::Result<()> {
        let address = |flags| SocketAddrXdp::new(flags, interface, queue);
        match sharing {
            Sharing::First { zero_copy } => {
                // Said either way: without a flag the kernel tries zero copy, falls back silently, and nobody learns
                // which it is.
                let mode =
                    if zero_copy { SocketAddrXdpFlags::XDP_ZEROCOPY } else { SocketAddrXdpFlags::XDP_COPY };
                rustix::net::bind(&self.fd, &address(mode | SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP))?;
            }
            Sharing::With(first) | Sharing::Queue(first) => rustix::net::bind(
                &self.fd,
                &SocketAddrXdpWithSharedUmem {
                    addr: address(SocketAddrXdpFlags::XDP_SHARED_UMEM),
                    shared_umem_fd: first.fd.as_fd(),
                },
            )?,
        }
        Ok(())
    }

    /// Makes the kernel send what is in the transmit ring: some of it, one batch.
    pub(crate) fn send(&self) -> Result<(), rustix::io::Errno> {
        rustix::net::send(&self.fd, &[], rustix::net::SendFlags::DONTWAIT).map(drop)
    }

    /// Makes the kernel take chunks from the fill ring.
    pub(crate) fn wake(&self) {
        // A kernel that cannot now will be asked again.
        let _ = rustix::net::recv(&self.fd, &mut [0_u8; 0][..], rustix::net::RecvFlags::DONTWAIT);
    }

    /// What the kernel could not do since the socket was made.
    pub(crate) fn statistics(&self) -> io::Result<XdpStatistics> {
        Ok(sockopt::xdp_statistics(&self.fd)?)
    }

    /// The memory that it uses.
    pub(crate) const fn umem(&self) -> &Arc<Umem> {
        &self.umem
    }
}

impl AsFd for XdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Frames that came in.
#[derive(Debug)]
pub(crate) struct ReceiveRing {
    ring: Ring,
    umem: Arc<Umem>,
}

/// A frame that came in: its chunk, and where in it the frame lies.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) chunk: Chunk,
    pub(crate) start: usize,
    pub(crate) length: usize,
}

impl ReceiveRing {
    /// Takes the oldest frame; `None` when there is none. An inner `None` stands for a frame that the kernel put where
    /// no memory is.
    pub(crate) fn take(&mut self) -> Option<Option<Received>> {
        let Descriptor { address, length, .. } = self.ring.take()?;
        let index = self.umem.chunk_at(address);
        Some(index.map(|index| Received {
            chunk: Chunk(index),
            start: address as usize % self.umem.chunk,
            length: length as usize,
        }))
    }

    /// Says to the kernel how much was taken.
    pub(crate) fn release(&mut self) {
        self.ring.release();
    }
}

/// Chunks for frames to come.
#[derive(Debug)]
pub(crate) struct FillRing {
    ring: Ring,
    umem: Arc<Umem>,
}

impl FillRing {
    /// Gives a chunk to the kernel, which learns of it by [`submit`](Self::submit); gives it back when the ring is
    /// full.
    pub(crate) fn give(&mut self, chunk: Chunk) -> Result<(), Chunk> {
        let address = u64::from(chunk.0) * self.umem.chunk as u64;
        if self.ring.put(address) { Ok(()) } else { Err(chunk) }
    }

    /// Hands over what was given; says whether the kernel wants to be [woken](XdpSocket::wake) for it.
    pub(crate) fn submit(&mut self) -> bool {
        self.ring.submit() && self.ring.needs_wakeup()
    }
}

/// Frames to be sent.
#[derive(Debug)]
pub(crate) struct TransmitRing {
    ring: Ring,
    umem: Arc<Umem>,
}

impl TransmitRing {
    /// Whether there is room for a frame.
    pub(crate) fn has_room(&mut self) -> bool {
        self.ring.room() > 0
    }

    /// Sends a chunk's bytes from `start` on; it can be [reclaimed](Umem::reclaim) when it was sent. Gives it back when
    /// the ring is full, or when the range is none of the chunk's.
    pub(crate) fn send(&mut self, chunk: Chunk, start: usize, length: usize) -> Result<Away, Chunk> {
        if start.checked_add(length).is_none_or(|end| end > self.umem.chunk) {
            return Err(chunk);
        }
        let address = u64::from(chunk.0) * self.umem.chunk as u64 + start as u64;
        let Some(state) = self.umem.state.get(chunk.0 as usize) else { return Err(chunk) };
        let length = length as u32;
        if !self.ring.put(Descriptor { address, length, options: 0 }) {
            return Err(chunk);
        }
        // Before the kernel sees the descriptor, and so before it can have been sent.
        state.store(SENT, Ordering::Relaxed);
        Ok(Away(chunk.0))
    }

    /// Sends bytes that were lent from this memory, from where they are; whoever lent them will see that when they
    /// [settle](Umem::settle). False, and nothing happens, when they are elsewhere, when they are being sent already,
    /// or when the ring is full.
    ///
    /// The bytes must not be changed any more: what would be sent then cannot be said.
    pub(crate) fn send_loan(&mut self, bytes: &[u8]) -> bool {
        let Some((index, address)) = self.umem.chunk_of(bytes) else { return false };
        let Some(state) = self.umem.state.get(index as usize) else { return false };
        if state.load(Ordering::Relaxed) != HERE {
            return false;
        }
        if !self.ring.put(Descriptor { address, length: bytes.len() as u32, options: 0 }) {
            return false;
        }
        // This byte is all that tells the receiver, which settles its loans after each batch: no queue, no locked
        // instruction.
        state.store(SENT, Ordering::Relaxed);
        true
    }

    /// Hands over what was put in.
    pub(crate) fn submit(&mut self) {
        self.ring.submit();
    }

    /// Whether the kernel sends only when it is asked to.
    pub(crate) fn needs_wakeup(&self) -> bool {
        self.ring.needs_wakeup()
    }

    /// Frames that the kernel has not taken yet.
    pub(crate) fn waiting(&mut self) -> u32 {
        self.ring.waiting()
    }
}

/// Chunks whose frames were sent.
#[derive(Debug)]
pub(crate) struct CompletionRing {
    ring: Ring,
    umem: Arc<Umem>,
}

impl CompletionRing {
    /// Takes all that is there: whoever has a chunk as [`Away`] can reclaim it from here on, maybe on another thread.
    pub(crate) fn collect(&mut self) {
        let mut any = false;
        while let Some(address) = self.ring.take::<u64>() {
            any = true;
            let Some(index) = self.umem.chunk_at(address) else { continue };
            if let Some(state) = self.umem.state.get(index as usize)
                && state.load(Ordering::Relaxed) == SENT
            {
                state.store(BACK, Ordering::Release);
            }
        }
        if any {
            self.ring.release();
        }
    }
}

/// A frame's place, `struct xdp_desc`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Descriptor {
    address: u64,
    length: u32,
    options: u32,
}

const DESCRIPTOR: usize = size_of::<Descriptor>();
const ADDRESS: usize = size_of::<u64>();

/// One ring that is shared with the kernel, for one side of it: what the kernel counts is read with acquire order, what
/// this program counts is written with release order, and each side touches only entries that are its own by then.
#[derive(Debug)]
struct Ring {
    mapping: Mapping,
    producer: usize,
    consumer: usize,
    flags: usize,
    entries: usize,
    entry: usize,
    mask: u32,
    /// How many entries this program has put in or taken out so far, modulo 2^32; masked, it is the place of the next
    /// one. It runs ahead of what the kernel knows until the entries are [submitted](Self::submit) or
    /// [released](Self::release).
    here: u32,
    /// The value of `here` that was submitted last. Entries between the two are filled, but the kernel does not see
    /// them yet.
    shared: u32,
    /// The other side's counter as last read.
    there: u32,
}

impl Ring {
    fn map(fd: impl AsFd, at: u64, offsets: XdpRingOffset, entry: usize, count: u32) -> io::Result<Self> {
        Self::over(offsets, entry, count, |bytes| Mapping::of(fd, at, bytes, true))
    }

    fn over(
        offsets: XdpRingOffset,
        entry: usize,
        count: u32,
        map: impl FnOnce(usize) -> io::Result<Mapping>,
    ) -> io::Result<Self> {
        let count = NonZeroU32::new(count).filter(|count| count.is_power_of_two()).ok_or_else(invalid)?.get();
        let place = |offset: u64| usize::try_from(offset).map_err(|_| invalid());
        // Since Linux 5.4 there are flags.
        let flags = place(offsets.flags.ok_or_else(invalid)?)?;
        let (producer, consumer) = (place(offsets.producer)?, place(offsets.consumer)?);
        let entries = place(offsets.desc)?;
        let mapping = map(entries + count as usize * entry)?;
        let mask = count - 1;
        Ok(Self { mapping, producer, consumer, flags, entries, entry, mask, here: 0, shared: 0, there: 0 })
    }

    /// One of the words that both sides see.
    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: the kernel said that a 32-bit word is there, before the entries and so inside of the mapping, aligned
        // as its own; it is live as long as `self`, and both sides access it only atomically.
        unsafe { self.mapping.start().add(at).cast::<AtomicU32>().as_ref() }
    }

    fn needs_wakeup(&self) -> bool {
        self.word(self.flags).load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    /// Where an entry is.
    fn entry<T: Entry>(&self, counter: u32) -> NonNull<T> {
        debug_assert_eq!(size_of::<T>(), self.entry, "the ring's entries are of this type");
        // SAFETY: a masked counter is below the number of entries, which are inside of the mapping.
        unsafe { self.mapping.start().add(self.entries + (counter & self.mask) as usize * self.entry).cast() }
    }

    /// The consumer's side: the oldest entry that was not taken.
    fn take<T: Entry>(&mut self) -> Option<T> {
        // The kernel writes its counter from another processor, so each look at it may cost a cache line's transfer. It
        // is looked at only when everything known of is used up.
        if self.here == self.there {
            self.there = self.word(self.producer).load(Ordering::Acquire);
            if self.here == self.there {
                return None;
            }
        }
        // SAFETY: the acquired counter says that the kernel has finished this entry, and it will not touch it again
        // before it is released; an entry of either type is plain numbers.
        let entry = unsafe { self.entry::<T>(self.here).read() };
        self.here = self.here.wrapping_add(1);
        Some(entry)
    }

    /// The consumer's side: lets the kernel have the entries that were taken.
    fn release(&mut self) {
        self.word(self.consumer).store(self.here, Ordering::Release);
    }

    /// The producer's side: entries that are free.
    fn room(&mut self) -> u32 {
        let size = self.mask + 1;
        // Looked at only when the ring seems full, for the same reason as in `take`.
        if self.here.wrapping_sub(self.there) >= size {
            self.there = self.word(self.consumer).load(Ordering::Acquire);
        }
        size.saturating_sub(self.here.wrapping_sub(self.there))
    }

    /// The producer's side: fills an entry; false when none is free.
    fn put<T: Entry>(&mut self, value: T) -> bool {
        if self.room() == 0 {
            return false;
        }
        // SAFETY: the acquired counter says that the kernel is done with this entry, and it does not look at it again
        // before the counter of this side is written.
        unsafe { self.entry::<T>(self.here).write(value) };
        self.here = self.here.wrapping_add(1);
        true
    }

    /// The producer's side: hands over what was put in; says whether there was anything.
    fn submit(&mut self) -> bool {
        if self.here == self.shared {
            return false;
        }
        self.shared = self.here;
        self.word(self.producer).store(self.here, Ordering::Release);
        true
    }

    /// The producer's side: entries that the kernel has not taken.
    fn waiting(&mut self) -> u32 {
        self.there = self.word(self.consumer).load(Ordering::Acquire);
        self.here.wrapping_sub(self.there)
    }
}

/// What a ring's entries may be: plain numbers, of which every bit pattern is valid.
trait Entry: Copy {}
impl Entry for u64 {}
impl Entry for Descriptor {}

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

#[cfg(test)]
mod tests;
