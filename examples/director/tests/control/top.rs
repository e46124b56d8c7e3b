//! `director top` in a terminal.

use crate::stage::{Stage, eventually, service};
use crate::support::PROGRAM;
use core::num::NonZero;
use lvs_std::lab::Lab;
use lvs_std::lab::harness::Outcome;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread;
use vt100::Parser;

pub(crate) fn watched(lab: Lab) -> Outcome {
    let stage = Stage::new(lab, &service("rr", &[(1, 1), (2, 1)]))?;
    let mut top = Terminal::start(&stage)?;
    top.until("the service is shown", |screen| screen.contains("TCP 192.0.2.100:80  rr"))?;
    // Under load, rows move.
    let mut held = (0..6).map(|_| stage.connect()).collect::<Result<Vec<_>, _>>()?;
    for server in ["10.0.1.11:80", "10.0.1.12:80"] {
        top.until("three connections at each", |screen| row(screen, server).contains(&format!(" 3 {FULL}")))?;
    }
    // The one that was added last comes first, so the first key marks it.
    top.press("jd")?;
    top.until("the marked server is drained", |screen| row(screen, "10.0.1.12:80").contains("draining"))?;
    for _ in 0..4 {
        let (stream, name) = stage.connect()?;
        assert_eq!(name, "rs1", "the other one is being drained");
        held.push((stream, name));
    }
    top.until("seven at the other", |screen| row(screen, "10.0.1.11:80").contains(" 7 "))?;
    held.retain(|(_, name)| name != "rs2");
    top.until("the drained server is empty", |screen| {
        row(screen, "10.0.1.12:80").contains(&format!(" 0 {NONE}"))
    })?;
    top.press("u")?;
    top.until("it is used again", |screen| row(screen, "10.0.1.12:80").contains("in use"))?;
    top.press("/.11\r")?;
    top.until("a filter leaves one", |screen| row(screen, "10.0.1.12:80").is_empty())?;
    // The last line is where the window ends, also when that moves.
    top.resize(24, 90)?;
    top.until("the keys are in line 24", |screen| {
        screen.lines().nth(23).is_some_and(|at| at.contains("q quit"))
    })?;
    top.press("q")?;
    top.ended()?;
    for end in [Ending::Key("\x03"), Ending::Signal(Signal::TERM)] {
        let mut top = Terminal::start(&stage)?;
        top.until("it is shown", |screen| screen.contains("q quit"))?;
        match end {
            Ending::Key(key) => top.press(key)?,
            Ending::Signal(signal) => top.signal(signal)?,
        }
        top.ended()?;
    }
    Ok(())
}

enum Ending {
    Key(&'static str),
    Signal(Signal),
}

/// The bar of the server with the most connections, and of one without any.
const FULL: &str = "██████████";
const NONE: &str = "··········";

/// The line of a real server.
fn row<'a>(screen: &'a str, server: &str) -> &'a str {
    screen.lines().find(|line| line.trim_start().starts_with(server)).unwrap_or_default()
}

/// A terminal with `director top` in it.
struct Terminal {
    keys: File,
    window: File,
    before: String,
    screen: Arc<Mutex<Parser>>,
    program: Child,
}

impl Terminal {
    fn start(stage: &Stage) -> Result<Self, Box<dyn core::error::Error>> {
        let keys = File::from(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?);
        grantpt(&keys)?;
        unlockpt(&keys)?;
        let name = ptsname(&keys, Vec::new())?;
        let window = File::options().read(true).write(true).open(name.to_str()?)?;
        tcsetwinsize(&window, size(40, 120))?;
        let before = format!("{:?}", tcgetattr(&window)?);
        let screen = Arc::new(Mutex::new(Parser::new(length(40), length(120), 0)));
        let (mut written, shown) = (keys.try_clone()?, screen.clone());
        // Ends when nobody has the terminal any more.
        thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok(count @ 1..) = written.read(&mut buffer) {
                shown.lock().unwrap().process(&buffer[..count]);
            }
        });
        let program = Command::new(PROGRAM)
            .args(["top", "--director", &stage.socket, "--interval", "0.2"])
            .env("TERM", "xterm-256color")
            .stdin(window.try_clone()?)
            .stdout(window.try_clone()?)
            .stderr(window.try_clone()?)
            .spawn()?;
        Ok(Self { keys, window, before, screen, program })
    }

    fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    fn until(&self, what: &str, is: impl Fn(&str) -> bool) -> Outcome {
        eventually(what, || Ok(is(&self.text()))).map_err(|error| format!("{error}\n{}", self.text()).into())
    }

    fn press(&mut self, keys: &str) -> Outcome {
        // Letters after an escape would belong to it.
        Ok(self.keys.write_all(keys.as_bytes())?)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.program)
    }

    fn signal(&self, signal: Signal) -> Outcome {
        Ok(kill_process(self.pid(), signal)?)
    }

    fn resize(&self, rows: u16, columns: u16) -> Outcome {
        self.screen.lock().unwrap().screen_mut().set_size(length(rows), length(columns));
        tcsetwinsize(&self.window, size(rows, columns))?;
        // The kernel tells those that have the terminal as their own, which this program has not.
        self.signal(Signal::WINCH)
    }

    /// The program ends by itself, and the terminal is as it was.
    fn ended(&mut self) -> Outcome {
        let mut status = None;
        eventually("the program ends", || {
            status = self.program.try_wait()?;
            Ok(status.is_some())
        })?;
        assert_eq!(status, Some(ExitStatus::from_raw(0)));
        assert_eq!(format!("{:?}", tcgetattr(&self.window)?), self.before, "keys work as before");
        eventually("the screen from before is back", || {
            let shown = self.screen.lock().unwrap();
            Ok(!shown.screen().alternate_screen() && !shown.screen().hide_cursor())
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn length(of: u16) -> NonZero<u16> {
    NonZero::new(of).unwrap()
}
