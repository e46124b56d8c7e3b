//! The only drawer of entropy.

use std::io;

use lvs_core::Seed;
use rustix::rand::{GetRandomFlags, getrandom};

/// Draws a seed from the kernel (getrandom(2)).
///
/// ```
/// let config = lvs_core::Config::new(lvs_std::random_seed()?);
/// # let _ = config;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// When the system call is forbidden (a sandbox).
pub fn random_seed() -> io::Result<Seed> {
    let mut bytes = [0; 16];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match getrandom(rest, GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Seed::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ() {
        assert!(random_seed().unwrap() != random_seed().unwrap());
    }
}
