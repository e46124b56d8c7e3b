//! The program, and what it leaves behind.

use core::error::Error;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, PipeReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Instant;

use lvs_std::lab::Node;
use rustix::fs::{OFlags, fcntl_setfl};
use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_director");

/// The program at work in a node, until this value is dropped.
pub(crate) struct Program {
    child: Child,
    /// The other end of a log that stays full.
    _log: Option<PipeReader>,
}

impl Program {
    /// Starts it and waits until its log has `ready`.
    pub(crate) fn start(node: &Node, arguments: &[&str], ready: &str) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(PROGRAM);
        let command =
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut program = Self { child: node.run(|| command.spawn())??, _log: None };
        let mut log = BufReader::new(program.child.stderr.take().ok_or("its log")?);
        let mut lines = String::new();
        while !lines.contains(ready) {
            if log.read_line(&mut lines)? == 0 {
                return Err(format!("{arguments:?} ended: {lines}").into());
            }
        }
        // So that no other test is one of a full log.
        std::thread::spawn(move || log.lines().for_each(drop));
        Ok(program)
    }

    /// Starts it with a log that nobody takes, and waits until it listens at `socket`.
    pub(crate) fn start_unread(
        node: &Node,
        arguments: &[&str],
        log: Log,
        socket: &str,
    ) -> Result<Self, Box<dyn Error>> {
        let (reader, mut writer) = std::io::pipe()?;
        let reader = match log {
            Log::Closed => None,
            Log::Full => {
                fcntl_setfl(&writer, OFlags::NONBLOCK)?;
                for size in [4_096, 1] {
                    while writer.write(&[b'x'; 4_096][..size]).is_ok() {}
                }
                // The program's end is the same, and shall wait as any pipe does.
                fcntl_setfl(&writer, OFlags::empty())?;
                Some(reader)
            }
        };
        let mut command = Command::new(PROGRAM);
        let command = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer);
        let mut program = Self { child: node.run(|| command.spawn())??, _log: reader };
        let end = Instant::now() + Duration::from_secs(60);
        while UnixStream::connect(format!("{socket}.json")).is_err() {
            if let Some(status) = program.child.try_wait()? {
                return Err(format!("{arguments:?} ended: {status}").into());
            }
            if Instant::now() > end {
                return Err(format!("{arguments:?} does not listen").into());
            }
            sleep(Duration::from_millis(20));
        }
        Ok(program)
    }
}

/// Why nobody takes a log's lines.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Log {
    /// A pipe without a reader.
    Closed,
    /// A pipe that is full.
    Full,
}

/// What a tool of the director says, and its exit status.
pub(crate) fn tool(arguments: &[&str]) -> Result<(Option<i32>, String), Box<dyn Error>> {
    let output = Command::new(PROGRAM).args(arguments).output()?;
    Ok((output.status.code(), String::from_utf8(output.stdout)?))
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The server of each connection that a director has in its table, by the client's port.
pub(crate) fn connections(socket: &str) -> Result<HashMap<u16, SocketAddr>, Box<dyn Error>> {
    let output = Command::new(PROGRAM).args(["ipvsadm", "--control", socket, "-Lnc"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let mut table = HashMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["TCP", _, _, client, _, server] = words[..] {
            table.insert(client.parse::<SocketAddr>()?.port(), server.parse()?);
        }
    }
    if table.is_empty() {
        return Err(format!("no connections: {text}{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(table)
}

/// A file in a folder of its own, which is gone with all that is in it when this value is dropped.
pub(crate) struct Temporary(PathBuf, #[expect(dead_code, reason = "held until the end")] TempDir);

impl Temporary {
    /// With this content, or only its name.
    pub(crate) fn new(name: &str, text: Option<&str>) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join(name);
        if let Some(text) = text {
            fs::write(&path, text)?;
        }
        Ok(Self(path, folder))
    }

    pub(crate) fn name(&self) -> String {
        self.0.display().to_string()
    }
}
