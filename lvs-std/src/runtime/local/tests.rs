use lvs_core::{Family, Protocol};
use lvs_forward::host::Prefix;

use super::*;
use crate::control::{DesiredServer, ServerSpec, ServerStatus, ServiceSpec};

fn service(servers: &[(&str, u32)]) -> DesiredService {
    let server = |&(address, method): &(&str, u32)| DesiredServer {
        address: address.parse().unwrap(),
        spec: ServerSpec::new(method, 1),
        status: ServerStatus::default(),
        standin: false,
    };
    let servers = servers.iter().map(server).collect();
    DesiredService { spec: ServiceSpec::new(Family::V4, "rr"), servers, number: 1 }
}

fn at(protocol: u16, address: &str) -> ServiceName {
    let address: SocketAddr = address.parse().unwrap();
    ServiceName::Address { protocol, address: address.ip(), port: address.port() }
}

const MARK: ServiceName = ServiceName::Mark { family: Family::V4, mark: 7 };

/// What one service wants of a machine with 10.1.0.1, 192.0.2.100 and `fd00::1`, and of a director with 10.1.0.254.
fn of(name: ServiceName, servers: &[(&str, u32)]) -> Wanted {
    let machine = ["10.1.0.1", "192.0.2.100", "fd00::1"].map(|address| address.parse().unwrap());
    let (machine, director) = (BTreeSet::from(machine), ["10.1.0.254".parse().unwrap()]);
    let marks = [MarkRule {
        mark: 7,
        protocol: Some(Protocol::Udp),
        destination: Prefix::new("192.0.2.0".parse().unwrap(), 24).unwrap(),
        ports: 5_000..=6_000,
    }];
    let service = service(servers);
    plan(
        [(name, &service)].into_iter(),
        &Addresses { machine: &machine, present: &BTreeSet::new(), director: &director },
        &marks,
    )
}

fn led(server: &str, from: &str, protocol: Option<u8>, ports: Option<(u16, u16)>) -> BTreeSet<Led> {
    let (address, length) = from.split_once('/').unwrap();
    let from = (address.parse().unwrap(), length.parse().unwrap());
    BTreeSet::from([Led { server: server.parse().unwrap(), from, protocol, ports }])
}

#[test]
fn answers_come_back_from_where_the_machine_gives_them() {
    let web = || at(6, "192.0.2.100:80");
    let (tcp, udp) = (Some(6), Some(17));
    for (what, name, server, method, wanted) in [
        ("NAT", web(), "10.1.0.1:8080", 0, led("10.1.0.1", "10.1.0.1/32", tcp, Some((8_080, 8_080)))),
        ("NAT to loopback", web(), "127.0.0.1:81", 0, {
            let mut both = led("127.0.0.1", "127.0.0.1/32", None, None);
            both.append(&mut led("127.0.0.1", "127.0.0.1/32", tcp, Some((81, 81))));
            both
        }),
        ("NAT to loopback by mark", MARK, "[::1]:81", 0, led("::1", "::1/128", None, None)),
        ("all ports", at(17, "192.0.2.100:0"), "10.1.0.1:0", 0, led("10.1.0.1", "10.1.0.1/32", udp, None)),
        ("FTP", at(6, "192.0.2.100:21"), "10.1.0.1:21", 0, led("10.1.0.1", "10.1.0.1/32", tcp, None)),
        ("DR", web(), "127.0.0.1:80", 3, led("127.0.0.1", "192.0.2.100/32", tcp, Some((80, 80)))),
        ("TUN", web(), "10.1.0.1:80", 2, led("10.1.0.1", "192.0.2.100/32", tcp, Some((80, 80)))),
        ("local", web(), "10.9.9.9:80", 1, led("10.9.9.9", "192.0.2.100/32", tcp, Some((80, 80)))),
        ("DR by mark", MARK, "127.0.0.1:0", 3, led("127.0.0.1", "192.0.2.0/24", udp, Some((5_000, 6_000)))),
        ("NAT by mark", MARK, "10.1.0.1:0", 0, led("10.1.0.1", "10.1.0.1/32", None, None)),
    ] {
        assert_eq!(of(name, &[(server, method)]), Wanted { led: wanted, faults: BTreeMap::new() }, "{what}");
    }
}

#[test]
fn other_hosts_are_no_business_of_this_machine() {
    assert_eq!(of(at(6, "192.0.2.100:80"), &[("10.2.0.11:80", 0), ("10.1.0.1:80", 4)]), Wanted::default());
}

#[test]
fn what_cannot_be_served_is_said() {
    let director = of(at(6, "192.0.2.100:80"), &[("10.1.0.254:80", 0)]);
    let why = &director.faults[&"10.1.0.254:80".parse().unwrap()];
    assert!(director.led.is_empty() && why.contains("name another one"), "{why}");
    let absent = of(at(6, "192.0.2.101:80"), &[("127.0.0.1:80", 3)]);
    let why = &absent.faults[&"127.0.0.1:80".parse().unwrap()];
    assert!(absent.led.is_empty() && why.contains("192.0.2.101, which this machine does not have"), "{why}");
    let by_nat = of(at(6, "192.0.2.101:80"), &[("127.0.0.1:80", 0)]);
    assert!(by_nat.faults.is_empty(), "NAT does not need the service's address");
}

#[test]
fn programs_are_led_to_addresses_that_the_machine_does_not_have() {
    let machine = BTreeSet::from(["192.0.2.100".parse().unwrap()]);
    let addresses = Addresses { machine: &machine, present: &BTreeSet::new(), director: &[] };
    let (first, second) = (service(&[("10.2.0.11:80", 0), ("10.2.0.12:80", 0)]), service(&[]));
    let found = Reachable::of(
        [
            (at(6, "192.0.2.100:80"), &first),
            (at(6, "192.0.2.101:80"), &second),
            (at(6, "192.0.2.101:81"), &first),
            (at(6, "[2001:db8::1]:80"), &first),
            (ServiceName::Mark { family: Family::V4, mark: 7 }, &first),
        ]
        .into_iter(),
        &addresses,
    );
    let address = |text: &str| -> IpAddr { text.parse().unwrap() };
    let wanted = [(address("192.0.2.101"), Some(address("10.2.0.11"))), (address("2001:db8::1"), None)];
    assert_eq!(found.addresses, BTreeMap::from(wanted), "a server of another family says nothing of the way");
    assert_eq!(found.of_machine, machine);
    assert!(found.fault().unwrap().starts_with("this machine has 192.0.2.100 itself"));
    assert!(Reachable::default().fault().is_none());
    let aliases = Clients::new(&[address("10.0.0.254"), address("fd00::fe")]).aliases;
    assert_eq!(aliases.len(), 2);
    assert!(aliases.iter().all(|of| of.machine.is_ipv4() == of.wire.is_ipv4()));
    assert!(!Clients::new(&[]).are_wanted());
}
