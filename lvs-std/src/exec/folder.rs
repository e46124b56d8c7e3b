//! Lists of folders in which files of IPVS stand.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::path::Path;

use super::caller::Caller;
use super::place::{ABOVE_SWITCHES, TEXTS, is_net};
use crate::control::sysctl;
use crate::sys::seccomp::{Call, directory_entries};

/// A list that has entries which the kernel does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    /// `/proc/net`: has the texts too.
    Net,
    /// `/proc/sys/net/ipv4`: has the switches' folder too.
    Above,
    /// `/proc/sys/net/ipv4/vs`: has the switches alone.
    Switches,
}

impl Listed {
    /// What a descriptor of this name lists.
    pub(super) fn of(name: &Path, caller: &Caller, stand_in: &Path) -> Option<Self> {
        if name == stand_in {
            return Some(Self::Switches);
        }
        let name = name.to_str()?;
        if name == ABOVE_SWITCHES {
            return Some(Self::Above);
        }
        is_net(name.strip_prefix("/proc/")?, caller).then_some(Self::Net)
    }

    fn names(self) -> Vec<(&'static str, u8)> {
        match self {
            Self::Net => TEXTS.map(|name| (name, libc::DT_REG)).to_vec(),
            Self::Above => vec![("vs", libc::DT_DIR)],
            Self::Switches => [(".", libc::DT_DIR), ("..", libc::DT_DIR)]
                .into_iter()
                .chain(sysctl::names().map(|name| (name, libc::DT_REG)))
                .collect(),
        }
    }

    /// getdents64(2). How far a list is, the folder's descriptor itself says: whoever shares it or begins anew finds
    /// what the kernel would give.
    pub(super) fn list(self, call: &Call, caller: &Caller) -> Result<i64, i32> {
        let number = |error: std::io::Error| error.raw_os_error().unwrap_or(libc::EIO);
        let mut folder = File::from(caller.descriptor(call.int(0)).map_err(number)?);
        let room = usize::try_from(call.word(2) as u32).unwrap_or(0).min(LONGEST);
        let mut at = folder.stream_position().map_err(number)?;
        if self != Self::Switches && at < KERNELS_END {
            let mut bytes = vec![0; room];
            loop {
                let length = directory_entries(folder.as_fd(), &mut bytes).map_err(number)?;
                if length == 0 {
                    break;
                }
                // With its module the kernel has some of them too.
                let kept = without(bytes.get(..length).unwrap_or_default(), &self.names());
                if !kept.is_empty() {
                    caller.write(call.word(1), &kept)?;
                    return Ok(kept.len() as i64);
                }
            }
            at = KERNELS_END;
        }
        let begins = if self == Self::Switches { 0 } else { KERNELS_END };
        let mut bytes = Vec::new();
        let mut next = at;
        let skipped = usize::try_from(at.saturating_sub(begins)).unwrap_or(usize::MAX);
        for (name, kind) in self.names().into_iter().skip(skipped) {
            let entry = entry(name, kind, next + 1);
            if bytes.len() + entry.len() > room {
                if bytes.is_empty() {
                    return Err(libc::EINVAL);
                }
                break;
            }
            bytes.extend(entry);
            next += 1;
        }
        caller.write(call.word(1), &bytes)?;
        folder.seek(SeekFrom::Start(next)).map_err(number)?;
        Ok(bytes.len() as i64)
    }
}

/// The entries that have none of these names.
fn without(entries: &[u8], names: &[(&str, u8)]) -> Vec<u8> {
    let (mut kept, mut rest) = (Vec::with_capacity(entries.len()), entries);
    while let Some(length) = rest.get(16..).and_then(|rest| rest.first_chunk()) {
        let length = usize::from(u16::from_ne_bytes(*length));
        let Some((entry, after)) = rest.split_at_checked(length.max(HEAD)) else { break };
        rest = after;
        let name = entry.get(HEAD..).unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
        if !names.iter().any(|(one, _)| one.as_bytes() == name) {
            kept.extend(entry);
        }
    }
    kept
}

/// A `struct linux_dirent64`.
fn entry(name: &str, kind: u8, next: u64) -> Vec<u8> {
    let length = (HEAD + name.len() + 1).next_multiple_of(8);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(INODE.to_ne_bytes());
    bytes.extend(next.to_ne_bytes());
    bytes.extend((length as u16).to_ne_bytes());
    bytes.push(kind);
    bytes.extend(name.as_bytes());
    bytes.resize(length, 0);
    bytes
}

/// Bytes of an entry before its name.
const HEAD: usize = 19;
/// What no file has.
const INODE: u64 = u32::MAX as u64;
/// A list's position behind all that the kernel has: below `/proc` positions end at 2^31.
const KERNELS_END: u64 = 0x7fff_ff00;
const LONGEST: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_these_names_are_left_out_and_all_others_kept() {
        let all: Vec<u8> = [("dev", 8), ("ip_vs", 8), ("ip_vs_conn", 8), ("tcp", 8)]
            .map(|(name, kind)| entry(name, kind, 1))
            .concat();
        let expected = [("dev", 8), ("tcp", 8)].map(|(name, kind)| entry(name, kind, 1)).concat();
        assert_eq!(without(&all, &Listed::Net.names()), expected);
        assert!(without(&[], &[]).is_empty());
        assert_eq!(without(&[0; 40], &[]).len(), 38, "lengths that make no sense end it");
    }

    #[test]
    fn an_entry_has_the_kernels_layout() {
        let entry = entry("vs", libc::DT_DIR, 7);
        assert_eq!(entry.len(), 24);
        assert_eq!(entry.get(8..19), Some(&[7, 0, 0, 0, 0, 0, 0, 0, 24, 0, 4][..]));
        assert_eq!(entry.get(19..22), Some(&b"vs\0"[..]));
    }
}
