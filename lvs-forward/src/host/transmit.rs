//! What the host sends of its own accord: questions, announcements, packets that waited.

use core::net::IpAddr;

use lvs_core::Tick;

use super::mac::MacAddress;
use super::port::MAX_PORTS;
use super::state::Host;
use super::{arp, ndp, waiting};
use crate::frame::{Frame, HEADROOM, PortId};
use crate::parse::Link;

/// Announcements of an address, and the time between them in milliseconds (RFC 4861 §10,
/// `MAX_NEIGHBOR_ADVERTISEMENT`), and in the end a question whether anybody else has it.
const ROUNDS: u8 = ANNOUNCEMENTS + 1;
const ANNOUNCEMENTS: u8 = 3;
const ANNOUNCE_EVERY_MS: u64 = 1_000;

/// What is to be sent of an own address.
struct Due {
    address: IpAddr,
    port: PortId,
    /// Not an announcement, but the question whether anybody else has it.
    asks: bool,
}

impl Host {
    /// Announces an own address to the neighbours, three times from now on a second apart: by ARP requests for itself
    /// or by unsolicited advertisements. A virtual address is announced on the ports in whose prefixes it lies, or, if
    /// there are none, on all Ethernet ports. False when it is no address of this host.
    ///
    /// A second after that the host asks whether anybody else has the address, see [`conflicts`](Self::conflicts).
    ///
    /// The frames come from [`poll_transmit`](Self::poll_transmit).
    pub fn announce(&mut self, now: Tick, address: IpAddr) -> bool {
        self.neighbours.wake();
        self.addresses.announce(now, address, ROUNDS)
    }

    /// [Announces](Self::announce) every address: when the director starts, or takes over from another. Of many
    /// addresses, so many are announced each millisecond.
    pub fn announce_all(&mut self, now: Tick) {
        self.neighbours.wake();
        self.addresses.announce_all(now, ROUNDS);
    }

    /// The next frame that the host itself has to send: packets that waited for a neighbour, questions for neighbours,
    /// announcements. To be called until it is `None`, after each batch and at least every second.
    ///
    /// `buffer` must have [`HEADROOM`] + 2,048 bytes; in a shorter one nothing is made.
    pub fn poll_transmit<'a>(&mut self, now: Tick, buffer: &'a mut [u8]) -> Option<Frame<'a>> {
        // Asked after every batch, so the usual answer has to cost nothing.
        if self.neighbours.is_quiet(now) || buffer.len() < HEADROOM + MIN_BUFFER {
            return None;
        }
        self.next_frame(now, buffer)
    }

    #[inline(never)]
    fn next_frame<'a>(&mut self, now: Tick, buffer: &'a mut [u8]) -> Option<Frame<'a>> {
        // Memory is taken here and not where packets need it.
        self.neighbours.grow_if_short();
        // Before anything else: later packets of the same flows need not wait any more, and would overtake them.
        if self.neighbours.any_ready() {
            return self.waited(buffer);
        }
        while let Some(query) = self.neighbours.poll(now) {
            let Some(by) = self.port(query.port).map(|port| port.egress(query.port)) else { continue };
            match query.target {
                IpAddr::V4(target) => {
                    let to = query.known.unwrap_or(MacAddress::BROADCAST);
                    let sender = arp::own_address(self, query.port);
                    return arp::request(buffer, HEADROOM, by, sender, target, to);
                }
                IpAddr::V6(target) => {
                    // Without an address nobody can be asked, and the neighbour fails in time.
                    let Some(source) = ndp::own_address(self, query.port, target) else { continue };
                    return ndp::solicitation(buffer, HEADROOM, by, source, target, query.known);
                }
            }
        }
        let announcement = self.announcement(now, buffer);
        if announcement.is_none() {
            let next = self.poll_at();
            self.neighbours.rest(next);
        }
        announcement
    }

    /// When [`poll_transmit`](Self::poll_transmit) may have something at the earliest, if no frame comes in before: a
    /// time that has passed means now, `None` that nothing is due at all.
    #[must_use]
    pub fn poll_at(&self) -> Option<Tick> {
        if self.neighbours.any_ready() {
            return Some(Tick::ZERO);
        }
        let announcement = self.addresses.announcement_at().map(|due| due.max(self.announcements.next_at()));
        self.neighbours.poll_at().into_iter().chain(announcement).min()
    }

    fn waited<'a>(&mut self, buffer: &'a mut [u8]) -> Option<Frame<'a>> {
        let mut ready = self.neighbours.pop_ready(buffer, HEADROOM)?;
        if self.write_link(&mut ready.frame, ready.mac, ready.family).is_none() {
            // The port is gone.
            self.neighbours.lose_ready();
            return None;
        }
        Some(ready.frame)
    }

    fn announcement<'a>(&mut self, now: Tick, buffer: &'a mut [u8]) -> Option<Frame<'a>> {
        let Due { address, port, asks } = self.next_announcement(now)?;
        let by = self.port(port)?.egress(port);
        match (address, asks) {
            (IpAddr::V4(own), false) => {
                arp::request(buffer, HEADROOM, by, Some(own), own, MacAddress::BROADCAST)
            }
            // RFC 5227 §2.1.1: from nobody, so that no neighbour takes it for an answer.
            (IpAddr::V4(own), true) => arp::request(buffer, HEADROOM, by, None, own, MacAddress::BROADCAST),
            (IpAddr::V6(own), false) => ndp::announcement(buffer, HEADROOM, by, own),
            (IpAddr::V6(own), true) => ndp::probe(buffer, HEADROOM, by, own),
        }
    }

    /// The next own address that is due, and a port on which it is to be announced.
    fn next_announcement(&mut self, now: Tick) -> Option<Due> {
        if self.addresses.announcement_at().is_none_or(|due| due > now) || !self.announcements.take(now) {
            return None;
        }
        let Self { addresses, routes, ports, .. } = self;
        // Round by round over the ports, one frame a call: the state is in the address, so nothing is queued. An
        // address without a port for it ends its round after at most all of them; so many may do so in one call.
        for _ in 0..MOST_STEPS {
            let (address, home, port, left) = addresses.next_announcement(now)?;
            let Some(to) = ports.get(usize::from(port)) else {
                addresses.end_round(address, now.plus_millis(ANNOUNCE_EVERY_MS));
                continue;
            };
            let on_link = |port: u8| routes.is_on_link(PortId(port), address);
            let here = match home {
                Some(home) => home.0 == port,
                None => on_link(port) || !(0..ports.len() as u8).any(on_link),
            };
            if here && to.link == Link::Ethernet {
                return Some(Due { address, port: PortId(port), asks: left == 1 });
            }
        }
        None
    }
}

/// Ports that are looked at to find the next announcement.
const MOST_STEPS: usize = 4 * (MAX_PORTS + 1);

/// What [`Host::poll_transmit`] needs behind the headroom.
const MIN_BUFFER: usize = 2_048;

const _: () = assert!(MIN_BUFFER >= waiting::MAX_LEN);
