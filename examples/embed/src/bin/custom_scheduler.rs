//! A scheduler of one's own: clients from 192.0.2.0/24 get the first server, the others share the rest by turns.
//!
//! A scheduler is one `impl`; everything else (connection table, states, forwarding) stays as it is.

use core::error::Error;
use core::net::{IpAddr, SocketAddr};

use lvs_core::sched::{Pool, Rng, Schedule};
use lvs_core::{
    Config, Content, Director, Flow, Heap, Inspected, Method, Packet, Protocol, Seed, ServerConfig, ServerId,
    ServiceConfig, ServiceKey, TcpFlags, Tick, Verdict,
};

/// Keeps one server for the clients in the office.
#[derive(Debug, Default)]
struct OfficeFirst {
    turn: usize,
}

impl Schedule for OfficeFirst {
    fn name(&self) -> &'static str {
        "office-first"
    }

    fn pick(&mut self, pool: &mut Pool<'_>, flow: &Flow, _rng: &mut Rng) -> Option<ServerId> {
        // The pool is newest first, so the server that was added first comes last.
        let (office, _) = pool.iter().last()?;
        if matches!(flow.addresses.source(), IpAddr::V4(client) if client.octets()[..3] == [192, 0, 2]) {
            return Some(office);
        }
        let others = || pool.iter().filter(|(id, server)| *id != office && server.is_usable());
        self.turn = self.turn.wrapping_add(1);
        others().nth(self.turn % others().count().max(1)).map(|(id, _)| id)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let store = Heap::<OfficeFirst>::with_capacity(1_000);
    let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), store);
    let web = ServiceKey::tcp("198.51.100.1".parse()?, 80);
    director.add_service(web, ServiceConfig::new(OfficeFirst::default()))?;
    for address in ["10.0.1.11:80", "10.0.1.12:80", "10.0.1.13:80"] {
        director.add_server(web, ServerConfig::new(address.parse()?, Method::Direct))?;
    }

    for client in ["192.0.2.7", "192.0.2.8", "203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"] {
        let source = SocketAddr::new(client.parse()?, 40_000);
        let flow =
            Flow::new(Protocol::Tcp, source, "198.51.100.1:80".parse()?).ok_or("the families differ")?;
        match director.decide(
            Tick::ZERO,
            &Packet::new(flow, Content::Tcp(TcpFlags::SYN), 60),
            Inspected::Nothing,
        ) {
            Verdict::Forward(forward) => println!("{client} gets {}", forward.address()),
            // Only services whose persistence goes by call ask for this.
            Verdict::Inspect => {}
            Verdict::Drop(reason) | Verdict::Pass(reason) | Verdict::Reject(reason) => {
                println!("{client} gets nothing: {}", reason.name());
            }
        }
    }
    Ok(())
}
