//! Hashing many packets at once, by code that the embedder has compiled for its machine.
//!
//! SipHash is additions, rotations and exclusive ors of 64-bit words: what vector units do for several packets at one
//! time. Which of them a machine has is known at run time only, and to call code that was compiled for one is not safe.
//! So the embedder lends a function that was compiled so, and all that it can do is to call [`Hashing::run`] in it,
//! which the compiler puts into it: whatever is lent, the hashes are this crate's.

use core::marker::PhantomData;

use crate::conntrack::family::{AddressFamily, V4, V6};
use crate::conntrack::fast_key::FastKey;
use crate::model::seed::Seed;

/// Packets whose hashes are asked for; see [`HashTogether`].
#[derive(Debug)]
pub struct Hashing<'a> {
    seed: Seed,
    keys: Keys<'a>,
    hashes: &'a mut [u32],
}

/// Packets of one family.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keys<'a> {
    V4(&'a [FastKey<V4>]),
    V6(&'a [FastKey<V6>]),
}

impl Keys<'_> {
    #[inline(always)]
    pub(crate) const fn len(&self) -> usize {
        match self {
            Self::V4(keys) => keys.len(),
            Self::V6(keys) => keys.len(),
        }
    }

    #[inline(always)]
    pub(crate) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The packets from `at` on.
    #[inline(always)]
    pub(crate) fn from(&self, at: usize) -> Self {
        match self {
            Self::V4(keys) => Self::V4(keys.get(at..).unwrap_or_default()),
            Self::V6(keys) => Self::V6(keys.get(at..).unwrap_or_default()),
        }
    }
}

/// Says that a [`Hashing`] was run. There is no other way to have one.
#[derive(Debug)]
pub struct Hashed<'a>(PhantomData<&'a mut [u32]>);

/// A function that [runs](Hashing::run) what it is given, compiled for more than the program as a whole: with
/// `#[target_feature]`, say. It cannot return without.
///
/// ```
/// use lvs_core::accel::{HashTogether, Hashed, Hashing};
///
/// fn plain(packets: Hashing<'_>) -> Hashed<'_> {
///     packets.run()
/// }
/// let together: HashTogether = plain;
/// ```
pub type HashTogether = for<'a> fn(Hashing<'a>) -> Hashed<'a>;

impl<'a> Hashing<'a> {
    pub(crate) const fn new(seed: Seed, keys: Keys<'a>, hashes: &'a mut [u32]) -> Self {
        Self { seed, keys, hashes }
    }

    /// Hashes them all. It becomes a part of the function that calls it, and is compiled for what that is compiled for.
    #[inline(always)]
    pub fn run(self) -> Hashed<'a> {
        match self.keys {
            Keys::V4(keys) => hash(self.seed, keys, self.hashes),
            Keys::V6(keys) => hash(self.seed, keys, self.hashes),
        }
        Hashed(PhantomData)
    }
}

#[inline(always)]
fn hash<F: AddressFamily>(seed: Seed, keys: &[FastKey<F>], hashes: &mut [u32]) {
    for (hash, key) in hashes.iter_mut().zip(keys) {
        *hash = key.hash(seed);
    }
}
