//! What the host sends of its own accord: questions, announcements, packets that waited.

use core::net::IpAddr;

use lvs_core::Tick;

use super::mac::MacAddress;
use super::state::{Host, Port};
use super::{arp, ndp, waiting};
use crate::frame::{Frame, HEADROOM, PortId};
use crate::parse::Link;

/// Announcements of an address, and the time between them in milliseconds (RFC 4861 §10,
/// `MAX_NEIGHBOR_ADVERTISEMENT`).
const ANNOUNCEMENTS: u8 = 3;
const ANNOUNCE_EVERY_MS: u64 = 1_000;

impl<const A: usize, const N: usize> Host<A, N> {
    /// Announces an own address to the neighbours, three times from now on a second apart: by ARP requests for itself
    /// or by unsolicited advertisements. A virtual address is announced on the ports in whose prefixes it lies, or, if
    /// there are none, on all Ethernet ports. False when it is no address of this host.
    ///
    /// The frames come from [`poll_transmit`](Self::poll_transmit).
    pub fn announce(&mut self, now: Tick, address: IpAddr) -> bool {
        let Some(own) = self.addresses.iter_mut().find(|own| own.address == address) else {
            return false;
        };
        (own.rounds, own.next_port, own.due) = (ANNOUNCEMENTS, 0, now);
        self.announcing = true;
        true
    }

    /// [Announces](Self::announce) every address: when the director starts, or takes over from another.
    pub fn announce_all(&mut self, now: Tick) {
        for own in self.addresses.iter_mut() {
            (own.rounds, own.next_port, own.due) = (ANNOUNCEMENTS, 0, now);
            self.announcing = true;
        }
    }

    /// The next frame that the host itself has to send: packets that waited for a neighbour, questions for neighbours,
    /// announcements. To be called until it is `None`, after each batch and at least every second.
    ///
    /// `buffer` must have [`HEADROOM`] + 2,048 bytes; in a shorter one nothing is made.
    pub fn poll_transmit<'a>(&mut self, now: Tick, buffer: &'a mut [u8]) -> Option<Frame<'a>> {
        if buffer.len() < HEADROOM + MIN_BUFFER {
            return None;
        }
        // Before anything else: later packets of the same flows need not wait any more, and would overtake them.
        if self.waiting.any_ready() {
            return self.waited(buffer);
        }
        let Self { waiting, changes, .. } = self;
        // What waits for a neighbour that is given up is lost, and cached ways to it must be looked up again.
        let mut failed = |port, hop| {
            *changes = changes.wrapping_add(1);
            waiting.discard(port, hop);
        };
        if let Some(query) = self.neighbours.poll(now, &mut failed) {
            let mac = self.port(query.port)?.mac();
            return match query.target {
                IpAddr::V4(target) => {
                    let to = query.known.unwrap_or(MacAddress::BROADCAST);
                    let sender = arp::own_address(self, query.port);
                    arp::request(buffer, HEADROOM, query.port, mac, sender, target, to)
                }
                IpAddr::V6(target) => {
                    let source = ndp::own_address(self, query.port, target)?;
                    ndp::solicitation(buffer, HEADROOM, query.port, mac, source, target, query.known)
                }
            };
        }
        if self.announcing { self.announcement(now, buffer) } else { None }
    }

    /// When [`poll_transmit`](Self::poll_transmit) may have something at the earliest, if no frame comes in before: a
    /// time that has passed means now, `None` that nothing is due at all.
    #[must_use]
    pub fn poll_at(&self) -> Option<Tick> {
        if self.waiting.any_ready() {
            return Some(Tick::ZERO);
        }
        let announcing = self.addresses.iter().filter(|own| self.announcing && own.rounds > 0);
        self.neighbours.poll_at().into_iter().chain(announcing.map(|own| own.due)).min()
    }

    fn waited<'a>(&mut self, buffer: &'a mut [u8]) -> Option<Frame<'a>> {
        let mut ready = self.waiting.pop(buffer, HEADROOM)?;
        self.write_link(&mut ready.frame, ready.mac, &ready.tags, ready.family)?;
        Some(ready.frame)
    }

    fn announcement<'a>(&mut self, now: Tick, buffer: &'a mut [u8]) -> Option<Frame<'a>> {
        self.announcing = self.addresses.iter().any(|own| own.rounds > 0);
        loop {
            let (address, port) = self.next_announcement(now)?;
            let Some(&Port { link: Link::Ethernet, mac, .. }) = self.port(port) else {
                continue;
            };
            return match address {
                IpAddr::V4(own) => {
                    arp::request(buffer, HEADROOM, port, mac, Some(own), own, MacAddress::BROADCAST)
                }
                IpAddr::V6(own) => ndp::announcement(buffer, HEADROOM, port, mac, own),
            };
        }
    }

    /// The next own address that is due, and a port on which it is to be announced.
    fn next_announcement(&mut self, now: Tick) -> Option<(IpAddr, PortId)> {
        // Round by round over the ports, one frame a call: the state is in the address, so nothing is queued.
        let Self { addresses, routes, ports, .. } = self;
        for own in addresses.iter_mut() {
            let on_link = |port: u8| routes.is_on_link(PortId(port), own.address);
            let anywhere = !(0..ports.len() as u8).any(on_link);
            while own.rounds > 0 && own.due <= now {
                if usize::from(own.next_port) >= ports.len() {
                    own.rounds -= 1;
                    own.next_port = 0;
                    own.due = now.plus_millis(ANNOUNCE_EVERY_MS);
                    continue;
                }
                let port = own.next_port;
                own.next_port += 1;
                let here = match own.port {
                    Some(home) => home.0 == port,
                    None => anywhere || routes.is_on_link(PortId(port), own.address),
                };
                if here {
                    return Some((own.address, PortId(port)));
                }
            }
        }
        None
    }
}

/// What [`Host::poll_transmit`] needs behind the headroom.
const MIN_BUFFER: usize = 2_048;

const _: () = assert!(MIN_BUFFER >= waiting::MAX_LEN);
