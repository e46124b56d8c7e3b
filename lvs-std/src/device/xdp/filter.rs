//! Which addresses are the director's, as the program in the kernel knows them.

use core::fmt;
use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lvs_core::{Director, Store};
use lvs_forward::host::Host;

use super::program::class;
use crate::device::fan::{FanError, Tell};
use crate::sys::bpf::Map;

/// What an address is to the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "an address belongs to one of these, or to nobody of interest")]
pub enum AddressClass {
    /// The director answers for it.
    Director,
    /// What comes from it is the director's: a real server's under NAT, a gateway's.
    Peer,
    /// The machine's own stack answers for it, also where it shares the interface's MAC address with the director.
    Machine,
}

/// Tells the programs of all ports that were [opened](super::open()) together which addresses are the director's.
/// Clones tell the same ones.
///
/// What changes is in effect for the next frame; nothing else is disturbed.
#[derive(Clone, Debug)]
pub struct AddressFilter(Arc<Sets>);

#[derive(Debug)]
pub(super) struct Sets {
    pub(super) v4: Map,
    pub(super) v6: Map,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// What is in the maps.
    classes: BTreeMap<IpAddr, u8>,
    /// The director's addresses, where somebody else tells of them.
    own: Option<BTreeSet<IpAddr>>,
}

impl AddressFilter {
    /// Empty sets.
    pub(super) fn new() -> io::Result<Self> {
        let v4 = Map::growing(4, 1, MOST_ADDRESSES)?;
        let v6 = Map::growing(16, 1, MOST_ADDRESSES)?;
        Ok(Self(Arc::new(Sets { v4, v6, known: Mutex::default() })))
    }

    pub(super) fn sets(&self) -> &Sets {
        &self.0
    }

    /// Makes these all the addresses that the programs know. One that is of several classes is given several times.
    /// Where frames are shared out over workers, only the [`Fan`](crate::device::Fan) of a port tells of the director's
    /// addresses, and those of [`AddressClass::Director`] are not looked at here.
    ///
    /// # Errors
    /// When one does not fit into the sets. All others are in effect.
    pub fn set(
        &self,
        addresses: impl IntoIterator<Item = (IpAddr, AddressClass)>,
    ) -> Result<(), AddressFilterError> {
        let mut known = self.0.lock();
        let mut wanted = BTreeMap::<IpAddr, u8>::new();
        for (address, class) in addresses {
            let bit = match class {
                AddressClass::Director if known.own.is_some() => continue,
                AddressClass::Director => class::DIRECTOR,
                AddressClass::Peer => class::PEER,
                AddressClass::Machine => class::MACHINE,
            };
            *wanted.entry(address).or_default() |= bit;
        }
        for own in known.own.iter().flatten() {
            *wanted.entry(*own).or_default() |= class::DIRECTOR;
        }
        let gone: Vec<_> =
            known.classes.keys().filter(|known| !wanted.contains_key(known)).copied().collect();
        let changes = gone.into_iter().map(|address| (address, 0)).chain(wanted);
        self.0.change(&mut known.classes, changes)
    }

    /// Makes these all addresses of the director, from here on and whatever [`set`](Self::set) says of that class.
    ///
    /// # Errors
    /// As for [`set`](Self::set), but then none of the new ones is in effect.
    pub(super) fn set_own(&self, addresses: &[IpAddr]) -> Result<(), AddressFilterError> {
        let mut known = self.0.lock();
        let Known { classes, own } = &mut *known;
        let wanted: BTreeSet<IpAddr> = addresses.iter().copied().collect();
        // All ports that were opened together tell of the same ones.
        if own.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let class_of =
            |classes: &BTreeMap<IpAddr, u8>, address| classes.get(address).copied().unwrap_or_default();
        let new: Vec<_> =
            wanted.iter().filter(|new| class_of(classes, new) & class::DIRECTOR == 0).copied().collect();
        let with: Vec<_> = new.iter().map(|new| (*new, class_of(classes, new) | class::DIRECTOR)).collect();
        if let Err(error) = self.0.change(classes, with) {
            let without: Vec<_> =
                new.iter().map(|new| (*new, class_of(classes, new) & !class::DIRECTOR)).collect();
            // What the map does not let go either, the next change takes away.
            let _ = self.0.change(classes, without);
            return Err(error);
        }
        let is_gone = |address: &&IpAddr| !wanted.contains(address);
        let gone: Vec<_> = own.iter().flatten().filter(is_gone).copied().collect();
        let without: Vec<_> =
            gone.iter().map(|gone| (*gone, class_of(classes, gone) & !class::DIRECTOR)).collect();
        *own = Some(wanted);
        // The new ones are in effect. What the map does not let go, the next change takes away.
        let _ = self.0.change(classes, without);
        Ok(())
    }

    /// Makes these all that the programs know: the addresses of a host, those of its gateways and of its director's
    /// real servers, and `machine`, addresses that the machine's own stack answers for.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn set_from<S: Store>(
        &self,
        director: &Director<S>,
        host: &Host,
        machine: impl IntoIterator<Item = IpAddr>,
    ) -> Result<(), AddressFilterError> {
        let machine = machine.into_iter().map(|address| (address, AddressClass::Machine));
        self.set(Self::of_director(director, host).into_iter().chain(machine))
    }

    /// The addresses of a host, those of its gateways and of its director's real servers, as [`set`](Self::set) takes
    /// them.
    #[must_use]
    pub fn of_director<S: Store>(director: &Director<S>, host: &Host) -> Vec<(IpAddr, AddressClass)> {
        let mut all: Vec<_> = host.addresses().map(|address| (address, AddressClass::Director)).collect();
        all.extend(host.gateways().map(|gateway| (gateway, AddressClass::Peer)));
        for service in director.services() {
            let servers = director.servers(service.key());
            all.extend(servers.map(|(_, server)| (server.address().ip(), AddressClass::Peer)));
        }
        all
    }
}

impl Tell for AddressFilter {
    fn tell(&self, addresses: &[IpAddr]) -> Result<(), FanError> {
        self.set_own(addresses).map_err(|error| FanError::Kernel(io::Error::other(error)))
    }
}

impl Sets {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives addresses other classes, where 0 is none; all that can be, and the last error.
    fn change(
        &self,
        known: &mut BTreeMap<IpAddr, u8>,
        changes: impl IntoIterator<Item = (IpAddr, u8)>,
    ) -> Result<(), AddressFilterError> {
        let mut result = Ok(());
        for (address, class) in changes {
            if known.get(&address).copied().unwrap_or_default() == class {
                continue;
            }
            let done = if class == 0 { self.remove(address) } else { self.insert(address, class) };
            match done {
                Ok(()) if class == 0 => _ = known.remove(&address),
                Ok(()) => _ = known.insert(address, class),
                Err(source) => result = Err(AddressFilterError { address, source }),
            }
        }
        result
    }

    fn insert(&self, address: IpAddr, class: u8) -> io::Result<()> {
        match address {
            IpAddr::V4(address) => self.v4.set(&address.octets(), &[class]),
            IpAddr::V6(address) => self.v6.set(&address.octets(), &[class]),
        }
    }

    fn remove(&self, address: IpAddr) -> io::Result<()> {
        match address {
            IpAddr::V4(address) => self.v4.remove(&address.octets()),
            IpAddr::V6(address) => self.v6.remove(&address.octets()),
        }
    }
}

/// An address that the programs were not told of.
#[derive(Debug)]
pub struct AddressFilterError {
    address: IpAddr,
    source: io::Error,
}

impl fmt::Display for AddressFilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, source } = self;
        if source.raw_os_error() == Some(libc::E2BIG) {
            return write!(f, "{address} is one too many: AF_XDP knows {MOST_ADDRESSES} of each family");
        }
        write!(f, "the XDP program cannot be told of {address}: {source}")
    }
}

impl core::error::Error for AddressFilterError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Addresses of a family that fit: those of the director, of its real servers and of the machine, with room for as many
/// as a director has by default (20,000 and 100,000).
const MOST_ADDRESSES: u32 = 1 << 17;
