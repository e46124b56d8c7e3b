//! A director under a service manager, and the forms of its log.

use crate::stage::{Stage, service, text};
use crate::support::{PROGRAM, Temporary};
use core::error::Error;
use core::time::Duration;
use lvs_core::Method;
use lvs_std::lab::harness::Outcome;
use lvs_std::lab::{Cluster, Lab, Plan};
use rustix::process::{Pid, Signal, kill_process};
use std::io::Read as _;
use std::os::linux::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, ExitStatus, Stdio};

pub(crate) fn notified(lab: Lab) -> Outcome {
    let cluster = Cluster::new(lab, &Plan::new(Method::Nat).with_servers(1))?;
    // A check that has no answer for half a second, and then a bad one: nobody listens, and no neighbour says so.
    let check = "check = { type = \"tcp\", interval = \"2s\", timeout = \"500ms\" }\n";
    let servers = service("rr", &[(9, 1)]);
    let (head, tail) = servers.split_once("[[service.server]]").ok_or("a server")?;
    let file = Temporary::new(&text(&format!("{head}{check}[[service.server]]{tail}")))?;
    let manager = Manager::new(&file)?;
    let mut director = Running(cluster.director.run(|| {
        Command::new(PROGRAM)
            .args(["run", "--config", &file.name(), "--control", &file.beside("director.sock")])
            .env("NOTIFY_SOCKET", file.beside("notify"))
            .env("WATCHDOG_USEC", "4000000")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    })??);
    let before = manager.until("READY=1")?;
    assert!(before.is_empty(), "nothing before it is ready: {before:?}");
    // Three, since the first one says no more than that it has begun.
    for _ in 0..3 {
        manager.until("WATCHDOG=1")?;
    }
    director.signal(Signal::HUP)?;
    let before = manager.until("RELOADING=1")?;
    // Systemd from 253 on wants to know since when, in the same message.
    assert!(before.iter().any(|line| line.starts_with("MONOTONIC_USEC=")), "{before:?}");
    assert!(!before.iter().any(|line| line == "READY=1"), "{before:?}");
    manager.until("READY=1")?;
    director.signal(Signal::TERM)?;
    manager.until("STOPPING=1")?;
    assert_eq!(director.0.wait()?.code(), Some(0));
    Ok(())
}

pub(crate) fn logged(lab: Lab) -> Outcome {
    let stage = Stage::new(lab, &service("rr", &[(1, 1)]))?;
    // A second director, which ends at once with an error, and says so.
    let refused = |arguments: &[&str], journal: bool| -> Result<(ExitStatus, Vec<String>), Box<dyn Error>> {
        let (mut log, writer) = std::io::pipe()?;
        let place = std::fs::metadata(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer)))?;
        let mut command = Command::new(PROGRAM);
        command.args(["run", "--config", &stage.file.name(), "--control", &stage.socket]).args(arguments);
        if journal {
            command.env("JOURNAL_STREAM", format!("{}:{}", place.st_dev(), place.st_ino()));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer);
        let mut child = stage.cluster.director.run(|| command.spawn())??;
        // Its own end of the pipe goes with it, and this one's now.
        drop(command);
        let mut text = String::new();
        log.read_to_string(&mut text)?;
        Ok((child.wait()?, text.lines().map(str::to_owned).collect()))
    };
    let (status, lines) = refused(&["--log", "json"], false)?;
    assert_eq!(status.code(), Some(1), "{lines:?}");
    let last: serde_json::Value = serde_json::from_str(lines.last().ok_or("a line")?)?;
    assert_eq!(last["level"], "ERROR", "{last}");
    assert!(last["fields"]["message"].as_str().is_some_and(|text| text.contains("--director")), "{last}");
    for line in &lines {
        serde_json::from_str::<serde_json::Value>(line)?;
    }
    for (arguments, journal) in [(&["--log", "journal"][..], false), (&[], true)] {
        let (_, lines) = refused(arguments, journal)?;
        assert!(lines.last().is_some_and(|line| line.starts_with("<3>")), "{lines:?}");
        assert!(lines.iter().all(|line| line.starts_with('<')), "{lines:?}");
    }
    let (_, lines) = refused(&["--log", "text"], true)?;
    assert!(lines.last().is_some_and(|line| line.contains("ERROR")), "{lines:?}");
    Ok(())
}

/// A service manager's end.
struct Manager(UnixDatagram);

impl Manager {
    fn new(file: &Temporary) -> std::io::Result<Self> {
        let socket = UnixDatagram::bind(file.beside("notify"))?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self(socket))
    }

    /// Waits for a line; what came before it, and with it.
    fn until(&self, wanted: &str) -> Result<Vec<String>, Box<dyn Error>> {
        let (mut lines, mut buffer) = (Vec::new(), [0; 4_096]);
        loop {
            let length =
                self.0.recv(&mut buffer).map_err(|error| format!("no {wanted}, {lines:?}: {error}"))?;
            let told = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let found = told.lines().any(|line| line == wanted);
            lines.extend(told.lines().filter(|line| *line != wanted).map(str::to_owned));
            if found {
                return Ok(lines);
            }
        }
    }
}

struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) -> Outcome {
        Ok(kill_process(Pid::from_child(&self.0), signal)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
