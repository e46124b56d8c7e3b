//! Chance for schedulers, drawn from the seed.

/// A small generator (SplitMix64) for choices that need no secrecy, such as the two of `twos`.
///
/// A director makes it from its seed, so equal seeds and inputs give equal choices.
#[derive(Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator of its own for a scheduler or a test.
    #[must_use]
    pub const fn from_seed(seed: crate::model::seed::Seed) -> Self {
        Self::new(seed.words().0)
    }

    pub(crate) const fn new(state: u64) -> Self {
        Self(state)
    }

    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    }

    /// A number below `bound`, all about equally likely (to 1 in 2^32); 0 when `bound` is 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.next_u32()) * u64::from(bound)) >> 32) as u32
    }
}

impl core::fmt::Debug for Rng {
    /// Keeps its state: who knows it knows the next choices.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Rng(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_stays_below_and_reaches_every_value() {
        let mut rng = Rng::new(7);
        let mut seen = [false; 5];
        for _ in 0..1_000 {
            seen[rng.below(5) as usize] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(rng.below(0), 0);
    }
}
