//! What the machine's kernel would do with a frame, beside the director.

use std::collections::BTreeSet;

use lvs_core::{Path, ServiceKey};

use super::facts::Facts;
use crate::config::{DeviceKind, Interface, Mac};
use crate::control::DesiredState;
use crate::device::guard::Entry;
use crate::runtime::guest::of_services;

/// Where the director and the kernel stand towards each other for a frame by this port.
pub(super) fn beside(facts: &Facts, configured: &[Interface], desired: &DesiredState) -> String {
    let Some(interface) = configured.get(usize::from(facts.port.0)) else {
        return "the machine's kernel sends and receives by this port itself".to_owned();
    };
    let name = &interface.name;
    match (interface.mac, interface.device) {
        (Mac::Own | Mac::Is(_), _) => format!(
            "the director is a host of its own on {name}: the machine's kernel takes the frame for another host's"
        ),
        (Mac::Same, DeviceKind::Xdp) => format!(
            "the director is a guest on {name} by AF_XDP: the machine's kernel does not see frames that it takes"
        ),
        (Mac::Same, DeviceKind::Packet | DeviceKind::Auto) if is_kept(facts, desired) => format!(
            "the director is a guest on {name}: the machine's kernel is kept from the frame by the guard (nftables)"
        ),
        (Mac::Same, DeviceKind::Packet | DeviceKind::Auto) => format!(
            "the director is a guest on {name}: the machine's kernel sees the frame too, and does what it would do \
             without a director"
        ),
    }
}

/// Whether a rule of the guard is for the packet, as `device::guard` has them.
fn is_kept(facts: &Facts, desired: &DesiredState) -> bool {
    let Some(packet) = facts.packet else { return false };
    if facts.service.as_ref().is_some_and(|service| matches!(service.key, ServiceKey::Mark { .. })) {
        return true;
    }
    let mut entries = BTreeSet::new();
    of_services(desired, &mut entries);
    let (flow, protocol) = (packet.flow, packet.flow.protocol.number());
    let (to, from) = (flow.destination(), flow.source());
    let request = [
        Entry::Service(protocol, to.ip(), to.port()),
        Entry::Service(protocol, to.ip(), 0),
        Entry::Further(to.ip()),
    ];
    let reply = [Entry::Server(protocol, from.ip(), from.port()), Entry::Peer(from.ip())];
    let further = protocol == TCP && to.port() >= FIRST_UNPRIVILEGED_PORT;
    let for_service = request
        .iter()
        .any(|entry| entries.contains(entry) && (further || !matches!(entry, Entry::Further(_))));
    for_service || packet.path == Path::Through && reply.iter().any(|entry| entries.contains(entry))
}

const TCP: u8 = 6;
const FIRST_UNPRIVILEGED_PORT: u16 = 1_024;
