//! Who has which link-layer address: a bounded cache (the states of RFC 4861 §7.3.2, for ARP too).

use core::net::IpAddr;

use lvs_core::Tick;

use super::mac::MacAddress;
use crate::frame::PortId;
use crate::hash::{Key, bucket};
use crate::header::address::{from_bits, to_bits};

/// How long an answer is believed without asking again, in milliseconds (RFC 4861 §10, `REACHABLE_TIME`).
const REACHABLE_MS: u64 = 30_000;
/// Between two questions, in milliseconds (`RETRANS_TIMER`).
const RETRY_MS: u64 = 1_000;
/// Questions before giving up (`MAX_MULTICAST_SOLICIT`, `MAX_UNICAST_SOLICIT`).
const TRIES: u8 = 3;
/// How long a neighbour that did not answer counts as absent before it is asked for again, in milliseconds.
const FAILED_MS: u64 = 5_000;
/// Slots in which an address may stand: the most that a look-up can cost.
const WINDOW: usize = 8;

/// What is known of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    Known(MacAddress),
    /// The neighbour is being asked for.
    Pending,
    /// The neighbour did not answer lately.
    Failed,
    /// No place is left to remember the neighbour: all places of its window are configured ones.
    Full,
}

/// A question that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) port: PortId,
    pub(crate) target: IpAddr,
    /// Asked of one neighbour, to hear that it is still there; otherwise of all.
    pub(crate) known: Option<MacAddress>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    /// Configured: never asked for, never evicted.
    Static,
    /// Answered; asked again when it is used after `at`.
    Reachable,
    /// Answered once and used; asked again at `at`.
    Probing,
    /// Never answered; asked again at `at`.
    Incomplete,
    /// Did not answer; absent until `at`.
    Failed,
}

#[derive(Clone, Copy)]
struct Entry {
    bits: u128,
    at: Tick,
    mac: MacAddress,
    port: PortId,
    state: State,
    tries: u8,
}

impl Entry {
    const FREE: Self = Self {
        bits: 0,
        at: Tick::ZERO,
        mac: MacAddress([0; 6]),
        port: PortId(0),
        state: State::Free,
        tries: 0,
    };
}

/// Up to `N` neighbours.
pub(crate) struct Neighbours<const N: usize> {
    key: Key,
    entries: [Entry; N],
    /// No question is due before this.
    next: Tick,
}

const NEVER: Tick = Tick::from_millis(u64::MAX);

impl<const N: usize> Neighbours<N> {
    pub(crate) const fn new(key: Key) -> Self {
        const { assert!(N > 0, "a host has at least one neighbour") };
        Self { key, entries: [Entry::FREE; N], next: NEVER }
    }

    /// The link-layer address of a next hop; starts to ask for it when it is not known.
    #[inline]
    pub(crate) fn resolve(&mut self, now: Tick, port: PortId, bits: u128) -> Resolution {
        let Some(entry) = self.find(port, bits) else {
            return self.ask(now, port, bits);
        };
        match entry.state {
            State::Static => Resolution::Known(entry.mac),
            State::Reachable if now < entry.at => Resolution::Known(entry.mac),
            State::Reachable => {
                entry.state = State::Probing;
                entry.tries = 0;
                entry.at = now;
                // Used meanwhile as if it were known: a packet that waits costs more than one that a silent neighbour
                // loses.
                let mac = entry.mac;
                self.next = now;
                Resolution::Known(mac)
            }
            State::Probing => Resolution::Known(entry.mac),
            State::Incomplete => Resolution::Pending,
            State::Failed if now < entry.at => Resolution::Failed,
            // Asked anew only when it is needed: a dead neighbour that nobody speaks to causes no traffic.
            State::Failed | State::Free => {
                entry.state = State::Incomplete;
                entry.tries = 0;
                entry.at = now;
                self.next = now;
                Resolution::Pending
            }
        }
    }

    /// Remembers what a neighbour said of itself; `create` also if nobody asked. True when packets may wait for it.
    pub(crate) fn learn(
        &mut self,
        now: Tick,
        port: PortId,
        address: IpAddr,
        mac: MacAddress,
        create: bool,
    ) -> bool {
        if mac.is_group() || address.is_unspecified() {
            return false;
        }
        let bits = to_bits(address);
        let at = match self.position(port, bits) {
            Some(at) => at,
            None if create => match self.victim(bits) {
                Some(at) => at,
                None => return false,
            },
            None => return false,
        };
        let Some(entry) = self.entries.get_mut(at) else {
            return false;
        };
        // What an operator configured is not for the link to change: that is what it is configured for.
        if entry.state == State::Static {
            return false;
        }
        // A victim's entry may belong to somebody else until now.
        let waited = entry.bits == bits && entry.state == State::Incomplete;
        *entry =
            Entry { bits, at: now.plus_millis(REACHABLE_MS), mac, port, state: State::Reachable, tries: 0 };
        waited
    }

    /// What is believed of a neighbour now, without asking.
    pub(crate) fn known(&self, port: PortId, address: IpAddr) -> Option<MacAddress> {
        let at = self.position(port, to_bits(address))?;
        let entry = self.entries.get(at)?;
        match entry.state {
            State::Static | State::Reachable | State::Probing => Some(entry.mac),
            State::Free | State::Incomplete | State::Failed => None,
        }
    }

    /// Configures a neighbour; `None` when its window is full of configured ones.
    pub(crate) fn set(&mut self, port: PortId, address: IpAddr, mac: MacAddress) -> Option<()> {
        let bits = to_bits(address);
        let at = match self.position(port, bits) {
            Some(at) => at,
            None => self.victim(bits)?,
        };
        *self.entries.get_mut(at)? = Entry { bits, at: NEVER, mac, port, state: State::Static, tries: 0 };
        Some(())
    }

    /// Forgets a neighbour, configured or learnt.
    pub(crate) fn remove(&mut self, port: PortId, address: IpAddr) -> Option<()> {
        *self.find(port, to_bits(address))? = Entry::FREE;
        Some(())
    }

    /// When there may be a question to ask, or a neighbour to give up; `None` when nothing waits for an answer.
    pub(crate) fn poll_at(&self) -> Option<Tick> {
        (self.next != NEVER).then_some(self.next)
    }

    /// The next question that is due. An unanswered neighbour is handed to `failed`.
    pub(crate) fn poll(&mut self, now: Tick, failed: &mut dyn FnMut(PortId, u128)) -> Option<Query> {
        if now < self.next {
            return None;
        }
        let mut next = NEVER;
        let mut query = None;
        for entry in &mut self.entries {
            if !matches!(entry.state, State::Probing | State::Incomplete) {
                continue;
            }
            // One question a call, so that the caller needs one buffer; the scan goes on for the time of the next one.
            if query.is_none() && entry.at <= now {
                if entry.tries == TRIES && entry.state == State::Incomplete {
                    entry.state = State::Failed;
                    entry.at = now.plus_millis(FAILED_MS);
                    failed(entry.port, entry.bits);
                    continue;
                }
                // One that fell silent may have changed its link-layer address.
                if entry.tries == TRIES {
                    entry.state = State::Incomplete;
                    entry.tries = 0;
                }
                let known = (entry.state == State::Probing).then_some(entry.mac);
                query = Some(Query { port: entry.port, target: from_bits(entry.bits), known });
                entry.tries += 1;
                entry.at = now.plus_millis(RETRY_MS);
            }
            next = next.min(entry.at);
        }
        self.next = next;
        query
    }

    fn ask(&mut self, now: Tick, port: PortId, bits: u128) -> Resolution {
        let Some(entry) = self.victim(bits).and_then(|at| self.entries.get_mut(at)) else {
            return Resolution::Full;
        };
        *entry = Entry { bits, at: now, mac: MacAddress([0; 6]), port, state: State::Incomplete, tries: 0 };
        self.next = now;
        Resolution::Pending
    }

    #[inline]
    fn find(&mut self, port: PortId, bits: u128) -> Option<&mut Entry> {
        let at = self.position(port, bits)?;
        self.entries.get_mut(at)
    }

    #[inline]
    fn position(&self, port: PortId, bits: u128) -> Option<usize> {
        self.window(bits).find(|&at| {
            self.entries
                .get(at)
                .is_some_and(|entry| entry.bits == bits && entry.port == port && entry.state != State::Free)
        })
    }

    /// The place for a new neighbour: a free one, else the least useful.
    fn victim(&self, bits: u128) -> Option<usize> {
        let rank = |entry: &Entry| match entry.state {
            // What is lost least: nothing, then what does not answer, then what can be asked for again at once.
            State::Free => Some(0),
            State::Failed => Some(1),
            State::Reachable => Some(2),
            State::Incomplete => Some(3),
            State::Probing => Some(4),
            State::Static => None,
        };
        self.window(bits)
            .filter_map(|at| {
                let entry = self.entries.get(at)?;
                Some((rank(entry)?, entry.at, at))
            })
            .min()
            .map(|(_, _, at)| at)
    }

    fn window(&self, bits: u128) -> impl Iterator<Item = usize> + use<N> {
        let first = bucket(self.key.hash(bits), N);
        (0..WINDOW.min(N)).map(move |step| {
            let at = first + step;
            if at >= N { at - N } else { at }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: PortId = PortId(0);
    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);

    fn at(secs: u64) -> Tick {
        Tick::from_millis(secs * 1_000)
    }

    fn table() -> Neighbours<16> {
        Neighbours::new(Key::new(lvs_core::Seed::from_bytes([3; 16])))
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn bits(last: u8) -> u128 {
        to_bits(address(last))
    }

    #[test]
    fn three_questions_a_second_apart_then_silence() {
        let mut table = table();
        assert_eq!(table.resolve(at(0), PORT, bits(1)), Resolution::Pending);
        let mut failed = None;
        for secs in 0..3 {
            let query = table.poll(at(secs), &mut |_, _| panic!("too early")).unwrap();
            assert_eq!(query, Query { port: PORT, target: address(1), known: None });
            assert_eq!(table.poll(at(secs), &mut |_, _| panic!("too early")), None);
        }
        assert_eq!(table.poll(at(3), &mut |_, bits| failed = Some(bits)), None);
        assert_eq!(failed, Some(bits(1)));
        assert_eq!(table.resolve(at(4), PORT, bits(1)), Resolution::Failed);
        assert_eq!(table.resolve(at(8), PORT, bits(1)), Resolution::Pending);
    }

    #[test]
    fn a_used_neighbour_is_asked_again_before_it_is_doubted() {
        let mut table = table();
        assert!(!table.learn(at(0), PORT, address(1), MAC, false), "nobody asked");
        table.resolve(at(0), PORT, bits(1));
        assert!(table.learn(at(0), PORT, address(1), MAC, false));
        assert_eq!(table.resolve(at(29), PORT, bits(1)), Resolution::Known(MAC));
        assert_eq!(table.poll(at(29), &mut |_, _| {}), None);
        assert_eq!(table.resolve(at(31), PORT, bits(1)), Resolution::Known(MAC));
        let query = table.poll(at(31), &mut |_, _| {}).unwrap();
        assert_eq!(query.known, Some(MAC));
        assert!(!table.learn(at(31), PORT, address(1), MAC, false), "nothing waits while it is known");
        assert_eq!(table.poll(at(40), &mut |_, _| {}), None);
    }

    #[test]
    fn a_neighbour_that_falls_silent_is_looked_for_among_all_again() {
        let mut table = table();
        table.learn(at(0), PORT, address(1), MAC, true);
        table.resolve(at(31), PORT, bits(1));
        for secs in 31..34 {
            assert_eq!(table.poll(at(secs), &mut |_, _| {}).unwrap().known, Some(MAC));
        }
        assert_eq!(table.poll(at(34), &mut |_, _| {}).unwrap().known, None);
        assert_eq!(table.resolve(at(34), PORT, bits(1)), Resolution::Pending);
    }

    #[test]
    fn a_flood_of_strangers_evicts_no_configured_neighbour() {
        let mut table = table();
        table.set(PORT, address(1), MAC).unwrap();
        for stranger in 2..=255 {
            table.learn(at(1), PORT, address(stranger), MacAddress([2; 6]), true);
        }
        assert_eq!(table.resolve(at(2), PORT, bits(1)), Resolution::Known(MAC));
        assert!(!table.learn(at(2), PORT, address(1), MacAddress([2; 6]), true));
        assert_eq!(table.resolve(at(2), PORT, bits(1)), Resolution::Known(MAC));
    }

    #[test]
    fn ports_do_not_share_neighbours() {
        let mut table = table();
        table.learn(at(0), PORT, address(1), MAC, true);
        assert_eq!(table.resolve(at(0), PortId(1), bits(1)), Resolution::Pending);
    }
}
