//! Hashing many packets at once, by code that the embedder has compiled for its machine.
//!
//! SipHash is additions, rotations and exclusive ors of 64-bit words: what vector units do for several packets at one time. Which
//! of them a machine has is known at run time only, and to call code that was compiled for one is not safe. So the embedder lends a function that
//! was compiled so, and all that it can do is to call [`Hashing::run`] in it, which the compiler puts into it: whatever is lent, the
//! hashes are this crate's.

use core::marker::PhantomData;

use crate::brief::Brief;
use crate::model::seed::Seed;

/// Packets whose hashes are asked for; see [`HashTogether`].
#[derive(Debug)]
pub struct Hashing<'a> {
    seed: Seed,
    briefs: &'a [Brief],
    hashes: &'a mut [u32],
}

/// Says that a [`Hashing`] was run. There is no other way to have one.
#[derive(Debug)]
pub struct Hashed<'a>(PhantomData<&'a mut [u32]>);

/// A function that [runs](Hashing::run) what it is given, compiled for more than the program as a whole: with
/// `#[target_feature]`, say. It cannot return without.
///
/// ```
/// use lvs_core::accel::{HashTogether, Hashed, Hashing};
/// fn plain(packets: Hashing<'_>) -> Hashed<'_> {
///     packets.run()
/// }
/// let together: HashTogether = plain;
/// ```
pub type HashTogether = for<'a> fn(Hashing<'a>) -> Hashed<'a>;

impl<'a> Hashing<'a> {
    pub(crate) const fn new(seed: Seed, briefs: &'a [Brief], hashes: &'a mut [u32]) -> Self {
        Self { seed, briefs, hashes }
    }

    /// Hashes them all. It becomes a part of the function that calls it, and is compiled for what that is compiled for.
    #[inline(always)]
    pub fn run(self) -> Hashed<'a> {
        for (hash, brief) in self.hashes.iter_mut().zip(self.briefs) {
            *hash = brief.hash(self.seed);
        }
        Hashed(PhantomData)
    }
}
