//! A server program of the distribution that runs in a node until it is killed.

use core::time::Duration;
use std::env;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Instant;

use lvs_std::lab::Node;
use lvs_std::lab::harness::Outcome;
use rustix::process::{Pid, Signal, kill_process_group};

/// Where postfix leaves the number of its session.
const SESSION: &str = "spool/pid/master.pid";

/// Where Debian has the programs that only the superuser starts, besides `PATH`.
const SYSTEM_PATHS: [&str; 2] = ["/usr/sbin", "/sbin"];

pub(crate) fn is_installed(program: &str) -> bool {
    folders().iter().any(|folder| folder.join(program).is_file())
}

fn folders() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain(SYSTEM_PATHS.iter().map(PathBuf::from)).collect()
}

/// A program, by its name, that finds what only the superuser starts.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    if let Ok(path) = env::join_paths(folders()) {
        command.env("PATH", path);
    }
    command.stdin(Stdio::null());
    command
}

/// What `curl` got with these arguments in a node, or what it says is wrong.
pub(crate) fn curl(node: &Node, arguments: &[&str]) -> Outcome<Output> {
    let mut curl = command("curl");
    curl.args(["--globoff", "--silent", "--show-error", "--max-time", "30"]).args(arguments);
    let output = node.run(|| curl.output())??;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(output)
}

/// One of several servers of a kind, with a folder of its own.
pub(crate) struct Daemon {
    node: Node,
    folder: PathBuf,
    arguments: Vec<String>,
    process: Option<Child>,
}

impl Daemon {
    /// `arguments` are the program and its arguments; it must stay in the foreground.
    pub(crate) fn start(node: &Node, folder: &Path, arguments: &[&str]) -> Outcome<Self> {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let mut daemon = Self { node: node.clone(), folder: folder.to_owned(), arguments, process: None };
        daemon.restart()?;
        Ok(daemon)
    }

    /// Starts `director` with these arguments, and waits until it has said `ready`.
    pub(crate) fn director(node: &Node, folder: &Path, arguments: &[&str], ready: &str) -> Outcome<Self> {
        fs::create_dir_all(folder)?;
        let arguments: Vec<&str> =
            [env!("CARGO_BIN_EXE_director")].iter().chain(arguments).copied().collect();
        let mut daemon = Self::start(node, folder, &arguments)?;
        let end = Instant::now() + Duration::from_secs(60);
        while !daemon.output().contains(ready) {
            let ended = daemon.process.as_mut().is_none_or(|process| !matches!(process.try_wait(), Ok(None)));
            if ended || Instant::now() > end {
                return Err(format!("{arguments:?} said {}", daemon.output()).into());
            }
            sleep(Duration::from_millis(20));
        }
        Ok(daemon)
    }

    /// Starts it again after it was killed.
    pub(crate) fn restart(&mut self) -> Outcome<()> {
        let (program, arguments) = self.arguments.split_first().ok_or("no program")?;
        let log = File::create(self.folder.join("output"))?;
        let mut command = command(program);
        // A group of its own, so that those that it starts die with it.
        command.args(arguments).process_group(0).stdout(log.try_clone()?).stderr(log);
        self.process = Some(self.node.run(|| command.spawn())??);
        Ok(())
    }

    /// Ends it as a failing machine does: at once, with all its processes.
    pub(crate) fn kill(&mut self) {
        // What makes a session of its own, as postfix's master does, leaves its number behind.
        let session = fs::read_to_string(self.folder.join(SESSION)).unwrap_or_default();
        if let Some(session) = session.trim().parse().ok().and_then(Pid::from_raw) {
            _ = kill_process_group(session, Signal::KILL);
        }
        if let Some(mut process) = self.process.take() {
            _ = kill_process_group(Pid::from_child(&process), Signal::KILL);
            _ = process.wait();
        }
    }

    /// What it said.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.folder.join("output")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
