//! Health: whether targets answer as they should, and what a service makes of it.
//!
//! Two halves that know nothing of each other, and nothing of a director:
//!
//! * An [`Engine`] probes targets on one thread, by any number of non-blocking attempts at a time, and tells by
//!   [`Event`]s when one goes up or down. A [`Probe`] is a target with a [`Check`] and a [`Schedule`]; whoever asks for
//!   one that is there already shares it. A probe is [`Unknown`](State::Unknown) until its first answer;
//!   [`Probes::wait_until_ready`] waits until every probe has had one.
//! * A [`Group`] decides, without I/O: from the configured weights of a service's servers and what is known of their
//!   health follow the servers that it should have and their effective weights, with quorum, hysteresis and a sorry
//!   server. Weight and health stay separate facts; neither overwrites the other.
//!
//! ```
//! use std::net::TcpListener;
//! use std::time::Duration;
//!
//! use lvs_std::health::{Check, Engine, Event, Probe, Schedule, State, Tcp};
//!
//! let server = TcpListener::bind("127.0.0.1:0")?;
//! let (mut engine, probes, events) = Engine::new()?;
//! let thread = std::thread::spawn(move || engine.run());
//!
//! let schedule = Schedule::every(Duration::from_secs(1));
//! let id = probes.watch(Probe::new(server.local_addr()?, Check::Tcp(Tcp::new()), schedule));
//! assert!(probes.wait_until_ready(Duration::from_secs(5)), "it has answered once");
//! assert_eq!(probes.report(id).unwrap().state, State::Up);
//! assert!(matches!(events.recv()?, Event::Changed { state: State::Up, .. }));
//!
//! drop(probes);
//! thread.join().unwrap();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod engine;
mod failure;
mod group;
mod judge;
mod poller;
mod probe;
mod probes;

pub use check::Check;
pub use check::dns::{BadName, Dns, Name, Record};
pub use check::http::{BadDigest, BadRequest, BadStatuses, Digest, Http, Statuses};
#[cfg(feature = "health-tls")]
pub use check::https::{BadTls, Https, Trust};
pub use check::ping::Ping;
pub use check::program::Program;
pub use check::tcp::Tcp;
pub use check::through::{Through, ThroughMethod};
pub use check::udp::{BadPattern, Pattern, Reply, Udp};
pub use engine::Engine;
pub use failure::{Doing, Failure};
pub use group::{Decision, Group, Initially, Member, OnFailure, Policy, Presence};
pub use judge::Judge;
pub use probe::{Probe, Schedule, State};
pub use probes::{Event, ProbeId, Probes, Report};
