//! Checksums: the Internet checksum whole and in part, and SCTP's CRC-32c.
//!
//! Reading list: RFC 1071 (how to sum, in any byte order), RFC 1624 §3 (how to change a checksum when a word
//! changes; equation 3 is the one that never yields a wrong zero), RFC 768 (UDP's 0 means "none"), RFC 9260 §6.8.
//!
//! Two representations of zero exist in one's complement. Sums here never turn a non-zero sum into 0x0000, so
//! results are the ones that Linux writes.

use core::net::{Ipv4Addr, Ipv6Addr};

#[cfg(feature = "sctp")]
use crc::{CRC_32_ISCSI, Crc, Table};

/// A one's complement sum of 16-bit words in progress.
///
/// ```
/// use lvs_forward::checksum::Sum;
/// // RFC 1071 §3, the numerical example.
/// let sum = Sum::ZERO.bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
/// assert_eq!(sum.fold(), 0xddf2);
/// assert_eq!(sum.checksum(), !0xddf2);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Nothing summed yet.
    pub const ZERO: Self = Self(0);

    /// Adds bytes that start at an even offset of what is summed. An odd last byte counts as the high half of a
    /// word (RFC 1071 §1), so nothing may follow it.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        // Four lanes of 32-bit words, in native order: the fold brings the order right at the end (RFC 1071 §2 B).
        let mut lanes = [0u64; 4];
        let mut chunks = bytes.chunks_exact(16);
        for chunk in &mut chunks {
            for (lane, word) in lanes.iter_mut().zip(chunk.chunks_exact(4)) {
                *lane += u64::from(word32(word));
            }
        }
        let mut native: u64 = lanes.iter().sum();
        let mut words = chunks.remainder().chunks_exact(2);
        for word in &mut words {
            native += u64::from(word16(word));
        }
        if let &[last] = words.remainder() {
            native += u64::from(u16::from_ne_bytes([last, 0]));
        }
        Self(self.0 + u64::from(u16::from_be(fold(native))))
    }

    /// Adds a whole number of 32-bit words that stand at an even offset: [`bytes`](Self::bytes) without its
    /// bookkeeping, for headers of a fixed length. What is left over at the end is not summed.
    #[inline]
    #[must_use]
    pub fn header<const N: usize>(self, header: &[u8; N]) -> Self {
        let native = header.chunks_exact(4).map(|word| u64::from(word32(word))).sum();
        Self(self.0 + u64::from(u16::from_be(fold(native))))
    }

    /// Adds one word.
    #[must_use]
    pub const fn word(self, word: u16) -> Self {
        Self(self.0 + word as u64)
    }

    /// Adds two words.
    #[inline]
    #[must_use]
    pub(crate) const fn long(self, words: u32) -> Self {
        Self(self.0 + words as u64)
    }

    /// Adds the words of an IPv4 address.
    #[must_use]
    pub fn ipv4(self, address: Ipv4Addr) -> Self {
        Self(self.0 + u64::from(u32::from(address)))
    }

    /// Adds the words of an IPv6 address.
    #[must_use]
    pub fn ipv6(self, address: Ipv6Addr) -> Self {
        let bits = u128::from(address);
        self.quad((bits >> 64) as u64).quad(bits as u64)
    }

    /// The sum of an IPv4 pseudo-header (RFC 9293 §3.1) for `length` bytes from the transport header on.
    #[must_use]
    pub fn pseudo_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: usize) -> Self {
        Self::ZERO.ipv4(source).ipv4(destination).length(length).word(u16::from(protocol))
    }

    /// The sum of an IPv6 pseudo-header (RFC 8200 §8.1) for `length` bytes from the transport header on.
    #[must_use]
    pub fn pseudo_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, length: usize) -> Self {
        Self::ZERO.ipv6(source).ipv6(destination).length(length).word(u16::from(protocol))
    }

    /// The sum as one word. This is what a [partial](crate::Checksum::Partial) checksum field holds.
    #[inline]
    #[must_use]
    pub fn fold(self) -> u16 {
        fold(self.0)
    }

    /// The finished checksum: the complement of the sum.
    #[must_use]
    pub fn checksum(self) -> u16 {
        !self.fold()
    }

    /// The finished checksum for UDP, where 0 would mean that there is none (RFC 768).
    #[must_use]
    pub fn udp_checksum(self) -> u16 {
        never_zero(self.checksum())
    }

    fn quad(self, bits: u64) -> Self {
        Self(self.0 + (bits >> 32) + (bits & 0xffff_ffff))
    }

    fn length(self, length: usize) -> Self {
        Self(self.0 + (length as u64 & 0xffff_ffff))
    }
}

/// What a change of words does to a checksum over them (RFC 1624, equation 3).
///
/// ```
/// use lvs_forward::checksum::Delta;
/// let old = "192.0.2.1".parse()?;
/// let new = "10.0.0.11".parse()?;
/// let delta = Delta::ZERO.ipv4(old, new).word(80, 8080);
/// assert_eq!(delta.update(0x1234), 0xaaea);
/// assert_eq!(delta.update(0x0000), 0x98b6);
/// # Ok::<(), core::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Delta(u64);

impl Delta {
    /// No change.
    pub const ZERO: Self = Self(0);

    /// An IPv4 TTL goes down by one: the difference of its word, whose upper half it is, whatever it was.
    pub(crate) const TTL: Self = Self(0xfeff);

    /// One word changes.
    #[inline]
    #[must_use]
    pub const fn word(self, old: u16, new: u16) -> Self {
        Self(self.0 + !old as u64 + new as u64)
    }

    /// An IPv4 address changes.
    #[must_use]
    pub fn ipv4(self, old: Ipv4Addr, new: Ipv4Addr) -> Self {
        Self(self.0 + u64::from(!u32::from(old)) + u64::from(u32::from(new)))
    }

    /// An IPv6 address changes.
    #[must_use]
    pub fn ipv6(self, old: Ipv6Addr, new: Ipv6Addr) -> Self {
        let old = !u128::from(old);
        let new = u128::from(new);
        let halves = |bits: u128| Sum::ZERO.quad((bits >> 64) as u64).quad(bits as u64).0;
        Self(self.0 + halves(old) + halves(new))
    }

    /// A finished checksum after the change.
    #[inline]
    #[must_use]
    pub fn update(self, checksum: u16) -> u16 {
        !fold(self.0 + u64::from(!checksum))
    }

    /// A partial checksum (a sum that is not complemented) after the change.
    #[must_use]
    pub fn update_partial(self, sum: u16) -> u16 {
        fold(self.0 + u64::from(sum))
    }
}

/// Whether the checksum of a header of a fixed length is right, checksum field included: a multiple of four bytes that
/// are not all zero.
#[inline]
pub(crate) fn is_sound<const N: usize>(header: &[u8; N]) -> bool {
    // To fold a sum is to take its remainder by 0xffff, whatever the order of bytes. Multiples of 0xffff are what is
    // small when it is multiplied by its inverse modulo 2^64.
    let sum: u64 = header.chunks_exact(4).map(|word| u64::from(word32(word))).sum();
    sum.wrapping_mul(INVERSE) <= u64::MAX / 0xffff
}

/// 0xffff times this is 1, modulo 2^64.
const INVERSE: u64 = 0xfffe_fffe_fffe_ffff;
const _: () = assert!(0xffff_u64.wrapping_mul(INVERSE) == 1);

/// A [`Delta`] that is folded, in the order in which memory has its bytes: for headers that are edited in place,
/// several checksums by one change. It makes of a checksum what [`Delta::update`] makes of it.
#[derive(Clone, Copy)]
pub(crate) struct Change(u16);

impl Change {
    /// No change.
    pub(crate) const NONE: Self = Self(0);

    /// An IPv4 TTL goes down by one.
    pub(crate) const TTL: Self = Self((Delta::TTL.0 as u16).to_be());

    /// Four bytes change.
    #[inline(always)]
    pub(crate) const fn address(old: [u8; 4], new: [u8; 4]) -> Self {
        let (sum, carry) = (!u32::from_ne_bytes(old)).overflowing_add(u32::from_ne_bytes(new));
        let sum = sum.wrapping_add(carry as u32);
        Self(plus((sum >> 16) as u16, sum as u16))
    }

    /// Sixteen bytes change.
    #[inline(always)]
    pub(crate) const fn long_address(old: [u8; 16], new: [u8; 16]) -> Self {
        let (old, new) = (!u128::from_ne_bytes(old), u128::from_ne_bytes(new));
        // Halves are added as one's complement numbers of 64 bits; what carries out of each is one more of the lowest.
        let mut sum = (old as u64 as u128) + ((old >> 64) as u64 as u128);
        sum += (new as u64 as u128) + ((new >> 64) as u64 as u128);
        let (sum, carry) = (sum as u64).overflowing_add((sum >> 64) as u64);
        let sum = sum.wrapping_add(carry as u64);
        let (sum, carry) = (sum as u32).overflowing_add((sum >> 32) as u32);
        let sum = sum.wrapping_add(carry as u32);
        Self(plus((sum >> 16) as u16, sum as u16))
    }

    /// Two bytes change as well.
    #[inline(always)]
    pub(crate) const fn and_word(self, old: [u8; 2], new: [u8; 2]) -> Self {
        Self(plus(plus(self.0, !u16::from_ne_bytes(old)), u16::from_ne_bytes(new)))
    }

    /// A finished checksum after the change.
    #[inline(always)]
    pub(crate) const fn update(self, checksum: [u8; 2]) -> [u8; 2] {
        let (difference, borrow) = u16::from_ne_bytes(checksum).overflowing_sub(self.0);
        difference.wrapping_sub(borrow as u16).to_ne_bytes()
    }
}

/// One's complement addition (RFC 1071 §1).
#[inline(always)]
const fn plus(one: u16, other: u16) -> u16 {
    let (sum, carry) = one.overflowing_add(other);
    sum.wrapping_add(carry as u16)
}

/// UDP's way to write a checksum that came out as 0.
#[must_use]
pub const fn never_zero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// SCTP's checksum (RFC 9260 §6.8) over `packet`, whose own checksum field counts as 0; as it stands in the field,
/// which is transmitted with its least significant byte first.
#[cfg(feature = "sctp")]
#[must_use]
pub fn sctp(packet: &[u8]) -> [u8; 4] {
    // 16 KiB are the faster table, and 1 KiB are enough where memory counts.
    const BYTES_AT_ONCE: usize = if usize::BITS < 64 { 1 } else { 16 };
    static CRC: Crc<u32, Table<BYTES_AT_ONCE>> = Crc::<u32, Table<BYTES_AT_ONCE>>::new(&CRC_32_ISCSI);
    let mut digest = CRC.digest();
    match packet.split_at_checked(12) {
        Some((header, rest)) => {
            digest.update(header.get(..8).unwrap_or_default());
            // In place of the field itself, which need not be cleared for that in a packet that is only lent.
            digest.update(&[0; 4]);
            digest.update(rest);
        }
        None => digest.update(packet),
    }
    digest.finalize().to_le_bytes()
}

#[inline]
fn fold(sum: u64) -> u16 {
    // A sum of both halves with its carry stands in the upper half of the sum of a word and its halves exchanged.
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

fn word32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |&word| u32::from_ne_bytes(word))
}

fn word16(bytes: &[u8]) -> u16 {
    bytes.first_chunk().map_or(0, |&word| u16::from_ne_bytes(word))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_header_is_sound_when_its_sum_folds_to_all_ones(mut header: [u8; 20], right: bool) {
            if right {
                header[10..12].fill(0);
                let checksum = Sum::ZERO.bytes(&header).checksum();
                header[10..12].copy_from_slice(&checksum.to_be_bytes());
            }
            prop_assume!(header != [0; 20]);
            prop_assert_eq!(is_sound(&header), Sum::ZERO.bytes(&header).fold() == 0xffff);
        }
    }

    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[cfg(feature = "sctp")]
    #[test]
    fn sctp_checksum_of_the_crc_check_value() {
        // The check value of CRC-32c is over "123456789"; shorter than a header, so nothing is blanked.
        assert_eq!(sctp(b"123456789"), 0xe306_9283u32.to_le_bytes());
    }

    #[cfg(feature = "sctp")]
    #[test]
    fn sctp_checksum_ignores_its_own_field() {
        let mut packet = [7; 40];
        let before = sctp(&packet);
        packet[8..12].copy_from_slice(&[1, 2, 3, 4]);
        assert_eq!(sctp(&packet), before);
        packet[12] ^= 1;
        assert_ne!(sctp(&packet), before);
    }

    proptest! {
        #[test]
        fn fast_sum_equals_the_naive_one(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Sum::ZERO.bytes(&bytes).fold(), naive(&bytes));
        }

        #[test]
        fn incremental_equals_full(
            mut words in prop::collection::vec(any::<u16>(), 1..40),
            at in any::<prop::sample::Index>(),
            new in any::<u16>(),
        ) {
            let sum = |words: &[u16]| {
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
                Sum::ZERO.bytes(&bytes)
            };
            let at = at.index(words.len());
            let before = sum(&words);
            let delta = Delta::ZERO.word(words[at], new);
            words[at] = new;
            let after = sum(&words);
            // 0x0000 and 0xffff are one value in one's complement.
            prop_assert_eq!(delta.update(before.checksum()) % 0xffff, after.checksum() % 0xffff);
            prop_assert_eq!(delta.update_partial(before.fold()) % 0xffff, after.fold() % 0xffff);
        }

        #[test]
        fn a_folded_change_does_what_its_parts_do(
            old: [u8; 4], new: [u8; 4], word: ([u8; 2], [u8; 2]), checksum: [u8; 2], hop: bool,
            ends in 0_u8..16,
        ) {
            // Zeros and ones all over are where one's complement has two representations.
            let or_ends = |bit: u8, value: [u8; 4]| if ends & bit == 0 { value } else { [0xff; 4] };
            let (old, new) = (or_ends(1, old), or_ends(2, new));
            let checksum = if ends & 12 == 12 { [0xff; 2] } else if ends & 12 == 8 { [0; 2] } else { checksum };
            let narrow = (if hop { Delta::TTL } else { Delta::ZERO })
                .ipv4(old.into(), new.into())
                .word(u16::from_be_bytes(word.0), u16::from_be_bytes(word.1));
            let folded = Change::address(old, new).and_word(word.0, word.1);
            let hop = if hop { Change::TTL } else { Change::NONE };
            let expected = narrow.update(u16::from_be_bytes(checksum)).to_be_bytes();
            prop_assert_eq!(hop.update(folded.update(checksum)), expected);
        }

        #[test]
        fn wide_changes_equal_their_words(old in any::<u128>(), new in any::<u128>(), checksum in any::<u16>()) {
            let wide = Delta::ZERO.ipv6(old.into(), new.into());
            let mut narrow = Delta::ZERO;
            for shift in (0..128).step_by(16) {
                narrow = narrow.word((old >> shift) as u16, (new >> shift) as u16);
            }
            prop_assert_eq!(wide.update(checksum) % 0xffff, narrow.update(checksum) % 0xffff);
            let folded = Change::long_address(old.to_be_bytes(), new.to_be_bytes());
            let expected = wide.update(checksum).to_be_bytes();
            prop_assert_eq!(folded.update(checksum.to_be_bytes()), expected);
        }
    }
}
