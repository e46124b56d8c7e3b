//! `director demo`: a Linux Virtual Server at work on this machine, without root, configuration or tools.
//!
//! For each forwarding method a cluster of network namespaces is built: a client, a director, three real servers. The
//! real servers serve one folder by HTTP; the client asks the virtual address for its files, on a new connection each
//! time, and compares every answer with what the folder holds. Then one server's cable is pulled while clients go on,
//! and plugged in again: the director's own checks take the server out and put it back.

mod folder;
mod http;
mod load;
mod outage;
mod report;
mod stage;

use core::error::Error;
use std::process::{self, ExitCode};
use std::thread;

use lvs_core::{Family, Method, Tunnel};
use lvs_std::lab::Lab;
use lvs_support::{Terminal, Tone, eprintln, println};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use folder::Folder;
use outage::Outage;
use report::Round;
use stage::Stage;

/// What `director demo` can be told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Leave the clusters up until Ctrl-C, and say how to look into them
    #[arg(long)]
    keep: bool,
    /// Requests for each method and address family
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    requests: u32,
}

/// Runs the demonstration. Status 0: all was right; 1: something was not; 2: this machine does not allow it.
#[must_use]
pub fn main(arguments: &Arguments) -> ExitCode {
    // Before any thread: a user namespace can only be entered by a process with one.
    let lab = match Lab::new() {
        Ok(lab) => lab,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    match demonstrate(lab, arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all was right.
fn demonstrate(lab: Lab, arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let terminal = Terminal::detect();
    let folder = Folder::new(&LENGTHS)?;
    leave_nothing(&folder)?;
    let servers: Vec<(String, u32)> = stage::WEIGHTS.map(|(name, weight)| (name.to_owned(), weight)).to_vec();
    println!("A client, a director and three real servers, each in its own network namespace.");
    println!(
        "The client asks one address for {} files; the director spreads its connections.\n",
        LENGTHS.len()
    );
    let (mut right, mut answered, mut stages) = (true, 0, Vec::new());
    for (name, method) in METHODS {
        terminal.progress(&format!("{name}: building the cluster"));
        let stage = Stage::new(lab, name, method, &folder)?;
        for (over, family) in [("IPv4", Family::V4), ("IPv6", Family::V6)] {
            let title = format!("{name} over {over}");
            let requests = arguments.requests as usize;
            let progress =
                |done: usize| terminal.progress(&format!("{title}: {done} of {requests} requests"));
            let tally = stage.client().run(|| load::run(stage::vip(family), &folder, requests, progress))?;
            terminal.progress("");
            let round = Round { title, servers: &servers, requests, tally };
            println!("{}", round.table(terminal));
            right &= round.is_right();
            answered += round.tally.total().connections;
        }
        let title = format!("{name} over IPv4, a server dies under load");
        terminal.progress(&title);
        let outage = Outage::on_a_steady_machine(&title, &stage, &folder, |gap| {
            terminal.progress("");
            println!(
                "{title}:\n  once more, since this machine stood still for {:.2} s.\n",
                gap.as_secs_f64()
            );
        })?;
        terminal.progress("");
        println!("{}", outage.text(terminal));
        right &= outage.is_right();
        if arguments.keep {
            stages.push(stage);
        } else {
            println!("{}", report::counters(&stage.stop()?));
        }
    }
    if right {
        let text =
            format!("All {answered} requests were answered with the right bytes, by the right servers.");
        println!("{}", terminal.paint(Tone::Good, text));
    } else {
        println!("{}", terminal.paint(Tone::Bad, "Not everything was right, see above."));
    }
    if arguments.keep {
        println!("\nThe clusters stay up until Ctrl-C. To look into a node, as the same user:\n");
        for stage in &stages {
            println!("{}", stage.nodes());
        }
        println!(
            "For example, in a client: curl -i http://{}/{}",
            stage::vip(Family::V4).ip(),
            folder.files()[0].name
        );
        loop {
            thread::park();
        }
    }
    Ok(right)
}

/// Removes the folder also when the demonstration is interrupted; all else vanishes with the process.
fn leave_nothing(folder: &Folder) -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let path = folder.path().to_owned();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            folder::remove(&path);
            // The way in which a shell reports a process that a signal ended.
            process::exit(128 + signal);
        }
    })?;
    Ok(())
}

const METHODS: [(&str, Method); 3] =
    [("NAT", Method::Nat), ("DR", Method::Direct), ("TUN", Method::Tunnel(Tunnel::IpIp))];

/// Lengths of the served files in bytes: from one segment to many merged ones.
/// As many as have no factor in common with a cycle of the weights, so that every server gets every file.
const LENGTHS: [usize; 5] = [512, 8_000, 60_000, 300_000, 1_200_000];
