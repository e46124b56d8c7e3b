//! `director trace`: what becomes of packets, written to a file while they pass.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Instant, SystemTime};

use lvs_std::control::api::{Request, TraceBegun, TracePage, TraceRequest, TraceRow};
use lvs_std::device::pcap::{LinkType, NgPacket, NgVerdict, NgWriter};
use lvs_std::filter::{PacketFilter, bytes_of_hex};
use lvs_support::eprintln;
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::control::{Target, answer_makes_no_sense, put};
use crate::explain::makes_no_sense;

/// `director trace`.
#[derive(Debug, clap::Args)]
pub(crate) struct TraceArguments {
    #[command(flatten)]
    target: Target,
    /// The file to write, in the format pcapng
    #[arg(long, value_name = "FILE")]
    write: PathBuf,
    /// Only these packets, as they come or as they leave, such as 'tcp 203.0.113.0/24 > 192.168.40.120:80'
    #[arg(long)]
    filter: Option<String>,
    /// End after so many packets
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

/// How long nothing is asked for when there was nothing.
const PAUSE: Duration = Duration::from_millis(50);

/// Records what becomes of packets until it is interrupted, or as long as was asked for.
pub(crate) fn trace(arguments: &TraceArguments) -> ExitCode {
    if let Some(text) = &arguments.filter
        && let Err(error) = text.parse::<PacketFilter>()
    {
        return makes_no_sense(text, &error);
    }
    match record(arguments) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {}: {error}", arguments.write.display());
            ExitCode::FAILURE
        }
    }
}

/// Asks for a piece of a trace.
fn ask(arguments: &TraceArguments, request: TraceRequest) -> Result<Value, ExitCode> {
    put(&arguments.target, &Request::Trace(request))
}

fn record(arguments: &TraceArguments) -> io::Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    // First the file: a trace that nobody can write is not begun.
    let file = BufWriter::new(File::create(&arguments.write)?);
    let begun = TraceRequest::Begin { filter: arguments.filter.clone() };
    let TraceBegun { trace, interfaces } = match ask(arguments, begun).map(serde_json::from_value) {
        Ok(Ok(begun)) => begun,
        Ok(Err(error)) => return Ok(answer_makes_no_sense(&error)),
        Err(status) => return Ok(status),
    };
    let link = |ip| if ip { LinkType::Ip } else { LinkType::Ethernet };
    let named = interfaces.iter().map(|of| (of.name.as_str(), link(of.ip)));
    let mut writer = NgWriter::new(file, "director trace", named)?;
    eprintln!("tracing");
    let began = Instant::now();
    let (mut packets, mut frames, mut ended) = (0_u64, 0_u64, false);
    let lost = loop {
        let enough = arguments.count.is_some_and(|count| packets >= count)
            || arguments.seconds.is_some_and(|secs| began.elapsed() >= Duration::from_secs(secs));
        if !ended && (enough || stop.load(Ordering::Relaxed)) {
            if let Err(status) = ask(arguments, TraceRequest::End { trace }) {
                return Ok(status);
            }
            ended = true;
        }
        let page: TracePage = match ask(arguments, TraceRequest::Next { trace }).map(serde_json::from_value) {
            Ok(Ok(page)) => page,
            Ok(Err(error)) => return Ok(answer_makes_no_sense(&error)),
            Err(status) => {
                // What was written so far can be read.
                writer.flush()?;
                return Ok(status);
            }
        };
        let quiet = page.rows.is_empty();
        for row in page.rows {
            // The count goes by what came in; what left because of the last packet belongs to it.
            if !row.sent && arguments.count.is_some_and(|count| packets >= count) {
                break;
            }
            packets += u64::from(!row.sent);
            frames += 1;
            write(&mut writer, &row)?;
        }
        writer.flush()?;
        if page.over {
            break page.lost;
        }
        if quiet {
            thread::sleep(PAUSE);
        }
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    writer.finish(now, lost)?;
    eprintln!("{frames} frames of {packets} packets written, {lost} records lost");
    Ok(ExitCode::SUCCESS)
}

fn write(writer: &mut NgWriter<BufWriter<File>>, row: &TraceRow) -> io::Result<()> {
    let bytes =
        bytes_of_hex(&row.frame).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let verdict = match row.action.as_str() {
        "drop" => NgVerdict::Drop,
        "send" => NgVerdict::Send,
        _ => NgVerdict::Pass,
    };
    writer.record(&NgPacket {
        interface: row.interface,
        time: Duration::from_nanos(row.nanoseconds),
        bytes: &bytes,
        sent: row.sent,
        id: row.packet,
        queue: row.worker,
        verdict,
        comment: &row.comment,
    })
}
