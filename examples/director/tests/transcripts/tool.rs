//! The tools that the scripts call.

use core::error::Error;
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use lvs_std::control::{Client, DIRECTOR_VARIABLE, socket_path};

/// What stands under the names of ipvsadm.
#[derive(Clone, Debug)]
pub(crate) enum Tool {
    /// `lvsadm`.
    Own,
    /// The real one, led to the director.
    Real,
}

impl Tool {
    /// The real one, or why it cannot be used.
    pub(crate) fn real() -> Result<Self, String> {
        for program in REAL {
            if !Path::new(program).exists() {
                return Err(format!("{program} is missing (Debian: apt-get install ipvsadm)"));
            }
        }
        Ok(Self::Real)
    }

    /// The name that a list of differences has for it.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Own => "lvsadm",
            Self::Real => "ipvsadm",
        }
    }

    /// What is in the path, by its names there.
    pub(crate) fn programs(&self) -> Result<Vec<(&'static str, PathBuf)>, Box<dyn Error>> {
        let harness = std::env::current_exe()?;
        let mut programs = vec![("traffic", harness.clone())];
        match self {
            Self::Own => {
                let own = PathBuf::from(env!("CARGO_BIN_EXE_lvsadm"));
                programs.extend(NAMES.map(|name| (name, own.clone())));
                // The kernel's files, to which `cat` is led otherwise.
                programs.push(("cat", harness));
            }
            Self::Real => programs.extend(NAMES.into_iter().zip(REAL.map(PathBuf::from))),
        }
        Ok(programs)
    }

    /// Executes a command with this tool in the path.
    pub(crate) fn command(&self, words: &[&OsStr], director: &Path) -> Command {
        let mut led = vec![OsStr::new(env!("CARGO_BIN_EXE_director")), OsStr::new("exec")];
        if let Self::Real = self {
            led.extend([OsStr::new("--director"), director.as_os_str(), OsStr::new("--")]);
        } else {
            led.clear();
        }
        led.extend(words);
        let mut words = led.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        command
    }
}

/// `cat` for a system whose IPVS is a director: its files come from there, all others from the system.
pub(crate) fn cat() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let read = |path: &str| -> Result<(), Box<dyn Error>> {
        let director = std::env::var(DIRECTOR_VARIABLE)?;
        let text = Client::connect(&socket_path(&director))?.read_file(path)?;
        Ok(std::io::stdout().write_all(&text)?)
    };
    let done = match arguments.as_slice() {
        [path] if path.to_str().is_some_and(|path| path.starts_with("/proc/net/ip_vs")) => {
            read(&path.to_string_lossy())
        }
        others => Err(Command::new("/bin/cat").args(others).exec().into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cat: {error}");
            ExitCode::FAILURE
        }
    }
}

const NAMES: [&str; 3] = ["ipvsadm", "ipvsadm-save", "ipvsadm-restore"];
const REAL: [&str; 3] = ["/usr/sbin/ipvsadm", "/usr/sbin/ipvsadm-save", "/usr/sbin/ipvsadm-restore"];
