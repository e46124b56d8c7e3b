//! Keyed hashing: SipHash-1-3 over whole words.
//!
//! Every look-up on the packet path hashes bytes that a stranger chose, so the hash must have a secret key:
//! otherwise one sender could aim all of its flows at one place of the table. SipHash-1-3 is the variant that the
//! standard library and the kernel use for this. It is written out here because the tuple is already in
//! registers as words (a `Hasher` would take it apart into bytes and put it together again), and because
//! `mh` needs the exact function with a key of its own. The tests compare it with the `siphasher` crate.
//!
//! Reading: Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012).

/// What makes one director's tables differ from another's: 128 secret bits.
///
/// The core draws no entropy; equal seeds and inputs give equal answers. Give every director that faces
/// untrusted traffic a seed of its own from the operating system.
///
/// ```
/// let seed = lvs_core::Seed::from_bytes(*b"sixteen bytes ..");
/// let config = lvs_core::Config::new(seed);
/// # let _ = config;
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed {
    k0: u64,
    k1: u64,
}

impl Seed {
    /// The seed of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        let value = u128::from_le_bytes(bytes);
        Self { k0: value as u64, k1: (value >> 64) as u64 }
    }

    pub(crate) const fn from_words(k0: u64, k1: u64) -> Self {
        Self { k0, k1 }
    }

    /// Both halves, for hashers that take a key in two words.
    #[must_use]
    pub const fn words(self) -> (u64, u64) {
        (self.k0, self.k1)
    }

    /// A further seed that tells nothing about this one, for a second use beside it. `purpose` tells uses apart.
    #[must_use]
    pub const fn derive(self, purpose: u64) -> Self {
        let last = 8 << 56;
        Self { k0: self.hash([purpose], last), k1: self.hash([!purpose], last) }
    }

    /// A keyed hash of bytes of any length.
    pub(crate) fn hash_bytes(self, bytes: &[u8]) -> u64 {
        let (whole, rest) = bytes.as_chunks::<8>();
        let mut tail = [0; 8];
        tail[..rest.len()].copy_from_slice(rest);
        // The length tells texts apart that differ only in zeros at their end.
        tail[7] = bytes.len() as u8;
        let sum = whole.iter().fold(0, |sum, word| self.hash([sum, u64::from_le_bytes(*word)], 16 << 56));
        self.hash([sum], u64::from_le_bytes(tail))
    }

    /// SipHash-1-3 of `words` (each eight bytes, little endian) and a last block: the low seven bytes are the rest
    /// of the message, the top byte its length modulo 256.
    // A machine of 32 bits takes dozens of instructions for a round, and its program memory is small: there the code
    // is in one place.
    #[cfg_attr(any(target_pointer_width = "64", target_arch = "wasm32"), inline(always))]
    #[cfg_attr(not(any(target_pointer_width = "64", target_arch = "wasm32")), inline(never))]
    pub const fn hash<const N: usize>(self, words: [u64; N], last: u64) -> u64 {
        let mut state = State {
            v0: self.k0 ^ 0x736f_6d65_7073_6575,
            v1: self.k1 ^ 0x646f_7261_6e64_6f6d,
            v2: self.k0 ^ 0x6c79_6765_6e65_7261,
            v3: self.k1 ^ 0x7465_6462_7974_6573,
        };
        let mut at = 0;
        while at < N {
            state = state.absorb(words[at]);
            at += 1;
        }
        state = state.absorb(last);
        state.v2 ^= 0xff;
        state = state.round().round().round();
        state.v0 ^ state.v1 ^ state.v2 ^ state.v3
    }
}

impl core::fmt::Debug for Seed {
    /// Keeps the secret: a seed in a log would let a reader aim at the tables.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// The SipHash state.
#[derive(Clone, Copy)]
struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl State {
    #[cfg_attr(any(target_pointer_width = "64", target_arch = "wasm32"), inline(always))]
    const fn absorb(mut self, word: u64) -> Self {
        self.v3 ^= word;
        self = self.round();
        self.v0 ^= word;
        self
    }

    #[cfg_attr(any(target_pointer_width = "64", target_arch = "wasm32"), inline(always))]
    #[cfg_attr(not(any(target_pointer_width = "64", target_arch = "wasm32")), inline(never))]
    const fn round(self) -> Self {
        let Self { mut v0, mut v1, mut v2, mut v3 } = self;
        v0 = v0.wrapping_add(v1);
        v2 = v2.wrapping_add(v3);
        v1 = v1.rotate_left(13) ^ v0;
        v3 = v3.rotate_left(16) ^ v2;
        v0 = v0.rotate_left(32);
        v2 = v2.wrapping_add(v1);
        v0 = v0.wrapping_add(v3);
        v1 = v1.rotate_left(17) ^ v2;
        v3 = v3.rotate_left(21) ^ v0;
        v2 = v2.rotate_left(32);
        Self { v0, v1, v2, v3 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::hash::Hasher;

    #[test]
    fn hash_is_siphash_1_3() {
        let seed = Seed::from_bytes(*b"0123456789abcdef");
        let (k0, k1) = seed.words();
        let mut message = [0_u8; 13];
        for (at, byte) in message.iter_mut().enumerate() {
            *byte = at as u8 * 7 + 1;
        }
        let mut reference = siphasher::sip::SipHasher13::new_with_keys(k0, k1);
        reference.write(&message);
        let word = u64::from_le_bytes(message[..8].try_into().unwrap());
        let mut tail = [0; 8];
        tail[..5].copy_from_slice(&message[8..]);
        let last = u64::from_le_bytes(tail) | 13 << 56;
        assert_eq!(seed.hash([word], last), reference.finish());
    }

    #[test]
    fn derived_seeds_differ() {
        let seed = Seed::from_bytes([1; 16]);
        assert!(seed.derive(1) != seed.derive(2));
        assert!(seed.derive(1) != seed);
    }
}
