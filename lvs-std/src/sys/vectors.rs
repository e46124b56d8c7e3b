//! Vector instructions that not every machine has: code compiled for them, and which of it this machine can run.

use lvs_core::accel::HashTogether;

/// What this machine can run of what every machine cannot, the widest first.
#[cfg(target_arch = "x86_64")]
pub(crate) fn hash_together() -> impl Iterator<Item = HashTogether> {
    use std::arch::is_x86_feature_detected as has;
    let avx512 = has!("avx512f") && has!("avx512vl") && has!("avx512dq");
    let known: [(bool, HashTogether); 2] = [(avx512, x86::by_avx512), (has!("avx2"), x86::by_avx2)];
    known.into_iter().filter_map(|(has, together)| has.then_some(together))
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn hash_together() -> impl Iterator<Item = HashTogether> {
    std::iter::empty()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use lvs_core::accel::{Hashed, Hashing};

    pub(super) fn by_avx512(hashing: Hashing<'_>) -> Hashed<'_> {
        // SAFETY: this function is handed out only where the processor has been found to have these instructions.
        unsafe { avx512(hashing) }
    }

    #[target_feature(enable = "avx2,avx512f,avx512vl,avx512dq")]
    fn avx512(hashing: Hashing<'_>) -> Hashed<'_> {
        hashing.run()
    }

    pub(super) fn by_avx2(hashing: Hashing<'_>) -> Hashed<'_> {
        // SAFETY: as above.
        unsafe { avx2(hashing) }
    }

    #[target_feature(enable = "avx2")]
    fn avx2(hashing: Hashing<'_>) -> Hashed<'_> {
        hashing.run()
    }
}
