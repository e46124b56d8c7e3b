//! A place for programs in a node: a shell in process and mount namespaces of its own.
//!
//! The shell does what it is told through a pipe. When the pipe is closed, however the test ends, it ends too, and
//! with it, as it is the first process of its namespace, every process in the cell.

use core::error::Error;
use core::time::Duration;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use lvs_std::control::Client;
use lvs_std::lab::Node;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// The programs of one node, and the folder that they share with the test: `/run/kw` for them.
pub(crate) struct Cell {
    shell: Child,
    commands: Option<File>,
    folder: PathBuf,
}

impl Cell {
    /// Starts the shell in a node.
    pub(crate) fn new(node: &Node, name: &str) -> Result<Self, Box<dyn Error>> {
        let folder = std::env::temp_dir().join(format!("director-test-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let script = format!(
            "exec 2>>{0}/shell.log\nmount -t tmpfs run /run && mkdir /run/kw && mount --bind {0} /run/kw && \
             cd / && while read -r line; do eval \"$line\"; done",
            folder.display()
        );
        let mut command = Command::new("unshare");
        let command = command
            .args(["--mount", "--pid", "--fork", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let filter = let_groups_be()?;
        let mut shell = node.run(|| match seccompiler::apply_filter(&filter) {
            Ok(()) => command.spawn(),
            Err(error) => Err(std::io::Error::other(error)),
        })??;
        let commands = shell.stdin.take().map(|pipe| File::from(std::os::fd::OwnedFd::from(pipe)));
        let cell = Self { shell, commands, folder };
        cell.tell("touch /run/kw/ready")?;
        cell.wait("a shell", || cell.path("ready").exists())?;
        Ok(cell)
    }

    /// Has the shell do something.
    pub(crate) fn tell(&self, command: &str) -> Result<(), Box<dyn Error>> {
        let mut pipe = self.commands.as_ref().ok_or("the shell's pipe")?;
        Ok(pipe.write_all(format!("{command}\n").as_bytes())?)
    }

    /// Starts a director with this configuration file; its process is `$director` for the shell.
    pub(crate) fn start_director(&self, options: &str) -> Result<(), Box<dyn Error>> {
        self.tell(&format!(
            "{PROGRAM} run {options} --control /run/kw/director.sock \
             >>/run/kw/director.out 2>>/run/kw/director.log & director=$!"
        ))?;
        self.wait("a director", || Client::connect(&self.socket()).is_ok())
    }

    /// Starts keepalived, led to the director; its process is `$keepalived` for the shell.
    pub(crate) fn start_keepalived(&self, options: &str) -> Result<(), Box<dyn Error>> {
        self.tell(&format!(
            "{PROGRAM} exec --control /run/kw/director.sock -- keepalived -n -l -D {options} \
             -f /run/kw/keepalived.conf -p /run/kw/k.pid -c /run/kw/kc.pid -r /run/kw/kv.pid -b /run/kw/kb.pid \
             >>/run/kw/keepalived.log 2>&1 & keepalived=$!"
        ))
    }

    /// Waits until the first service has exactly these servers, which takes this time, and longer on a busy machine.
    pub(crate) fn wait_for_servers(&self, servers: &[&str], time: Duration) -> Result<(), Box<dyn Error>> {
        let began = Instant::now();
        loop {
            let mut found = Vec::new();
            if let Some((_, servers)) = self.client()?.table()?.first() {
                found.extend(servers.iter().map(|server| server.address.to_string()));
            }
            found.sort();
            if found == servers {
                return Ok(());
            }
            if began.elapsed() > time + PATIENCE {
                return Err(format!("{found:?} instead of {servers:?}:\n{}", self.logs()).into());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// A client of the director.
    pub(crate) fn client(&self) -> Result<Client, Box<dyn Error>> {
        Ok(Client::connect(&self.socket())?)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("director.sock")
    }

    /// A file of the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), Box<dyn Error>> {
        Ok(fs::write(self.path(name), text)?)
    }

    /// The text of a file, or nothing.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Writes a script that can be executed.
    pub(crate) fn script(&self, name: &str, text: &str) -> Result<(), Box<dyn Error>> {
        use std::os::unix::fs::PermissionsExt as _;
        self.write(name, text)?;
        Ok(fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755))?)
    }

    /// Waits until something is so; fails with the logs after some seconds.
    pub(crate) fn wait(&self, what: &str, is_so: impl Fn() -> bool) -> Result<(), Box<dyn Error>> {
        let began = Instant::now();
        while !is_so() {
            if began.elapsed() > PATIENCE {
                return Err(format!("there is no {what}:\n{}", self.logs()).into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// All that the programs said.
    pub(crate) fn logs(&self) -> String {
        let logs = ["shell.log", "director.log", "keepalived.log"];
        logs.map(|name| format!("--- {name}\n{}", self.read(name))).concat()
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        // The shell ends with its pipe.
        self.commands = None;
        drop(self.shell.wait());
        drop(fs::remove_dir_all(Path::new(&self.folder)));
    }
}

/// A filter by which setgroups(2) does nothing and succeeds. keepalived calls it before every script, and a user
/// namespace that an ordinary user made forbids it.
fn let_groups_be() -> Result<BpfProgram, Box<dyn Error>> {
    let rules = BTreeMap::from([(libc::SYS_setgroups, Vec::new())]);
    let arch = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(0), arch)?;
    Ok(filter.try_into()?)
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_director");
/// How late everything may be on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
