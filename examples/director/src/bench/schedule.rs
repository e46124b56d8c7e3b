//! Maglev's table.

use core::error::Error;
use core::net::Ipv4Addr;
use std::time::Instant;

use lvs_core::{
    Config, Director, Heap, Method, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey, Weight,
};

use super::median;
use super::report::Row;

/// How long a change of one of a thousand real servers takes: the whole table is made anew.
pub(super) fn maglev() -> Vec<Row> {
    match measure() {
        Ok(milliseconds) => {
            let label = format!("Maglev table of {CELLS} cells, {SERVERS} servers, a change");
            let row = Row::named("maglev", label, "ms", milliseconds, "ms");
            vec![row.with("cells", CELLS).with("servers", SERVERS).with_aim(Some(1.0))]
        }
        // Every address and size here is a constant.
        Err(error) => panic!("the bench's director cannot be set up: {error}"),
    }
}

fn measure() -> Result<f64, Box<dyn Error>> {
    let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), Heap::with_capacity(1_024));
    let service = ServiceKey::tcp(Ipv4Addr::new(10, 99, 0, 1).into(), 80);
    let scheduler = Scheduler::from_name("mh").ok_or("no Maglev")?;
    director.add_service(service, ServiceConfig::new(scheduler))?;
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

const CELLS: u32 = 4_093;
const SERVERS: u32 = 1_000;
const ROUNDS: u16 = 101;
