//! Which paths lead to a file of IPVS.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use super::caller::Caller;

/// A file that is the director's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// `/proc/net/NAME`: only to be read.
    Text(String),
    /// `/proc/sys/net/ipv4/vs/NAME`: a switch.
    Switch(String),
    /// `/proc/sys/net/ipv4/vs`.
    Folder,
    /// `/proc/sys/net/ipv4`, named as the folder above that one, which the kernel does not have.
    Above,
}

impl Place {
    /// The path by which the director knows it.
    pub(super) fn path(&self) -> String {
        match self {
            Self::Text(name) => format!("/proc/net/{name}"),
            Self::Switch(name) => format!("{SWITCHES}/{name}"),
            Self::Folder => SWITCHES.to_owned(),
            Self::Above => ABOVE_SWITCHES.to_owned(),
        }
    }

    /// What a caller means by a path, from a folder if it is relative: that of a descriptor, or its current one.
    /// `stand_in` is what this process gave programs for [`Folder`](Self::Folder).
    pub(super) fn find(caller: &Caller, folder: Option<i32>, path: &[u8], stand_in: &Path) -> Option<Self> {
        if path.is_empty() {
            return None;
        }
        let mut whole = Vec::new();
        if path.first() != Some(&b'/') {
            let folder = match folder {
                Some(number) if number != libc::AT_FDCWD => caller.descriptor_name(number),
                Some(_) | None => caller.current_folder(),
            }?;
            let folder = if folder == stand_in { Path::new(SWITCHES) } else { &folder };
            whole.extend(folder.as_os_str().as_bytes());
            whole.push(b'/');
        }
        whole.extend(path);
        let (whole, from) = (normal(&whole), whole);
        if whole == ABOVE_SWITCHES.as_bytes() && from.strip_suffix(b"/").unwrap_or(&from).ends_with(b"vs/..")
        {
            return Some(Self::Above);
        }
        Self::at(&whole, caller).or_else(|| Self::at(&resolved(&whole, caller)?, caller))
    }

    /// What a path means that has no links in it but those of `/proc`.
    fn at(path: &[u8], caller: &Caller) -> Option<Self> {
        let path = str::from_utf8(path).ok()?;
        if let Some(rest) = path.strip_prefix(SWITCHES) {
            return match rest.strip_prefix('/') {
                None if rest.is_empty() => Some(Self::Folder),
                Some(name) if !name.is_empty() && !name.contains('/') => Some(Self::Switch(name.to_owned())),
                Some(_) | None => None,
            };
        }
        let (folder, name) = path.strip_prefix("/proc/")?.rsplit_once('/')?;
        (TEXTS.contains(&name) && is_net(folder, caller)).then(|| Self::Text(name.to_owned()))
    }
}

/// Whether a folder below `/proc` tells of the caller's network.
pub(super) fn is_net(folder: &str, caller: &Caller) -> bool {
    let Some(of) = folder.strip_suffix("net") else { return false };
    let mut parts = of.split_terminator('/');
    let process = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (None | Some("self" | "thread-self"), None, ..) => return true,
        (Some("self"), Some("task"), Some(thread), None) => return is_number(thread),
        (Some(process), None, ..) if is_number(process) => process,
        (Some(process), Some("task"), Some(thread), None) if is_number(process) && is_number(thread) => {
            process
        }
        _ => return false,
    };
    // Another process may be in another network, of which the director is not.
    let network = fs::read_link(format!("/proc/{process}/ns/net"));
    match (network, caller.network()) {
        (Ok(its), Some(own)) => its == own,
        (Err(_), _) => Path::new("/proc").join(process).exists(),
        (Ok(_), None) => true,
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The path with its links followed, if its end may be a file of IPVS: a link to the folder leads there too.
fn resolved(path: &[u8], caller: &Caller) -> Option<Vec<u8>> {
    let path = Path::new(OsStr::from_bytes(path));
    let name = path.file_name()?;
    if !name.to_str().is_some_and(|name| TEXTS.contains(&name) || name == "vs") {
        return None;
    }
    let parent = fs::canonicalize(path.parent()?).ok()?;
    // Links to `/proc/net` lead to this process's own.
    let own = fs::canonicalize("/proc/self").ok()?;
    let parent = match parent.strip_prefix(own) {
        Ok(rest) => Path::new(caller.folder()).join(rest),
        Err(_) => parent,
    };
    Some(OsString::from(parent.join(name)).into_vec())
}

/// An absolute path without `.`, `..` and repeated slashes.
fn normal(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut whole = Vec::with_capacity(path.len());
    for part in parts {
        whole.push(b'/');
        whole.extend(part);
    }
    whole
}

/// Where the switches are.
pub(super) const SWITCHES: &str = "/proc/sys/net/ipv4/vs";
/// The folder that they are listed in.
pub(super) const ABOVE_SWITCHES: &str = "/proc/sys/net/ipv4";
/// The files that only tell.
pub(super) const TEXTS: [&str; 5] =
    ["ip_vs", "ip_vs_conn", "ip_vs_conn_sync", "ip_vs_stats", "ip_vs_stats_percpu"];

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Caller {
        Caller::own()
    }

    fn at(path: &str) -> Option<Place> {
        Place::find(&own(), None, path.as_bytes(), Path::new("/proc/1/ns"))
    }

    #[test]
    fn the_files_of_ipvs_are_known_by_all_their_paths() {
        let text = |name: &str| Some(Place::Text(name.to_owned()));
        let me = std::process::id();
        for path in [
            "/proc/net/ip_vs",
            "//proc/./net//ip_vs",
            "/proc/self/net/ip_vs",
            "/proc/thread-self/net/ip_vs",
            "/proc/sys/../net/ip_vs",
            &format!("/proc/{me}/net/ip_vs"),
            &format!("/proc/{me}/task/{me}/net/ip_vs"),
            &format!("/proc/self/task/{me}/net/ip_vs"),
        ] {
            assert_eq!(at(path), text("ip_vs"), "{path}");
        }
        assert_eq!(at("/proc/net/ip_vs_stats_percpu"), text("ip_vs_stats_percpu"));
        let switch = Some(Place::Switch("sloppy_tcp".to_owned()));
        assert_eq!(at("/proc/sys/net/ipv4/vs/sloppy_tcp"), switch);
        assert_eq!(at("/proc/sys/net/ipv4/vs"), Some(Place::Folder));
        assert_eq!(at("/proc/sys/net/ipv4/vs/"), Some(Place::Folder));
        assert_eq!(at("/proc/sys/net/ipv4/vs/."), Some(Place::Folder));
        assert_eq!(at("/proc/sys/net/ipv4/vs/.."), Some(Place::Above));
        assert_eq!(at("/proc/sys/net/ipv4/vs/../"), Some(Place::Above));
    }

    #[test]
    fn other_files_are_not_the_directors() {
        for path in [
            "",
            "/",
            "/proc/",
            "/proc/net",
            "/proc/net/dev",
            "/proc/net/ip_vs_other",
            "/proc/net/ip_vs/x",
            "/proc/sys/net/ipv4/vsx",
            "/proc/sys/net/ipv4/vs/a/b",
            "/proc/sys/net/ipv4/ip_forward",
            "/proc/sys/net/ipv4",
            "/proc/sys/net/ipv4/conf/..",
            "/proc/4294967295/net/ip_vs",
            "/proc/self/fd/net/ip_vs",
            "ip_vs",
            "/etc/hosts",
            "/tmp/ip_vs",
        ] {
            assert_eq!(at(path), None, "{path}");
        }
    }

    #[test]
    fn relative_paths_begin_at_a_descriptor() {
        use std::os::fd::AsRawFd as _;
        let folder = fs::File::open("/proc/self/net").unwrap();
        let from = |folder: &fs::File, path: &str| {
            Place::find(&own(), Some(folder.as_raw_fd()), path.as_bytes(), Path::new("/nowhere"))
        };
        assert_eq!(from(&folder, "ip_vs"), Some(Place::Text("ip_vs".to_owned())));
        assert_eq!(from(&folder, "./../net/ip_vs_conn"), Some(Place::Text("ip_vs_conn".to_owned())));
        assert_eq!(from(&folder, "dev"), None);
        let above = fs::File::open(ABOVE_SWITCHES).unwrap();
        assert_eq!(from(&above, "vs/drop_entry"), Some(Place::Switch("drop_entry".to_owned())));
    }

    #[test]
    fn links_to_the_folder_are_followed() {
        let link = std::env::temp_dir().join(format!("lvs-exec-place-{}", std::process::id()));
        std::os::unix::fs::symlink("/proc/net", &link).unwrap();
        let found = at(link.join("ip_vs").to_str().unwrap());
        fs::remove_file(&link).unwrap();
        assert_eq!(found, Some(Place::Text("ip_vs".to_owned())));
    }
}
