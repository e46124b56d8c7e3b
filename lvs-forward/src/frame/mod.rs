//! A frame on loan: bytes with room before and after them, and what the device said about them.

mod assembly;
mod offload;

pub(crate) use self::assembly::{Added, Assembly, Piece};
pub use self::offload::{Checksum, Merged, MergedKind, Offload, Offloads};

/// Free bytes that every device leaves before a frame: 40 (outer IPv6) + 8 (UDP) + 4 (GUE) + 22 (Ethernet with two
/// VLAN tags, when the frame came without a link header), rounded up. The wrappings of TUN and the headers of ICMP
/// answers are written there, so no packet is ever copied to be forwarded.
pub const HEADROOM: usize = 96;

/// One of the director's ports: an index that the caller chose when it set the host up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u8);

/// A frame lent by a device for editing in place.
///
/// The buffer is larger than the frame: at least [`HEADROOM`] free bytes lie before it. `port` says where the
/// frame came from and, after processing, where it is to leave.
///
/// ```
/// use lvs_forward::{Frame, HEADROOM, PortId};
/// let mut buffer = [0; HEADROOM + 60];
/// let mut frame = Frame::new(&mut buffer, HEADROOM, HEADROOM + 60, PortId(0)).unwrap();
/// frame.grow_front(20).unwrap()[0] = 0x45;
/// assert_eq!(frame.bytes().len(), 80);
/// ```
#[derive(Debug)]
pub struct Frame<'a> {
    buffer: &'a mut [u8],
    start: usize,
    end: usize,
    /// Where it came in; after processing, where it leaves.
    pub port: PortId,
    /// What is unfinished about it. Every edit keeps this true.
    pub offload: Offload,
    /// Firewall mark, 0 for none.
    pub mark: u32,
    /// The fragments that it was put together from, if it was.
    assembly: Option<&'a Assembly>,
}

impl<'a> Frame<'a> {
    /// A finished frame in `buffer[start..end]`; `None` when that range is not inside the buffer.
    #[must_use]
    #[inline]
    pub fn new(buffer: &'a mut [u8], start: usize, end: usize, port: PortId) -> Option<Self> {
        if start > end || end > buffer.len() {
            return None;
        }
        Some(Self { buffer, start, end, port, offload: Offload::default(), mark: 0, assembly: None })
    }

    /// Sets what the device said about a new frame.
    #[must_use]
    pub fn with_offload(mut self, offload: Offload) -> Self {
        self.offload = offload;
        self
    }

    /// Marks a frame as one that was put together from fragments.
    pub(crate) const fn assembled(mut self, assembly: &'a Assembly) -> Self {
        self.assembly = Some(assembly);
        self
    }

    /// Makes it a frame of its own that has nothing to do with the fragments that it came from.
    pub(crate) const fn forget_assembly(&mut self) {
        self.assembly = None;
    }

    /// The fragments that it was put together from.
    pub(crate) const fn assembly(&self) -> Option<&'a Assembly> {
        self.assembly
    }

    /// The frame's bytes, link header first.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The bytes from the frame's first on up to the end of the buffer, for looks at headers whose ends were compared
    /// with the frame's.
    #[inline(always)]
    pub(crate) fn front(&self) -> Option<&[u8]> {
        self.buffer.get(self.start..)
    }

    /// The bytes from the frame's first on up to the end of the buffer, for editing.
    #[inline(always)]
    pub(crate) fn front_mut(&mut self) -> Option<&mut [u8]> {
        self.buffer.get_mut(self.start..)
    }

    /// The frame's bytes for editing.
    #[must_use]
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    /// Length in bytes.
    #[must_use]
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there are no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Free bytes before the frame.
    #[must_use]
    pub fn headroom(&self) -> usize {
        self.start
    }

    /// Free bytes after the frame.
    #[must_use]
    pub fn tailroom(&self) -> usize {
        self.buffer.len() - self.end
    }

    /// Lengthens the frame at its front by `count` bytes of headroom and lends them (with old content); `None`,
    /// and nothing changes, when there is not that much. The start of a partial checksum moves along.
    #[inline(always)]
    pub fn grow_front(&mut self, count: usize) -> Option<&mut [u8]> {
        let start = self.start.checked_sub(count)?;
        if let Checksum::Partial { start, .. } = &mut self.offload.checksum {
            *start = u16::try_from(usize::from(*start) + count).ok()?;
        }
        self.start = start;
        self.buffer.get_mut(start..)?.get_mut(..count)
    }

    /// Shortens the frame at its front; `None`, and nothing changes, when it is not that long, or when a partial
    /// checksum would begin before it.
    #[inline]
    pub fn shrink_front(&mut self, count: usize) -> Option<()> {
        let first = self.start.checked_add(count).filter(|&first| first <= self.end)?;
        if let Checksum::Partial { start, .. } = &mut self.offload.checksum {
            *start = u16::try_from(usize::from(*start).checked_sub(count)?).ok()?;
        }
        self.start = first;
        Some(())
    }

    /// Sets the length by moving the frame's end; `None`, and nothing changes, when the buffer ends before that.
    #[inline]
    pub fn set_len(&mut self, len: usize) -> Option<()> {
        let end = self.start.checked_add(len).filter(|&end| end <= self.buffer.len())?;
        self.end = end;
        Some(())
    }

    /// What stands between these places of the buffer as a finished frame of its own, wherever this frame itself
    /// stands.
    pub(crate) fn window(&mut self, start: usize, end: usize) -> Option<Frame<'_>> {
        let mut window = Frame::new(self.buffer, start, end, self.port)?;
        window.mark = self.mark;
        Some(window)
    }
}
