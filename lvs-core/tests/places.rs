//! Places for servers: whoever comes back finds the same one, and none is lost or given out twice.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use core::net::{Ipv4Addr, SocketAddr};
use std::collections::{BTreeMap, BTreeSet};

use lvs_core::config::Capacity;
use lvs_core::error::AddServerError;
use lvs_core::{
    Config, Director, Heap, Method, Protocol, Scheduler, Seed, ServerConfig, ServerId, ServiceConfig,
    ServiceKey, Tick,
};
use proptest::prelude::*;

const SERVICES: u8 = 4;
const SERVERS: u8 = 8;
/// Fewer than all servers of all services together.
const PLACES: usize = 20;

fn key(service: u8) -> ServiceKey {
    ServiceKey::tcp(Ipv4Addr::new(10, 99, 0, service).into(), 80)
}

fn address(server: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, server], 80))
}

#[derive(Clone, Debug)]
enum Step {
    Add(u8, u8),
    Remove(u8, u8),
    /// Whether it is a server of NAT from now on.
    Edit(u8, u8, bool),
    RemoveService(u8),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let server = (0..SERVICES, 0..SERVERS);
    prop_oneof![
        12 => server.clone().prop_map(|(service, server)| Step::Add(service, server)),
        8 => server.clone().prop_map(|(service, server)| Step::Remove(service, server)),
        4 => (server, any::<bool>()).prop_map(|((service, server), nat)| Step::Edit(service, server, nat)),
        1 => (0..SERVICES).prop_map(Step::RemoveService),
        1 => (1..200_u64).prop_map(Step::Wait),
    ]
}

fn director() -> Director<Heap> {
    let mut capacity = Capacity::new(16);
    (capacity.services, capacity.servers) = (usize::from(SERVICES), PLACES);
    let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), Heap::new(capacity));
    (0..SERVICES).for_each(|service| add_service(&mut director, service));
    director
}

fn add_service(director: &mut Director<Heap>, service: u8) {
    director.add_service(key(service), ServiceConfig::new(Scheduler::default())).unwrap();
}

fn add(director: &mut Director<Heap>, service: u8, server: u8) -> Result<ServerId, AddServerError> {
    director.add_server(key(service), ServerConfig::new(address(server), Method::Nat))
}

proptest! {
    #[test]
    fn a_server_that_comes_back_has_its_place_again(steps in prop::collection::vec(step(), 1..300)) {
        let mut director = director();
        let mut now = Tick::ZERO;
        let mut live: BTreeMap<(u8, u8), ServerId> = BTreeMap::new();
        // Those whose places nobody needed since, and no two looks of the sweep have found idle.
        let mut removed: BTreeMap<(u8, u8), ServerId> = BTreeMap::new();
        let mut others: BTreeSet<(u8, u8)> = BTreeSet::new();
        for step in steps {
            match step {
                Step::Add(service, server) => {
                    let result = add(&mut director, service, server);
                    if live.contains_key(&(service, server)) {
                        prop_assert_eq!(result, Err(AddServerError::Exists));
                        continue;
                    }
                    if live.len() == PLACES {
                        prop_assert_eq!(result, Err(AddServerError::Full));
                        continue;
                    }
                    let id = result.unwrap();
                    if let Some(place) = removed.remove(&(service, server)) {
                        prop_assert_eq!(id, place);
                    }
                    removed.retain(|_, place| *place != id);
                    live.insert((service, server), id);
                    others.remove(&(service, server));
                }
                Step::Edit(service, server, nat) => {
                    let method = if nat { Method::Nat } else { Method::Direct };
                    let result = director.edit_server(key(service), ServerConfig::new(address(server), method));
                    prop_assert_eq!(result.is_ok(), live.contains_key(&(service, server)));
                    if nat {
                        others.remove(&(service, server));
                    } else {
                        others.insert((service, server));
                    }
                }
                Step::Remove(service, server) => {
                    let result = director.remove_server(key(service), address(server));
                    prop_assert_eq!(result.is_ok(), live.contains_key(&(service, server)));
                    removed.extend(live.remove_entry(&(service, server)));
                }
                Step::RemoveService(service) => {
                    director.remove_service(key(service)).unwrap();
                    add_service(&mut director, service);
                    removed.extend(live.extract_if((service, 0)..(service + 1, 0), |_, _| true));
                }
                Step::Wait(secs) => {
                    now = now.plus_secs(secs);
                    director.sweep(now, usize::MAX);
                    removed.clear();
                }
            }
            let places: BTreeSet<ServerId> = live.values().copied().collect();
            prop_assert_eq!(places.len(), live.len(), "no place has two servers");
            for (&(service, server), &id) in &live {
                let found = director.servers(key(service)).find(|(_, there)| there.address() == address(server));
                prop_assert_eq!(found.map(|(id, _)| id), Some(id));
            }
            for server in 0..SERVERS {
                let mut services: Vec<_> = director.nat_services_of(Protocol::Tcp, address(server)).collect();
                services.sort();
                let of = live.keys().filter(|own| own.1 == server && !others.contains(own));
                let of = of.map(|(service, _)| key(*service));
                prop_assert_eq!(services, of.collect::<Vec<_>>());
            }
        }
        // After a while all places are there for others.
        (0..SERVICES).for_each(|service| director.remove_service(key(service)).unwrap());
        for _ in 0..5 {
            now = now.plus_secs(61);
            director.sweep(now, usize::MAX);
        }
        add_service(&mut director, 0);
        for server in 100..100 + PLACES as u8 {
            add(&mut director, 0, server).unwrap();
        }
        prop_assert_eq!(add(&mut director, 0, 99), Err(AddServerError::Full));
    }
}

/// Whoever sends what belongs to no connection makes a director look for the server that it may be.
#[test]
fn whether_an_address_is_a_servers_is_known_at_once_among_100_000_places() {
    let mut capacity = Capacity::new(16);
    (capacity.services, capacity.servers) = (20_000, 100_000);
    let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), Heap::new(capacity));
    add_service(&mut director, 0);
    for server in 0..200 {
        add(&mut director, 0, server).unwrap();
    }
    let begin = std::time::Instant::now();
    for number in 0..20_000_u32 {
        let stranger = SocketAddr::new(Ipv4Addr::from_bits(0xc000_0000 | number).into(), 80);
        assert!(director.nat_services_of(Protocol::Tcp, stranger).next().is_none());
        let server = address((number % 200) as u8);
        assert_eq!(director.nat_services_of(Protocol::Tcp, server).next(), Some(key(0)));
    }
    // A walk over all places each time would take a minute or more, this a few hundredths of a second.
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
}

/// A stray packet of a server costs no more when thousands of services have that server.
#[test]
fn of_many_services_with_one_server_a_packet_makes_a_director_look_at_few() {
    const MANY: u16 = 2_000;
    let mut capacity = Capacity::new(16);
    (capacity.services, capacity.servers) = (usize::from(MANY) + 1, usize::from(MANY) + 1);
    let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), Heap::new(capacity));
    let vip = Ipv4Addr::new(10, 99, 0, 1).into();
    let add = |director: &mut Director<Heap>, key, method| {
        director.add_service(key, ServiceConfig::new(Scheduler::default())).unwrap();
        director.add_server(key, ServerConfig::new(address(1), method)).unwrap();
    };
    let udp = ServiceKey::udp(vip, 80);
    add(&mut director, udp, Method::Nat);
    for port in 1..=MANY {
        add(
            &mut director,
            ServiceKey::tcp(vip, port),
            if port % 2 == 0 { Method::Nat } else { Method::Direct },
        );
    }
    // Of all services for TCP none is in the way of the one for UDP.
    assert_eq!(director.nat_services_of(Protocol::Udp, address(1)).collect::<Vec<_>>(), [udp]);
    assert_eq!(director.nat_services_of(Protocol::Tcp, address(1)).count(), 256);
}
