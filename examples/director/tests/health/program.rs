//! The program, and what it leaves behind.

use core::error::Error;
use core::net::SocketAddr;
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use lvs_std::lab::Node;

const PROGRAM: &str = env!("CARGO_BIN_EXE_director");

/// The program at work in a node, until this value is dropped.
pub(crate) struct Program(Child);

impl Program {
    /// Starts it and waits until its log has `ready`.
    pub(crate) fn start(node: &Node, arguments: &[&str], ready: &str) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(PROGRAM);
        let command =
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
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
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
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

/// A file that is gone when this value is dropped.
pub(crate) struct Temporary(PathBuf);

impl Temporary {
    /// With this content, or only its name.
    pub(crate) fn new(name: &str, text: Option<&str>) -> Result<Self, Box<dyn Error>> {
        let path = std::env::temp_dir().join(format!("director-test-{}-{name}", std::process::id()));
        if let Some(text) = text {
            fs::write(&path, text)?;
        }
        Ok(Self(path))
    }

    pub(crate) fn name(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        for path in [self.name(), self.name() + ".json"] {
            drop(fs::remove_file(path));
        }
    }
}
