//! Where frames come from and where they go.
//!
//! A [`Device`] is a port of the director: a [`Receive`] half that lends frames for editing in place, and a
//! [`Transmit`] half that takes them. The halves are apart because a frame that one port lends leaves by another,
//! or by the same, while the loan still lasts; and because a wrapper ([`fault`], [`pcap`]) may change one half only.
//!
//! | module | frames come from |
//! |---|---|
//! | [`packet`] | an interface, by `AF_PACKET` sockets with memory-mapped rings |
//! | [`xdp`] | an interface, by `AF_XDP` sockets before the kernel's own stack |
//! | [`tun`] | this machine's own stack, by a TUN (bare IP) or TAP (Ethernet) interface |
//! | [`pair()`] | another end in this process |
//! | [`pcap`] | a capture file; a wrapper records what any device receives and sends |
//! | [`mark`](mod@mark) | any device, marked by rules for services by mark |
//! | [`guard`] | no device: keeps from the kernel what packet sockets take, where both have one MAC address |
//! | [`fault`] | any device, less what a seeded fault drops, doubles, delays or corrupts |
//!
//! # A device of your own
//!
//! Two traits, four duties: lend at most [`BATCH`] frames at a time with [`HEADROOM`](lvs_forward::HEADROOM) free
//! bytes before each; never block; say truthfully what is unfinished about a frame; count what is lost.
//!
//! ```
//! use std::collections::VecDeque;
//! use std::io;
//! use std::sync::{Arc, Mutex};
//! use lvs_forward::{Frame, HEADROOM, PortId};
//! use lvs_std::device::{Device, Offloads, Receive, ReceiveCounters, Transmit, TransmitCounters, TransmitError};
//!
//! /// Gives back what it is sent.
//! type Queue = Arc<Mutex<VecDeque<Vec<u8>>>>;
//! struct Out(Queue, TransmitCounters);
//! struct In(Queue, ReceiveCounters);
//!
//! impl Transmit for Out {
//!     fn transmit(&mut self, frame: &Frame<'_>) -> Result<(), TransmitError> {
//!         let mut queue = self.0.lock().unwrap();
//!         let sent = if frame.offload != Default::default() {
//!             Err(TransmitError::Unsupported)
//!         } else if queue.len() == 8 {
//!             Err(TransmitError::Full)
//!         } else {
//!             queue.push_back(frame.bytes().to_vec());
//!             Ok(())
//!         };
//!         self.1.count(frame, sent)
//!     }
//!     fn flush(&mut self) -> io::Result<usize> { Ok(0) }
//!     fn offloads(&self) -> Offloads { Offloads::NONE }
//!     fn counters(&mut self) -> TransmitCounters { self.1 }
//! }
//!
//! impl Receive for In {
//!     fn receive(&mut self, port: PortId, judge: &mut dyn FnMut(&mut [Frame<'_>])) -> io::Result<usize> {
//!         let Some(bytes) = self.0.lock().unwrap().pop_front() else { return Ok(0) };
//!         let mut buffer = vec![0; HEADROOM];
//!         buffer.extend(bytes);
//!         let end = buffer.len();
//!         let Some(frame) = Frame::new(&mut buffer, HEADROOM, end, port) else { return Ok(0) };
//!         self.1.count(&frame);
//!         judge(&mut [frame]);
//!         Ok(1)
//!     }
//!     fn counters(&mut self) -> ReceiveCounters { self.1 }
//! }
//!
//! let queue = Queue::default();
//! let mut device = Device::new(In(queue.clone(), Default::default()), Out(queue, Default::default()));
//! let mut bytes = *b"any bytes";
//! let frame = Frame::new(&mut bytes, 0, 9, PortId(0)).unwrap();
//! device.transmit.transmit(&frame)?;
//! device.transmit.flush()?;
//! let lent = device.receive.receive(PortId(3), &mut |frames| assert_eq!(frames[0].bytes(), b"any bytes"))?;
//! assert_eq!(lent, 1);
//! assert_eq!(device.transmit.counters().frames, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod absent;
#[cfg(feature = "runtime")]
pub(crate) mod alias;
mod fan;
pub mod fault;
#[cfg(feature = "links")]
pub mod guard;
#[cfg(feature = "runtime")]
pub(crate) mod local;
pub mod mark;
pub mod packet;
mod pair;
pub mod pcap;
pub mod tun;
pub mod vnet;
pub mod xdp;

use core::fmt;
use core::ops::AddAssign;
use std::io;
use std::os::fd::BorrowedFd;

pub use lvs_forward::Offloads;
use lvs_forward::{Frame, PortId};

pub use self::fan::{Fan, FanError};
pub use self::pair::{PairOptions, pair};

/// The most frames that one call of [`Receive::receive`] lends: the batch for which the director's look-ups overlap.
pub const BATCH: usize = 32;

/// The longest frame that any device carries: the longest IP packet (65,535 bytes; merged frames come close to it)
/// behind an Ethernet header with two VLAN tags.
pub const LONGEST: usize = 65_535 + 22;

/// The longest frame that Linux merges: 8 times 65,535 bytes (`GRO_MAX_SIZE` of `linux/netdevice.h`), behind such an
/// Ethernet header. What is longer than [`LONGEST`] of that is lent in parts.
pub const LONGEST_MERGED: usize = 8 * 65_535 + 22;

/// A port: where frames come in and go out.
pub struct Device {
    /// The half that lends frames.
    pub receive: Box<dyn Receive>,
    /// The half that takes frames.
    pub transmit: Box<dyn Transmit>,
}

impl Device {
    /// A device of two halves.
    #[must_use]
    pub fn new(receive: impl Receive + 'static, transmit: impl Transmit + 'static) -> Self {
        Self { receive: Box::new(receive), transmit: Box::new(transmit) }
    }

    /// Sends a copy of these bytes as a finished frame at once. For tests and small programs: it allocates.
    ///
    /// # Errors
    /// When the device does not take it ([`TransmitError`] inside), or is gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut buffer = bytes.to_vec();
        if let Some(frame) = Frame::new(&mut buffer, 0, bytes.len(), PortId::default()) {
            self.transmit.transmit(&frame).map_err(io::Error::other)?;
        }
        self.transmit.flush().map(drop)
    }

    /// Copies of all frames that are waiting. For tests and small programs: it allocates.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn drain(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut copies = Vec::new();
        let mut copy = |frames: &mut [Frame<'_>]| {
            copies.extend(frames.iter().map(|frame| frame.bytes().to_vec()));
        };
        while self.receive.receive(PortId::default(), &mut copy)? > 0 {}
        Ok(copies)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").finish_non_exhaustive()
    }
}

/// The half of a device that lends frames.
///
/// Whoever runs it calls [`receive`](Self::receive) until that says 0, then waits until
/// [`readiness`](Self::readiness) is readable (or a while, when there is none), and calls
/// [`recover`](Self::recover) when `poll(2)` reports an error on it.
pub trait Receive: Send {
    /// Lends the frames that are waiting, oldest first and at most [`BATCH`], in one call of `judge`; says how many
    /// frames were taken from the device. Frames that it had to discard count too, so that only 0 means "nothing
    /// was waiting"; then, or when all were discarded, `judge` is not called.
    ///
    /// The loan ends when `judge` returns: the device may then overwrite the bytes. A frame's `port` is `port`, its
    /// mark is 0 unless the device knows better, [`HEADROOM`](lvs_forward::HEADROOM) bytes before it are free, and its
    /// `offload` says truthfully what is unfinished. Must not block, and must not allocate.
    ///
    /// # Errors
    /// When the device is gone or broken for good. A passing trouble (an interface that is down) is no error.
    fn receive(&mut self, port: PortId, judge: &mut dyn FnMut(&mut [Frame<'_>])) -> io::Result<usize>;

    /// What `poll(2)` can wait on until a frame is there; `None` when only asking tells.
    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Clears the error that `poll(2)` reported on [`readiness`](Self::readiness).
    ///
    /// # Errors
    /// When the device is gone for good and should not be asked again.
    fn recover(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether no frame will ever come again (the end of a file).
    fn ended(&self) -> bool {
        false
    }

    /// What was received and lost since the device was opened. May make a system call: ask about once a second.
    fn counters(&mut self) -> ReceiveCounters;
}

/// The half of a device that takes frames.
///
/// Whoever runs it calls [`transmit`](Self::transmit) for each frame, and [`flush`](Self::flush) after the last of a
/// batch: only then is it certain that they are on their way.
pub trait Transmit: Send {
    /// Takes one frame, in order. It is copied or sent before the call returns, so the loan of its bytes may end.
    /// The frame's own `port` and `mark` are not looked at. Must not block, and must not allocate.
    ///
    /// # Errors
    /// The frame is lost, counted by reason; nothing need be done. The device stays usable after each of them.
    fn transmit(&mut self, frame: &Frame<'_>) -> Result<(), TransmitError>;

    /// Like [`transmit`](Self::transmit), for a frame whose bytes are not edited any more until the loan ends. A device
    /// that shares its memory with the one that lends the frame sends it from where it lies; all others do as
    /// `transmit` does, and need not say so.
    ///
    /// # Errors
    /// As for [`transmit`](Self::transmit).
    fn hand_over(&mut self, frame: &Frame<'_>) -> Result<(), TransmitError> {
        self.transmit(frame)
    }

    /// Starts what [`transmit`](Self::transmit) has gathered; says how many frames still wait for room, so that one
    /// should ask again within a millisecond or so. Costs nothing when there is nothing.
    ///
    /// # Errors
    /// When the device is gone or broken for good. A passing trouble is counted, and is no error.
    fn flush(&mut self) -> io::Result<usize>;

    /// Which unfinished frames it can carry. The others must be finished before
    /// ([`lvs_forward::output::pieces`] and [`lvs_forward::complete_checksum`] do it), or end as
    /// [`TransmitError::Unsupported`].
    fn offloads(&self) -> Offloads;

    /// What was sent and lost since the device was opened. May make a system call: ask about once a second.
    fn counters(&mut self) -> TransmitCounters;
}

/// Why a device did not take a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "matches must name every reason")]
pub enum TransmitError {
    /// The interface is down or gone.
    Down,
    /// The queue has no room: the receiver is slower than the sender.
    Full,
    /// The kernel did not accept the frame (`EINVAL`, `EMSGSIZE`): malformed, or longer than the interface takes.
    Refused,
    /// The frame is longer than the device carries.
    TooLong,
    /// What is unfinished about it cannot be said to this device, see [`Transmit::offloads`].
    Unsupported,
}

impl fmt::Display for TransmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "the interface is down or gone",
            Self::Full => "the device's queue is full",
            Self::Refused => "the kernel refused the frame",
            Self::TooLong => "the frame is longer than the device carries",
            Self::Unsupported => "the device cannot carry an unfinished frame of this kind",
        })
    }
}

impl core::error::Error for TransmitError {}

/// What came in by a device, in frames unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "devices build it")]
pub struct ReceiveCounters {
    /// Frames lent.
    pub frames: u64,
    /// Bytes of the frames lent, link headers included.
    pub bytes: u64,
    /// Merged ones among the frames lent.
    pub merged: u64,
    /// Lost before the device could take them, for want of a free slot: the director is slower than the sender.
    pub lost: u64,
    /// Discarded because they did not fit into a slot whole.
    pub cut: u64,
    /// Discarded because what the kernel said of them cannot be expressed, or contradicts itself.
    pub invalid: u64,
}

impl ReceiveCounters {
    /// Counts a frame that is about to be lent.
    pub fn count(&mut self, frame: &Frame<'_>) {
        self.frames += 1;
        self.bytes += frame.len() as u64;
        self.merged += u64::from(frame.offload.merged.is_some());
    }
}

impl AddAssign<&Self> for ReceiveCounters {
    /// What several devices have received.
    fn add_assign(&mut self, other: &Self) {
        let Self { frames, bytes, merged, lost, cut, invalid } = other;
        self.frames += frames;
        self.bytes += bytes;
        self.merged += merged;
        self.lost += lost;
        self.cut += cut;
        self.invalid += invalid;
    }
}

/// What went out by a device, in frames unless said otherwise. The lower five are [`TransmitError`]'s reasons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "devices build it")]
pub struct TransmitCounters {
    /// Frames that the kernel took to send. One that still waits for that is not among them yet.
    pub frames: u64,
    /// Bytes of these frames, link headers included.
    pub bytes: u64,
    /// Merged ones among these frames.
    pub merged: u64,
    /// Lost: [`TransmitError::Down`].
    pub down: u64,
    /// Lost: [`TransmitError::Full`].
    pub full: u64,
    /// Lost: [`TransmitError::Refused`].
    pub refused: u64,
    /// Lost: [`TransmitError::TooLong`].
    pub too_long: u64,
    /// Lost: [`TransmitError::Unsupported`].
    pub unsupported: u64,
}

impl TransmitCounters {
    /// Counts what became of a frame, and hands that on.
    ///
    /// # Errors
    /// The given one.
    pub fn count(
        &mut self,
        frame: &Frame<'_>,
        result: Result<(), TransmitError>,
    ) -> Result<(), TransmitError> {
        match result {
            Ok(()) => self.count_sent(frame.len(), frame.offload.merged.is_some()),
            Err(error) => self.count_lost(error),
        }
        result
    }

    /// Counts a frame of so many bytes that was sent.
    pub const fn count_sent(&mut self, bytes: usize, merged: bool) {
        self.frames += 1;
        self.bytes += bytes as u64;
        self.merged += merged as u64;
    }

    /// Counts a frame that was lost.
    pub const fn count_lost(&mut self, error: TransmitError) {
        match error {
            TransmitError::Down => self.down += 1,
            TransmitError::Full => self.full += 1,
            TransmitError::Refused => self.refused += 1,
            TransmitError::TooLong => self.too_long += 1,
            TransmitError::Unsupported => self.unsupported += 1,
        }
    }

    /// Frames lost, for whatever reason.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.down + self.full + self.refused + self.too_long + self.unsupported
    }
}

impl AddAssign<&Self> for TransmitCounters {
    /// What several devices have sent.
    fn add_assign(&mut self, other: &Self) {
        let Self { frames, bytes, merged, down, full, refused, too_long, unsupported } = other;
        self.frames += frames;
        self.bytes += bytes;
        self.merged += merged;
        self.down += down;
        self.full += full;
        self.refused += refused;
        self.too_long += too_long;
        self.unsupported += unsupported;
    }
}
