//! What tests of the programs share: a director that runs in a node, files that go, a server and a client.

use core::error::Error;
use core::net::SocketAddr;
use core::time::Duration;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use lvs_std::lab::Node;
use lvs_std::lab::harness::Outcome;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_director");

/// A program that runs in a node until it is stopped, or this value is dropped.
pub(crate) struct Program(Child);

impl Program {
    /// Starts it and waits until its log has `ready`.
    pub(crate) fn start(node: &Node, arguments: &[&str], ready: &str) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(PROGRAM);
        let command =
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut program = Self(node.run(|| command.spawn())??);
        let mut log = BufReader::new(program.0.stderr.take().ok_or("its log")?);
        let mut lines = String::new();
        while !lines.contains(ready) {
            if log.read_line(&mut lines)? == 0 {
                return Err(format!("{arguments:?} ended: {lines}").into());
            }
        }
        // Whoever writes to a closed log, or a full one, does not go on.
        std::thread::spawn(move || log.lines().for_each(drop));
        Ok(program)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Outcome {
        Ok(kill_process(Pid::from_child(&self.0), signal)?)
    }

    /// Sends it a signal, expects status 0, and returns what it printed.
    pub(crate) fn stop(mut self, signal: Signal) -> Result<String, Box<dyn Error>> {
        self.signal(signal)?;
        let mut text = String::new();
        self.0.stdout.take().ok_or("its output")?.read_to_string(&mut text)?;
        let status = self.0.wait()?;
        assert_eq!(status.code(), Some(0), "{text}");
        Ok(text)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // After `stop` there is nothing left to end.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A file in a folder of its own, which is gone with all that is in it when this value is dropped.
pub(crate) struct Temporary(TempDir);

impl Temporary {
    pub(crate) fn new(text: &str) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join(FILE), text)?;
        Ok(Self(folder))
    }

    pub(crate) fn name(&self) -> String {
        self.beside(FILE)
    }

    /// A path in the same folder.
    pub(crate) fn beside(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}

const FILE: &str = "director.toml";

/// Starts a server that tells everybody its node's name.
pub(crate) fn serve(node: &Node, address: SocketAddr) -> Outcome {
    let listener = node.run(|| TcpListener::bind(address))??;
    let name = node.name().to_owned();
    node.spawn("server", move || {
        for mut stream in listener.incoming().flatten() {
            drop(stream.write_all(name.as_bytes()));
        }
    })?;
    Ok(())
}

/// Connects, and reads what comes.
pub(crate) fn ask(to: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(10))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
