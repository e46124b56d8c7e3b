//! What the fast tier keeps of a packet: its key, in the words in which tables are searched, and little else.

use core::fmt;

use heapless::Vec;

use super::family::{AddressFamily, V4, V6};
use super::key::Key;
use crate::model::flow::{Family, Flow, Protocol};
use crate::model::packet::{Content, Packet, Path, TcpFlags};
use crate::model::seed::Seed;

/// Packets that are looked up together. More than the memory reads that a processor core keeps under way, few enough
/// that what was read stays in its first-level cache.
pub const BATCH: usize = 32;

/// A whole TCP or UDP packet without a firewall mark, as the fast tier looks it up: all that a decision rests on.
///
/// A key says what a [`Packet`] says, in the form in which headers have it and tables are searched, in 16 bytes for
/// IPv4 and 40 for IPv6. [`Director::decide_fast`](crate::Director::decide_fast) decides those in its [`FastBatch`].
///
/// ```
/// use lvs_core::batch::{FastKey, V4};
/// use lvs_core::{Content, Flow, Packet, Protocol, TcpFlags};
///
/// let flow = Flow::new(Protocol::Tcp, "192.0.2.7:40000".parse()?, "10.99.0.1:80".parse()?).unwrap();
/// // Source, destination, then both ports as the header has them.
/// let key = FastKey::<V4>::tcp(0xc000_0207, 0x0a63_0001, 40_000 << 16 | 80, TcpFlags::SYN, 60);
/// assert_eq!(key.packet(), Packet::new(flow, Content::Tcp(TcpFlags::SYN), 60));
/// assert_eq!(key.passing().packet(), key.packet().passing());
/// # Ok::<(), core::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FastKey<F: AddressFamily> {
    /// The client's address and the other end's.
    pair: F::Pair,
    /// From the low end: the other end's port, the client's, the tag, TCP's flags, the length. Ports and tag are as a
    /// [`Key`] has them; the flags of a datagram are those of a segment that says nothing new.
    rest: u64,
}

const UDP: u8 = 1;
/// Where the parts of the second word are. Ports and tag are where a slot has them.
pub(crate) const TAG: u32 = 32;
pub(crate) const FLAGS: u32 = 40;
const LENGTH: u32 = 48;

impl<F: AddressFamily> FastKey<F> {
    /// A TCP segment that is addressed to the director. `ports` has the source port in its upper half; all numbers are
    /// in host byte order. `length` is the IP packet's in bytes, headers included.
    #[inline(always)]
    #[must_use]
    pub fn tcp(source: F::Bits, destination: F::Bits, ports: u32, flags: TcpFlags, length: u16) -> Self {
        Self::new(F::pair(source, destination), ports, F::TAG, flags, length)
    }

    /// A UDP datagram that is addressed to the director, of the same parts.
    #[inline(always)]
    #[must_use]
    pub fn udp(source: F::Bits, destination: F::Bits, ports: u32, length: u16) -> Self {
        Self::new(F::pair(source, destination), ports, F::TAG | UDP, TcpFlags::ACK, length)
    }

    #[inline(always)]
    const fn new(pair: F::Pair, ports: u32, tag: u8, flags: TcpFlags, length: u16) -> Self {
        let upper = tag as u32 | (flags.byte() as u32) << (FLAGS - TAG) | (length as u32) << (LENGTH - TAG);
        Self { pair, rest: ports as u64 | (upper as u64) << TAG }
    }

    /// The key of a packet, if the fast tier takes packets like that one; `None` for what is not this family's, not TCP
    /// or UDP, marked, captured, or longer than 65,535 bytes.
    #[must_use]
    pub fn of(packet: &Packet) -> Option<Self> {
        let Packet { flow, content, length, path, mark: 0 } = *packet else { return None };
        let source = F::bits(&flow.addresses.source())?;
        let destination = F::bits(&flow.addresses.destination())?;
        let ports = u32::from(flow.source_port) << 16 | u32::from(flow.destination_port);
        let length = u16::try_from(length).ok()?;
        let key = match (flow.protocol, content) {
            (Protocol::Tcp, Content::Tcp(flags)) => Self::tcp(source, destination, ports, flags, length),
            (Protocol::Udp, Content::Udp) => Self::udp(source, destination, ports, length),
            (Protocol::Tcp | Protocol::Udp | Protocol::Sctp, _) => return None,
        };
        match path {
            Path::Local => Some(key),
            Path::Through => Some(key.passing()),
            Path::Captured => None,
        }
    }

    /// The key of this packet on its way through the director, which asks for the connection that it is a reply of.
    #[inline(always)]
    #[must_use]
    pub fn passing(self) -> Self {
        let ports = (self.rest as u32).rotate_left(16);
        let upper = (self.rest >> 32 << 32) | (Key::REPLY as u64) << TAG;
        // Of what passes, the destination is the client.
        Self { pair: F::pair(F::other(&self.pair), F::client(&self.pair)), rest: upper | ports as u64 }
    }

    /// Whether the packet is on its way through the director, and not addressed to it.
    #[inline(always)]
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        self.tag() & Key::REPLY != 0
    }

    /// Whether the packet is TCP's, and not UDP's.
    #[inline(always)]
    #[must_use]
    pub const fn is_tcp(&self) -> bool {
        self.tag() & UDP == 0
    }

    /// The IP packet's length in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn length(&self) -> u16 {
        (self.rest >> LENGTH) as u16
    }

    /// The address of the client's end: the destination of a packet that is [passing](Self::passing), else the source.
    #[inline(always)]
    #[must_use]
    pub fn client(&self) -> F::Bits {
        F::client(&self.pair)
    }

    /// The other end's address.
    #[inline(always)]
    pub(crate) fn other(&self) -> F::Bits {
        F::other(&self.pair)
    }

    /// Both addresses.
    #[inline(always)]
    pub(crate) const fn pair(&self) -> &F::Pair {
        &self.pair
    }

    /// All else, for a comparison with a slot's [word](super::slot::Slot) at one time.
    #[inline(always)]
    pub(crate) const fn rest(&self) -> u64 {
        self.rest
    }

    #[inline(always)]
    const fn ports(&self) -> u32 {
        self.rest as u32
    }

    #[inline(always)]
    const fn tag(&self) -> u8 {
        (self.rest >> TAG) as u8
    }

    /// The hash of the [`Key`] with these parts.
    #[inline(always)]
    pub(crate) fn hash(&self, seed: Seed) -> u32 {
        F::hash(&self.pair, self.ports(), self.tag(), seed)
    }

    /// The packet in full.
    #[must_use]
    pub fn packet(&self) -> Packet {
        let (client, other) = (F::client(&self.pair), F::other(&self.pair));
        let (source, destination, ports, path) = if self.is_passing() {
            (other, client, self.ports().rotate_left(16), Path::Through)
        } else {
            (client, other, self.ports(), Path::Local)
        };
        let (protocol, content) = if self.is_tcp() {
            (Protocol::Tcp, Content::Tcp(TcpFlags::from_byte((self.rest >> FLAGS) as u8)))
        } else {
            (Protocol::Udp, Content::Udp)
        };
        let flow = Flow {
            protocol,
            addresses: F::addresses(source, destination),
            source_port: (ports >> 16) as u16,
            destination_port: ports as u16,
        };
        Packet { flow, content, length: self.length().into(), path, mark: 0 }
    }
}

impl<F: AddressFamily> fmt::Debug for FastKey<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FastKey").field(&self.packet()).finish()
    }
}

/// Up to [`BATCH`] packets of both families in the order in which they came.
///
/// Keys of one family stand together, because they are hashed together; a bit for each packet says which family's it
/// is.
#[derive(Debug)]
pub struct FastBatch {
    pub(crate) v4: Vec<FastKey<V4>, BATCH>,
    pub(crate) v6: Vec<FastKey<V6>, BATCH>,
    /// From the low end, a bit for each packet: whether it is IPv6's.
    order: u32,
    /// The bit of the next packet, 0 when the batch is full.
    free: u32,
}

const _: () = assert!(BATCH == u32::BITS as usize);

/// Which of a batch's lists is a family's.
pub trait BatchFamily: AddressFamily {
    /// The keys of this family.
    #[doc(hidden)]
    fn keys(batch: &mut FastBatch) -> &mut Vec<FastKey<Self>, BATCH>
    where
        Self: Sized;
}

impl BatchFamily for V4 {
    #[inline(always)]
    fn keys(batch: &mut FastBatch) -> &mut Vec<FastKey<Self>, BATCH> {
        &mut batch.v4
    }
}

impl BatchFamily for V6 {
    #[inline(always)]
    fn keys(batch: &mut FastBatch) -> &mut Vec<FastKey<Self>, BATCH> {
        &mut batch.v6
    }
}

impl FastBatch {
    pub(crate) const fn new() -> Self {
        Self { v4: Vec::new(), v6: Vec::new(), order: 0, free: 1 }
    }

    /// Takes all packets out.
    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        self.v4.clear();
        self.v6.clear();
        (self.order, self.free) = (0, 1);
    }

    /// Fills an empty batch with IPv4 packets, which nearly all traffic consists of: as many as there are, and room
    /// for. A batch that has packets already stays as it is.
    #[inline(always)]
    pub fn begin_v4(&mut self, keys: impl IntoIterator<Item = FastKey<V4>>) {
        if !self.is_empty() {
            return;
        }
        for key in keys {
            // The one list has room for a whole batch, so nothing else is to be counted.
            if self.v4.push(key).is_err() {
                break;
            }
        }
        self.free = 1_u32.checked_shl(self.v4.len() as u32).unwrap_or(0);
    }

    /// How many packets there are.
    #[inline(always)]
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there are none.
    #[inline(always)]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a packet; `false`, and nothing has changed, when the batch is full.
    #[inline(always)]
    pub fn push<F: BatchFamily>(&mut self, key: FastKey<F>) -> bool {
        if self.free == 0 {
            return false;
        }
        self.order |= if matches!(F::FAMILY, Family::V6) { self.free } else { 0 };
        self.free <<= 1;
        F::keys(self).push(key).is_ok()
    }

    /// Appends packets until one is not for the fast tier or the batch is full; returns how many.
    pub(crate) fn append(&mut self, packets: &[Packet]) -> usize {
        let before = self.len();
        for packet in packets {
            let taken = match packet.flow.addresses.family() {
                Family::V4 => FastKey::<V4>::of(packet).is_some_and(|key| self.push(key)),
                Family::V6 => FastKey::<V6>::of(packet).is_some_and(|key| self.push(key)),
            };
            if !taken {
                break;
            }
        }
        self.len() - before
    }

    /// From the low end, a bit for each packet: whether it is IPv6's.
    #[inline(always)]
    pub(crate) const fn order(&self) -> u32 {
        self.order
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn agrees<F: AddressFamily>(key: FastKey<F>, source: F::Bits, length: u16, seed: Seed) {
        let packet = key.packet();
        let full = if key.is_passing() { Key::of_reply(&packet.flow) } else { Key::of_request(&packet.flow) };
        assert_eq!(key.hash(seed), full.hash(seed));
        assert_eq!(F::bits(&packet.flow.addresses.source()), Some(source));
        assert_eq!(packet.length, u32::from(length));
        assert_eq!(FastKey::of(&packet), Some(key));
    }

    proptest! {
        #[test]
        fn a_fast_key_is_found_by_the_key_of_its_packet(
            source: u128, destination: u128, ports: u32, flags: u8, length: u16, udp: bool, passing: bool,
            seed: [u8; 16],
        ) {
            let seed = Seed::from_bytes(seed);
            let flags = TcpFlags::from_byte(flags);
            let (low, to) = (source as u32, destination as u32);
            let v4: FastKey<V4> =
                if udp { FastKey::udp(low, to, ports, length) } else { FastKey::tcp(low, to, ports, flags, length) };
            let v6: FastKey<V6> = if udp {
                FastKey::udp(source, destination, ports, length)
            } else {
                FastKey::tcp(source, destination, ports, flags, length)
            };
            agrees(if passing { v4.passing() } else { v4 }, low, length, seed);
            agrees(if passing { v6.passing() } else { v6 }, source, length, seed);
        }

        #[test]
        fn a_batch_keeps_its_packets_in_order(families in prop::collection::vec(any::<bool>(), 0..100)) {
            let mut batch = FastBatch::new();
            let mut taken = 0;
            for &v6 in &families {
                let pushed = if v6 {
                    batch.push(FastKey::<V6>::udp(0, 0, taken, 48))
                } else {
                    batch.push(FastKey::<V4>::udp(0, 0, taken, 28))
                };
                prop_assert_eq!(pushed, (taken as usize) < BATCH);
                taken += u32::from(pushed);
            }
            prop_assert_eq!(batch.len(), families.len().min(BATCH));
            let (mut v4, mut v6) = (batch.v4.iter(), batch.v6.iter());
            for (place, &is_v6) in families.iter().take(batch.len()).enumerate() {
                let port = if is_v6 { v6.next().unwrap().ports() } else { v4.next().unwrap().ports() };
                prop_assert_eq!((batch.order() >> place & 1 == 1, port), (is_v6, place as u32));
            }
        }

        #[test]
        fn a_batch_that_begins_with_ipv4_packets_goes_on_with_others(count in 0..2 * BATCH) {
            let mut batch = FastBatch::new();
            batch.begin_v4((0..count).map(|number| FastKey::udp(0, 0, number as u32, 28)));
            prop_assert_eq!(batch.len(), count.min(BATCH));
            prop_assert_eq!(batch.push(FastKey::<V6>::udp(0, 0, 0, 48)), count < BATCH);
            prop_assert_eq!(batch.order(), if count < BATCH { 1 << count } else { 0 });
        }
    }
}
