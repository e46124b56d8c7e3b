//! What a director without traffic costs.

use core::error::Error;
use core::time::Duration;
use std::thread;
use std::time::Instant;

use lvs_support::println;
use serde_json::json;

use super::director::{self, Duty, Running};
use super::stage::Stage;

/// Measures and prints the rows that are wanted.
pub(super) fn run(stage: &Stage, json: bool, only: Option<&str>) {
    for (name, title, start) in DIRECTORS {
        if only.is_some_and(|part| !name.contains(part)) {
            continue;
        }
        let measured = measure(stage, start);
        let refused = measured.as_ref().err().map(ToString::to_string);
        if json {
            println!(
                "{}",
                json!({
                    "row": format!("wire-{name}"),
                    "processor": measured.ok().map(|share| (share * 1e6).round() / 1e6),
                    "seconds": TURN.as_secs(),
                    "refused": refused,
                })
            );
            continue;
        }
        match measured {
            Ok(share) => println!("{title:<70} {:.3} % of a processor", share * 100.0),
            Err(_) => println!("{title:<70}"),
        }
        if let Some(refused) = refused {
            println!("  not measured: {refused}");
        }
    }
}

/// The share of a processor that the director's thread takes.
fn measure(stage: &Stage, start: Start) -> Result<f64, Box<dyn Error>> {
    let director = start(stage, Duty::PACKETS)?;
    thread::sleep(SETTLE);
    let (began, first) = (Instant::now(), director.busy());
    thread::sleep(TURN);
    let (last, took) = (director.busy(), began.elapsed());
    director.stop();
    Ok(last?.saturating_sub(first?) as f64 / took.as_nanos() as f64)
}

type Start = fn(&Stage, Duty) -> Result<Running, Box<dyn Error>>;

const DIRECTORS: [(&str, &str, Start); 2] = [
    ("idle-af-packet", "a director by AF_PACKET without traffic", director::by_packet),
    ("idle-af-xdp", "a director by AF_XDP without traffic", |stage, duty| director::by_xdp(stage, duty, 1)),
];

/// Until its neighbours have answered.
const SETTLE: Duration = Duration::from_millis(500);
const TURN: Duration = Duration::from_secs(3);
