//! Digests of bodies.

use core::fmt;
use core::str::FromStr;

use md5::Md5;
use sha2::{Digest as _, Sha256};

/// An expected digest. Reads and shows as its digits in hexadecimal, 32 for MD5 and 64 for SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Digest {
    /// MD5 (RFC 1321), as `keepalived --genhash` prints it. It shows a body that changed by accident, not one that was
    /// forged.
    Md5([u8; 16]),
    /// SHA-256 (FIPS 180-4).
    Sha256([u8; 32]),
}

impl FromStr for Digest {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Self, BadDigest> {
        match text.len() {
            32 => bytes(text).map(Self::Md5),
            64 => bytes(text).map(Self::Sha256),
            _ => Err(BadDigest),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: &[u8] = match self {
            Self::Md5(bytes) => bytes,
            Self::Sha256(bytes) => bytes,
        };
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text that is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing more to say")]
pub struct BadDigest;

impl fmt::Display for BadDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no digest: expected 32 hexadecimal digits for MD5, or 64 for SHA-256")
    }
}

impl core::error::Error for BadDigest {}

/// A digest in the making.
#[derive(Clone)]
pub(super) enum Hasher {
    Md5(Md5),
    Sha256(Sha256),
}

impl Hasher {
    pub(super) fn like(digest: &Digest) -> Self {
        match digest {
            Digest::Md5(_) => Self::Md5(Md5::new()),
            Digest::Sha256(_) => Self::Sha256(Sha256::new()),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Digest {
        match self {
            Self::Md5(hasher) => Digest::Md5(hasher.finalize().into()),
            Self::Sha256(hasher) => Digest::Sha256(hasher.finalize().into()),
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Md5(_) => "Md5",
            Self::Sha256(_) => "Sha256",
        })
    }
}

fn bytes<const N: usize>(text: &str) -> Result<[u8; N], BadDigest> {
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = core::str::from_utf8(digits).map_err(|_| BadDigest)?;
        // `from_str_radix` takes a sign as well.
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(BadDigest);
        }
        *byte = u8::from_str_radix(digits, 16).map_err(|_| BadDigest)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1321, A.5; FIPS 180-4's example.
    const OF_ABC: [&str; 2] = [
        "900150983cd24fb0d6963f7d28e17f72",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    ];

    #[test]
    fn digests_are_those_of_the_standards() {
        for text in OF_ABC {
            let digest: Digest = text.parse().unwrap();
            let mut hasher = Hasher::like(&digest);
            hasher.update(b"a");
            hasher.update(b"bc");
            assert_eq!(hasher.finish(), digest);
            assert_eq!(digest.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        for text in ["", "9001", "900150983cd24fb0d6963f7d28e17f7g", "+00150983cd24fb0d6963f7d28e17f72"] {
            assert_eq!(text.parse::<Digest>(), Err(BadDigest), "{text}");
        }
    }
}
