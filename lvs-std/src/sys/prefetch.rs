//! Prefetching: telling the processor what will be read.

/// Asks for the cache lines at these addresses, without waiting for them. Elsewhere than on x86-64 nothing happens.
pub(crate) fn prefetch(addresses: &[*const u8]) {
    #[cfg(target_arch = "x86_64")]
    for &address in addresses {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that the program sees, and cannot fault, whatever the address is.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = addresses;
}
