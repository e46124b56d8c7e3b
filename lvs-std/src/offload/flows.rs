//! The connections that have an offload, and their counters.

use core::net::IpAddr;
use core::sync::atomic::Ordering;
use std::collections::VecDeque;

use lvs_core::conn::Offloaded;
use lvs_core::{ConnId, Direction, Forward, Packet, Tick};
use lvs_forward::PortId;
use lvs_forward::host::MacAddress;

use super::FlowOffloadCounters;
use super::maps::{Maps, cell};
use super::route::{Key, Route};
use crate::sys::cells::Cell;

/// A direction of a connection, as a frame showed it.
pub(super) struct FlowRule {
    /// What the director says of them.
    pub(super) forward: Forward,
    /// What the core knows its segments by.
    pub(super) packet: Packet,
    pub(super) key: Key,
    /// The key of answers which come back this way.
    pub(super) answers: Option<Key>,
    pub(super) route: Route,
    /// To whom packets go, by which port and interface, and how long they may be there.
    pub(super) hop: IpAddr,
    pub(super) port: PortId,
    pub(super) interface: u32,
    pub(super) mtu: u16,
}

/// Bounded by the cells, each of which is a flow's or free.
pub(super) struct Flows {
    active: Vec<Flow>,
    /// Which of them is synced next.
    next: usize,
    /// Cells that no flow has. New flows take the front one and ended flows return theirs at the back, so a cell rests
    /// for as long as possible: a program that was at work while its flow ended may still count in it.
    free: VecDeque<u32>,
    /// What is still in the map, though it does no longer count.
    stale: VecDeque<Stale>,
    /// Everything is the director's.
    closed: bool,
}

struct Flow {
    connection: ConnId,
    cell: u32,
    used: Tick,
    /// By request and by reply.
    directions: [Option<OffloadedDirection>; 2],
    /// Of the direction that was installed first.
    answers: Option<Key>,
}

struct OffloadedDirection {
    packet: Packet,
    forward: Forward,
    key: Key,
    hop: IpAddr,
    port: PortId,
    mac: MacAddress,
    mtu: u16,
    /// What was counted of it before.
    counted: Offloaded,
}

struct Stale {
    flow: Flow,
    /// Since when no program begins to count in its cell.
    since: Tick,
}

impl Flows {
    pub(super) fn new(count: u32) -> Self {
        let room = count as usize;
        Self {
            active: Vec::with_capacity(room),
            next: 0,
            free: (0..count).collect(),
            stale: VecDeque::with_capacity(room),
            closed: false,
        }
    }

    /// With the counters that are shared with the kernel.
    pub(super) const fn required_bytes(count: usize) -> usize {
        count * (size_of::<Flow>() + size_of::<u32>() + size_of::<Stale>() + size_of::<Cell>())
            + size_of::<Cell>()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.active.is_empty() && self.stale.is_empty()
    }

    /// Whether a further connection can be installed.
    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// How many have an offload.
    pub(super) const fn len(&self) -> usize {
        self.active.len()
    }

    /// Whether a flow has this key, or had it lately.
    pub(super) fn knows(&self, key: &Key) -> bool {
        let flows = self.active.iter().chain(self.stale.iter().map(|stale| &stale.flow));
        flows.flat_map(|flow| flow.directions.iter().flatten()).any(|one| one.key == *key)
    }

    /// Shows a direction to the programs. `None` when there is no room, or when a flow has the key: each belongs to
    /// one.
    pub(super) fn install(&mut self, now: Tick, maps: &Maps, rule: FlowRule) -> Option<()> {
        let FlowRule { forward, packet, key, answers, route, hop, port, interface, mtu } = rule;
        let Forward { connection, direction, .. } = forward;
        if self.knows(&key) {
            return None;
        }
        let at = self.active.iter().position(|flow| flow.connection == connection);
        let at = at.unwrap_or(self.active.len());
        let cell = match self.active.get(at) {
            Some(flow) if flow.directions[place(direction)].is_some() => return None,
            Some(flow) => flow.cell,
            None => {
                // Not taken from the free ones before the kernel has the route, so that a failure loses no cell.
                let cell = *self.free.front()?;
                let values = maps.cells().get(cell as usize)?;
                // Zeroed before a program can find the cell, since programs only add to it.
                values.iter().for_each(|value| value.store(0, Ordering::Relaxed));
                cell
            }
        };
        maps.set_route(&key, route.by(interface, mtu, cell, direction).bytes()).ok()?;
        if at == self.active.len() {
            self.free.pop_front();
            self.active.push(Flow { connection, cell, used: now, directions: [None, None], answers });
        }
        let one = OffloadedDirection {
            packet,
            forward,
            key,
            hop,
            port,
            mac: route.next(),
            mtu,
            counted: Offloaded::default(),
        };
        self.active.get_mut(at)?.directions[place(direction)] = Some(one);
        self.set_in_use(maps);
        Some(())
    }

    /// Hands what has passed of so many flows, those that have waited longest, to `count`, which says by which way
    /// further packets go, if they may; and the key of answers that are still to be installed to `want`.
    pub(super) fn sync_counters(
        &mut self,
        now: Tick,
        most: usize,
        maps: &Maps,
        counters: &mut FlowOffloadCounters,
        mut count: impl FnMut(&Packet, &Forward, Offloaded, IpAddr) -> Option<(PortId, MacAddress, u16)>,
        mut want: impl FnMut(Key),
    ) {
        for _ in 0..most.min(self.active.len()) {
            if self.next >= self.active.len() {
                self.next = 0;
            }
            let Some(flow) = self.active.get_mut(self.next) else { return };
            let Some(values) = maps.cells().get(flow.cell as usize) else { return };
            let closed = &values[cell::CLOSED as usize / 8];
            // Read before what has passed: otherwise frames that come in between would be left out but not passed, and
            // look lost.
            let left_out = values[cell::LEFT_OUT as usize / 8].load(Ordering::Acquire);
            let right = flow.sync_counters(now, values, counters, &mut count);
            // Some are on their way between the two programs.
            let lost = left_out.saturating_sub(flow.passed());
            if lost > LOST {
                counters.lost += lost;
            }
            let goes_on = right
                && closed.load(Ordering::Relaxed) == 0
                && counters.lost == 0
                && now.millis_since(flow.used) < IDLE_MS;
            if goes_on {
                if flow.used == now
                    && flow.directions.iter().any(Option::is_none)
                    && let Some(answers) = flow.answers
                {
                    want(answers);
                }
                self.next += 1;
                continue;
            }
            // At once, for all processors; what still counts then is asked once more before the map forgets it.
            closed.store(1, Ordering::Relaxed);
            flow.sync_counters(now, values, counters, &mut count);
            let flow = self.active.swap_remove(self.next);
            self.stale.push_back(Stale { flow, since: now });
        }
        self.set_in_use(maps);
    }

    /// The next synchronisation begins with the first flow, so that it comes by all of them if it is long enough.
    pub(super) const fn rewind(&mut self) {
        self.next = 0;
    }

    /// Everything is the director's from now on.
    pub(super) fn close(&mut self, maps: &Maps) {
        self.closed = true;
        self.set_in_use(maps);
    }

    fn set_in_use(&self, maps: &Maps) {
        maps.set_in_use(!self.closed && !self.active.is_empty());
    }

    /// Takes some of what no longer counts out of the map, when no program can be at work with it any more.
    pub(super) fn forget(
        &mut self,
        now: Tick,
        maps: &Maps,
        counters: &mut FlowOffloadCounters,
        mut count: impl FnMut(&Packet, &Forward, Offloaded, IpAddr) -> Option<(PortId, MacAddress, u16)>,
    ) {
        for _ in 0..FORGOTTEN {
            let Some(Stale { flow, since }) = self.stale.front_mut() else { return };
            if now.millis_since(*since) < LINGER_MS {
                return;
            }
            if let Some(values) = maps.cells().get(flow.cell as usize) {
                flow.sync_counters(now, values, counters, &mut count);
            }
            let cell = flow.cell;
            if flow.directions.iter().flatten().any(|one| maps.remove_route(&one.key).is_err()) {
                // The cell is not another flow's before nobody counts in it. The next time will do.
                return;
            }
            self.stale.pop_front();
            self.free.push_back(cell);
        }
    }
}

impl Flow {
    /// Packets of both directions that have passed so far.
    fn passed(&self) -> u64 {
        self.directions.iter().flatten().map(|one| one.counted.packets).sum()
    }

    /// Whether all of its directions are still right.
    fn sync_counters(
        &mut self,
        now: Tick,
        values: &Cell,
        counters: &mut FlowOffloadCounters,
        count: &mut impl FnMut(&Packet, &Forward, Offloaded, IpAddr) -> Option<(PortId, MacAddress, u16)>,
    ) -> bool {
        let mut right = true;
        for direction in [Direction::Request, Direction::Reply] {
            let Some(one) = &mut self.directions[place(direction)] else { continue };
            let total = read(values, direction);
            let passed = Offloaded {
                packets: total.packets.wrapping_sub(one.counted.packets),
                bytes: total.bytes.wrapping_sub(one.counted.bytes),
            };
            one.counted = total;
            // Bytes may come after their packet, which was just about to be counted.
            if passed != Offloaded::default() {
                self.used = now;
                counters.packets += passed.packets;
                counters.bytes += passed.bytes;
            }
            right &= count(&one.packet, &one.forward, passed, one.hop) == Some((one.port, one.mac, one.mtu));
        }
        right
    }
}

/// What the programs have counted.
fn read(values: &Cell, direction: Direction) -> Offloaded {
    let at = match direction {
        Direction::Request => cell::REQUESTS as usize / 8,
        Direction::Reply => cell::REPLIES as usize / 8,
    };
    let value = |at: usize| values.get(at).map_or(0, |value| value.load(Ordering::Relaxed));
    Offloaded { packets: value(at), bytes: value(at + 1) }
}

const fn place(direction: Direction) -> usize {
    match direction {
        Direction::Request => 0,
        Direction::Reply => 1,
    }
}

/// Without packets for so long, a connection goes by the director again.
const IDLE_MS: u64 = 10_000;
/// So many packets of a connection may have been left out and not have passed yet: one or two are, as each direction is
/// handled by one processor at a time.
const LOST: u64 = 4;
/// Flows that are taken out of the map at a time: two system calls each.
const FORGOTTEN: usize = 4;
/// How long a program may be at work with one packet, and far more.
const LINGER_MS: u64 = 100;

#[cfg(test)]
pub(super) mod tests;
