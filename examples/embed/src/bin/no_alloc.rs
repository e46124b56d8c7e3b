//! A director without an allocator: all of its memory is a `static`. The same lines run on a microcontroller; only
//! `println!` and the error in a box are of this machine.

use core::error::Error;
use core::net::SocketAddr;

use lvs_core::{
    Config, Content, Director, Event, Fixed, Flow, Inspected, Method, Packet, Protocol, Scheduler, Seed,
    ServerConfig, ServiceConfig, ServiceKey, TcpFlags, Tick, Verdict, Weight,
};
use static_cell::ConstStaticCell;

/// Room for 64 connections, one service, four real servers and 16 waiting events.
type Store = Fixed<64, 1, 4, 16>;

static STORE: ConstStaticCell<Store> = ConstStaticCell::new(Store::new());

fn main() -> Result<(), Box<dyn Error>> {
    println!("the director's tables take {} bytes of static memory", size_of::<Store>());

    // A real program draws the seed from a source of chance: whoever knows it can choose what collides.
    let mut director = Director::new(Config::new(Seed::from_bytes(*b"not very random!")), STORE.take());
    let web = ServiceKey::tcp("192.0.2.100".parse()?, 80);
    let scheduler = Scheduler::from_name("wrr").ok_or("there is no such scheduler")?;
    director.add_service(web, ServiceConfig::new(scheduler))?;
    for (address, weight) in [("10.0.1.11:8080", 3), ("10.0.1.12:8080", 2), ("10.0.1.13:8080", 1)] {
        let server = ServerConfig::new(address.parse()?, Method::Nat).with_weight(Weight::from(weight));
        director.add_server(web, server)?;
    }

    let mut now = Tick::ZERO;
    for client in 0..6 {
        let source = SocketAddr::from(([192, 0, 2, 7], 40_000 + client));
        let flow =
            Flow::new(Protocol::Tcp, source, "192.0.2.100:80".parse()?).ok_or("the families differ")?;
        let syn = Packet::new(flow, Content::Tcp(TcpFlags::SYN), 60);
        match director.decide(now, &syn, Inspected::Nothing) {
            Verdict::Forward(forward) => println!("{source} is sent to {}", forward.target),
            // Only services whose persistence goes by call ask for this.
            Verdict::Inspect => {}
            Verdict::Drop(reason) | Verdict::Pass(reason) | Verdict::Reject(reason) => {
                println!("{source} is not forwarded: {}", reason.name());
            }
        }
        now = now.plus_millis(10);
    }

    // Nobody completes a handshake, so a minute and a bit later all of them have expired.
    now = now.plus_secs(64);
    let freed = director.sweep(now, 64);
    println!("{freed} half-open connections expired");
    let mut closed = 0;
    while let Some(event) = director.poll_event() {
        closed += u32::from(matches!(event, Event::Closed { .. }));
    }
    println!("{closed} events told about it");
    Ok(())
}
