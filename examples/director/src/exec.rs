//! `director exec`: ipvsadm, keepalived and whatever else configures IPVS, led to a director by the preload library.

use core::fmt;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use lvs_std::control::{self, Client};
use lvs_support::println;

/// What `director exec` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The director that the command shall configure, by its name
    #[arg(long, value_name = "NAME", default_value = "default", conflicts_with = "control")]
    name: String,
    /// The director that the command shall configure, by the path of its socket
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// The library `libipvs_preload.so`, if it is not beside this program
    #[arg(long, value_name = "FILE")]
    preload: Option<PathBuf>,
    /// List the directors that answer, by name, instead
    #[arg(long, conflicts_with_all = ["name", "control", "preload", "command"])]
    list: bool,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required_unless_present = "list", value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Becomes the command. Status 1 when the library or the directors cannot be found, 126 and 127 as a shell's when the
/// command cannot be executed or found.
pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    if arguments.list {
        return list(Path::new(FOLDER));
    }
    let director = match &arguments.control {
        Some(path) => as_path(path),
        None => OsString::from(&arguments.name),
    };
    let library = match &arguments.preload {
        Some(file) => existing(file),
        None => find(std::env::current_exe().as_deref().unwrap_or_else(|_| Path::new(""))),
    };
    let library = match library.and_then(in_one_piece) {
        Ok(library) => library,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let [program, words @ ..] = &*arguments.command else { return ExitCode::FAILURE };
    let error = Command::new(program)
        .args(words)
        .env("LD_PRELOAD", preload(&library, std::env::var_os("LD_PRELOAD").as_deref()))
        .env("LVS_DIRECTOR", director)
        .exec();
    eprintln!("error: {} cannot be executed: {error}", program.display());
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 })
}

/// Prints the names of the directors whose sockets are in a folder and answer, in order.
fn list(folder: &Path) -> ExitCode {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        // Nobody has ever made it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {} cannot be looked into: {error}", folder.display());
            return ExitCode::FAILURE;
        }
    };
    let sockets = entries.flatten().map(|entry| entry.path());
    let mut names: Vec<String> =
        sockets.filter(|path| answers(path)).filter_map(|path| name(&path)).collect();
    names.sort();
    for name in names {
        println!("{name}");
    }
    ExitCode::SUCCESS
}

/// The name of the director that has this socket.
fn name(socket: &Path) -> Option<String> {
    socket.file_name()?.to_str()?.strip_suffix(".sock").map(str::to_owned)
}

/// The library beside a program, where cargo or an installation puts it.
fn find(program: &Path) -> Result<PathBuf, Missing> {
    let folder = program.parent().unwrap_or_else(|| Path::new(""));
    // What cargo has left beside the program may be older than what it built the program with.
    let folders = [folder.join("deps"), folder.to_owned(), folder.join("../lib")];
    let mut files = folders.iter().flat_map(|folder| NAMES.map(|name| folder.join(name)));
    match files.find(|file| file.is_file()) {
        Some(file) => Ok(file.canonicalize().unwrap_or(file)),
        None => Err(Missing::Beside(folder.to_owned())),
    }
}

/// The library at a path, which must be absolute for the programs that the command starts elsewhere.
fn existing(file: &Path) -> Result<PathBuf, Missing> {
    file.canonicalize().map_err(|error| Missing::At(file.to_owned(), error))
}

/// A path as it is, if it can stand in the lists of `LD_PRELOAD`.
fn in_one_piece(library: PathBuf) -> Result<PathBuf, Missing> {
    if library.as_os_str().as_encoded_bytes().iter().any(|byte| b" :".contains(byte)) {
        return Err(Missing::Separated(library));
    }
    Ok(library)
}

/// The value of `LD_PRELOAD`: the library before those that are loaded already.
fn preload(library: &Path, others: Option<&OsStr>) -> OsString {
    let mut value = library.as_os_str().to_owned();
    if let Some(others) = others.filter(|others| !others.is_empty()) {
        value.push(":");
        value.push(others);
    }
    value
}

/// A path in the form that the library takes for one: with a slash, and from the root, because daemons change their
/// folder.
fn as_path(path: &Path) -> OsString {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).into_os_string()
}

/// Whether a director listens at a socket.
fn answers(socket: &Path) -> bool {
    Client::connect(socket)
        .is_ok_and(|mut client| client.call(&control::Command::Query(control::Query::Info)).is_ok())
}

/// Why there is no library to preload.
#[derive(Debug)]
enum Missing {
    /// None is beside the program.
    Beside(PathBuf),
    /// None is where it was said to be.
    At(PathBuf, io::Error),
    /// Its path has a character that separates paths.
    Separated(PathBuf),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beside(folder) => write!(
                f,
                "there is no libipvs_preload.so in {0}, {0}/deps or {0}/../lib; build it with \
                 `cargo build -p ipvs-preload`, or say by --preload where it is",
                folder.display()
            ),
            Self::At(file, error) => write!(f, "the library {}: {error}", file.display()),
            Self::Separated(file) => write!(
                f,
                "the library {} cannot be preloaded, as LD_PRELOAD is a list in which spaces and colons separate; \
                 copy it, and say by --preload where",
                file.display()
            ),
        }
    }
}

/// Where directors have their sockets.
const FOLDER: &str = "/run/director";
/// What the library may be called: cargo writes an underscore.
const NAMES: [&str; 2] = ["libipvs_preload.so", "libipvs-preload.so"];

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that is gone when this value is dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("director-exec-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path.canonicalize().unwrap())
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_library_is_found_where_cargo_and_installations_put_it() {
        let folder = Folder::new("places");
        let program = folder.0.join("bin/director");
        for place in ["bin", "bin/deps", "lib"] {
            std::fs::create_dir_all(folder.0.join(place)).unwrap();
        }
        let error = find(&program).unwrap_err().to_string();
        assert!(error.contains("cargo build -p ipvs-preload"), "{error}");
        for place in ["lib/libipvs-preload.so", "bin/libipvs_preload.so", "bin/deps/libipvs_preload.so"] {
            let file = folder.0.join(place);
            std::fs::write(&file, "").unwrap();
            assert_eq!(find(&program).unwrap(), file, "cargo's own comes first");
        }
    }

    #[test]
    fn a_library_that_is_not_there_is_named() {
        let error = existing(Path::new("/nowhere/x.so")).unwrap_err().to_string();
        assert!(error.starts_with("the library /nowhere/x.so: "), "{error}");
    }

    #[test]
    fn a_library_that_no_list_can_have_is_refused() {
        for path in ["/a b/x.so", "/a:b/x.so"] {
            assert!(in_one_piece(path.into()).is_err(), "{path}");
        }
    }

    #[test]
    fn other_libraries_stay_preloaded() {
        let library = Path::new("/x.so");
        assert_eq!(preload(library, None), "/x.so");
        assert_eq!(preload(library, Some(OsStr::new(""))), "/x.so");
        assert_eq!(preload(library, Some(OsStr::new("/y.so:/z.so"))), "/x.so:/y.so:/z.so");
    }

    #[test]
    fn a_socket_in_this_folder_gets_a_slash() {
        assert!(as_path(Path::new("x.sock")).as_encoded_bytes().starts_with(b"/"));
    }
}
