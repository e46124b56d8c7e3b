//! `director realserver`: a real server made ready, and made again what it was.

use core::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use lvs_std::real_server::{self, Done, Format, Mode, Plan, PlanError, Undone, Unwrap, Wanted};
use lvs_support::{eprintln, print, println};

/// `director realserver`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make this machine ready, all of it or nothing; a second time changes nothing
    Up {
        #[command(flatten)]
        wanted: WantedArguments,
        #[command(flatten)]
        record: RecordArguments,
    },
    /// Undo exactly what `up` has changed
    Down {
        #[command(flatten)]
        record: RecordArguments,
    },
    /// Print what `up` would do, as commands or as files that make it last
    Show {
        #[command(flatten)]
        wanted: WantedArguments,
        /// As what
        #[arg(long, value_enum, default_value_t = FormatWord::Commands)]
        format: FormatWord,
    },
}

#[derive(Debug, clap::Args)]
struct RecordArguments {
    /// The file in which `up` writes down what was there before
    #[arg(long, value_name = "FILE", default_value = "/run/director/realserver.json")]
    record: PathBuf,
}

#[derive(Debug, clap::Args)]
struct WantedArguments {
    /// A virtual address; may be repeated
    #[arg(long = "vip", value_name = "ADDRESS", required = true, num_args = 1..)]
    addresses: Vec<IpAddr>,
    /// How the director hands packets over
    #[arg(long, value_enum)]
    mode: ModeWord,
    /// The interface by which packets come; ARP is hidden there, otherwise on all interfaces
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    /// The default route: by NAT the director's address in the servers' network; may be repeated for the other family
    #[arg(long = "gateway", value_name = "ADDRESS")]
    gateways: Vec<IpAddr>,
    /// Who takes packets out of their tunnel, by TUN; the kernel unless the director is told
    #[arg(long, value_enum)]
    via: Option<ViaWord>,
    /// What the kernel takes them out of: ipip unless told
    #[arg(long, value_enum)]
    encapsulation: Option<EncapsulationWord>,
    /// The tunnel's end for `--via director`, which this machine's kernel does not have; may be repeated
    #[arg(long = "tunnel-address", value_name = "ADDRESS/LENGTH", value_parser = crate::decap::prefix)]
    ends: Vec<(IpAddr, u8)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ModeWord {
    Dr,
    Tun,
    Nat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ViaWord {
    Kernel,
    Director,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EncapsulationWord {
    Ipip,
    Gre,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatWord {
    /// A shell script
    Commands,
    /// Debian's ifupdown and sysctl.d
    Debian,
    /// `NetworkManager` and sysctl.d
    Rhel,
    /// systemd-networkd and sysctl.d
    Networkd,
}

impl WantedArguments {
    /// What is to be done, or which options do not go together.
    fn plan(&self) -> Result<Plan, String> {
        let Self { addresses, mode, interface, gateways, via, encapsulation, ends } = self;
        let mode = match mode {
            ModeWord::Dr => Mode::Direct,
            ModeWord::Tun => Mode::Tunnel,
            ModeWord::Nat => Mode::Nat,
        };
        if mode != Mode::Tunnel && (via.is_some() || encapsulation.is_some() || !ends.is_empty()) {
            return Err("--via, --encapsulation and --tunnel-address go with --mode tun alone".to_owned());
        }
        let mut wanted = Wanted::new(mode, addresses.clone());
        (wanted.interface, wanted.gateways) = (interface.clone(), gateways.clone());
        wanted.unwrap = match (via, encapsulation) {
            (Some(ViaWord::Director), Some(_)) => {
                return Err("`director decap` takes each encapsulation: leave --encapsulation out".to_owned());
            }
            (Some(ViaWord::Director), None) => Unwrap::Director(ends.clone()),
            (Some(ViaWord::Kernel) | None, _) if !ends.is_empty() => {
                return Err(
                    "--tunnel-address goes with --via director: the kernel takes tunnels to any of its \
                            addresses"
                        .to_owned(),
                );
            }
            (Some(ViaWord::Kernel) | None, Some(EncapsulationWord::Gre)) => Unwrap::Gre,
            (Some(ViaWord::Kernel) | None, Some(EncapsulationWord::Ipip) | None) => Unwrap::Ipip,
        };
        Plan::new(&wanted).map_err(|error: PlanError| error.to_string())
    }
}

/// Status 1 when it cannot be, 2 when the options make no sense.
pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    match &arguments.verb {
        Verb::Up { wanted, record } => with_plan(wanted, |plan| up(plan, record)),
        Verb::Down { record } => down(record),
        Verb::Show { wanted, format } => with_plan(wanted, |plan| show(plan, *format)),
    }
}

fn with_plan(wanted: &WantedArguments, then: impl FnOnce(&Plan) -> ExitCode) -> ExitCode {
    match wanted.plan() {
        Ok(plan) => then(&plan),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(MAKES_NO_SENSE)
        }
    }
}

fn up(plan: &Plan, record: &RecordArguments) -> ExitCode {
    match real_server::up(plan, &record.record) {
        Ok(done) => {
            for of in done {
                match of {
                    Done::Taken(step) => println!("done     {step}"),
                    Done::Already(step) => println!("already  {step}"),
                }
            }
            if let Some(words) = &plan.beside {
                println!("run now  {}", words.join(" "));
            }
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

fn down(record: &RecordArguments) -> ExitCode {
    match real_server::down(&record.record) {
        Ok(undone) => {
            for (step, how) in undone {
                match how {
                    Undone::Restored => println!("undone   {step}"),
                    Undone::NotThere => println!("not so   {step}"),
                    Undone::Left => println!("left     {step}: somebody else has changed that since"),
                }
            }
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

fn show(plan: &Plan, format: FormatWord) -> ExitCode {
    let format = match format {
        FormatWord::Commands => Format::Commands,
        FormatWord::Debian => Format::Debian,
        FormatWord::Rhel => Format::Rhel,
        FormatWord::Networkd => Format::Networkd,
    };
    match plan.files(format) {
        Ok(files) => {
            for (file, at) in files.iter().zip(0..) {
                if let Some(path) = &file.path {
                    println!("{}### {path}", if at > 0 { "\n" } else { "" });
                }
                print!("{}", file.text);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(MAKES_NO_SENSE)
        }
    }
}

fn failed(error: &real_server::RealServerError) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

/// As clap's, for options that it does not know.
const MAKES_NO_SENSE: u8 = 2;
