//! A keyed hash for the small tables of this crate.

use lvs_core::Seed;

/// Tells this use of a seed from the core's.
const PURPOSE: u64 = 0x666f_7277_6172_6400;

/// The key of a hash: whoever does not know it cannot aim at a bucket. Every table that uses it bounds its probes, so
/// that a collision costs an eviction at worst, never time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    first: u64,
    second: u64,
}

impl Key {
    /// A key of this crate's own: the director's seed itself stays secret even if this one should leak.
    pub(crate) const fn new(seed: Seed) -> Self {
        let (first, second) = seed.derive(PURPOSE).words();
        // Odd halves, so that no key multiplies everything to zero.
        Self { first: first | 1, second: second | 1 }
    }

    /// The hash of 16 bytes: two folded multiplications.
    pub(crate) const fn hash(self, bits: u128) -> u64 {
        // Two multiplications, where SipHash takes dozens of steps: a collision here costs an eviction at worst.
        let mixed = fold((bits >> 64) as u64 ^ self.first, bits as u64 ^ self.second);
        fold(mixed ^ self.second, self.first.rotate_left(32))
    }

    /// The hash of 32 bytes and a word.
    pub(crate) const fn hash_pair(self, first: u128, second: u128, word: u64) -> u64 {
        let one = self.hash(first) ^ word;
        let two = self.hash(second).rotate_left(23);
        fold(one ^ self.first, two ^ self.second)
    }
}

/// `hash` brought into `0..len`.
pub(crate) const fn bucket(hash: u64, len: usize) -> usize {
    (((hash >> 32) * len as u64) >> 32) as usize
}

const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_spread_over_the_buckets() {
        let key = Key::new(Seed::from_bytes(*b"an arbitrary key"));
        let mut seen = [0u32; 64];
        for low in 0..64 * 64u128 {
            seen[bucket(key.hash(0xffff_0a00_0000 + low), 64)] += 1;
        }
        assert!(seen.iter().all(|&count| (24..128).contains(&count)), "{seen:?}");
    }

    #[test]
    fn another_key_gives_another_order() {
        let one = Key::new(Seed::from_bytes([1; 16]));
        let two = Key::new(Seed::from_bytes([2; 16]));
        assert_ne!(one.hash(7), two.hash(7));
        assert_ne!(one.hash_pair(1, 2, 3), one.hash_pair(2, 1, 3));
    }
}
