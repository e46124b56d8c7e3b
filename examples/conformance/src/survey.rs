//! What a capture tells of the network that it was taken in: link-layer addresses.
//!
//! A director at work asks for them. In a capture the answers, if there are any, stand where another director asked; so
//! they are looked for first, all over the capture.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use lvs_forward::Frame;
use lvs_forward::host::{MacAddress, Prefix};
use lvs_forward::parse::{Link, Parsed, parse};
use lvs_std::device::pcap::Reader;

use lvs_std::config::{Configuration, Interface, Mac};

/// Link-layer addresses: of the director's interfaces, and of its neighbours with their interface's number.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) own: Vec<MacAddress>,
    pub(crate) neighbours: BTreeMap<IpAddr, (usize, MacAddress)>,
    /// Neighbours of whom the capture does not know more than that the configuration names them.
    pub(crate) made_up: BTreeSet<IpAddr>,
}

/// What a frame shows of its sender.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Sight {
    interface: usize,
    source: IpAddr,
    from: [u8; 6],
    to: [u8; 6],
}

/// What all frames show, and how many of them.
type Sights = BTreeMap<Sight, u64>;

impl Survey {
    /// Reads a whole capture.
    pub(crate) fn of<R: Read>(
        configuration: &Configuration,
        mut capture: Reader<R>,
    ) -> std::io::Result<Self> {
        let mut sights = Sights::new();
        while let Some(record) = capture.next_frame()? {
            if let Some(sight) = look(configuration, &record.frame) {
                *sights.entry(sight).or_default() += 1;
            }
        }
        let mut survey = Self::default();
        for (number, interface) in configuration.interfaces.iter().enumerate() {
            survey.own.push(own_mac(number, interface, &sights));
        }
        let group = |mac: [u8; 6]| MacAddress(mac).is_group();
        sights.retain(|sight, _| !survey.own.contains(&MacAddress(sight.from)) && !group(sight.from));
        let mut most = BTreeMap::new();
        for (sight, &count) in &sights {
            if let Some(interface) = configuration.interfaces.get(sight.interface)
                && is_on_link(interface, sight.source)
            {
                let best = most.entry(sight.source).or_insert(0);
                if count > *best {
                    *best = count;
                    survey.neighbours.insert(sight.source, (sight.interface, MacAddress(sight.from)));
                }
            }
        }
        for (number, interface) in configuration.interfaces.iter().enumerate() {
            for route in &interface.routes {
                // What comes from behind a router has the router's address.
                let behind = sights.iter().filter(|(sight, _)| {
                    sight.interface == number
                        && !is_on_link(interface, sight.source)
                        && covers(route.to, sight.source)
                });
                let mac = behind.max_by_key(|(_, count)| **count).map(|(sight, _)| MacAddress(sight.from));
                if let Some(via) = route.via {
                    survey.add(via, number, mac);
                }
            }
        }
        for server in configuration.services.iter().flat_map(|service| &service.servers) {
            let address = server.address.ip();
            let number = configuration.interfaces.iter().position(|interface| is_on_link(interface, address));
            if let Some(number) = number {
                survey.add(address, number, None);
            }
        }
        Ok(survey)
    }

    fn add(&mut self, address: IpAddr, interface: usize, mac: Option<MacAddress>) {
        if self.neighbours.contains_key(&address) {
            return;
        }
        let mac = mac.unwrap_or_else(|| {
            self.made_up.insert(address);
            made_up(address)
        });
        self.neighbours.insert(address, (interface, mac));
    }
}

/// By which interface a frame came in, by what its headers say.
pub(crate) fn interface_of(configuration: &Configuration, own: &[MacAddress], frame: &Frame<'_>) -> usize {
    if let Some(number) = own.iter().position(|mac| frame.bytes().starts_with(&mac.0)) {
        return number;
    }
    source(frame, Link::Ethernet).map_or(0, |source| by_source(configuration, source))
}

/// By which interface a packet without a link header came in.
pub(crate) fn interface_of_packet(configuration: &Configuration, frame: &Frame<'_>) -> usize {
    source(frame, Link::Bare).map_or(0, |source| by_source(configuration, source))
}

/// The interface that has the best way back to an address.
fn by_source(configuration: &Configuration, source: IpAddr) -> usize {
    let ways = configuration.interfaces.iter().enumerate().flat_map(|(number, interface)| {
        let on_link = interface.addresses.iter().copied();
        let routed = interface.routes.iter().map(|route| route.to);
        on_link.chain(routed).filter(|&prefix| covers(prefix, source)).map(move |(_, len)| (len, number))
    });
    ways.max_by_key(|&(len, number)| (len, core::cmp::Reverse(number))).map_or(0, |(_, number)| number)
}

fn look(configuration: &Configuration, frame: &Frame<'_>) -> Option<Sight> {
    let to = *frame.bytes().first_chunk()?;
    let from = *frame.bytes().get(6..)?.first_chunk()?;
    let source = source(frame, Link::Ethernet)?;
    let interface =
        configuration.interfaces.iter().position(|interface| interface.mac == Mac::Is(MacAddress(to)));
    let interface = interface.unwrap_or_else(|| by_source(configuration, source));
    Some(Sight { interface, source, from, to })
}

fn source(frame: &Frame<'_>, link: Link) -> Option<IpAddr> {
    match parse(frame, link) {
        Ok(Parsed::Ip(layout, _)) => Some(layout.addresses(frame.bytes())?.source()),
        Ok(Parsed::Arp(_) | Parsed::Foreign) | Err(_) => None,
    }
}

/// The configured address, or the one that most frames of this interface are for.
fn own_mac(number: usize, interface: &Interface, sights: &Sights) -> MacAddress {
    if let Mac::Is(mac) = interface.mac {
        return mac;
    }
    let mut counts: BTreeMap<[u8; 6], u64> = BTreeMap::new();
    for (sight, count) in sights {
        if sight.interface == number && !MacAddress(sight.to).is_group() {
            *counts.entry(sight.to).or_default() += count;
        }
    }
    let most = counts.into_iter().max_by_key(|&(_, count)| count);
    most.map_or(MacAddress([2, 0, 0, 0, 0xff, number as u8]), |(mac, _)| MacAddress(mac))
}

/// A locally administered address that shows whose it is.
fn made_up(address: IpAddr) -> MacAddress {
    let [a, b, c, d] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => (address.to_bits() as u32).to_be_bytes(),
    };
    MacAddress([2, 0, a, b, c, d])
}

fn is_on_link(interface: &Interface, address: IpAddr) -> bool {
    interface.addresses.iter().any(|&prefix| covers(prefix, address))
}

fn covers(prefix: (IpAddr, u8), address: IpAddr) -> bool {
    Prefix::new(prefix.0, prefix.1).is_some_and(|prefix| prefix.contains(address))
}
