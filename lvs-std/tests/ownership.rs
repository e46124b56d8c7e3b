//! A director's possessions in the hands of several processes. This program is all of them: it starts itself.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::env;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;

use lvs_std::lab::Lab;
use lvs_std::lab::harness::{self, Outcome};
use lvs_std::ownership::{Claims, Ownership, OwnershipError};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let role = arguments.next().unwrap_or_default();
    match (role.to_str(), arguments.next()) {
        (Some("first"), Some(folder)) => harness::exit_code(first(folder.into())),
        (Some("successor"), Some(_)) => harness::exit_code(successor()),
        // In a lab, whose interfaces are nobody else's.
        _ => harness::run(None, |lab| {
            let name = "a successor in another process owns without a gap, however the first one ends";
            harness::named(lab, [(name, hand_over)])
        }),
    }
}

/// Owns, and hands over to whoever asks at the other end of its standard input.
fn first(folder: PathBuf) -> Outcome {
    let owned = claims(&folder).take()?;
    say("owned")?;
    let (count, _) = recv(io::stdin(), &mut [0_u8; 8], RecvFlags::empty())?;
    if count == 0 {
        return Err("nobody asked".into());
    }
    owned.send(io::stdin())?;
    say("handed over")?;
    thread::sleep(FOREVER);
    Ok(())
}

/// Asks for what another one owns.
fn successor() -> Outcome {
    send(io::stdin(), b"please", SendFlags::NOSIGNAL)?;
    let owned = Ownership::receive(io::stdin())?;
    say(&format!("owned: {}", owned.hand_over()?.len()))?;
    thread::sleep(FOREVER);
    Ok(())
}

fn hand_over(_: Lab) -> Outcome {
    let folder = env::temp_dir().join(format!("ownership-live-{}", std::process::id()));
    let (here, there) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let mut first = Process::start("first", &folder, here)?;
    first.expect("owned")?;
    assert_eq!(owner(&folder), Some(first.child.id()));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // At no moment from now on is anything of it free.
        let tried = scope.spawn(|| {
            let mut times = 0;
            while !done.load(Ordering::Acquire) {
                owner(&folder);
                times += 1;
            }
            times
        });
        let handed = || -> Outcome<Process> {
            let mut successor = Process::start("successor", &folder, there)?;
            first.expect("handed over")?;
            successor.expect("owned: 5")?;
            first.child.kill()?;
            first.child.wait()?;
            assert_eq!(owner(&folder), Some(successor.child.id()));
            Ok(successor)
        };
        let successor = handed();
        done.store(true, Ordering::Release);
        assert!(tried.join().is_ok_and(|times| times > 0));
        let mut successor = successor?;
        successor.child.kill()?;
        successor.child.wait()?;
        Outcome::Ok(())
    })?;
    drop(claims(&folder).take()?);
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

fn claims(folder: &std::path::Path) -> Claims {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let number = name.rsplit('-').next().unwrap_or_default();
    let claims = Claims::new().with_state(folder.join("state")).with_socket(folder.join("sock"));
    // One that has an index, and one that does not exist yet.
    claims.with_interface("lo").with_interface(format!("gone{number}"))
}

/// Who is in the way of the claims.
///
/// # Panics
/// When nobody is.
fn owner(folder: &std::path::Path) -> Option<u32> {
    match claims(folder).take() {
        Err(OwnershipError::Held { by, .. }) => by,
        other => panic!("it is owned: {other:?}"),
    }
}

struct Process {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Process {
    fn start(role: &str, folder: &std::path::Path, stdin: OwnedFd) -> Outcome<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.arg(role).arg(folder).stdin(Stdio::from(stdin)).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("its output")?);
        Ok(Self { child, output })
    }

    fn expect(&mut self, line: &str) -> Outcome {
        let mut said = String::new();
        self.output.read_line(&mut said)?;
        assert_eq!(said.trim_end(), line);
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Until it is killed.
const FOREVER: Duration = Duration::from_secs(3_600);
