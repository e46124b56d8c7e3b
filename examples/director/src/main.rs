//! A Linux Virtual Server director as a program.
//!
//! `director demo` shows one at work without root or configuration; `director check` says what a configuration means.

mod check;
mod config;
mod demo;
mod terminal;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A layer-4 load balancer: a Linux Virtual Server director.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what a configuration file would do, or what is wrong with it and where
    Check {
        /// The configuration file
        file: PathBuf,
    },
    /// Show a director at work: clients, director and real servers in namespaces, without root
    Demo(demo::Arguments),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Check { file } => check::main(&file),
        Command::Demo(arguments) => demo::main(&arguments),
    }
}
