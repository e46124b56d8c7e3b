//! How much later a packet arrives because of who is in the middle.
//!
//! One thread sends frames at even distances with the time in each, and asks the sink's device for them again and
//! again; so one clock tells how long each took from before it was handed to the kernel until the sink's ring had it.
//! A cable without anybody in the middle is the measure: what is *added* is a figure less the cable's
//! median, also for the slow ones, so that a hiccup of the machine counts against the director.

use core::error::Error;
use core::time::Duration;
use std::time::Instant;

use lvs_forward::{Frame, PortId};
use lvs_std::device::Device;
use lvs_std::device::packet::{self, PacketOptions};
use lvs_support::println;
use serde_json::json;

use super::contender::{self, Start};
use super::flood::{self, Entrance, HEADERS, LENGTH};
use super::stage::{SERVER, SOURCE_PROCESSOR, Stage, pin};
use super::{jitter, median};

/// What is measured in a turn.
#[derive(Clone, Copy, Debug)]
struct Delays {
    /// In microseconds.
    median: f64,
    /// The one that a thousandth exceeds.
    slow: f64,
    /// The share that did not arrive.
    lost: f64,
}

/// Measures and prints the rows that are wanted, at `rate` packets per second.
pub(super) fn run(stage: &Stage, json: bool, rounds: u32, only: Option<&str>, rate: f64) {
    let wanted = |name: &str| only.is_none_or(|part| name.contains(part));
    let watched = wanted(jitter::NAME);
    if !watched && !WAYS.iter().any(|way| wanted(way.name)) {
        return;
    }
    let mut results: Vec<(Vec<Delays>, Option<String>)> = WAYS.iter().map(|_| Default::default()).collect();
    let mut machine = Vec::new();
    for _ in 0..rounds.max(1) {
        for (way, (delays, refused)) in WAYS.iter().zip(&mut results) {
            // The first one is what the others are compared with.
            if refused.is_none() && (way.start.is_none() || wanted(way.name)) {
                match measure(stage, way, rate) {
                    Ok(measured) => delays.push(measured),
                    Err(error) => *refused = Some(error.to_string()),
                }
            }
        }
        if watched {
            machine.push(jitter::measure());
        }
    }
    if !json {
        println!(
            "\n{:<52} {:>10} {:>10} {:>10} {:>10}",
            format!("delay at {rate:.0} packets/s, in µs"),
            "median",
            "99.9 %",
            "added",
            "added"
        );
    }
    let cable = results.first().and_then(|(delays, _)| of(delays, |delays| delays.median));
    for (way, (delays, refused)) in WAYS.iter().zip(&results) {
        if !delays.is_empty() || refused.is_some() {
            print(json, way, rate, delays, refused.as_deref(), cable.filter(|_| way.start.is_some()));
        }
    }
    jitter::print(json, &machine);
}

fn print(json: bool, way: &Way, rate: f64, delays: &[Delays], refused: Option<&str>, cable: Option<f64>) {
    let figures = [of(delays, |delays| delays.median), of(delays, |delays| delays.slow)];
    let [median, slow] = figures;
    let [added, added_slow] = figures.map(|figure| Some(figure? - cable?));
    if json {
        let round = |figure: Option<f64>| figure.map(|figure| (figure * 10.0).round() / 10.0);
        println!(
            "{}",
            json!({
                "row": format!("wire-{}", way.name),
                "load_packets_per_second": rate.round(),
                "rounds": delays.len(),
                "median_us": round(median),
                "p999_us": round(slow),
                "added_median_us": round(added),
                "added_p999_us": round(added_slow),
                "aim_median_us": way.aims.map(|(median, _)| median),
                "aim_p999_us": way.aims.map(|(_, slow)| slow),
                "lost": of(delays, |delays| delays.lost),
                "refused": refused,
            })
        );
        return;
    }
    let text = |figure: Option<f64>| figure.map(|figure| format!("{figure:.1}")).unwrap_or_default();
    println!(
        "{:<52} {:>10} {:>10} {:>10} {:>10}",
        way.title,
        text(median),
        text(slow),
        text(added),
        text(added_slow)
    );
    if let Some(refused) = refused {
        println!("  not measured: {refused}");
    }
}

/// A turn.
fn measure(stage: &Stage, way: &Way, rate: f64) -> Result<Delays, Box<dyn Error>> {
    let running = way.start.map(|start| start(stage)).transpose()?;
    let interface = if running.is_some() { "eth0" } else { "eth1" };
    let entrance = match &running {
        Some(running) => running.entrance,
        None => Entrance { mac: stage.sink.interface(interface)?.mac, to: SERVER },
    };
    let delays = exchange(stage, interface, entrance, rate);
    if let Some(running) = running {
        running.stop();
    }
    delays
}

fn exchange(
    stage: &Stage,
    interface: &'static str,
    entrance: Entrance,
    rate: f64,
) -> Result<Delays, Box<dyn Error>> {
    let source = stage.source.run(|| flood::open(interface))??;
    let mut options = PacketOptions::default();
    options.receive_slots = SLOTS;
    let sink = stage.sink.run(|| packet::open(interface, &options))??.device;
    let thread = stage.source.spawn("probe", move || {
        pin(SOURCE_PROCESSOR);
        probe(source, sink, entrance, rate)
    })?;
    let (mut delays, sent) = thread.join().map_err(|_| "the probe has panicked")??;
    delays.sort_unstable();
    let at = |thousandths: usize| {
        let place = delays.len() * thousandths / 1_000;
        delays.get(place.min(delays.len().saturating_sub(1))).map(|delay| *delay as f64 / 1e3)
    };
    match (at(500), at(999)) {
        (Some(median), Some(slow)) => {
            let lost = 1.0 - delays.len() as f64 / sent.max(1) as f64;
            Ok(Delays { median, slow, lost: (lost * 1e6).round() / 1e6 })
        }
        _ => Err("nothing arrives".into()),
    }
}

/// Sends at even distances and receives meanwhile: nanoseconds of each frame that arrived, and how many were sent.
fn probe(
    mut source: Device,
    mut sink: Device,
    entrance: Entrance,
    rate: f64,
) -> Result<(Vec<u64>, usize), std::io::Error> {
    let began = Instant::now();
    let now = || began.elapsed().as_nanos() as u64;
    let apart = (1e9 / rate.max(1.0)) as u64;
    let mut delays = Vec::with_capacity((rate * TURN.as_secs_f64() * 1.1) as usize);
    let (warm, end) = (WARM_UP.as_nanos() as u64, (WARM_UP + TURN).as_nanos() as u64);
    let (mut due, mut sent, mut flow) = (0, 0, 0);
    while due < end || now() < end + GRACE.as_nanos() as u64 {
        let at = now();
        if at >= due && due < end {
            let mut bytes = flood::frame(flow, entrance);
            flow = (flow + 1) % FLOWS;
            put(&mut bytes, at);
            if let Some(frame) = Frame::new(&mut bytes, 0, LENGTH, PortId(0)) {
                // One that finds no room is not sent, and counts as lost.
                let _ = source.transmit.transmit(&frame);
            }
            source.transmit.flush()?;
            sent += usize::from(at >= warm);
            // Whoever was kept from its processor does not make up for it by a burst.
            due = if at > due + LATE { at + apart } else { due + apart };
        }
        sink.receive.receive(PortId(0), &mut |frames| {
            let arrived = now();
            let sent = frames.iter().filter_map(|frame| take(frame.bytes()));
            delays.extend(sent.filter(|at| *at >= warm && *at <= arrived).map(|at| arrived - at));
        })?;
    }
    Ok((delays, sent))
}

/// Writes the time into a frame, which then goes without a checksum (RFC 768).
fn put(bytes: &mut [u8; LENGTH], at: u64) {
    bytes[HEADERS - 2..HEADERS].fill(0);
    bytes[HEADERS..HEADERS + 8].copy_from_slice(&at.to_be_bytes());
    bytes[HEADERS + 8..HEADERS + 12].copy_from_slice(&MARK);
}

/// The time in a frame that the probe sent.
fn take(bytes: &[u8]) -> Option<u64> {
    let at = bytes.get(HEADERS..HEADERS + 8)?.first_chunk()?;
    (bytes.get(HEADERS + 8..HEADERS + 12)? == MARK).then(|| u64::from_be_bytes(*at))
}

/// Median over turns.
fn of(delays: &[Delays], what: impl Fn(&Delays) -> f64) -> Option<f64> {
    median(delays.iter().map(what).collect())
}

/// A way from the source to the sink.
struct Way {
    name: &'static str,
    title: &'static str,
    /// Who is in the middle; a cable alone if nobody is.
    start: Option<Start>,
    /// For what is added, in microseconds: the median and the slow ones.
    aims: Option<(f64, f64)>,
}

const WAYS: [Way; 4] = [
    Way { name: "latency-cable", title: "a cable", start: None, aims: None },
    Way {
        name: "latency-kernel-forward",
        title: "the kernel, plain forwarding",
        start: Some(contender::kernel_forward),
        aims: None,
    },
    Way {
        name: "latency-af-packet",
        title: "a director by AF_PACKET",
        start: Some(contender::af_packet),
        aims: None,
    },
    Way {
        name: "latency-af-xdp",
        title: "a director by AF_XDP, aims for added: 30 and 300",
        start: Some(contender::af_xdp),
        aims: Some((30.0, 300.0)),
    },
];

/// Known flows: a probe is about packets of connections.
const FLOWS: u32 = 1_000;
/// Tells the probe's frames from others.
const MARK: [u8; 4] = *b"wire";
/// Nanoseconds after which a turn to send is not made up for.
const LATE: u64 = 100_000;
/// Slots of the sink's ring: some milliseconds' worth.
const SLOTS: usize = 510;
/// Until what earlier turns gave back is done with: Linux reports free memory to the host of a virtual machine after
/// two seconds.
const WARM_UP: Duration = Duration::from_secs(3);
const TURN: Duration = Duration::from_secs(1);
/// How long the last ones are waited for.
const GRACE: Duration = Duration::from_millis(50);

const _: () = assert!(HEADERS + 12 <= LENGTH);
