//! What a backup is told, and when.

use core::net::SocketAddr;

use crate::conntrack::slot::Slot;
use crate::director::engine::Engine;
use crate::model::event::Event;
use crate::model::id::ConnId;
use crate::model::state::{SctpState, State, TcpState};
use crate::model::sync_entry::SyncEntry;
use crate::store::Store;

impl<S: Store> Engine<'_, S> {
    /// Tells backups about a connection, if its packet is one of those that call for it, and about what controls it.
    pub(crate) fn synchronise(&mut self, id: u32, packets: u32) {
        let old_format = self.brain.config.tuning.sync_version == 0;
        let mut next = Some((id, packets));
        while let Some((id, packets)) = next {
            let wanted = self.is_to_be_sent(id, packets);
            if wanted {
                self.announce(id);
            }
            // Version 0 has no entry for a template of its own: a receiver takes it only behind a connection that came
            // from it.
            if old_format && !wanted {
                return;
            }
            let controller = self.tables.slots[id as usize].controller();
            next = controller.map(|id| (id, self.packets_of_controller(id)));
        }
    }

    /// By how many packets what controls a connection is judged: a template by its connections' packets.
    pub(crate) fn packets_of_controller(&mut self, id: u32) -> u32 {
        let slot = &mut self.tables.slots[id as usize];
        if !slot.is_template() {
            // A control connection of FTP counts as if it had just reached the threshold, as in IPVS, so that it goes
            // along with its data connections.
            return self.brain.config.tuning.sync_threshold;
        }
        slot.in_packets = slot.in_packets.wrapping_add(1);
        slot.in_packets
    }

    /// Tells backups about an entry whose time was up but that lives on.
    pub(crate) fn postponed(&mut self, id: u32) {
        if self.brain.master {
            let threshold = self.brain.config.tuning.sync_threshold;
            self.synchronise(id, threshold);
        }
    }

    /// IPVS's rule (`sync_conn_needed`): by state, by the number of packets, and by the time since it was last sent.
    fn is_to_be_sent(&mut self, id: u32, packets: u32) -> bool {
        let tuning = &self.brain.config.tuning;
        let slot = &self.tables.slots[id as usize];
        let template = slot.is_template();
        if !template && tuning.sync_persist_mode && has_template(self.tables.slots, slot) {
            return false;
        }
        let mut forced = false;
        if !template {
            let established = slot.state().is_established();
            match slot.state() {
                State::Udp => {}
                state if established || is_ending(state) => {
                    // A backup that missed the end of a connection would hold it for 15 minutes as established, so a
                    // change to a closing state goes at once.
                    forced = !established && state.number() != slot.sent_state;
                }
                State::Tcp(_) | State::Sctp(_) => return false,
            }
        }
        let timeout = slot.timeout(&self.brain.timeouts).wrapping_mul(UNITS_PER_SEC);
        let mut end = self.now.units().wrapping_add(timeout) & !3;
        if !forced {
            let last = self.tables.notes[id as usize].sync_end;
            let refresh = tuning.sync_refresh_period.saturating_mul(UNITS_PER_SEC);
            if refresh > 0 {
                let least = (timeout / 2).max(10 * UNITS_PER_SEC);
                if (end.wrapping_sub(last) as i32).unsigned_abs() < refresh.min(least) {
                    let repeats = last & 3;
                    let again = last.wrapping_sub(timeout).wrapping_add(refresh / 8);
                    if repeats >= u32::from(tuning.sync_retries)
                        || (self.now.units().wrapping_sub(again) as i32) < 0
                    {
                        return false;
                    }
                    // The two low bits of the moment count the repetitions: 16 ms matter to no refresh period.
                    end |= repeats + 1;
                }
            }
            if tuning.sync_period > 0 {
                if !template && packets % tuning.sync_period != tuning.sync_threshold {
                    return false;
                }
            } else if refresh == 0 && packets != tuning.sync_threshold {
                return false;
            }
        }
        let slot = &mut self.tables.slots[id as usize];
        if !template {
            slot.sent_state = slot.state().number();
        }
        self.tables.notes[id as usize].sync_end = end;
        true
    }

    /// Puts an entry as it is now among the events.
    fn announce(&mut self, id: u32) {
        let slot = &self.tables.slots[id as usize];
        let server = &self.tables.servers[slot.server as usize];
        let flow = slot.flow();
        let template = slot.is_template();
        let protocol =
            if template && slot.key().is_for_every_protocol() { 0 } else { flow.protocol.number() };
        let destination = SocketAddr::new(server.address.ip(), slot.server_port);
        let Some(mut entry) = SyncEntry::new(protocol, flow.source(), flow.destination(), destination) else {
            // A server of the other family, which no message has a place for.
            return;
        };
        entry.flags = u32::from(slot.method(server.method).kind().number());
        let flags = [
            (slot.is_synced(), SyncEntry::SYNC),
            (slot.is_one_way(), SyncEntry::NO_OUTPUT),
            (template || !slot.is_active(), SyncEntry::INACTIVE),
            (slot.lacks_client_port(), SyncEntry::NO_CLIENT_PORT),
            (template, SyncEntry::TEMPLATE),
            (
                slot.is_helped()
                    || slot
                        .controller()
                        .is_some_and(|of| !self.tables.slots.get(of as usize).is_some_and(Slot::is_template)),
                KEEPS_CONNTRACK,
            ),
        ];
        entry.flags |= flags.into_iter().filter(|flag| flag.0).fold(0, |all, flag| all | flag.1);
        entry.state = if template { u16::from(slot.is_assured()) } else { u16::from(slot.state().number()) };
        entry.mark = self.tables.notes[id as usize].mark;
        entry.timeout = slot.timeout(&self.brain.timeouts);
        entry.engine = slot.is_call().then_some(ConnId(id));
        self.note(Event::Sync(entry));
    }
}

/// Whether a template is above a connection.
fn has_template(slots: &[Slot], slot: &Slot) -> bool {
    let mut next = slot.controller();
    while let Some(slot) = next.and_then(|id| slots.get(id as usize)) {
        if slot.is_template() {
            return true;
        }
        next = slot.controller();
    }
    false
}

/// The states after the established one that backups are told of.
const fn is_ending(state: State) -> bool {
    match state {
        State::Tcp(state) => {
            matches!(state, TcpState::FinWait | TcpState::Close | TcpState::CloseWait | TcpState::TimeWait)
        }
        State::Sctp(state) => matches!(
            state,
            SctpState::ShutdownSent
                | SctpState::ShutdownReceived
                | SctpState::ShutdownAckSent
                | SctpState::Closed
        ),
        State::Udp => false,
    }
}

/// The flag that the kernel's FTP connections have; it concerns the kernel alone.
const KEEPS_CONNTRACK: u32 = 0x1_0000;
/// Units of time per second, as many as in Linux with `HZ` 250.
const UNITS_PER_SEC: u32 = 250;
