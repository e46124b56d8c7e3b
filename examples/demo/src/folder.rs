//! The folder that all real servers share: temporary files with contents whose hashes are known.

use core::hash::Hasher;
use core::sync::atomic::{AtomicU32, Ordering};
use std::fs;
use std::hash::DefaultHasher;
use std::io;
use std::path::{Path, PathBuf};

/// A folder of files, gone when this value is dropped.
pub(crate) struct Folder {
    path: PathBuf,
    files: Vec<File>,
}

/// One of the files.
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) length: usize,
    pub(crate) hash: u64,
}

impl Folder {
    /// A file for each of these lengths in bytes.
    pub(crate) fn new(lengths: &[usize]) -> io::Result<Self> {
        // A number is used once, so that a folder that is gone stays gone.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = (0..64)
            .map(|_| {
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                std::env::temp_dir().join(format!("director-demo-{}-{number}", std::process::id()))
            })
            .find_map(|path| match fs::create_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
                result => Some(result.map(|()| path)),
            })
            .unwrap_or_else(|| Err(io::ErrorKind::AlreadyExists.into()))?;
        let mut folder = Self { path, files: Vec::new() };
        for (number, &length) in (1_u64..).zip(lengths) {
            let data = pattern(number, length);
            let name = format!("file-{number}.bin");
            fs::write(folder.path.join(&name), &data)?;
            folder.files.push(File { name, length, hash: hash(&data) });
        }
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn files(&self) -> &[File] {
        &self.files
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes a folder of this kind.
pub(crate) fn remove(path: &Path) {
    // Nothing is left to do about a folder that cannot be removed; it is in the place for temporary things.
    drop(fs::remove_dir_all(path));
}

/// The hash by which bodies are compared: 64 bits of SipHash.
pub(crate) fn hash(data: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(data);
    hasher.finish()
}

/// Bytes in which no two places are alike, so that a lost, doubled or moved piece shows.
fn pattern(number: u64, length: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = core::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_as_long_as_asked_for_and_gone_afterwards() {
        let folder = Folder::new(&[0, 5, 70_000]).unwrap();
        let path = folder.path().to_owned();
        for file in folder.files() {
            let data = fs::read(path.join(&file.name)).unwrap();
            assert_eq!((data.len(), hash(&data)), (file.length, file.hash));
        }
        drop(folder);
        assert!(!path.exists());
    }
}
