//! `director bench --sizes`: how long the commands of a large table take.
//!
//! A director of this very program runs in a namespace, with its state file in a folder for temporary files, and this
//! program's own `lvsadm` and `reload` command it. Times are those of whole calls, with the start of the program that
//! commands.

use core::error::Error;
use core::fmt::Write as _;
use core::net::Ipv4Addr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::Instant;

use lvs_std::config::ConfigSource;
use lvs_std::lab::{Lab, Node};
use lvs_support::{LogFormat, supervise};

use crate::median;
use crate::report::{Report, Row};

/// Measures a director of `services` services with `servers` servers each, and prints a row for each command.
pub(crate) fn main(json: bool, services: u32, servers: u32) -> ExitCode {
    // Before there is any other thread.
    let lab = Lab::new();
    supervise(LogFormat::default(), |_| run(lab?, json, Table { services, servers }))
}

/// How much there is.
#[derive(Clone, Copy)]
struct Table {
    services: u32,
    servers: u32,
}

fn run(lab: Lab, json: bool, table: Table) -> Result<(), Box<dyn Error>> {
    let (node, peer) = (lab.node("director")?, lab.node("router")?);
    lab.connect((&node, "eth0"), (&peer, "eth0"))?;
    let mut stage = Stage { node, table, report: Report::new(json), folder: Folder::new()? };
    stage.full()?;
    stage.empty()
}

struct Stage {
    node: Node,
    table: Table,
    report: Report,
    folder: Folder,
}

impl Stage {
    /// What a director does that begins with a file of the whole table.
    fn full(&mut self) -> Result<(), Box<dyn Error>> {
        let file = self.folder.path("full.toml");
        fs::write(&file, self.table.text(1))?;
        let (director, load) = Director::start(&self.node, &file, &self.folder)?;
        self.row("load", "from its file to \"at work\"", load, Some(5_000.0));
        let listed = self.folder.path("listed");
        let mut lists = Vec::new();
        for _ in 0..ROUNDS {
            let out = File::create(&listed)?;
            lists.push(timed(director.lvsadm(&["-Ln"]).stdout(out))?);
        }
        let lines = BufReader::new(File::open(&listed)?).lines().count() as u32;
        let expected = self.table.services * (1 + self.table.servers) + HEAD;
        if lines != expected {
            return Err(format!("{lines} lines were listed, and not {expected}").into());
        }
        self.row("list", "lvsadm -Ln", median(lists), Some(1_000.0));
        let mut edits = Vec::new();
        for round in 0..EDITS {
            let number = round * 97 % self.table.services;
            let (service, server) = (self.table.service(number), self.table.server(number, 0));
            let weight = (2 + round).to_string();
            let words = ["-e", "-t", &service, "-r", &server, "-m", "-w", &weight];
            edits.push(timed(&mut director.lvsadm(&words))?);
        }
        let longest = edits.iter().copied().fold(0.0, f64::max);
        self.row("edit", "lvsadm -e", median(edits), Some(5.0));
        self.row("edit-longest", &format!("lvsadm -e, the longest of {EDITS}"), longest, None);
        let (mut reloads, mut reads) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            fs::write(&file, self.table.text(round + 2))?;
            reloads.push(timed(&mut director.command("reload"))?);
            let begun = Instant::now();
            drop(ConfigSource::read(&file)?);
            reads.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        let (reload, read) = (median(reloads), median(reads));
        self.row("reload", "reload with one change", reload, Some(600.0));
        self.row("reload-besides-reading", "reload besides reading the file", reload - read, Some(200.0));
        drop(director);
        let (director, again) = Director::start(&self.node, &file, &self.folder)?;
        self.row("restart", "the same, from file and state file", again, Some(5_000.0));
        drop(director);
        Ok(())
    }

    /// What a director does that begins with nothing.
    fn empty(&mut self) -> Result<(), Box<dyn Error>> {
        let (file, lines) = (self.folder.path("empty.toml"), self.folder.path("lines"));
        fs::write(&file, INTERFACE)?;
        fs::write(&lines, self.table.lines())?;
        let (director, _) = Director::start(&self.node, &file, &self.folder)?;
        let restore = timed(director.lvsadm(&["-R"]).stdin(File::open(&lines)?))?;
        let saved = director.lvsadm(&["-Sn"]).stdout(Stdio::piped()).output()?.stdout;
        let saved = saved.iter().filter(|byte| **byte == b'\n').count() as u32;
        if saved != self.table.services * (1 + self.table.servers) {
            return Err(format!("{saved} services and servers are there").into());
        }
        self.row("restore", "lvsadm -R into an empty director", restore, Some(5_000.0));
        let clear = timed(&mut director.lvsadm(&["-C"]))?;
        self.row("clear", "lvsadm -C", clear, None);
        Ok(())
    }

    fn row(&mut self, name: &str, label: &str, milliseconds: f64, aim: Option<f64>) {
        let Table { services, servers } = self.table;
        let label = format!("{services} services of {servers}: {label}");
        let row = Row::named(&format!("sizes-{name}"), label, "ms", milliseconds, "ms").with_aim(aim);
        self.report.add(&row.with("services", services).with("servers", servers));
    }
}

impl Table {
    fn service(self, number: u32) -> String {
        format!("{}:80", Ipv4Addr::from_bits(SERVICES + number))
    }

    fn server(self, service: u32, number: u32) -> String {
        format!("{}:80", Ipv4Addr::from_bits(SERVERS + service * self.servers + number))
    }

    /// The configuration, in which the very last server has this weight.
    fn text(self, weight: u32) -> String {
        let mut text = INTERFACE.to_owned();
        for service in 0..self.services {
            let address = Ipv4Addr::from_bits(SERVICES + service);
            // Writing to a string cannot fail, here and below.
            let _ = write!(
                text,
                "[[service]]\nprotocol = \"tcp\"\naddress = \"{address}\"\nport = 80\nscheduler = \"wlc\"\n"
            );
            for server in 0..self.servers {
                let last = (service + 1, server + 1) == (self.services, self.servers);
                let weight = if last { weight } else { 1 };
                let address = Ipv4Addr::from_bits(SERVERS + service * self.servers + server);
                let _ = write!(
                    text,
                    "[[service.server]]\naddress = \"{address}\"\nport = 80\nmethod = \"nat\"\nweight = {weight}\n"
                );
            }
        }
        text
    }

    /// The whole table as lines of `ipvsadm -S`, which `-R` reads.
    fn lines(self) -> String {
        let mut text = String::new();
        for number in 0..self.services {
            let service = self.service(number);
            let _ = writeln!(text, "-A -t {service} -s wlc");
            for of in 0..self.servers {
                let _ = writeln!(text, "-a -t {service} -r {} -m -w 1", self.server(number, of));
            }
        }
        text
    }
}

/// A director at work.
struct Director {
    process: Child,
    socket: PathBuf,
}

impl Director {
    /// Starts one, and says how many milliseconds it took until it was at work.
    fn start(node: &Node, file: &Path, folder: &Folder) -> Result<(Self, f64), Box<dyn Error>> {
        let socket = folder.path(&format!("{}.sock", file.file_stem().unwrap_or_default().display()));
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("run").arg("--config").arg(file).arg("--director").arg(&socket);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let begun = Instant::now();
        let mut process = node.run(|| command.spawn())??;
        let log = process.stderr.take();
        let director = Self { process, socket };
        let mut log = BufReader::new(log.ok_or("the director has no log")?);
        let mut lines = String::new();
        while !lines.contains("at work") {
            if log.read_line(&mut lines)? == 0 {
                return Err(format!("the director has ended: {lines}").into());
            }
        }
        let took = begun.elapsed().as_secs_f64() * 1e3;
        // Whoever writes to a log that nobody reads waits.
        thread::spawn(move || log.lines().for_each(drop));
        Ok((director, took))
    }

    /// A call of this program that asks the director.
    fn command(&self, verb: &str) -> Command {
        // Without the path the program could not be started at all.
        let mut command = Command::new(std::env::current_exe().unwrap_or_default());
        command.arg(verb).arg("--director").arg(&self.socket).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn lvsadm(&self, words: &[&str]) -> Command {
        let mut command = self.command("lvsadm");
        command.args(words);
        command
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        if let Ok(process) = i32::try_from(self.process.id())
            && let Some(process) = rustix::process::Pid::from_raw(process)
        {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

/// The milliseconds that a call takes, which must succeed.
fn timed(command: &mut Command) -> Result<f64, Box<dyn Error>> {
    let begun = Instant::now();
    let status = command.status()?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    if status.success() { Ok(took) } else { Err(format!("{command:?}: {status}").into()) }
}

/// A folder that goes when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Box<dyn Error>> {
        let folder = std::env::temp_dir().join(format!("director-bench-{}", std::process::id()));
        fs::create_dir(&folder)?;
        Ok(Self(folder))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left of it does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

const INTERFACE: &str =
    "[[interface]]\nname = \"eth0\"\naddresses = [\"10.0.1.254/24\"]\ngateways = [\"10.0.1.1\"]\n";
/// 10.96.0.0 and 10.128.0.0.
const SERVICES: u32 = 0x0a60_0000;
const SERVERS: u32 = 0x0a80_0000;
/// The lines above ipvsadm's list.
const HEAD: u32 = 3;
const ROUNDS: u32 = 5;
const EDITS: u32 = 101;
