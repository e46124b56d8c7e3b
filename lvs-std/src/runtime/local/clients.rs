//! Programs of this machine as clients: routes to virtual addresses that lead to the director.
//!
//! Such a program's packets have a source that means something to this machine alone, one for each address that the
//! director has as its own. On the wire that own address is the client's (see [`alias`](crate::device::alias)), so
//! that real servers answer to the director, by every method by which servers answer to it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Addresses, Stack};
use crate::control::{DesiredService, ServiceName};
use crate::device::alias::Alias;
use crate::runtime::RuntimeGroup;

/// Leads this machine's programs to the director.
pub(super) struct Clients {
    pub(super) aliases: Arc<[Alias]>,
    /// The virtual addresses that routes lead to, each with the source that programs get.
    led: BTreeMap<IpAddr, IpAddr>,
}

/// The virtual addresses that programs could be led to: each with a server of its service, if it has one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reachable {
    pub(super) addresses: BTreeMap<IpAddr, Option<IpAddr>>,
    /// Those that this machine has itself, so that no route leads elsewhere.
    pub(super) of_machine: BTreeSet<IpAddr>,
}

impl Reachable {
    pub(super) fn of<'a>(
        services: impl Iterator<Item = (ServiceName, &'a DesiredService)>,
        addresses: &Addresses<'_>,
    ) -> Self {
        let mut found = Self::default();
        for (name, service) in services {
            let ServiceName::Address { address, .. } = name else { continue };
            if addresses.are_of_machine(address) {
                found.of_machine.insert(address);
            } else {
                let of_family = |server: &IpAddr| server.is_ipv4() == address.is_ipv4();
                let mut servers = service.servers.iter().map(|server| server.address.ip()).filter(of_family);
                let known = found.addresses.entry(address).or_default();
                *known = known.or_else(|| servers.next());
            }
        }
        found
    }

    /// What is to be said of those that this machine has.
    pub(super) fn fault(&self) -> Option<String> {
        let first = self.of_machine.first()?;
        let more = match self.of_machine.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        Some(format!(
            "this machine has {first}{more} itself, so its own programs come to the machine's stack there and not to \
             the director: take the address from it, where the director answers for it alone"
        ))
    }
}

impl Clients {
    /// For a director with these own addresses; none if this machine's programs are to be left alone.
    pub(super) fn new(own: &[IpAddr]) -> Self {
        let alias = |(at, wire): (u8, &IpAddr)| {
            let machine = match wire {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(127, 76, 86, at)),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0xfd4c, 0x5653, 0xd1ec, 0, 0, 0, 0, at.into())),
            };
            Alias { machine, wire: *wire }
        };
        // Beyond the last one programs get another own address of the director's.
        Self { aliases: (1..=u8::MAX).zip(own).map(alias).collect(), led: BTreeMap::new() }
    }

    pub(super) fn are_wanted(&self) -> bool {
        !self.aliases.is_empty()
    }

    /// Whatever programs were led by is gone.
    pub(super) fn forget(&mut self) {
        self.led.clear();
    }

    /// Makes these all that programs are led to.
    pub(super) fn lead(
        &mut self,
        group: &RuntimeGroup,
        stack: &mut Stack,
        reachable: &Reachable,
    ) -> Result<(), String> {
        let refused =
            |error: std::io::Error| format!("a route for this machine's programs is refused: {error}");
        stack.lead_clients(&self.aliases).map_err(refused)?;
        // Whether routes that were made are to be made again. They stay known, so that those not wanted are removed.
        let mut again = false;
        for of_v4 in [true, false] {
            let first = self.led.iter().find(|(to, _)| to.is_ipv4() == of_v4);
            // Routes of a family go together, with an interface that is down.
            if let Some((&to, &source)) = first
                && stack.lead_client(to, source).map_err(refused)?
            {
                again = true;
            }
        }
        let asked: Vec<(IpAddr, IpAddr)> =
            reachable.addresses.iter().map(|(to, server)| (*to, server.unwrap_or(*to))).collect();
        let mut wanted = BTreeMap::new();
        for piece in asked.chunks(AT_ONCE) {
            let piece = piece.to_vec();
            let sources = group.with_first(move |_, forwarder, _| {
                let source = |(to, server): (IpAddr, IpAddr)| (to, forwarder.host().source_towards(server));
                piece.into_iter().map(source).collect::<Vec<_>>()
            });
            // A director that ends leads nobody.
            for (to, source) in sources.unwrap_or_default() {
                let of_family = |of: &&Alias| of.wire.is_ipv4() == to.is_ipv4();
                let known = self.aliases.iter().find(|of| Some(of.wire) == source);
                let alias = known.or_else(|| self.aliases.iter().find(of_family));
                wanted.extend(alias.map(|alias| (to, alias.machine)));
            }
        }
        for (to, source) in &wanted {
            if again || self.led.get(to) != Some(source) {
                stack.lead_client(*to, *source).map_err(refused)?;
                self.led.insert(*to, *source);
            }
        }
        let gone: Vec<IpAddr> = self.led.keys().filter(|to| !wanted.contains_key(to)).copied().collect();
        for to in gone {
            stack.lead_no_client(to).map_err(refused)?;
            self.led.remove(&to);
        }
        Ok(())
    }
}

/// Of so many addresses a worker is asked at a time, which holds up its packets meanwhile.
const AT_ONCE: usize = 256;
