//! `director exec`: what programs find through the preload library, with a director in memory behind the socket.
#![expect(clippy::unwrap_used, reason = "a failure here is a failure of the test")]

use core::sync::atomic::{AtomicUsize, Ordering};
use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use lvs_core::config::Capacity;
use lvs_core::{Config, Director, Heap, Seed};
use lvs_forward::host::Host;
use lvs_forward::{Forwarder, Options};
use lvs_std::control::{CommandHandler, Controller, Local, NoDaemons, ServeOptions, Serving, Session, serve};
use lvs_std::ownership::OwnedSocket;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketType};

#[test]
fn files_of_ipvs_are_the_directors() {
    let director = Running::new("files");
    let text = director.sh("cat /proc/net/ip_vs");
    assert!(text.starts_with("IP Virtual Server version 1.2.1"), "{text}");
    let read = "while read -r line; do echo \"$line\"; done";
    assert_eq!(director.sh(&format!("{read} </proc/net/ip_vs")).lines().count(), text.lines().count());
    assert!(director.sh("head -1 /proc/self/net/ip_vs_conn").starts_with("Pro FromIP"));
    assert_eq!(
        director.sh("test -r /proc/net/ip_vs && test ! -d /proc/net/ip_vs_stats && echo yes"),
        "yes\n"
    );
    assert_eq!(director.sh("test -d /proc/sys/net/ipv4/vs && echo yes"), "yes\n");
    assert_eq!(
        director.sh("stat -c %A /proc/net/ip_vs; ls /proc/net/ip_vs"),
        "-r--r--r--\n/proc/net/ip_vs\n"
    );
    assert_eq!(director.sh("test -e /proc/sys/net/ipv4/vs/nonsense || echo no"), "no\n");
}

#[test]
fn switches_of_ipvs_are_the_directors() {
    let director = Running::new("switches");
    let switch = "/proc/sys/net/ipv4/vs/sloppy_tcp";
    assert_eq!(director.sh(&format!("cat {switch}; echo 1 >{switch}; cat {switch}")), "0\n1\n");
    assert_eq!(director.sh(&format!("test -w {switch} && echo yes")), "yes\n");
    if is_there("sysctl") {
        assert_eq!(
            director.sh("sysctl -qw net.ipv4.vs.sloppy_tcp=0; sysctl -n net.ipv4.vs.sloppy_tcp"),
            "0\n"
        );
    }
}

#[test]
fn without_a_director_there_is_no_ipvs() {
    let socket = Temporary::new("none");
    let output = exec(&socket.0, ["sh", "-c", "cat /proc/net/ip_vs; test -e /proc/net/ip_vs_conn; echo $?"]);
    assert_eq!(output.stdout, b"1\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("No such file or directory"), "{output:?}");
    if is_there("ipvsadm") {
        let output = exec(&socket.0, ["ipvsadm", "-Ln"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stderr.starts_with(b"Can't initialize ipvs: Protocol not available"), "{output:?}");
    }
}

#[test]
fn other_files_and_families_stay_with_the_kernel() {
    let director = Running::new("others");
    let file = Temporary::new("file");
    fs::write(&file.0, "text").unwrap();
    assert_eq!(director.sh(&format!("cat {}", file.0.display())), "text");
    assert_eq!(director.sh("head -c 6 /proc/net/dev"), "Inter-");
    if is_there("genl") {
        let plain = Command::new("genl").args(["ctrl", "get", "name", "nlctrl"]).output().unwrap();
        assert_eq!(director.sh("genl ctrl get name nlctrl").as_bytes(), plain.stdout);
    }
}

#[test]
fn a_request_that_the_director_took_with_it_is_sent_again() {
    if !is_there("ipvsadm") {
        return;
    }
    let socket = Temporary::new("again");
    let listener = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    rustix::net::bind(&listener, &SocketAddrUnix::new(&socket.0).unwrap()).unwrap();
    rustix::net::listen(&listener, 8).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let (handler, counter) = (handler(), Arc::clone(&asked));
    // The test's process ends it.
    thread::spawn(move || {
        while let Ok(client) = rustix::net::accept(&listener) {
            let (handler, counter) = (Arc::clone(&handler), Arc::clone(&counter));
            thread::spawn(move || converse(&client, &handler, &counter));
        }
    });
    let output = exec(&socket.0, ["ipvsadm", "-A", "-t", "10.0.0.1:80"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    let output = exec(&socket.0, ["ipvsadm", "-Sn"]);
    assert_eq!(output.stdout, b"-A -t 10.0.0.1:80 -s wlc\n");
}

#[test]
fn a_command_that_is_not_there_has_a_shells_status() {
    let socket = Temporary::new("status");
    assert_eq!(exec(&socket.0, ["/nowhere/command"]).status.code(), Some(127));
    assert_eq!(exec(&socket.0, ["/"]).status.code(), Some(126));
    assert_eq!(exec(&socket.0, ["sh", "-c", "exit 7"]).status.code(), Some(7));
}

/// Answers a client as a director does, but hangs up on the first service that is to be made.
fn converse(client: &OwnedFd, handler: &Mutex<dyn CommandHandler + Send>, asked: &AtomicUsize) {
    let mut session = Session::new(true);
    let mut datagram = [0; 4_096];
    while let Ok((length @ 1.., _)) = rustix::net::recv(client, &mut datagram[..], RecvFlags::empty()) {
        let (family, command) = (datagram[4], datagram[16]);
        if family == 0x1b && command == 1 && asked.fetch_add(1, Ordering::Relaxed) == 0 {
            return;
        }
        for answer in session.answer(&datagram[..length], &mut *handler.lock().unwrap()) {
            if rustix::net::send(client, &answer, SendFlags::NOSIGNAL).is_err() {
                return;
            }
        }
    }
}

/// A director in memory that listens at a socket.
struct Running {
    _serving: Serving,
    socket: Temporary,
}

impl Running {
    fn new(name: &str) -> Self {
        let socket = Temporary::new(name);
        Self {
            _serving: serve(ServeOptions::at(OwnedSocket::take(&socket.0).unwrap()), handler()).unwrap(),
            socket,
        }
    }

    /// What a shell prints that is led to it. It must say nothing else.
    fn sh(&self, script: &str) -> String {
        let output = exec(&self.socket.0, ["sh", "-c", script]);
        assert!(output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn handler() -> Arc<Mutex<dyn CommandHandler + Send>> {
    let seed = Seed::from_bytes([7; 16]);
    let director = Director::new(Config::new(seed), Heap::new(Capacity::new(16)));
    let forwarder = Box::new(Forwarder::new(Host::new(seed), Options::new()));
    let controller: Controller<Heap, _> =
        Controller::new(Local::new(director, forwarder), Box::new(NoDaemons));
    Arc::new(Mutex::new(controller))
}

fn exec<const N: usize>(socket: &Path, command: [&str; N]) -> Output {
    let options = [OsStr::new("exec"), OsStr::new("--control"), socket.as_os_str(), OsStr::new("--")];
    Command::new(env!("CARGO_BIN_EXE_director")).args(options).args(command).output().unwrap()
}

/// Whether a tool can be used. Says so if not, and fails where it must be there.
fn is_there(tool: &str) -> bool {
    let found =
        Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap().status.success();
    if !found {
        eprintln!("{tool} IS MISSING: what needs it is not tested");
        let required = std::env::var("LVS_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
        assert!(!required, "{tool} is required");
    }
    found
}

/// A path that nobody else uses, with nothing there when this value is dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("director-exec-{}-{name}", std::process::id())))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}
