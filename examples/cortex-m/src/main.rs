//! A NAT director for 256 connections on a Cortex-M: no operating system, no allocator, all memory in statics.
//!
//! Two ports lie in memory here, in place of two network cards; what a driver does is in [`Wire`]. The program lets
//! clients open connections by TCP and UDP over IPv4 and IPv6, answers for the real servers, and compares every frame
//! that leaves with the one that should. `run.sh` runs it in QEMU and says how much memory it took.
#![no_std]
#![no_main]

mod say;
mod traffic;
mod wire;
mod world;

use cortex_m_rt::entry;
use lvs_core::{Config, Director, Seed};
use lvs_forward::engine::OWN_BUFFER;
use lvs_forward::host::{Host, HostArrays, HostMemory};
use lvs_forward::{Forwarder, ForwarderArrays, ForwarderMemory, Options};
use static_cell::{ConstStaticCell, StaticCell};

use crate::wire::Wire;
use crate::world::{Store, left_out, run, set_up};

/// 8 own addresses, 16 neighbours, 2 packets that wait for one, 8 routes.
type Hosts = HostArrays<8, 16, 2, 8>;
/// No path MTUs, which only tunnels need, and 4 resets that clients are owed.
type Forwarders = ForwarderArrays<0, 4>;

static STORE: ConstStaticCell<Store> = ConstStaticCell::new(Store::new());
static HOST: ConstStaticCell<Hosts> = ConstStaticCell::new(Hosts::new());
static MEMORY: ConstStaticCell<Forwarders> = ConstStaticCell::new(Forwarders::new());
static DIRECTOR: StaticCell<Director<&'static mut Store>> = StaticCell::new();
static FORWARDER: StaticCell<Forwarder> = StaticCell::new();
static BUFFER: ConstStaticCell<[u8; OWN_BUFFER]> = ConstStaticCell::new([0; OWN_BUFFER]);
static WIRE: ConstStaticCell<Wire> = ConstStaticCell::new(Wire::new());

#[entry]
fn main() -> ! {
    let (director, forwarder) = make();
    let done = set_up(director, forwarder.host_mut()).is_some();
    let wire = WIRE.take();
    let buffer = BUFFER.take();
    let wrong = run(director, forwarder, buffer, wire);
    let refused = left_out(director, forwarder, buffer) == Some(2);

    say::number("frames forwarded", wire.sent);
    say::number("frames wrong", wrong);
    say::number("connections", director.counters().live);
    say::number("bytes of Director", size_of_val(director) as u32);
    say::number("bytes of Forwarder", size_of_val(forwarder) as u32);
    say::number("bytes of Store", size_of::<Store>() as u32);
    say::number("bytes of HostArrays", size_of::<Hosts>() as u32);
    say::number("bytes of ForwarderArrays", size_of::<Forwarders>() as u32);
    say::line(if wrong == 0 && done && refused { "all is well" } else { "NOT WELL" });
    // Whoever runs this looks at its memory now.
    loop {
        cortex_m::asm::wfi();
    }
}

/// A director and a forwarder in their places. Both pass over the stack on their way there, in this function alone.
#[inline(never)]
fn make() -> (&'static mut Director<&'static mut Store>, &'static mut Forwarder) {
    // A real program draws the seed from the chip's source of chance: whoever knows it can choose what collides.
    let seed = Seed::from_bytes(*b"not very random!");
    let director = DIRECTOR.init_with(|| Director::new(Config::new(seed), STORE.take()));
    let forwarder = FORWARDER.init_with(|| {
        let host = Host::with_memory(seed, HostMemory::lent(HOST.take()));
        Forwarder::with_memory(host, ForwarderMemory::lent(MEMORY.take()), Options::new())
    });
    (director, forwarder)
}
