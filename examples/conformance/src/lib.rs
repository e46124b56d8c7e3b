//! `director replay`: what was recorded, once more.
//!
//! A scenario is a recording of Linux's IPVS: how its director was set up, what was put in, and every frame that left.
//! [`play()`] puts the same into this director, in memory and with counted time, and says in words where it does
//! something else.
//!
//! A capture with a configuration is an incident: what would a director have sent?

mod apply;
mod capture;
mod compare;
mod deliberate;
mod fields;
mod lab;
mod play;
mod report;
mod rows;
mod scenario;
mod setup;
mod survey;
mod sysctl;

pub use compare::{Done, Sent, compare};
pub use deliberate::{Deliberate, Entry};
pub use play::{Difference, Manner, Played, StoreKind, play};
pub use report::{Behaviour, Behaviours, Chance, Verdict};
pub use rows::{ConnectionRow, ServerRow, ServiceName, ServiceRow};
pub use scenario::{
    Action, Expected, Hex, MarkSetup, NeighbourSetup, PortSetup, RouteSetup, Scenario, Setup, Step,
};

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lvs_support::{eprintln, print, println};

/// What `director replay` can be told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Folders of scenarios, or their files
    #[arg(value_name = "SCENARIO", required_unless_present = "config", conflicts_with = "config")]
    scenarios: Vec<PathBuf>,
    /// Write what the director did to this file, as JSON: an object for one scenario, a list for several
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The store under the director
    #[arg(long, value_enum, default_value_t)]
    store: StoreKind,
    /// Put up to so many frames in together
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: usize,
    /// Do not miss frames that the host itself is expected to make
    #[arg(long)]
    ignore_host: bool,
    /// Leave out the deliberate differences that this file lists
    #[arg(long, value_name = "FILE")]
    except: Option<PathBuf>,
    /// Play a capture instead, through a director with this configuration file
    #[arg(long, value_name = "FILE", requires = "input", requires = "output")]
    config: Option<PathBuf>,
    /// The capture that comes in (pcap, pcapng; also cooked); time is the capture's
    #[arg(long = "in", id = "input", value_name = "FILE", requires = "config")]
    input: Option<PathBuf>,
    /// The capture (pcap) to write what leaves to
    #[arg(long = "out", id = "output", value_name = "FILE", requires = "config")]
    output: Option<PathBuf>,
    /// The MTU of the configured interfaces, in bytes
    #[arg(long, value_name = "N", default_value_t = 1_500, requires = "config")]
    mtu: u16,
}

/// The files of a capture that is to be played.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CaptureFiles<'a> {
    /// The director's configuration.
    pub(crate) config: &'a Path,
    /// What comes in.
    pub(crate) input: &'a Path,
    /// Where to write what leaves.
    pub(crate) output: &'a Path,
    /// MTU of every interface, in bytes.
    pub(crate) mtu: u16,
}

/// Plays scenarios, or a capture. Status 1 on any difference, and on anything that cannot be played.
#[must_use]
pub fn main(arguments: &Arguments) -> ExitCode {
    let done = match (&arguments.config, &arguments.input, &arguments.output) {
        (Some(config), Some(input), Some(output)) => {
            let files = CaptureFiles { config, input, output, mtu: arguments.mtu };
            capture::play(&files).map(|summary| {
                print!("{summary}");
                0
            })
        }
        // The command line asks for all of them or none.
        _ => run(arguments),
    };
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the director did in a scenario, as it is written.
#[derive(serde::Serialize)]
struct Record<'a> {
    name: &'a str,
    steps: &'a [Done],
}

/// Plays all; how many were not equal.
fn run(arguments: &Arguments) -> Result<usize, String> {
    let manner =
        Manner { store: arguments.store, batch: arguments.batch, ignore_host: arguments.ignore_host };
    let deliberate = match &arguments.except {
        Some(file) => Deliberate::load(file)?,
        None => Deliberate::default(),
    };
    let mut all = Vec::new();
    let (mut equal, mut unequal) = (0, 0);
    for path in &arguments.scenarios {
        let scenario = Scenario::load(path)?;
        let played = match play(&scenario, manner) {
            Ok(played) => played,
            Err(error) => {
                println!("{}: cannot be played: {error}", scenario.name);
                unequal += 1;
                continue;
            }
        };
        let differences = deliberate.excuse(&scenario.name, &played.differences);
        for Difference { step, what } in &differences {
            println!("{}: step {step}: {what}", scenario.name);
        }
        if differences.is_empty() {
            equal += 1;
        } else {
            unequal += 1;
        }
        all.push((scenario.name, played.steps));
    }
    if let Some(file) = &arguments.json {
        let records: Vec<Record<'_>> = all.iter().map(|(name, steps)| Record { name, steps }).collect();
        let text = match records.as_slice() {
            [record] => serde_json::to_string(record),
            records => serde_json::to_string(records),
        };
        let text = text.map_err(|error| error.to_string())?;
        let failed = |error| format!("{} cannot be written: {error}", file.display());
        fs::write(file, text + "\n").map_err(failed)?;
    }
    println!("{equal} equal, {unequal} different");
    Ok(unequal)
}
