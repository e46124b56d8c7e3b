//! A call of the tool: words in, text and an exit status out.

use std::io::{self, BufRead, Write};

use crate::control::convert::name;
use crate::control::{Answer, Command, DaemonSpec, Errno, Info, Query, Role, ServiceReport};
use lvs_core::ServiceKey;

use super::refusal::refusal;
use super::request::request;
use super::table::{self, Entry};
use super::{Channel, ChannelError, Listing, Names, Numeric, Subject, UsageError, connections, save};
use crate::ipvsadm;

/// A tool that is called as ipvsadm is.
#[expect(missing_debug_implementations, reason = "it is made of streams")]
#[expect(clippy::exhaustive_structs, reason = "what a call has, and nothing else")]
pub struct Session<'a> {
    /// The name by which it was called, for its hints.
    pub program: &'a str,
    /// Who knows the names of hosts and ports.
    pub names: &'a dyn Names,
    /// The way to the director.
    pub channel: &'a mut dyn Channel,
    /// What `-R` reads.
    pub input: &'a mut dyn BufRead,
    /// Standard output. What cannot be written is said, and the status is then [`UNWRITTEN`].
    pub out: &'a mut dyn Write,
    /// Standard error.
    pub errors: &'a mut dyn Write,
    /// What `-h` prints after ipvsadm's own options: those that this tool has besides. May be empty.
    pub more_help: &'a str,
}

/// What is said on standard error, and the exit status.
struct Failure {
    text: String,
    status: u8,
    /// Whether lines that follow are not read.
    ends: bool,
}

impl Failure {
    const fn exit(text: String, status: u8) -> Self {
        Self { text, status, ends: true }
    }
}

impl Session<'_> {
    /// Does what the words after the program's name say; returns ipvsadm's exit status.
    pub fn run(&mut self, words: &[&str]) -> u8 {
        // Before it looks at anything else, ipvsadm asks whether there is an IPVS at all.
        let info = match self.info() {
            Ok(info) => info,
            Err(failure) => return self.end(Err(failure)),
        };
        let done = match self.read(words) {
            Ok(ipvsadm::Command::Restore) => return self.restore(info),
            Ok(line) => self.carry_out(&line, info),
            Err(failure) => Err(failure),
        };
        self.end(done)
    }

    fn info(&mut self) -> Result<Info, Failure> {
        let why = match self.channel.call(&Command::Query(Query::Info)) {
            Ok(Answer::Info(info)) => return Ok(info),
            Ok(_) => "the director answers something else".to_owned(),
            Err(ChannelError::Refused(Errno::Permission)) => NOT_ROOT.to_owned(),
            Err(error @ (ChannelError::Refused(_) | ChannelError::Lost(_))) => error.to_string(),
        };
        Err(Failure::exit(cannot_initialize(&why), UNREACHABLE))
    }

    fn read(&self, words: &[&str]) -> Result<ipvsadm::Command, Failure> {
        let read = ipvsadm::parse(words.iter().copied(), self.names);
        read.map_err(|error| self.misused(&error))
    }

    /// What is wrong with the words.
    fn misused(&self, error: &UsageError) -> Failure {
        let ends = !matches!(error, UsageError::MissingValue(_) | UsageError::Unknown(_));
        Failure { text: ipvsadm::said_by(self.program, error), status: error.status(), ends }
    }

    fn carry_out(&mut self, line: &ipvsadm::Command, info: Info) -> Result<(), Failure> {
        let text = match line {
            ipvsadm::Command::List(listing) if listing.subject == Subject::Connections => {
                return self.connections(listing);
            }
            ipvsadm::Command::List(listing) => self.list(listing, info)?,
            ipvsadm::Command::Save { numeric } => {
                let entries = table::sort(self.entries().map_err(|error| refused(line, &error))?);
                save::text(&entries, self.names_for(*numeric))
            }
            ipvsadm::Command::Help => ipvsadm::help(self.program) + self.more_help,
            ipvsadm::Command::Version => format!("{}\n", ipvsadm::VERSION),
            ipvsadm::Command::AddService(..)
            | ipvsadm::Command::EditService(..)
            | ipvsadm::Command::DeleteService(_)
            | ipvsadm::Command::Clear
            | ipvsadm::Command::Restore
            | ipvsadm::Command::AddServer(..)
            | ipvsadm::Command::EditServer(..)
            | ipvsadm::Command::DeleteServer(..)
            | ipvsadm::Command::Zero(_)
            | ipvsadm::Command::Set { .. }
            | ipvsadm::Command::StartDaemon(..)
            | ipvsadm::Command::StopDaemon(_) => {
                let done = request(line).map(|command| self.channel.call(&command));
                return done.transpose().map(drop).map_err(|error| refused(line, &error));
            }
        };
        self.out.write_all(text.as_bytes()).map_err(|error| unwritten(self.program, &error))
    }

    /// Commands from standard input, one per line; the last one's status. What ipvsadm exits for ends it here too:
    /// words that do not go together, a listing that fails, help. What the director refuses and options that there
    /// are not do not.
    fn restore(&mut self, info: Info) -> u8 {
        let (mut status, mut bytes) = (0, Vec::new());
        loop {
            // Waits only when everything that has come before is done.
            let more = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                more => more.unwrap_or_default(),
            };
            let count = more.len();
            let whole = more.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| bytes.len() + at + 1);
            bytes.extend_from_slice(more);
            self.input.consume(count);
            let whole = if count == 0 { bytes.len() } else { whole };
            let rest = bytes.split_off(whole);
            let ends = self.lines(&bytes, info, &mut status);
            if ends || count == 0 {
                return status;
            }
            bytes = rest;
        }
    }

    /// Carries out lines; whether lines that follow are not read. Changes that stand one behind the other go to the
    /// director together.
    fn lines(&mut self, lines: &[u8], info: Info, status: &mut u8) -> bool {
        let mut changes = Vec::new();
        for line in lines.split(|&byte| byte == b'\n') {
            let line = String::from_utf8_lossy(line);
            let words = save::words(&line);
            if words.is_empty() {
                continue;
            }
            let line = match self.read(&words) {
                Ok(ipvsadm::Command::Restore) => Err(self.misused(&UsageError::Hint)),
                read => read,
            };
            let line = match line.map(|line| (request(&line), line)) {
                Ok((Some(command @ Command::Table(_)), line)) => {
                    changes.push((line, command));
                    continue;
                }
                line => line.map(|(_, line)| line),
            };
            self.change(&mut changes, status);
            let last = matches!(line, Ok(ipvsadm::Command::Help | ipvsadm::Command::Version));
            let done = line.and_then(|line| self.carry_out(&line, info));
            let last = last || done.as_ref().is_err_and(|failure| failure.ends);
            *status = self.end(done);
            if last {
                return true;
            }
        }
        self.change(&mut changes, status);
        false
    }

    /// Has changes carried out, and says what is refused of them.
    fn change(&mut self, changes: &mut Vec<(ipvsadm::Command, Command)>, status: &mut u8) {
        let (lines, commands): (Vec<_>, Vec<_>) = changes.drain(..).unzip();
        if commands.is_empty() {
            return;
        }
        let answers = self.channel.call_all(&commands);
        for (line, answer) in lines.iter().zip(answers) {
            *status = self.end(answer.map(drop).map_err(|error| refused(line, &error)));
        }
    }

    fn list(&mut self, listing: &Listing, info: Info) -> Result<String, Failure> {
        self.listed(listing, info).map_err(|error| refused(&ipvsadm::Command::List(*listing), &error))
    }

    /// The connection table, as it comes.
    fn connections(&mut self, listing: &Listing) -> Result<(), Failure> {
        let names = if listing.numeric { &Numeric } else { self.names };
        let mut lines = connections::Lines::new(listing.persistent_conn, names);
        let (out, mut done) = (&mut *self.out, Ok(()));
        let read = self.channel.read_pieces(connections::FILE, &mut |piece| {
            let text = lines.take(piece);
            if done.is_ok() {
                done = out.write_all(text.as_bytes());
            }
        });
        read.map_err(|_| Failure::exit(format!("cannot open file {}", connections::FILE), 1))?;
        done.and_then(|()| out.write_all(lines.end().as_bytes()))
            .map_err(|error| unwritten(self.program, &error))
    }

    fn listed(&mut self, listing: &Listing, info: Info) -> Result<String, ChannelError> {
        match listing.subject {
            Subject::Services => {
                let entries = sorted(listing, self.entries()?);
                let names = self.names_for(listing.numeric);
                Ok(table::version_line(info) + &table::table(listing, &entries, names))
            }
            Subject::Service(key) => {
                let entries = sorted(listing, vec![self.entry(key)?]);
                Ok(table::table(listing, &entries, self.names_for(listing.numeric)))
            }
            // These come line by line.
            Subject::Connections => Ok(String::new()),
            Subject::Timeouts => {
                let Answer::Timeouts(times) = self.channel.call(&Command::Query(Query::Timeouts))? else {
                    return Err(strange());
                };
                Ok(format!("Timeout (tcp tcpfin udp): {} {} {}\n", times.tcp, times.tcp_fin, times.udp))
            }
            Subject::Daemons => {
                let Answer::Daemons(daemons) = self.channel.call(&Command::Query(Query::Daemons))? else {
                    return Err(strange());
                };
                Ok(daemons.iter().map(daemon).collect())
            }
        }
    }

    fn entries(&mut self) -> Result<Vec<Entry>, ChannelError> {
        let Answer::Services(services) = self.channel.call(&Command::Query(Query::Services))? else {
            return Err(strange());
        };
        let asked: Vec<Command> =
            services.iter().map(|service| Command::Query(Query::Servers(service.name))).collect();
        let answers = self.channel.call_all(&asked);
        let entry = |(service, answer): (ServiceReport, Result<Answer, ChannelError>)| {
            if let Answer::Servers(servers) = answer? { Ok((service, servers)) } else { Err(strange()) }
        };
        services.into_iter().zip(answers).map(entry).collect()
    }

    fn entry(&mut self, key: ServiceKey) -> Result<Entry, ChannelError> {
        let asked = Command::Query(Query::Service(name(key)));
        let Answer::Service(service) = self.channel.call(&asked)? else { return Err(strange()) };
        self.with_servers(*service)
    }

    fn with_servers(&mut self, service: ServiceReport) -> Result<Entry, ChannelError> {
        let asked = Command::Query(Query::Servers(service.name));
        let Answer::Servers(servers) = self.channel.call(&asked)? else { return Err(strange()) };
        Ok((service, servers))
    }

    fn names_for(&self, numeric: bool) -> &dyn Names {
        if numeric { &Numeric } else { self.names }
    }

    /// Says what went wrong, if anything did.
    fn end(&mut self, done: Result<(), Failure>) -> u8 {
        match done {
            Ok(()) => 0,
            Err(failure) => {
                drop(writeln!(self.errors, "{}", failure.text));
                failure.status
            }
        }
    }
}

fn unwritten(program: &str, error: &io::Error) -> Failure {
    Failure::exit(format!("{program}: write error: {error}"), UNWRITTEN)
}

/// What ipvsadm says when there is no IPVS to talk to; `why` is the system's word for it.
#[must_use]
pub fn cannot_initialize(why: &str) -> String {
    format!(
        "Can't initialize ipvs: {why}\nAre you sure that IP Virtual Server is built in the kernel or as module?"
    )
}

fn refused(line: &ipvsadm::Command, error: &ChannelError) -> Failure {
    let (text, status) = refusal(line, error);
    Failure { text, status, ends: matches!(line, ipvsadm::Command::List(_)) }
}

fn strange() -> ChannelError {
    ChannelError::Lost("it answered something that was not asked".to_owned())
}

fn sorted(listing: &Listing, entries: Vec<Entry>) -> Vec<Entry> {
    if listing.nosort { entries } else { table::sort(entries) }
}

fn daemon(spec: &DaemonSpec) -> String {
    let role = match spec.role {
        Role::Master => "master",
        Role::Backup => "backup",
    };
    let mut text = format!("{role} sync daemon (mcast={}, syncid={}", spec.interface, spec.sync_id);
    for (name, value) in [
        ("maxlen", spec.max_len.filter(|&len| len != 0).map(|len| len.to_string())),
        ("group", spec.group.map(|group| group.to_string())),
        ("port", spec.port.filter(|&port| port != 0).map(|port| port.to_string())),
        ("ttl", spec.ttl.filter(|&ttl| ttl != 0).map(|ttl| ttl.to_string())),
    ] {
        if let Some(value) = value {
            text.push_str(&format!(", {name}={value}"));
        }
    }
    text + ")\n"
}

/// What ipvsadm says to whom the kernel refuses for want of `CAP_NET_ADMIN`.
pub const NOT_ROOT: &str = "Permission denied (you must be root)";
/// The exit status when not all could be written that was to be said.
pub const UNWRITTEN: u8 = 1;
/// ipvsadm's exit status when there is no IPVS, here no director, to talk to.
pub const UNREACHABLE: u8 = 2;
