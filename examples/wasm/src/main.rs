//! A director in WebAssembly: no clock, no socket, no thread. `run.sh` runs it in Node.
//!
//! Whoever embeds the module lends it frames, as here the world of `examples/cortex-m` does. Everything is built in,
//! the fast tier as well.

#[path = "../../cortex-m/src/traffic.rs"]
mod traffic;
#[path = "../../cortex-m/src/wire.rs"]
mod wire;
#[path = "../../cortex-m/src/world.rs"]
mod world;

use std::process::ExitCode;

use lvs_core::{Config, Director, Seed};
use lvs_forward::engine::OWN_BUFFER;
use lvs_forward::host::Host;
use lvs_forward::{Forwarder, Options};

use crate::wire::Wire;
use crate::world::{Store, left_out, run, set_up};

fn main() -> ExitCode {
    // A real program draws the seed from `crypto.getRandomValues`: whoever knows it can choose what collides.
    let seed = Seed::from_bytes(*b"not very random!");
    let store: &'static mut Store = Box::leak(Box::default());
    let mut director = Director::new(Config::new(seed), store);
    let mut forwarder = Forwarder::new(Host::new(seed), Options::new());
    if set_up(&mut director, forwarder.host_mut()).is_none() {
        return ExitCode::from(2);
    }
    let mut wire = Wire::new();
    let wrong = run(&mut director, &mut forwarder, &mut [0; OWN_BUFFER], &mut wire);
    // Everything is built in, so that nothing is refused for want of it.
    let refused = left_out(&mut director, &mut forwarder, &mut [0; OWN_BUFFER]);
    // Nobody hears what is printed here.
    if wrong == 0 && wire.sent == 720 && refused == Some(0) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
