//! Maglev's table.

use core::error::Error;
use core::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Instant;

use lvs_core::sched::Maglev;
use lvs_core::tables::Member;
use lvs_core::{Config, Director, Heap, Method, Seed, ServerConfig, ServiceConfig, ServiceKey, Weight};

use super::median;
use super::report::Row;

/// How long a change of one of a thousand real servers takes, until the new table is in use; and for how long packets
/// wait for it.
pub(super) fn maglev() -> Vec<Row> {
    rows::<CELLS, 6>("maglev")
}

/// Maglev with the table of a kernel whose `CONFIG_IP_VS_MH_TAB_INDEX` is 16.
pub(super) fn maglev_large() -> Vec<Row> {
    rows::<LARGE, 8>("maglev-large")
}

fn rows<const N: usize, const BITS: u32>(name: &str) -> Vec<Row> {
    match measure::<N, BITS>() {
        Ok((milliseconds, microseconds)) => {
            let label = format!("Maglev table of {N} cells, {SERVERS} servers, a change");
            let whole = Row::named(name, label, "ms", milliseconds, "ms");
            let label = format!("Maglev table of {N} cells, a change, longest hold-up");
            let pause = Row::named(&format!("{name}-pause"), label, "us", microseconds, "µs");
            let sized = |row: Row| row.with("cells", N).with("servers", SERVERS);
            vec![sized(whole).with_aim(Some(1.0)), sized(pause).with_aim(Some(50.0))]
        }
        // Every address and size here is a constant.
        Err(error) => panic!("the bench's director cannot be set up: {error}"),
    }
}

/// The median of whole changes in milliseconds, and the longest piece of one that a worker would do between two
/// batches, in microseconds: of what each took at least over equal runs.
fn measure<const N: usize, const BITS: u32>() -> Result<(f64, f64), Box<dyn Error>> {
    let mut wholes = Vec::new();
    let mut least: Vec<u64> = Vec::new();
    for _ in 0..EQUAL_RUNS {
        let store = Heap::<Maglev<N, BITS>>::with_capacity(1_024);
        let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), store);
        director.add_service(SERVICE, ServiceConfig::new(Maglev))?;
        for number in 0..SERVERS {
            director.add_server(SERVICE, ServerConfig::new(address(number), Method::Direct))?;
        }
        let mut pieces = Vec::new();
        for round in 0..ROUNDS {
            let config =
                ServerConfig::new(address(7), Method::Direct).with_weight(Weight::from(1 + round / 3 % 2));
            wholes.push(change(&mut director, round % 3, config, &mut pieces)?);
        }
        if least.is_empty() {
            least = pieces;
        } else {
            least.iter_mut().zip(pieces).for_each(|(least, took)| *least = (*least).min(took));
        }
    }
    let longest = least.iter().copied().max().unwrap_or(0);
    Ok((median(wholes), longest as f64 / 1_000.0))
}

/// Edits, removes or adds a server as `lvs_std` does it: the table is made by another thread. Milliseconds in all;
/// adds nanoseconds of the pieces that hold packets up.
fn change<const N: usize, const BITS: u32>(
    director: &mut Director<Heap<Maglev<N, BITS>>>,
    kind: u16,
    config: ServerConfig,
    pieces: &mut Vec<u64>,
) -> Result<f64, Box<dyn Error>> {
    let begin = Instant::now();
    let builder = director.table_builder(SERVICE).ok_or("the scheduler has no table")?;
    let mut members: Vec<Member> = director.members(SERVICE).collect();
    pieces.push(begin.elapsed().as_nanos() as u64);
    let place = members.iter().position(|member| member.address() == config.address);
    let build = || {
        let start = Instant::now();
        match (kind, place) {
            (0, Some(place)) => members[place].edit(&config),
            (1, Some(place)) => _ = members.remove(place),
            _ => members.insert(0, Member::new(&config)),
        }
        let room = vec![0; builder.room(members.len())];
        let prepared = builder.build(members, room);
        (prepared, start.elapsed())
    };
    let (prepared, built) =
        thread::scope(|scope| scope.spawn(build).join()).map_err(|_| "the thread ended")?;
    let mut prepared = prepared.ok_or("too many servers")?;
    let start = Instant::now();
    match kind {
        0 => director.edit_server(SERVICE, config)?,
        1 => director.remove_server(SERVICE, config.address)?,
        _ => _ = director.add_server(SERVICE, config)?,
    }
    let adopted = director.adopt_table(SERVICE, &mut prepared);
    let took = start.elapsed();
    pieces.push(took.as_nanos() as u64);
    assert!(adopted, "the table is for just these servers");
    let read = pieces.len().checked_sub(2).and_then(|at| pieces.get(at)).copied().unwrap_or(0);
    Ok((built + took).as_secs_f64() * 1_000.0 + read as f64 / 1_000_000.0)
}

fn address(number: u32) -> SocketAddr {
    (Ipv4Addr::from_bits(0x0a01_0000 + number), 80).into()
}

const SERVICE: ServiceKey = ServiceKey::tcp(core::net::IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1)), 80);
const CELLS: usize = 4_093;
const LARGE: usize = 65_521;
const SERVERS: u32 = 1_000;
/// Changes: edits, removals and additions in turn.
const ROUNDS: u16 = 99;
const EQUAL_RUNS: usize = 5;
