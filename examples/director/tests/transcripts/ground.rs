//! Where scripts run: a director on two ports, tools in a path, and names.

use core::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use lvs_std::control::{CommandHandler, ServeOptions, serve};
use lvs_std::device::packet::{self, PacketOptions};
use lvs_std::lab::{Lab, Node};
use lvs_std::ownership::OwnedSocket;

use crate::script::{Ending, Transcript};
use crate::tool::Tool;
use crate::traffic::{SOCKET, World};

/// Namespaces that one script after the other runs in.
#[derive(Debug)]
pub(crate) struct Ground {
    director: Node,
    world: World,
    /// Scripts, sockets and tools.
    folder: PathBuf,
    /// How many scripts have run.
    count: usize,
}

impl Ground {
    pub(crate) fn new(lab: Lab, number: usize) -> Result<Self, Box<dyn Error>> {
        let (director, outside) = (lab.node("director")?, lab.node("outside")?);
        let open = |port: &str| -> Result<_, Box<dyn Error>> {
            lab.connect((&director, port), (&outside, port))?;
            Ok(outside.run(|| packet::open(port, &PacketOptions::default()))??.device)
        };
        let world = World::new(open("eth0")?, open("eth1")?);
        let folder = scratch().join(number.to_string());
        fs::create_dir(&folder)?;
        Ok(Self { director, world, folder, count: 0 })
    }

    /// Runs a transcript's script against a director of its own.
    pub(crate) fn run(&mut self, transcript: &Transcript, tool: &Tool) -> Result<Ending, Box<dyn Error>> {
        self.run_at(
            |node, place, socket| {
                let director = Running::start(node, place, socket, transcript)?;
                Ok((director, transcript.script.clone()))
            },
            tool,
        )
    }

    /// Runs a script against whoever answers instead of a director.
    pub(crate) fn run_against(
        &mut self,
        handler: impl CommandHandler + Send + 'static,
        script: String,
        tool: &Tool,
    ) -> Result<Ending, Box<dyn Error>> {
        self.run_at(
            |_, _, socket| {
                let options = ServeOptions::at(OwnedSocket::take(socket)?);
                Ok((serve(options, Arc::new(Mutex::new(handler)))?, script))
            },
            tool,
        )
    }

    /// Runs a script while that lives which stands at the socket.
    fn run_at<D>(
        &mut self,
        start: impl FnOnce(&Node, &Path, &Path) -> Result<(D, String), Box<dyn Error>>,
        tool: &Tool,
    ) -> Result<Ending, Box<dyn Error>> {
        self.count += 1;
        let place = self.folder.join(self.count.to_string());
        fs::create_dir(&place)?;
        let socket = place.join("director.sock");
        let (director, script) = start(&self.director, &place, &socket)?;
        let ending = self.run_in(&place, &script, &socket, tool);
        drop(director);
        fs::remove_dir_all(&place)?;
        ending
    }

    fn run_in(
        &mut self,
        place: &Path,
        text: &str,
        socket: &Path,
        tool: &Tool,
    ) -> Result<Ending, Box<dyn Error>> {
        let tools = place.join("bin");
        fs::create_dir(&tools)?;
        for (name, program) in tool.programs()? {
            symlink(program, tools.join(name))?;
        }
        let script = place.join("script");
        // Scripts that keep a file do so in `/tmp`, which they would share.
        fs::write(&script, text.replace("/tmp/", &format!("{}/", place.display())))?;
        let traffic = place.join("traffic.sock");
        let listener = UnixListener::bind(&traffic)?;
        let words = ["timeout", "-s", "KILL", LIMIT, "sh"].map(OsStr::new);
        let words: Vec<&OsStr> = words.into_iter().chain([script.as_os_str()]).collect();
        let mut command = tool.command(&words, socket);
        command.stdin(Stdio::null()).env_clear();
        command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", tools.display()));
        command.env("LC_ALL", "C").env("LVS_DIRECTOR", socket).env(SOCKET, &traffic);
        let (director, world) = (&self.director, &mut self.world);
        let output = thread::scope(|scope| {
            let served = scope.spawn(|| world.serve(&listener));
            let output = director.run(|| command.output());
            UnixStream::connect(&traffic)?.write_all(b"end\n")?;
            served.join().map_err(|_| std::io::Error::other("the traffic thread panicked"))??;
            Ok::<_, Box<dyn Error>>(output??)
        })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let status = output.status.code().unwrap_or(-1);
        Ok(Ending { out: text(&output.stdout), errors: text(&output.stderr), status })
    }
}

/// A director at work, which ends with this value.
struct Running(Child);

impl Running {
    fn start(
        node: &Node,
        place: &Path,
        socket: &Path,
        transcript: &Transcript,
    ) -> Result<Self, Box<dyn Error>> {
        let scenario = place.join("scenario");
        fs::create_dir(&scenario)?;
        fs::write(scenario.join("scenario.json"), setup(transcript)?)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_director"));
        command
            .args(["run", "--no-state", "--ports", "eth0,eth1", "--scenario"])
            .arg(&scenario)
            .arg("--control")
            .arg(socket);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut running = Self(node.run(|| command.spawn())??);
        let mut log = BufReader::new(running.0.stderr.take().ok_or("its log")?);
        let mut lines = String::new();
        while !lines.contains("the director is at work") {
            if log.read_line(&mut lines)? == 0 {
                return Err(format!("the director ended: {lines}").into());
            }
        }
        // Whoever writes to a closed log ends.
        running.0.stderr = Some(log.into_inner());
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The director of all scenarios, with the marks of this script.
fn setup(transcript: &Transcript) -> Result<String, Box<dyn Error>> {
    let file = repository().join("examples/conformance/scenarios/dr-tcp/scenario.json");
    let mut scenario: serde_json::Value = serde_json::from_str(&fs::read_to_string(file)?)?;
    let marks = transcript.marks().into_iter();
    let marks =
        marks.map(|(address, mark)| serde_json::json!({ "dst": format!("{address}/32"), "mark": mark }));
    scenario["director"]["marks"] = marks.collect();
    scenario["steps"] = serde_json::json!([]);
    Ok(scenario.to_string())
}

/// Goes on as root of a user namespace, with names of hosts and ports that are known, files that nobody else sees,
/// and all processes in one namespace, so that nothing outlives this one.
pub(crate) fn enter() -> Result<(), Box<dyn Error>> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let names = Path::new(env!("CARGO_TARGET_TMPDIR")).join("transcripts-names");
    fs::create_dir_all(&names)?;
    fs::create_dir_all(scratch())?;
    let mut mounts = "mount -t tmpfs none \"$2\" && ".to_owned();
    for (name, text) in [("hosts", HOSTS), ("nsswitch.conf", SWITCH), ("services", SERVICES)] {
        fs::write(names.join(name), text)?;
        mounts.push_str(&format!("mount --bind \"$1/{name}\" /etc/{name} && "));
    }
    let error = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c"])
        .arg(mounts + "shift 2 && exec \"$@\"")
        .arg("sh")
        .arg(&names)
        .arg(scratch())
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(format!("unshare (util-linux) cannot be run: {error}").into())
}

/// The folder of the workspace.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Ends with whoever started this process. After the last change of user namespaces, which make the kernel forget it.
pub(crate) fn end_with_parent() -> std::io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
}

/// A place whose paths are short enough for sockets. Inside it is a file system of its own.
fn scratch() -> PathBuf {
    std::env::temp_dir().join("lvs-transcripts")
}

const INSIDE: &str = "LVS_TRANSCRIPTS_INSIDE";
/// Seconds that a script may take: some have hundreds of commands, and the machine may be busy with other things.
const LIMIT: &str = "600";
const HOSTS: &str = "\
127.0.0.1 localhost
10.99.0.1 vip.example
10.0.1.11 rs1.example
10.0.1.12 rs2.example
2001:db8:99::1 vip6.example
";
const SWITCH: &str = "hosts: files\nservices: files\nprotocols: files\n";
/// The ports that have names in scripts and listings.
const SERVICES: &str = "\
domain 53/tcp
domain 53/udp
http 80/tcp www
https 443/tcp
https 443/udp
http-alt 8080/tcp webcache
http-alt 8080/udp
";
