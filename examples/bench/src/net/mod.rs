//! `director bench --wire`: a director between two cables, against this machine's kernel in its place.
//!
//! Everything runs in namespaces of this process: a source, the one in the middle, a sink. In a flood, the source has
//! a processor for itself, and so has a director; the kernel does its work where the source sends, as veth makes it
//! do. In each round every contender has its turn, and ratios are taken within rounds.

mod bulk;
mod contender;
mod director;
mod flood;
mod idle;
mod jitter;
mod latency;
mod stage;

use core::error::Error;
use std::process::ExitCode;

use lvs_std::lab::Lab;
use serde_json::json;

use contender::packets;
use director::Bulk;
use lvs_support::{LogFormat, println, supervise};
use stage::Stage;

/// Measures and prints a row for each contender, or for those whose names contain `only`: a table, or a line of JSON
/// each. Status 1 when nothing can be measured.
pub(crate) fn main(json: bool, rounds: u32, only: Option<&str>) -> ExitCode {
    supervise(LogFormat::default(), |_| run(json, rounds, only))
}

fn run(json: bool, rounds: u32, only: Option<&str>) -> Result<(), Box<dyn Error>> {
    // AF_XDP takes privileges that the other contenders do without.
    let lab = Lab::privileged().or_else(|_| Lab::new())?;
    let stage = Stage::new(lab)?;
    let mut results: Vec<Outcome> = CONTENDERS.iter().map(|_| Outcome::default()).collect();
    for _ in 0..rounds.max(1) {
        for (contender, outcome) in CONTENDERS.iter().zip(&mut results) {
            let wanted = only.is_none_or(|part| contender.name.contains(part));
            if !wanted || outcome.refusal.is_some() {
                continue;
            }
            match (contender.measure)(&stage) {
                Ok(rate) => outcome.rates.push(rate),
                Err(error) => outcome.refusal = Some(error.to_string()),
            }
        }
    }
    let mut unit = None;
    for (contender, outcome) in CONTENDERS.iter().zip(&results) {
        if outcome.rates.is_empty() && outcome.refusal.is_none() {
            continue;
        }
        if !json && unit.replace(contender.unit) != Some(contender.unit) {
            let (what, unit) = contender.unit.text();
            println!("{what:<52} {unit:>14} {:>9} {:>6}", "ratio", "aim");
        }
        let against = contender.against.and_then(|other| {
            let at = CONTENDERS.iter().position(|contender| contender.name == other)?;
            Some((other, ratio(&outcome.rates, &results.get(at)?.rates)?))
        });
        print(json, contender, outcome, against);
    }
    let reached = CONTENDERS.iter().zip(&results).find(|(contender, _)| contender.name == "af-xdp");
    let reached = reached.and_then(|(_, outcome)| median(outcome.rates.clone()));
    latency::run(&stage, json, rounds, only, reached.map_or(UNKNOWN_LOAD, |rate| rate / 10.0));
    idle::run(&stage, json, only);
    Ok(())
}

/// One whose rate is measured.
struct Contender {
    name: &'static str,
    title: &'static str,
    unit: Unit,
    /// With which other one it is compared.
    against: Option<&'static str>,
    /// The ratio to that one that is aimed at.
    aim: Option<f64>,
    measure: fn(&Stage) -> Result<f64, Box<dyn Error>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Packets,
    Gigabits,
}

impl Unit {
    /// What is measured, and in what.
    const fn text(self) -> (&'static str, &'static str) {
        match self {
            Self::Packets => ("NAT of UDP in 64-byte frames, 65,536 flows", "packets/s"),
            Self::Gigabits => ("bulk TCP in 4 connections, offloads on", "Gbit/s"),
        }
    }
}

/// All of them.
const CONTENDERS: [Contender; 10] = [
    Contender {
        name: "kernel-forward",
        title: "the kernel, plain forwarding",
        unit: Unit::Packets,
        against: None,
        aim: None,
        measure: |stage| packets(stage, contender::kernel_forward),
    },
    Contender {
        name: "kernel-nat",
        title: "the kernel, destination NAT (nftables)",
        unit: Unit::Packets,
        against: Some("kernel-forward"),
        aim: None,
        measure: |stage| packets(stage, contender::kernel_nat),
    },
    Contender {
        name: "af-packet",
        title: "a director by AF_PACKET, against the kernel's NAT",
        unit: Unit::Packets,
        against: Some("kernel-nat"),
        aim: Some(0.8),
        measure: |stage| packets(stage, contender::af_packet),
    },
    Contender {
        name: "af-xdp",
        title: "a director by AF_XDP, against plain forwarding",
        unit: Unit::Packets,
        against: Some("kernel-forward"),
        aim: Some(1.0),
        measure: |stage| packets(stage, contender::af_xdp),
    },
    Contender {
        name: "two-af-xdp",
        title: "two workers by AF_XDP, against one",
        unit: Unit::Packets,
        against: Some("af-xdp"),
        // Where source, worker and worker have two processors, there is nothing to be had.
        aim: None,
        measure: |stage| packets(stage, contender::af_xdp_by_two),
    },
    Contender {
        name: "tcp-kernel-nat",
        title: "the kernel, destination NAT (nftables)",
        unit: Unit::Gigabits,
        against: None,
        aim: None,
        measure: bulk::kernel_nat,
    },
    Contender {
        name: "tcp-nat",
        title: "a director by AF_PACKET with the offload, NAT",
        unit: Unit::Gigabits,
        against: Some("tcp-kernel-nat"),
        aim: Some(0.8),
        measure: |stage| bulk::nat(stage, Bulk::Offload),
    },
    Contender {
        name: "tcp-dr",
        title: "the same by DR, against the kernel's NAT",
        unit: Unit::Gigabits,
        against: Some("tcp-kernel-nat"),
        aim: Some(0.8),
        measure: |stage| bulk::direct(stage, Bulk::Offload),
    },
    Contender {
        name: "tcp-copied-nat",
        title: "a director by AF_PACKET alone, NAT",
        unit: Unit::Gigabits,
        against: Some("tcp-kernel-nat"),
        aim: None,
        measure: |stage| bulk::nat(stage, Bulk::Copied),
    },
    Contender {
        name: "tcp-copied-dr",
        title: "the same by DR, against the kernel's NAT",
        unit: Unit::Gigabits,
        against: Some("tcp-kernel-nat"),
        aim: None,
        measure: |stage| bulk::direct(stage, Bulk::Copied),
    },
];

/// What came of a contender's rounds.
#[derive(Default)]
struct Outcome {
    /// What reached the sink in a second, by round.
    rates: Vec<f64>,
    /// Why there are not more.
    refusal: Option<String>,
}

/// The median over rounds of what one has against the other.
fn ratio(rates: &[f64], others: &[f64]) -> Option<f64> {
    median(rates.iter().zip(others).map(|(rate, other)| rate / other).collect())
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn print(json: bool, contender: &Contender, outcome: &Outcome, against: Option<(&str, f64)>) {
    let rate = median(outcome.rates.clone());
    if json {
        let mut row = json!({
            "row": format!("wire-{}", contender.name),
            "rounds": outcome.rates.len(),
            "against": against.map(|(name, _)| format!("wire-{name}")),
            "ratio": against.map(|(_, ratio)| (ratio * 1_000.0).round() / 1_000.0),
            "aim": contender.aim,
            "refused": outcome.refusal,
        });
        match contender.unit {
            Unit::Packets => row["packets_per_second"] = json!(rate.map(f64::round)),
            Unit::Gigabits => {
                row["gigabits_per_second"] = json!(rate.map(|rate| (rate * 100.0).round() / 100.0));
            }
        }
        println!("{row}");
        return;
    }
    let rate = rate.map(|rate| match contender.unit {
        Unit::Packets => format!("{rate:.0}"),
        Unit::Gigabits => format!("{rate:.2}"),
    });
    let ratio = against.map(|(_, ratio)| format!("{ratio:.2}")).unwrap_or_default();
    let aim = contender.aim.map(|aim| format!("{aim:.1}")).unwrap_or_default();
    println!("{:<52} {:>14} {ratio:>9} {aim:>6}", contender.title, rate.unwrap_or_default());
    if let Some(refusal) = &outcome.refusal {
        println!("  not measured: {refusal}");
    }
}

/// Packets per second for delays where what AF_XDP reaches is not known: about a tenth of it.
const UNKNOWN_LOAD: f64 = 100_000.0;
