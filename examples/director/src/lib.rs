//! A Linux Virtual Server director as a program.
//!
//! The program is [`main`]; what its tests and other tools call is public beside it.
//!
//! `director demo` shows one at work without root or configuration; `director run` is one; `director check` says what a
//! configuration means; `director decap` is the real server's side of its tunnels; `director replay` plays
//! recordings through a director, in memory; `director bench` measures one.

mod check;
mod control;
mod convert;
mod decap;
mod doctor;
mod exec;
mod explain;
pub mod lvsadm;
mod realserver;
mod run;
mod service;
mod top;
mod trace;

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
    /// Balance by a configuration file until SIGINT or SIGTERM; needs `CAP_NET_RAW` and `CAP_NET_ADMIN`
    Run(run::Arguments),
    /// Say what a configuration file would do, or what is wrong with it and where
    Check {
        /// The configuration file
        file: PathBuf,
    },
    /// Print the services of a configuration file as `ipvsadm --save` would, or those of such a file as configuration
    Convert {
        /// The file, of either kind
        file: PathBuf,
    },
    /// Show a director at work: clients, director and real servers in namespaces, without root
    Demo(lvs_demo::Arguments),
    /// Tell a running director what one would tell the kernel by ipvsadm; the program lvsadm does the same
    Lvsadm(control::Ipvsadm),
    /// What `lvsadm` does, under ipvsadm's name, for scripts
    Ipvsadm(control::Ipvsadm),
    /// Turn one of the switches net.ipv4.vs.* of a running director
    Sysctl(control::Sysctl),
    /// Print what a reload would change in a running director, and what share of clients would move
    Plan(control::PlanArguments),
    /// Make a running director read its configuration file again (as SIGHUP does)
    Reload(control::Plain),
    /// Show what the checks of real servers say; status 3 while not all have answered
    Health(control::Plain),
    /// Show services and real servers with their declared and effective weights
    Services(control::Plain),
    /// Show what became of packets, by reasons
    Statistics(control::Plain),
    /// Show all counters and gauges, as metrics have them
    Stats(control::Plain),
    /// Watch a running director in the terminal: services, servers, rates, health, drops; drain servers by a key
    Top(top::Arguments),
    /// Say what would be done with a packet, and why
    Explain(explain::ExplainArguments),
    /// Record what becomes of packets while they pass
    Trace(trace::TraceArguments),
    /// Print what happens, a line of JSON each
    Events(control::Plain),
    /// Play recorded scenarios through a director, in memory, and say where it does something else
    Replay(lvs_conformance::Arguments),
    /// Execute a command that configures IPVS, such as ipvsadm or keepalived, so that it configures a director
    Exec(exec::Arguments),
    /// Measure how fast the director is on this machine: in memory, or between two cables against the kernel
    Bench(lvs_bench::Arguments),
    /// Unwrap what a director tunnels to this real server, and hand it to this machine
    Decap(decap::Arguments),
    /// Say what is wrong with this machine, the configuration and the servers, and how to mend it
    Doctor(doctor::Arguments),
    /// Make this machine a real server: addresses, ARP, tunnels, routes; and undo that, or only show it
    Realserver(realserver::Arguments),
}

/// The program: does what its command line says.
#[must_use]
pub fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(Cli { command }) => command,
        Err(error) => {
            // Help is no error, but must be printed like all else.
            lvs_support::note(error.print());
            return lvs_support::finish(
                u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from),
            );
        }
    };
    lvs_support::finish(call(command))
}

fn call(command: Command) -> ExitCode {
    match command {
        Command::Run(arguments) => run::main(&arguments),
        Command::Check { file } => check::main(&file),
        Command::Convert { file } => convert::main(&file),
        Command::Demo(arguments) => lvs_demo::main(&arguments),
        Command::Lvsadm(arguments) => control::ipvsadm("lvsadm", arguments),
        Command::Ipvsadm(arguments) => control::ipvsadm("ipvsadm", arguments),
        Command::Sysctl(arguments) => control::sysctl(arguments),
        Command::Plan(arguments) => control::plan(&arguments),
        Command::Reload(arguments) => control::reload(&arguments),
        Command::Health(arguments) => control::health(&arguments),
        Command::Services(arguments) => control::services(&arguments),
        Command::Statistics(arguments) => control::statistics(&arguments),
        Command::Stats(arguments) => control::stats(&arguments),
        Command::Top(arguments) => top::main(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Trace(arguments) => trace::trace(&arguments),
        Command::Events(arguments) => control::events(&arguments),
        Command::Replay(arguments) => lvs_conformance::main(&arguments),
        Command::Exec(arguments) => exec::main(arguments),
        Command::Bench(arguments) => lvs_bench::main(&arguments),
        Command::Decap(arguments) => decap::main(&arguments),
        Command::Doctor(arguments) => doctor::main(&arguments),
        Command::Realserver(arguments) => realserver::main(&arguments),
    }
}
