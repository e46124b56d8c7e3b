//! A disk that can be full.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use super::LabError;
use crate::sys::netns;

/// A small file system in memory (`tmpfs(5)`), which is gone with the process, and whose folder is with this value.
#[derive(Debug)]
pub struct Disk(PathBuf);

impl Disk {
    pub(super) fn mount(folder: &Path, bytes: u64) -> Result<Self, LabError> {
        let make = || {
            fs::create_dir_all(folder)?;
            netns::unshare_mounts()?;
            // Otherwise the machine would have it too.
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
            let options = CString::new(format!("size={bytes},mode=700"))?;
            mount("lab", folder, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())?;
            Ok(())
        };
        let refused = |source: io::Error| LabError::Disk { folder: folder.to_owned(), source };
        make().map_err(refused)?;
        Ok(Self(folder.to_owned()))
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Fills it: nothing more can be written until it is [emptied](Self::empty), but for what fits into the pages that
    /// files have already.
    ///
    /// # Errors
    /// When it cannot be written to for another reason than that it is full.
    pub fn fill(&self) -> io::Result<()> {
        let mut ballast = File::options().create(true).append(true).open(self.ballast())?;
        let block = [0; 4_096];
        let mut most = block.len();
        while most > 0 {
            match ballast.write(block.get(..most).unwrap_or_default()) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => most /= 2,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes away what [`fill`](Self::fill) has put there.
    ///
    /// # Errors
    /// When it was not filled.
    pub fn empty(&self) -> io::Result<()> {
        fs::remove_file(self.ballast())
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Where it is still in use, the folder stays behind, empty.
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
        let _ = fs::remove_dir(&self.0);
    }
}
