//! `director bench`: how fast is this machine as a director?
//!
//! In memory, without any device: what the library itself costs, beside what the machine's memory takes for as many
//! accesses in the same run (the floor: in ordinary pages; the tables are in large ones where the kernel has some).
//! Every figure is the median over batches, and of that over several runs, so that what else the machine does
//! meanwhile is not counted.
//!
//! A longest time is the largest of what each step took at least over several equal runs, for the same reason. Its
//! floor is the longest pause of a loop that does nothing for as long, judged in the same way: what the machine alone
//! adds. The row before it has the time that one step in ten thousand exceeds, which says more of the code on a
//! machine that pauses.

mod floor;
mod forward;
mod frames;
mod longest;
mod net;
mod report;
mod schedule;
mod sizes;
mod steps;
mod table;
mod workers;
mod world;

use std::process::ExitCode;

use report::{Report, Row};

/// What `director bench` can be told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print a line of JSON for every row instead of a table
    #[arg(long)]
    json: bool,
    /// Measure end to end, between two cables in namespaces, against this machine's kernel in the director's place;
    /// AF_XDP needs root
    #[arg(long, conflicts_with = "flows")]
    wire: bool,
    /// With --wire: how often every contender has its turn of a second; figures are medians
    #[arg(long, value_name = "N", default_value_t = 5, requires = "wire")]
    rounds: u32,
    /// Measure how long commands take with 10,000 services of 10 servers each
    #[arg(long, conflicts_with_all = ["flows", "wire", "only"])]
    sizes: bool,
    /// The largest number of flows; 8 million need about 2 GiB of memory, the floor's included
    #[arg(long, value_name = "N", default_value_t = 8_000_000)]
    flows: u32,
    /// Measure only rows whose name contains this
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

/// Measures and prints row by row. A missed aim is not a failure; status 1 when nothing can be measured.
#[must_use]
pub fn main(arguments: &Arguments) -> ExitCode {
    if arguments.wire {
        return net::main(arguments.json, arguments.rounds, arguments.only.as_deref());
    }
    if arguments.sizes {
        return sizes::main(arguments.json, 10 * THOUSAND, 10);
    }
    let mut report = Report::new(arguments.json);
    for (name, flows, measure) in ROWS {
        let wanted = arguments.only.as_ref().is_none_or(|part| name.contains(part.as_str()));
        if wanted && *flows <= arguments.flows {
            measure(*flows).iter().for_each(|row| report.add(row));
        }
    }
    ExitCode::SUCCESS
}

type Measure = fn(u32) -> Vec<Row>;

/// All rows: name, number of flows, and what measures them.
const ROWS: &[(&str, u32, Measure)] = &[
    // First: what others leave behind could be used again without counting.
    ("bytes-per-connection", MILLION, table::bytes_per_connection),
    ("dr", THOUSAND, |flows| forward::rows(forward::DIRECT, flows, Some(25.0))),
    ("nat", THOUSAND, |flows| forward::rows(forward::NAT, flows, Some(30.0))),
    ("nat-reply", THOUSAND, |flows| forward::rows(forward::NAT_REPLY, flows, None)),
    ("tun", THOUSAND, |flows| forward::rows(forward::TUNNEL, flows, Some(35.0))),
    ("dr", MILLION, |flows| forward::rows(forward::DIRECT, flows, None)),
    ("nat", MILLION, |flows| forward::rows(forward::NAT, flows, Some(60.0))),
    ("nat-reply", MILLION, |flows| forward::rows(forward::NAT_REPLY, flows, None)),
    ("tun", MILLION, |flows| forward::rows(forward::TUNNEL, flows, None)),
    ("nat", 8 * MILLION, |flows| forward::rows(forward::NAT, flows, Some(90.0))),
    ("dr6", THOUSAND, |flows| forward::rows(forward::DIRECT_V6, flows, None)),
    ("nat6", THOUSAND, |flows| forward::rows(forward::NAT_V6, flows, None)),
    ("nat6-reply", THOUSAND, |flows| forward::rows(forward::NAT_REPLY_V6, flows, None)),
    ("tun6", THOUSAND, |flows| forward::rows(forward::TUNNEL_V6, flows, None)),
    ("dr6", MILLION, |flows| forward::rows(forward::DIRECT_V6, flows, None)),
    ("nat6", MILLION, |flows| forward::rows(forward::NAT_V6, flows, None)),
    ("nat6-reply", MILLION, |flows| forward::rows(forward::NAT_REPLY_V6, flows, None)),
    ("tun6", MILLION, |flows| forward::rows(forward::TUNNEL_V6, flows, None)),
    ("new-connection", MILLION, table::new_connection),
    ("sweep", MILLION, table::sweep),
    ("sweep", 8 * MILLION, table::sweep),
    ("longest-decide-churn", MILLION, longest::churn),
    ("longest-decide-syn-flood", MILLION, longest::flood),
    ("maglev", THOUSAND, |_| schedule::maglev()),
    ("maglev-large", THOUSAND, |_| schedule::maglev_large()),
    ("two-workers", 64 * THOUSAND, workers::rows),
];

const THOUSAND: u32 = 1_000;
const MILLION: u32 = 1_000_000;

/// The middle one of some measurements.
fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or(f64::NAN)
}
