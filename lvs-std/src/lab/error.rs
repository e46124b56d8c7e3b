//! What can go wrong while a cluster is built.

use core::error::Error;
use core::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

/// Why a step of building a lab failed. The text says what was refused, where, and what to do about it.
#[derive(Debug)]
#[non_exhaustive]
pub enum LabError {
    /// The kernel gave no user and network namespace: allow them as `remedy` says.
    Isolate {
        /// The kernel's answer.
        source: io::Error,
        /// What to change on this machine, from what its settings show.
        remedy: String,
    },
    /// A network namespace with the machine's own privileges takes `CAP_SYS_ADMIN` there, and a process that has not
    /// given it up for a user namespace: run this as root, outside of a container.
    Privileges {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused a step inside a namespace.
    Setup {
        /// The node's name.
        node: String,
        /// What was tried, for example "add address 192.0.2.7/24 to eth0".
        step: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused a disk.
    Disk {
        /// Where it should be mounted.
        folder: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The process already has several threads, and a user namespace can only be entered by a process with one:
    /// make the first [`Lab`](super::Lab) at the very start of `main`.
    Threads,
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Isolate { source, remedy } => {
                write!(f, "the kernel refused a user and network namespace ({source}); {remedy}")
            }
            Self::Privileges { source } => write!(
                f,
                "a network namespace with the machine's own privileges is refused ({source}); run this as root, \
                 outside of a container"
            ),
            Self::Setup { node, step, source } => {
                write!(f, "node {node}: cannot {step}: {source}")?;
                if source.kind() == io::ErrorKind::ReadOnlyFilesystem {
                    f.write_str(
                        "; containers often mount /proc/sys read-only: start this one with `--privileged`",
                    )?;
                }
                Ok(())
            }
            Self::Disk { folder, source } => {
                write!(f, "no disk can be mounted at {}: {source}", folder.display())
            }
            Self::Threads => f.write_str(
                "a user namespace can only be entered by a process with one thread; \
                 make the first lab at the very start of main, before any thread",
            ),
        }
    }
}

impl Error for LabError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Isolate { source, .. }
            | Self::Privileges { source }
            | Self::Setup { source, .. }
            | Self::Disk { source, .. } => Some(source),
            Self::Threads => None,
        }
    }
}

impl LabError {
    /// A refused namespace, with the remedy that this machine's settings suggest.
    pub(super) fn isolate(source: io::Error) -> Self {
        let remedy = remedy(|name| {
            let path = format!("/proc/sys/{}", name.replace('.', "/"));
            fs::read_to_string(path).ok()?.trim().parse().ok()
        });
        Self::Isolate { source, remedy }
    }
}

/// Which setting stands in the way, given how to read one.
fn remedy(read: impl Fn(&str) -> Option<u64>) -> String {
    let refusing = [
        ("user.max_user_namespaces", 0, 15_000),
        ("user.max_net_namespaces", 0, 15_000),
        ("kernel.unprivileged_userns_clone", 0, 1),
        ("kernel.apparmor_restrict_unprivileged_userns", 1, 0),
    ];
    for (name, bad, good) in refusing {
        if read(name) == Some(bad) {
            return format!(
                "{name} is {bad} on this machine: run `sudo sysctl -w {name}={good}`, or run this as root"
            );
        }
    }
    "no sysctl of this machine forbids it, so a container's seccomp filter or a security module does: \
     run this outside the container, start the container with `--privileged` \
     (or `--security-opt seccomp=unconfined`), or run this as root"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_names_the_setting_that_refuses() {
        let text = remedy(|name| (name == "kernel.apparmor_restrict_unprivileged_userns").then_some(1));
        assert!(text.contains("sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"), "{text}");
        let text = remedy(|name| Some(u64::from(name != "user.max_user_namespaces")));
        assert!(text.contains("sysctl -w user.max_user_namespaces=15000"), "{text}");
    }

    #[test]
    fn settings_that_a_container_forbids_are_explained() {
        let source = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
        let error = LabError::Setup { node: "rs1".to_owned(), step: "set a to 1".to_owned(), source };
        assert!(error.to_string().ends_with("start this one with `--privileged`"), "{error}");
    }

    #[test]
    fn without_a_refusing_setting_the_container_is_suspected() {
        assert!(remedy(|_| None).contains("seccomp"));
    }
}
