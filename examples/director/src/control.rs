//! What asks a running director: `director plan`, `reload`, `health` and others, a line of JSON each way.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lvs_support::text::columns;
use lvs_support::{eprintln, print, println};
use serde_json::Value;

use lvs_std::config::ConfigSource;
use lvs_std::control::api::{HealthRow, ProblemRow, Request, Response, ask, listen};
use lvs_std::control::{DEFAULT_NAME, DIRECTOR_VARIABLE, socket_path};
use lvs_std::runtime::RuntimeOptions;

use crate::lvsadm;

/// Which running director is meant.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Target {
    /// The director's name, or a path to its socket if there is a slash in it
    #[arg(long, alias = "control", value_name = "NAME", env = DIRECTOR_VARIABLE, default_value = DEFAULT_NAME)]
    director: String,
}

impl Target {
    /// The director's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        socket_path(&self.director)
    }

    /// The director's JSON socket.
    pub(crate) fn json_socket(&self) -> PathBuf {
        json_socket(&self.socket())
    }
}

/// The JSON socket beside a director's socket.
pub(crate) fn json_socket(socket: &Path) -> PathBuf {
    RuntimeOptions::at(socket).json_socket().unwrap_or_default()
}

/// `director lvsadm` and `director ipvsadm`.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Ipvsadm {
    #[command(flatten)]
    target: Target,
    /// What ipvsadm would be told
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// `director sysctl`.
#[derive(Debug, clap::Args)]
pub(crate) struct Sysctl {
    #[command(flatten)]
    target: Target,
    /// The switch, such as `net.ipv4.vs.sloppy_tcp`
    key: String,
    /// The value
    value: String,
}

/// Asks a running director as ipvsadm asks the kernel, with ipvsadm's exit status. Hints name the tool as `program`.
pub(crate) fn ipvsadm(program: &str, arguments: Ipvsadm) -> ExitCode {
    ExitCode::from(lvsadm::call(program, arguments.words, Some(arguments.target.socket())))
}

/// Turns a switch of a running director.
pub(crate) fn sysctl(arguments: Sysctl) -> ExitCode {
    show(&arguments.target, &Request::Sysctl(arguments.key, arguments.value), false)
}

/// ipvsadm's status when the kernel has no IPVS.
pub(crate) const UNREACHABLE: u8 = 2;

/// `director plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArguments {
    #[command(flatten)]
    target: Target,
    /// The file to compare with; by default the one that the director was started with
    file: Option<PathBuf>,
}

/// `director health`, `statistics`, `stats`, `reload`, `events`, `services`.
#[derive(Debug, clap::Args)]
pub(crate) struct Plain {
    #[command(flatten)]
    target: Target,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// Prints what a reload would change.
pub(crate) fn plan(arguments: &PlanArguments) -> ExitCode {
    let text = match &arguments.file {
        None => None,
        // What is wrong with it is said here, with the file's name.
        Some(file) => match ConfigSource::read(file) {
            Ok(source) => source.text,
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::FAILURE;
            }
        },
    };
    show(&arguments.target, &Request::Plan(text), false)
}

/// Makes a director read its file again.
pub(crate) fn reload(arguments: &Plain) -> ExitCode {
    show(&arguments.target, &Request::Reload, arguments.json)
}

/// What does not work as it should, under a title; nothing if all does.
fn problems(rows: &[ProblemRow]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let row = |problem: &ProblemRow| {
        vec![problem.part.clone(), format!("{:.0} s", problem.since), problem.why.clone()]
    };
    format!("problems\n{}", columns(&rows.iter().map(row).collect::<Vec<_>>(), &[1]))
}

/// Shows the checks of real servers, and what of the director does not work. Status 3 while not all checks have
/// answered, 4 while the director has problems.
pub(crate) fn health(arguments: &Plain) -> ExitCode {
    let response = match put(&arguments.target, &Request::Health) {
        Ok(response) => response,
        Err(status) => return status,
    };
    let Ok(health) = serde_json::from_value::<HealthRow>(response.clone()) else {
        return print(&response, true);
    };
    if arguments.json {
        print(&response, true);
    } else {
        let rows = health.probes.iter().map(|probe| {
            let why = probe.why.as_deref().unwrap_or_default();
            [&probe.state, &format!("{:.0} s", probe.since), &probe.probe, why]
                .map(|cell: &str| cell.to_owned())
                .to_vec()
        });
        print!("{}", columns(&rows.collect::<Vec<_>>(), &[1]));
        print!("{}", problems(&health.problems));
    }
    match (health.problems.is_empty(), health.ready) {
        (false, _) => ExitCode::from(DEGRADED),
        (true, false) => ExitCode::from(NOT_READY),
        (true, true) => ExitCode::SUCCESS,
    }
}

/// Shows what became of packets, and below it what of the director does not work.
pub(crate) fn statistics(arguments: &Plain) -> ExitCode {
    let status = show(&arguments.target, &Request::Statistics, arguments.json);
    if arguments.json || status != ExitCode::SUCCESS {
        return status;
    }
    match put(&arguments.target, &Request::Health).map(serde_json::from_value::<HealthRow>) {
        Ok(Ok(health)) => print!("{}", problems(&health.problems)),
        Ok(Err(error)) => return answer_makes_no_sense(&error),
        Err(status) => return status,
    }
    status
}

/// Shows all counters and gauges, a line each, or as JSON.
pub(crate) fn stats(arguments: &Plain) -> ExitCode {
    let families = match put(&arguments.target, &Request::Stats) {
        Ok(families) if arguments.json => return print(&families, true),
        Ok(families) => families,
        Err(status) => return status,
    };
    let families: BTreeMap<String, FamilyRow> = match serde_json::from_value(families) {
        Ok(families) => families,
        Err(error) => return answer_makes_no_sense(&error),
    };
    for (name, family) in families {
        for SampleRow { labels, value } in family.samples {
            let labels: Vec<_> = labels.iter().map(|(label, value)| format!("{label}={value:?}")).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            println!("{name}{labels} {value}");
        }
    }
    ExitCode::SUCCESS
}

/// A family of numbers in an answer to [`Request::Stats`].
#[derive(Debug, serde::Deserialize)]
struct FamilyRow {
    samples: Vec<SampleRow>,
}

/// A number of a family.
#[derive(Debug, serde::Deserialize)]
struct SampleRow {
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Shows what was declared, and how it is doing.
pub(crate) fn services(arguments: &Plain) -> ExitCode {
    show(&arguments.target, &Request::Services, true)
}

/// Prints what happens, a line of JSON each, until the director ends.
pub(crate) fn events(arguments: &Plain) -> ExitCode {
    let socket = arguments.target.json_socket();
    match listen(&socket, |line| println!("{line}")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => unreachable(&socket, &error),
    }
}

/// Asks, and shows the answer.
fn show(target: &Target, request: &Request, json: bool) -> ExitCode {
    match put(target, request) {
        Ok(result) => print(&result, json),
        Err(status) => status,
    }
}

fn print(result: &Value, json: bool) -> ExitCode {
    match result {
        Value::Null => {}
        Value::String(text) if !json => print!("{text}"),
        Value::Object(numbers) if !json => {
            let rows = numbers.iter().map(|(what, count)| vec![count.to_string(), what.clone()]);
            print!("{}", columns(&rows.collect::<Vec<_>>(), &[0]));
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            println!("{result:#}");
        }
    }
    ExitCode::SUCCESS
}

/// Asks; what is refused is said here.
pub(crate) fn put(target: &Target, request: &Request) -> Result<Value, ExitCode> {
    let socket = target.json_socket();
    match ask(&socket, request) {
        Ok(Response { error: None, result, .. }) => Ok(result),
        Ok(Response { error: Some(error), .. }) => {
            eprintln!("error: {error}");
            Err(ExitCode::from(REFUSED))
        }
        Err(error) => Err(unreachable(&socket, &error)),
    }
}

pub(crate) fn answer_makes_no_sense(error: &serde_json::Error) -> ExitCode {
    eprintln!("error: the answer makes no sense, is the director of this version? {error}");
    ExitCode::from(REFUSED)
}

fn unreachable(socket: &Path, error: &io::Error) -> ExitCode {
    eprintln!("error: no director answers at {}: {error}", socket.display());
    ExitCode::from(UNREACHABLE)
}

/// As ipvsadm's when the kernel refuses.
const REFUSED: u8 = 255;
/// Not all checks have answered yet.
const NOT_READY: u8 = 3;
/// A part of the director does not work as it should.
const DEGRADED: u8 = 4;
