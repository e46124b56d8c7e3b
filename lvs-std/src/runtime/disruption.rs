//! The disruption of a change: what share of clients would find another server, where a hash decides.

use core::net::{IpAddr, SocketAddr};

use lvs_core::sched::Schedule as _;
use lvs_core::{
    Config, Content, Director, Family, Flow, Heap, Inspected, Packet, Protocol, Scheduler, Seed,
    ServerConfig, ServiceConfig, ServiceKey, TcpFlags, Verdict,
};

/// A service and its servers, the one added last first.
pub(super) type State = (ServiceConfig<Scheduler>, Vec<ServerConfig>);

/// The share of clients, 0 to 1, that would be sent to another server than before: found by sending the same few
/// thousand clients to both. `None` where no hash of the client decides, so that new connections go anywhere anyway.
pub(super) fn share(key: ServiceKey, old: &State, new: &State) -> Option<f64> {
    if !hashes(old.0.scheduler.name()) || !hashes(new.0.scheduler.name()) {
        return None;
    }
    let (before, after) = (choices(key, old)?, choices(key, new)?);
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    Some(moved as f64 / before.len() as f64)
}

/// Whether a scheduler chooses by a hash of the client, or of the address that it asks for.
fn hashes(scheduler: &str) -> bool {
    Scheduler::from_name(scheduler).is_some_and(|scheduler| scheduler.hashes())
}

/// Where each of the clients is sent.
fn choices(key: ServiceKey, (config, servers): &State) -> Option<Vec<Option<SocketAddr>>> {
    let port = |number: u32| 1_024 + (number % 60_000) as u16;
    let clients = (1..=CLIENTS).map(|number| SocketAddr::new(client(key.family(), number), port(number)));
    // Hashing schedulers hash by tables of their own; the seed does not matter.
    let mut director =
        Director::new(Config::new(Seed::from_bytes([0; 16])), Heap::with_capacity(CLIENTS as usize));
    let mut config = config.clone();
    // Persistence sends a client where it was before. The question is where the hash sends one that comes anew.
    config.persistence = None;
    director.add_service(key, config).ok()?;
    for server in servers.iter().rev() {
        director.add_server(key, *server).ok()?;
    }
    let (protocol, to, mark) = match key {
        ServiceKey::Address { protocol, address, port } => {
            (protocol, SocketAddr::new(address, port.max(1)), 0)
        }
        ServiceKey::Mark { family, mark } => (Protocol::Tcp, SocketAddr::new(client(family, 0), 80), mark),
    };
    let content = match protocol {
        Protocol::Tcp => Content::Tcp(TcpFlags::SYN),
        Protocol::Udp => Content::Udp,
        Protocol::Sctp => Content::Sctp(lvs_core::packet::Chunk::Init),
    };
    let mut target = |from| {
        let packet = Packet::new(Flow::new(protocol, from, to)?, content, 60).marked(mark);
        match director.decide(lvs_core::Tick::ZERO, &packet, Inspected::Nothing) {
            Verdict::Forward(forward) => Some(forward.target),
            Verdict::Drop(_) | Verdict::Inspect | Verdict::Pass(_) | Verdict::Reject(_) => None,
        }
    };
    Some(clients.map(&mut target).collect())
}

/// Addresses all over the space, from a generator of full period (Knuth's multiplier).
fn client(family: Family, number: u32) -> IpAddr {
    let spread = number.wrapping_mul(2_654_435_761);
    match family {
        // Only unicast ones.
        Family::V4 => IpAddr::from([
            1 + (spread >> 24) as u8 % 223,
            (spread >> 16) as u8,
            (spread >> 8) as u8,
            spread as u8,
        ]),
        Family::V6 => {
            IpAddr::V6(((0x2001_u128 << 112) | (u128::from(spread) << 64) | u128::from(number)).into())
        }
    }
}

/// How many clients are tried.
const CLIENTS: u32 = 8_192;

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_core::Method;

    #[test]
    fn maglev_moves_about_the_share_of_a_server_that_goes_and_round_robin_has_no_share() {
        let key = ServiceKey::tcp("10.99.0.1".parse().unwrap(), 80);
        let servers = |count: u8| -> Vec<ServerConfig> {
            (1..=count)
                .map(|n| ServerConfig::new(SocketAddr::from(([10, 0, 1, n], 80)), Method::Nat))
                .collect()
        };
        let state =
            |name: &str, count| (ServiceConfig::new(Scheduler::from_name(name).unwrap()), servers(count));
        let tenth = share(key, &state("mh", 10), &state("mh", 9)).unwrap();
        assert!((0.08..0.25).contains(&tenth), "a tenth, and little else: {tenth}");
        assert_eq!(share(key, &state("mh", 10), &state("mh", 10)), Some(0.0));
        assert_eq!(share(key, &state("rr", 10), &state("rr", 9)), None);
    }
}
