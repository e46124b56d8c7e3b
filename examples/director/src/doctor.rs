//! `director doctor`: what is wrong with this machine, the configuration and the servers, and how to mend it.

use std::path::PathBuf;
use std::process::ExitCode;

use lvs_std::config::ConfigSource;
use lvs_std::doctor::{CHECKS, Finding, Rank, Subject, examine};
use lvs_std::runtime::RuntimeOptions;
use lvs_support::{eprintln, println};

use crate::control::Target;

/// `director doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// The configuration file; without one, only the machine is looked at
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The state file, where it is not beside the director's socket
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Print what is found as JSON
    #[arg(long)]
    json: bool,
}

/// Status 0 if nothing is wrong (hints may be), 1 if something is, 2 if nothing can be looked at.
pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    let socket = arguments.target.socket();
    let state = arguments.state.clone().or_else(|| RuntimeOptions::at(&socket).state);
    let mut subject = Subject { source: None, socket: Some(socket), state };
    if let Some(file) = &arguments.config {
        match ConfigSource::read(file) {
            Ok(source) => subject.source = Some(source),
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::from(CANNOT_LOOK);
            }
        }
    }
    let findings = match examine(&subject) {
        Ok(findings) => findings,
        Err(error) => {
            eprintln!("error: this machine cannot be looked at: {error}");
            return ExitCode::from(CANNOT_LOOK);
        }
    };
    if arguments.json {
        println!("{:#}", serde_json::json!({ "checks": CHECKS, "findings": findings }));
    } else {
        show(&findings);
    }
    let wrong = findings.iter().any(|finding| finding.rank == Rank::Error);
    if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn show(findings: &[Finding]) {
    if findings.is_empty() {
        println!("nothing is wrong, by {} checks", CHECKS.len());
    }
    for (finding, number) in findings.iter().zip(1..) {
        let rank = match finding.rank {
            Rank::Error => "error",
            Rank::Hint => "hint",
        };
        println!("{number}. {rank}, {}: {}", finding.check, finding.what);
        println!("   {}", finding.mend);
        for command in &finding.commands {
            match finding.on.as_str() {
                "here" => println!("     {command}"),
                server => println!("     on {server}: {command}"),
            }
        }
    }
}

const CANNOT_LOOK: u8 = 2;
