//! Maglev's table.

use core::error::Error;
use core::net::Ipv4Addr;
use std::time::Instant;

use lvs_core::sched::Maglev;
use lvs_core::{Config, Director, Heap, Method, Seed, ServerConfig, ServiceConfig, ServiceKey, Weight};

use super::median;
use super::report::Row;

/// How long a change of one of a thousand real servers takes: the whole table is made anew.
pub(super) fn maglev() -> Vec<Row> {
    rows::<CELLS, 6>("maglev")
}

/// The same with the table of a kernel whose `CONFIG_IP_VS_MH_TAB_INDEX` is 16.
pub(super) fn maglev_large() -> Vec<Row> {
    rows::<LARGE, 8>("maglev-large")
}

fn rows<const N: usize, const BITS: u32>(name: &str) -> Vec<Row> {
    match measure::<N, BITS>() {
        Ok(milliseconds) => {
            let label = format!("Maglev table of {N} cells, {SERVERS} servers, a change");
            let row = Row::named(name, label, "ms", milliseconds, "ms");
            vec![row.with("cells", N).with("servers", SERVERS).with_aim(Some(1.0))]
        }
        // Every address and size here is a constant.
        Err(error) => panic!("the bench's director cannot be set up: {error}"),
    }
}

fn measure<const N: usize, const BITS: u32>() -> Result<f64, Box<dyn Error>> {
    let store = Heap::<Maglev<N, BITS>>::with_capacity(1_024);
    let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), store);
    let service = ServiceKey::tcp(Ipv4Addr::new(10, 99, 0, 1).into(), 80);
    director.add_service(service, ServiceConfig::new(Maglev))?;
    let address = |number: u32| (Ipv4Addr::from_bits(0x0a01_0000 + number), 80).into();
    for number in 0..SERVERS {
        director.add_server(service, ServerConfig::new(address(number), Method::Direct))?;
    }
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        let config = ServerConfig::new(address(7), Method::Direct).with_weight(Weight::from(1 + round % 2));
        let start = Instant::now();
        director.edit_server(service, config)?;
        took.push(start.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(median(took))
}

const CELLS: usize = 4_093;
const LARGE: usize = 65_521;
const SERVERS: u32 = 1_000;
const ROUNDS: u16 = 101;
