//! `director bench --wire`: a director between two cables, against this machine's kernel in its place.
//!
//! Everything runs in namespaces of this process: a source that floods, the one in the middle, a sink that drops. The source has a
//! processor for itself, and so has a director; the kernel does its work where the source sends, as veth makes it do. In each round every contender has its turn, and ratios are taken within rounds.

mod contender;
mod flood;
mod stage;

use core::error::Error;
use core::time::Duration;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use lvs_std::lab::Lab;
use serde_json::json;

use contender::{CONTENDERS, Contender};
use flood::Flood;
use stage::Stage;

/// Measures and prints a row for each contender, or for those whose names contain `only`: a table, or a line of JSON each.
/// Status 1 when nothing can be measured.
pub(crate) fn main(json: bool, rounds: u32, only: Option<&str>) -> ExitCode {
    crate::supervise(|| run(json, rounds, only))
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
            match measure(&stage, contender) {
                Ok(rate) => outcome.rates.push(rate),
                Err(error) => outcome.refusal = Some(error.to_string()),
            }
        }
    }
    if !json {
        println!(
            "{:<52} {:>14} {:>9} {:>6}",
            "NAT of UDP in 64-byte frames, 65,536 flows", "packets/s", "ratio", "aim"
        );
    }
    for (contender, outcome) in CONTENDERS.iter().zip(&results) {
        if outcome.rates.is_empty() && outcome.refusal.is_none() {
            continue;
        }
        let against = contender.against.and_then(|(name, aim)| {
            let at = CONTENDERS.iter().position(|other| other.name == name)?;
            Some((name, aim, ratio(&outcome.rates, &results.get(at)?.rates)?))
        });
        print(json, contender, outcome, against);
    }
    Ok(())
}

/// What came of a contender's rounds.
#[derive(Default)]
struct Outcome {
    /// Packets per second that reached the sink.
    rates: Vec<f64>,
    /// Why there are not more.
    refusal: Option<String>,
}

/// One turn: starts it, makes sure that what arrives is right, and counts.
fn measure(stage: &Stage, contender: &Contender) -> Result<f64, Box<dyn Error>> {
    let running = (contender.start)(stage)?;
    let flood = Flood::start(stage, running.entrance)?;
    let arrives = stage.check_arrival(running.arrives_at);
    thread::sleep(WARM_UP);
    let (began, first) = (Instant::now(), stage.arrived()?);
    thread::sleep(TURN);
    let (last, took) = (stage.arrived()?, began.elapsed());
    flood.stop();
    running.stop();
    arrives?;
    Ok(last.saturating_sub(first) as f64 / took.as_secs_f64())
}

/// The median over rounds of what one has against the other.
fn ratio(rates: &[f64], others: &[f64]) -> Option<f64> {
    median(rates.iter().zip(others).map(|(rate, other)| rate / other).collect())
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn print(json: bool, contender: &Contender, outcome: &Outcome, against: Option<(&str, f64, f64)>) {
    let rate = median(outcome.rates.clone());
    if json {
        println!(
            "{}",
            json!({
                "row": format!("wire-{}", contender.name),
                "packets_per_second": rate.map(f64::round),
                "rounds": outcome.rates.len(),
                "against": against.map(|(name, ..)| format!("wire-{name}")),
                "ratio": against.map(|(.., ratio)| (ratio * 1_000.0).round() / 1_000.0),
                "aim": contender.against.map(|(_, aim)| aim),
                "refused": outcome.refusal,
            })
        );
        return;
    }
    let rate = rate.map(|rate| format!("{rate:.0}")).unwrap_or_default();
    let (ratio, aim) =
        against.map(|(_, aim, ratio)| (format!("{ratio:.2}"), format!("{aim:.1}"))).unwrap_or_default();
    println!("{:<52} {rate:>14} {ratio:>9} {aim:>6}", contender.title);
    if let Some(refusal) = &outcome.refusal {
        println!("  not measured: {refusal}");
    }
}

/// For flows to be known.
const WARM_UP: Duration = Duration::from_millis(600);
/// What is counted.
const TURN: Duration = Duration::from_secs(1);
