//! A packet that says nothing new about its connection: it changes counts and the deadline, and nothing else.
//!
//! What the slow tier's `decide` comes to for such packets, without its questions: a segment with ACK alone on an
//! established TCP connection, or a UDP datagram, whose real server is in its service. Whatever does not fit is
//! declined, and nothing has changed then.

use super::hit::Hit;
use super::totals::BatchTotals;
use crate::conntrack::expiry::Renewal;
use crate::conntrack::family::AddressFamily;
use crate::conntrack::fast_key::FastKey;
use crate::conntrack::slot::Slot;
use crate::conntrack::table::split;
use crate::director::brain::Brain;
use crate::model::server::Server;
use crate::model::tick::Stamp;
use crate::model::traffic::Traffic;
use crate::model::verdict::Direction;
use crate::store::Tables;

/// What is the same for all packets of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    now: Stamp,
    /// The deadlines that packets give their connections now.
    renewal: Renewal,
    /// Whether requests of known connections are updated here at all.
    requests: bool,
}

impl Brain {
    /// The deadlines of this moment.
    pub(super) fn deadlines(&self, now: Stamp) -> Deadlines {
        Deadlines {
            now,
            renewal: Renewal::at(now, &self.timeouts),
            // A master has to see whether the packet is one to tell backups of; with other switches replies come first.
            requests: !(self.watches_local | self.master),
        }
    }
}

/// Updates the connection that the index names by a client's packet, if it is that packet's and there is nothing to it
/// but counts and the deadline. `None`, and nothing has changed, otherwise.
#[inline(always)]
pub(super) fn known_request<'t, F: AddressFamily, P, M, Q>(
    tables: &'t mut Tables<'_, P, M, Q>,
    deadlines: &Deadlines,
    key: &FastKey<F>,
    guess: u32,
    totals: &mut BatchTotals,
    total: &mut Traffic,
) -> Option<Hit<'t, F>> {
    let (id, by_reply) = split(guess);
    let slot = tables.slots.get_mut(id as usize)?;
    let server = tables.servers.get_mut(slot.server as usize)?;
    if by_reply || !slot.answers_fast(key) {
        return None;
    }
    totals.turn_to(server.service, tables.services, total)?;
    let length = u32::from(key.length());
    update_known(slot, server, deadlines, key.is_tcp(), Direction::Request, length)?;
    totals.count_request(length);
    Some(Hit::new(slot, server, id, Direction::Request))
}

/// Updates the connection that the index names by a real server's packet under NAT, on the same terms as
/// [`known_request`].
#[inline(always)]
pub(super) fn known_reply<'t, F: AddressFamily, P, M, Q>(
    tables: &'t mut Tables<'_, P, M, Q>,
    deadlines: &Deadlines,
    key: &FastKey<F>,
    guess: u32,
    totals: &mut BatchTotals,
    total: &mut Traffic,
) -> Option<Hit<'t, F>> {
    let (id, by_reply) = split(guess);
    let slot = tables.slots.get_mut(id as usize)?;
    let server = tables.servers.get_mut(slot.server as usize)?;
    let address = F::socket_bits(&server.address)?;
    if !by_reply || !slot.answers_fast_reply(key) || address != key.other() {
        return None;
    }
    totals.turn_to(server.service, tables.services, total)?;
    let length = u32::from(key.length());
    update_known(slot, server, deadlines, key.is_tcp(), Direction::Reply, length)?;
    totals.count_reply(length);
    Some(Hit::new(slot, server, id, Direction::Reply))
}

/// Counts a packet at its connection, which is settled, and its real server, and moves the deadline. `None`, and
/// nothing has changed, when the time of the connection is up, or when its server or its controller must hear of the
/// packet. What service and director count is left to the caller.
#[inline(always)]
fn update_known(
    slot: &mut Slot,
    server: &mut Server,
    deadlines: &Deadlines,
    is_tcp: bool,
    direction: Direction,
    length: u32,
) -> Option<()> {
    if !slot.is_alive(deadlines.now) || !server.is_available() {
        return None;
    }
    match direction {
        Direction::Request => {
            if !deadlines.requests {
                return None;
            }
            slot.in_packets = slot.in_packets.wrapping_add(1);
            server.meter.live_mut().count_in(length);
        }
        Direction::Reply => {
            // The first answer under UDP assures the template that the connection came from.
            if !is_tcp && slot.controller().is_some() {
                return None;
            }
            slot.saw_answer();
            server.meter.live_mut().count_out(length);
        }
    }
    slot.renew_settled(&deadlines.renewal, is_tcp);
    Some(())
}
