//! `director exec`: what programs find that are led to a director, which is in memory behind the socket.
#![expect(clippy::unwrap_used, reason = "a failure here is a failure of the test")]

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
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
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

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
fn a_refused_value_is_refused_to_whoever_writes_it() {
    let director = Running::new("refused");
    let switch = "/proc/sys/net/ipv4/vs/sloppy_tcp";
    for write in ["echo 77 >", "printf 77 >", "echo no | tee "] {
        let script = format!("{write}{switch} 2>/dev/null; echo $?");
        let output = director.exec(["sh", "-c", &script]);
        assert!(String::from_utf8_lossy(&output.stdout).ends_with("1\n"), "{write}: {output:?}");
    }
    let output = director.exec(["sh", "-c", "echo 1 >/proc/net/ip_vs"]);
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(director.sh(&format!("printf 1 | tee {switch}; cat {switch}")), "11\n");
}

#[test]
fn files_of_ipvs_have_many_paths() {
    let director = Running::new("paths");
    let text = director.sh("cat /proc/net/ip_vs");
    for path in [
        "cd /proc/net; cat ip_vs",
        "cd /proc; cat net/ip_vs",
        "cd /proc/net/..; cat ./net/../net/ip_vs",
        "cat /proc/$$/net/ip_vs",
        "cat /proc/self/task/$$/net/ip_vs 2>/dev/null || cat /proc/$$/task/$$/net/ip_vs",
        "cat </proc/thread-self/net/ip_vs",
        "cat /proc//net/./ip_vs",
    ] {
        assert_eq!(director.sh(path), text, "{path}");
    }
    assert_eq!(director.sh("cd /proc/sys/net/ipv4; cat vs/sloppy_tcp"), "0\n");
    let listed = director.sh("cd /proc/net; ls | grep ip_vs");
    assert_eq!(listed, "ip_vs\nip_vs_conn\nip_vs_conn_sync\nip_vs_stats\nip_vs_stats_percpu\n");
    assert_eq!(
        director.sh("ls -d /proc/sys/net/ipv4/*/ | grep vs; ls /proc/sys/net/ipv4 | grep -x vs"),
        "/proc/sys/net/ipv4/vs/\nvs\n"
    );
    let switches = director.sh("ls /proc/sys/net/ipv4/vs | wc -l");
    assert_eq!(switches, director.sh("find /proc/sys/net/ipv4/vs -type f | wc -l"));
    assert!(director.sh("ls -la /proc/sys/net/ipv4/vs").contains("sloppy_tcp"));
    if is_there("sysctl") {
        let all = director.exec(["sh", "-c", "sysctl -a 2>/dev/null | grep -c ^net.ipv4.vs."]);
        assert_eq!(String::from_utf8_lossy(&all.stdout), switches);
    }
}

#[test]
fn tools_that_open_files_in_their_own_ways_are_led() {
    let director = Running::new("tools");
    let text = director.sh("cat /proc/net/ip_vs");
    let copy = Temporary::new("copy");
    let to = copy.0.display();
    assert_eq!(director.sh(&format!("cp /proc/net/ip_vs {to}; cat {to}")), text);
    assert_eq!(director.sh("tail -n +1 /proc/net/ip_vs"), text);
    assert_eq!(director.sh("dd if=/proc/net/ip_vs bs=7 2>/dev/null"), text);
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(&director.sh("sort /proc/net/ip_vs")), lines(&text));
    assert_eq!(director.sh("grep -c Forward /proc/net/ip_vs"), "1\n");
}

#[test]
fn what_stands_against_a_command_is_said_before_it_begins() {
    let socket = Temporary::new("none");
    let mark = Temporary::new("mark");
    let touch = format!("touch {}", mark.0.display());
    let output = exec(&socket.0, ["sh", "-c", &touch]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stderr.starts_with(b"error: no director answers at "), "{output:?}");
    assert!(!mark.0.exists());
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT ROOT: what other users are told is not tested");
        return;
    }
    let director = Running::new("users");
    fs::set_permissions(&director.socket.0, fs::Permissions::from_mode(0o666)).unwrap();
    let output = as_nobody(command(&director.socket.0, ["sh", "-c", &touch]));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stderr.starts_with(b"error: not allowed: "), "{output:?}");
    // The usual mode lets no others in.
    fs::set_permissions(&director.socket.0, fs::Permissions::from_mode(0o600)).unwrap();
    let mut lvsadm = Command::new(env!("CARGO_BIN_EXE_lvsadm"));
    lvsadm.arg("--director").arg(&director.socket.0).arg("-Ln");
    let output = as_nobody(lvsadm);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("It is not allowed") && !said.contains("No director answers"), "{said}");
    // A program that gains privileges as it starts.
    let tool = Temporary::new("setuid");
    fs::copy("/bin/true", &tool.0).unwrap();
    fs::set_permissions(&tool.0, fs::Permissions::from_mode(0o4755)).unwrap();
    let output = as_nobody(command(&director.socket.0, [tool.0.to_str().unwrap()]));
    assert_eq!(output.status.code(), Some(126), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("gains privileges"), "{output:?}");
    assert!(!mark.0.exists());
}

#[test]
fn whoever_gives_up_privileges_does_not_keep_them_at_the_director() {
    if !rustix::process::geteuid().is_root() || !is_there("setpriv") {
        return;
    }
    let director = Running::new("drops");
    let drop = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let switch = "/proc/sys/net/ipv4/vs/sloppy_tcp";
    let script = format!("{drop} cat {switch}; {drop} sh -c 'echo 1 >{switch}' 2>/dev/null; cat {switch}");
    assert_eq!(director.sh(&script), "0\n0\n");
    if let Some(python) = python("os") {
        // A file in memory may have any name, also that of one by which a switch is written.
        let forge = format!("import os; os.write(os.memfd_create(\"director:{switch}\"), b\"1\")");
        let script =
            format!("exec 3>{switch}; {drop} {python} -c '{forge}' 2>/dev/null; echo $?; cat {switch}");
        assert_eq!(director.sh(&script), "1\n0\n");
        assert_eq!(director.sh(&format!("exec 3>{switch}; {python} -c '{forge}'; cat {switch}")), "1\n");
    }
    if is_there("ipvsadm") {
        let output =
            director.exec(["sh", "-c", &format!("{drop} ipvsadm -A -t 10.0.0.1:80 2>&1; ipvsadm -Sn")]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!said.contains("-A -t"), "{said}");
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
        let families = director.sh("genl ctrl list");
        let count = |name: &str| families.lines().filter(|line| *line == format!("Name: {name}")).count();
        assert_eq!((count("IPVS"), count("nlctrl")), (1, 1), "{families}");
    }
}

#[test]
fn a_request_that_the_director_took_with_it_is_sent_again() {
    if !is_there("ipvsadm") {
        return;
    }
    let socket = Temporary::new("again");
    let listener =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let listener = listener.unwrap();
    rustix::net::bind(&listener, &SocketAddrUnix::new(&socket.0).unwrap()).unwrap();
    rustix::net::listen(&listener, 8).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let (handler, counter) = (handler(), Arc::clone(&asked));
    // The test's process ends it.
    thread::spawn(move || {
        while let Ok(client) = rustix::net::accept_with(&listener, SocketFlags::CLOEXEC) {
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
    let director = Running::new("status");
    assert_eq!(director.exec(["/nowhere/command"]).status.code(), Some(127));
    assert_eq!(director.exec(["/"]).status.code(), Some(126));
    assert_eq!(director.exec(["sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(director.exec(["sh", "-c", "kill -TERM $$"]).status.code(), Some(128 + 15));
}

#[test]
fn signals_go_on_to_the_command() {
    let director = Running::new("signals");
    let ready = Temporary::new("ready");
    let script = format!("trap 'exit 9' TERM; touch {}; while :; do sleep 0.05; done", ready.0.display());
    for (signal, status) in [(Signal::TERM, Some(9)), (Signal::KILL, None)] {
        drop(fs::remove_file(&ready.0));
        let mut child = command(&director.socket.0, ["sh", "-c", &script]).spawn().unwrap();
        until(|| ready.0.exists());
        rustix::process::kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), status, "{signal:?}");
    }
}

#[test]
fn what_a_command_leaves_behind_stays_led() {
    let director = Running::new("daemon");
    let found = Temporary::new("found");
    let to = found.0.display();
    let script = format!("(sleep 0.5; cat /proc/net/ip_vs >{to}.new; mv {to}.new {to}) & exit 3");
    // The pipes end with the command, as nobody else holds them.
    let output = director.exec(["sh", "-c", &format!("({script}) >/dev/null 2>&1; exit 3")]);
    assert_eq!(output.status.code(), Some(3));
    assert!(!found.0.exists(), "it does not wait for the daemon");
    until(|| found.0.exists());
    assert!(fs::read_to_string(&found.0).unwrap().starts_with("IP Virtual Server"));
}

#[test]
fn static_programs_are_led() {
    if !is_there("cc") {
        return;
    }
    let director = Running::new("static");
    let program = Temporary::new("static-program");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exec/static.c");
    let built =
        Command::new("cc").args(["-static", "-pthread", "-o"]).arg(&program.0).arg(source).output().unwrap();
    assert!(built.status.success(), "{built:?}");
    let output = director.exec([program.0.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            "family 1",
            "another socket 1",
            "thread 1",
            "child 1",
            "file IP Virtual Server version 1.",
            "switch 2 -1",
            "long -1"
        ],
        "{output:?}"
    );
}

#[test]
fn sockets_are_those_of_netlink_whichever_calls_are_made() {
    let Some(python) = python("socket") else { return };
    let director = Running::new("python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exec/sockets.py");
    let output = director.exec([python, script.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "all is as with the kernel\n", "{output:?}");
}

#[test]
fn pyroute2_is_led() {
    let Some(python) = python("pyroute2") else { return };
    let director = Running::new("pyroute2");
    if is_there("ipvsadm") {
        assert_eq!(
            director.sh("ipvsadm -A -t 10.0.0.1:80 -s rr; ipvsadm -a -t 10.0.0.1:80 -r 10.0.0.2:80 -m"),
            ""
        );
    }
    // Debian's has no class for IPVS yet.
    let script = "from pyroute2.netlink import genlmsg\n\
                  from pyroute2.netlink.generic import GenericNetlinkSocket\n\
                  class message(genlmsg):\n\
                  \x20 prefix = 'ATTR_'\n\
                  \x20 nla_map = (('ATTR_UNSPEC', 'none'), ('ATTR_SERVICE', 'hex'))\n\
                  socket = GenericNetlinkSocket()\n\
                  socket.bind('IPVS', message)\n\
                  ask = message()\n\
                  ask['cmd'], ask['version'] = 4, 1\n\
                  print([one['cmd'] for one in socket.nlm_request(ask, msg_type=socket.prid, msg_flags=0x301)])\n";
    let output = director.exec([python, "-c", script]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "[1]\n", "{output:?}");
}

#[test]
fn programs_in_go_are_led() {
    if !is_there("go") || !is_there("ipvsadm") {
        return;
    }
    let director = Running::new("go");
    for port in [80, 81, 82] {
        assert_eq!(director.sh(&format!("ipvsadm -A -t 10.0.0.1:{port} -s rr")), "");
    }
    let program = Temporary::new("go-program");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exec/both_styles.go");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program.0).arg(source).env("CGO_ENABLED", "0").env("GO111MODULE", "off");
    // Where there is no home there is no cache either.
    build.env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go"));
    let built = build.output().unwrap();
    assert!(built.status.success(), "{built:?}");
    let output = director.exec([program.0.to_str().unwrap()]);
    let all = [60; 16].map(|count: u32| count.to_string()).join(" ");
    let expected = format!("blocking 3\npolled 3\nat once [{all}]\nfile 6\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");
}

#[test]
fn the_node_exporters_collector_is_led() {
    if !is_there("prometheus-node-exporter") || !is_there("ipvsadm") {
        return;
    }
    let director = Running::new("exporter");
    let make = "ipvsadm -A -t 10.0.0.1:80 -s rr; ipvsadm -a -t 10.0.0.1:80 -r 10.0.0.2:8080 -m -w 7";
    assert_eq!(director.sh(make), "");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("--web.listen-address=127.0.0.1:{port}");
    let words = ["prometheus-node-exporter", "--collector.disable-defaults", "--collector.ipvs", &listen];
    let mut exporter =
        command(&director.socket.0, words).stderr(std::process::Stdio::null()).spawn().unwrap();
    let metrics = || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    until(|| metrics().is_ok());
    let text = metrics().unwrap();
    exporter.kill().unwrap();
    exporter.wait().unwrap();
    let weight = text.lines().find(|line| line.starts_with("node_ipvs_backend_weight{"));
    assert!(weight.is_some_and(|line| line.contains("10.0.0.2") && line.ends_with(" 7")), "{text}");
    assert!(text.contains("\nnode_ipvs_connections_total 0\n"), "{text}");
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

    fn exec<const N: usize>(&self, command: [&str; N]) -> Output {
        exec(&self.socket.0, command)
    }

    /// What a shell prints that is led to it. It must say nothing else.
    fn sh(&self, script: &str) -> String {
        let output = self.exec(["sh", "-c", script]);
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

fn exec<const N: usize>(socket: &Path, words: [&str; N]) -> Output {
    command(socket, words).output().unwrap()
}

fn command<const N: usize>(socket: &Path, words: [&str; N]) -> Command {
    let options = [OsStr::new("exec"), OsStr::new("--director"), socket.as_os_str(), OsStr::new("--")];
    let mut command = Command::new(env!("CARGO_BIN_EXE_director"));
    command.args(options).args(words);
    command
}

/// Executes something as a user without rights, who may find the program all the same.
fn as_nobody(command: Command) -> Output {
    let program = Temporary::new("program");
    // Another process writes it. A child that this one starts meanwhile would otherwise hold the file open for writing,
    // and such a file cannot be executed.
    let copied = Command::new("cp").arg(command.get_program()).arg(&program.0).status().unwrap();
    assert!(copied.success());
    let mut copy = Command::new(&program.0);
    copy.args(command.get_args()).uid(65_534).gid(65_534).stdin(std::process::Stdio::null());
    copy.output().unwrap()
}

/// Waits until something is so.
fn until(is_so: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("it has not come to be so in 60 s");
}

/// A Python that has this module.
fn python(module: &str) -> Option<&'static str> {
    let has = |python: &&str| {
        Command::new(python)
            .args(["-c", &format!("import {module}")])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    let found = ["/usr/bin/python3", "python3"].into_iter().find(has);
    if found.is_none() {
        missing(&format!("python3 with {module}"));
    }
    found
}

/// Whether a tool can be used. Says so if not, and fails where it must be there.
fn is_there(tool: &str) -> bool {
    let found =
        Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap().status.success();
    if !found {
        missing(tool);
    }
    found
}

fn missing(tool: &str) {
    eprintln!("{tool} IS MISSING: what needs it is not tested");
    let required = std::env::var("LVS_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
    assert!(!required, "{tool} is required");
}

/// A path in a folder of its own, which is gone with all that is in it when this value is dropped.
struct Temporary(PathBuf, #[expect(dead_code, reason = "held until the end")] TempDir);

impl Temporary {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        // For other users too.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("the folder's mode");
        Self(folder.path().join(name), folder)
    }
}
