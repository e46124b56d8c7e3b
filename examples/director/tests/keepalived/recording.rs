//! What was recorded of a run of keepalived: its time line.

use core::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// A recorded run.
pub(crate) struct Recording {
    pub(crate) folder: PathBuf,
    pub(crate) configuration: String,
    /// What was done, and when, in seconds.
    pub(crate) events: Vec<(f64, Event)>,
    /// The tables, and when they were first seen. The first one is empty.
    pub(crate) tables: Vec<(f64, Table)>,
}

/// A listing without its counters: a line for each service and server, in order of addresses.
pub(crate) type Table = Vec<String>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A server goes up or down.
    Server(u8, bool),
    /// The script of `MISC_CHECK` ends with this status from now on.
    Script(String),
    /// `/index.html` comes or goes.
    Index(bool),
    /// The tracked file says this from now on.
    Tracked(String),
    /// keepalived is told to end.
    Stop,
}

impl Recording {
    pub(crate) fn load(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let configuration = fs::read_to_string(folder.join("keepalived.conf"))?;
        let (mut events, mut tables) = (Vec::new(), Vec::<(f64, Table)>::new());
        for line in fs::read_to_string(folder.join("timeline.txt"))?.lines() {
            let (time, rest) = line.split_at_checked(6).unwrap_or((line, ""));
            match (time.trim().parse::<f64>(), tables.last_mut()) {
                (Ok(time), _) if rest.trim() == "table:" => tables.push((time, Vec::new())),
                (Ok(time), _) => events.push((time, Event::parse(rest.trim())?)),
                (Err(_), Some((_, table))) if line.starts_with("      ") => {
                    table.push(without_counters(line));
                }
                // What `keepalived -t` said.
                (Err(_), _) => {}
            }
        }
        for (_, table) in &mut tables {
            sort(table);
        }
        tables.dedup_by(|later, earlier| later.1 == earlier.1);
        Ok(Self { folder: folder.to_owned(), configuration, events, tables })
    }

    /// A file that was written during the run, or nothing if there was none.
    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Event {
    fn parse(text: &str) -> Result<Self, Box<dyn Error>> {
        let words: Vec<&str> = text.strip_prefix("event: ").unwrap_or(text).split(' ').collect();
        Ok(match *words {
            ["up", number] => Self::Server(number.parse()?, true),
            ["down", number] => Self::Server(number.parse()?, false),
            ["misc", status] => Self::Script(status.to_owned()),
            ["tf", text] => Self::Tracked(text.to_owned()),
            ["mkindex"] => Self::Index(true),
            ["rmindex"] => Self::Index(false),
            ["stop", "(SIGTERM)"] => Self::Stop,
            _ => return Err(format!("what is the event {text}?").into()),
        })
    }
}

/// A line of `ipvsadm -Ln` up to the weight.
fn without_counters(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    match *words {
        ["->", server, method, weight, ..] => format!("  -> {server} {method} {weight}"),
        _ => words.join(" "),
    }
}

/// Puts servers in order below their services; there is never more than one service.
pub(crate) fn sort(table: &mut Table) {
    table.sort_by_key(|line| (line.starts_with(' '), line.clone()));
}
