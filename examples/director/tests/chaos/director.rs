//! The director's process.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Instant;

use lvs_std::lab::harness::Outcome;
use lvs_std::lab::{Disk, Node};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::commands::LONG;

const PROGRAM: &str = env!("CARGO_BIN_EXE_director");

/// Where the director is found.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) socket: PathBuf,
    pub(crate) json: PathBuf,
    file: PathBuf,
}

impl Place {
    /// Puts another text in the configuration file's place, at once: a start must not find half of it.
    pub(crate) fn write(&self, text: &str) -> Outcome {
        let new = self.file.with_extension("new");
        fs::write(&new, text)?;
        Ok(fs::rename(new, &self.file)?)
    }
}

/// A director that runs, or is being started again.
pub(crate) struct Director {
    node: Node,
    place: Place,
    state: PathBuf,
    child: Child,
    /// With what is in [`Place`].
    _folder: TempDir,
}

impl Director {
    pub(crate) fn start(node: &Node, text: &str, disk: &Disk) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("director.sock");
        let json = socket.with_extension("sock.json");
        let file = socket.with_extension("toml");
        let place = Place { socket, json, file };
        place.write(text)?;
        let state = disk.path().join("state");
        let child = spawn(node, &place, &state)?;
        let mut director = Self { node: node.clone(), place, state, child, _folder: folder };
        director.wait()?;
        Ok(director)
    }

    /// Starts it again after its end.
    pub(crate) fn start_again(&mut self) -> Outcome {
        self.child = spawn(&self.node, &self.place, &self.state)?;
        self.wait()
    }

    /// Waits until it is at work.
    fn wait(&mut self) -> Outcome {
        let end = Instant::now() + LONG;
        while !self.log().contains("the director is at work") {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("it does not start: {status}: {}", self.log()).into());
            }
            if Instant::now() > end {
                return Err(format!("it takes too long to start: {}", self.log()).into());
            }
            thread::sleep(core::time::Duration::from_millis(5));
        }
        Ok(())
    }

    pub(crate) fn place(&self) -> Place {
        self.place.clone()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// What this process has logged, the one that runs.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(log(&self.place)).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: Signal) -> Outcome {
        Ok(kill_process(self.pid(), signal)?)
    }

    pub(crate) fn kill(&mut self) -> Outcome {
        self.signal(Signal::KILL)?;
        let status = self.child.wait()?;
        match status.signal() {
            Some(9) => Ok(()),
            _ => Err(format!("it had ended already: {status}: {}", self.log()).into()),
        }
    }

    /// Stops it as an operator does.
    pub(crate) fn stop(&mut self) -> Outcome {
        self.signal(Signal::TERM)?;
        let status = self.child.wait()?;
        if status.code() != Some(0) {
            return Err(format!("stopped, it ends with {status}: {}", self.log()).into());
        }
        Ok(())
    }

    pub(crate) fn terminate(mut self) -> Outcome {
        self.stop()
    }

    /// Starts a second one beside it, which shares as much as `arguments` say, and waits for its end.
    pub(crate) fn second(&self, arguments: &[&str]) -> Outcome<Output> {
        let mut command = Command::new(PROGRAM);
        command.arg("run").arg("--config").arg(&self.place.file).args(arguments);
        Ok(self.node.run(|| command.output())??)
    }

    pub(crate) fn state(&self) -> String {
        self.state.display().to_string()
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn log(place: &Place) -> PathBuf {
    place.socket.with_extension("sock.log")
}

fn spawn(node: &Node, place: &Place, state: &std::path::Path) -> Outcome<Child> {
    let log = File::create(log(place))?;
    let mut command = Command::new(PROGRAM);
    command.arg("run").arg("--config").arg(&place.file).arg("--control").arg(&place.socket);
    command.arg("--state").arg(state);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Ok(node.run(|| command.spawn())??)
}
