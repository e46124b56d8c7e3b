//! Interfaces that come, go and change while the director runs.
//!
//! Each interface of the configuration has a [`Seat`]: the place of a port. A thread looks what there is at every
//! change that the kernel tells of (rtnetlink(7)), and at least twice a second, because what is told can be lost. It
//! compares that with what the workers have:
//!
//! ```text
//!            the interface is there              it is gone, or another one has its name
//! without a device ------------> open --------------------------------------------------> without a device
//!                                 | MTU, MAC address: told to the hosts, or opened anew
//!                                 | other queues: opened anew where each has a socket
//!                                 | down, no carrier, another name: said
//! ```
//!
//! A device is taken from all workers and dropped before another one is opened in its place: two at a time would lend
//! every frame twice. Whatever is wrong with an interface is a [problem](super::Problems) until it is right again.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use lvs_forward::PortId;
use lvs_forward::host::{MacAddress, Port};

use super::RuntimeGroup;
use super::ports::{PortOpener, port_mtu};
use super::problems::{Part, Problems};
use super::shutdown::Shutdown;
use crate::config::{self, Configuration, DeviceKind, Mac, WhenNoInterface};
use crate::sys::ethtool;
use crate::sys::interface::{Inquirer, Interface};
use crate::sys::links::LinkMonitor;
use crate::worker::WorkerGone;

/// Takes the interfaces of a director up again when they come back. Made by [`Assembly::open`](super::Assembly::open).
pub struct PortSupervisor {
    seats: Vec<Seat>,
    opener: PortOpener,
    when_none: WhenNoInterface,
    /// Whether somebody keeps the XDP programs' addresses up to date.
    filter_kept: bool,
}

/// The place of a port, with what was found there last.
struct Seat {
    interface: config::Interface,
    port: PortId,
    taken: Option<Taken>,
    /// By which kind of device it was used last, if it was.
    by_xdp: Option<bool>,
    /// The name that the interface was found under last.
    called: String,
}

/// An interface that the workers have devices of.
#[derive(Clone, Copy, Debug)]
struct Taken {
    index: u32,
    /// The kernel's address on it.
    mac: [u8; 6],
    /// The MTU that the hosts know.
    mtu: usize,
    /// The MTU that the device was opened for: larger ones take another device.
    opened_mtu: usize,
    by_xdp: bool,
    /// How many queues it had, where each needs a socket of its own.
    queues: Option<u32>,
    since: Instant,
}

impl Taken {
    fn new(found: &Interface, called: &str, by_xdp: bool) -> Self {
        let (index, mac, mtu) = (found.index, found.mac, found.mtu);
        let queues = if by_xdp { queues_of(called) } else { None };
        Self { index, mac, mtu, opened_mtu: mtu, by_xdp, queues, since: Instant::now() }
    }
}

/// How many queues receive at an interface, if the kernel says so.
fn queues_of(called: &str) -> Option<u32> {
    ethtool::queues(called).ok().map(|queues| queues.receive)
}

/// What is to be done about a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// The interface is gone.
    Leave,
    /// Devices are to be opened, in place of those that there are, if there are some.
    Open,
    /// The hosts are to be told of another MTU.
    Tell,
}

/// What is to be done: from what the workers have, what there is, whether the device has failed or its interface has
/// been gone in between, and whether the director has the interface's MAC address.
fn step(taken: Option<&Taken>, found: Option<&Interface>, broken: bool, shares_mac: bool) -> Step {
    match (taken, found) {
        (None, None) => Step::Nothing,
        (None, Some(_)) => Step::Open,
        (Some(_), None) => Step::Leave,
        (Some(taken), Some(found)) => {
            let other = found.index != taken.index || (shares_mac && found.mac != taken.mac);
            if broken || other || found.mtu > taken.opened_mtu {
                Step::Open
            } else if found.mtu == taken.mtu {
                Step::Nothing
            } else {
                Step::Tell
            }
        }
    }
}

impl Seat {
    fn new(interface: config::Interface, port: PortId, taken: Option<Taken>) -> Self {
        let (called, by_xdp) = (interface.name.clone(), taken.map(|taken| taken.by_xdp));
        Self { interface, port, taken, by_xdp, called }
    }

    fn part(&self) -> Part {
        Part::Interface(self.interface.title())
    }

    /// The interface that has the configured name; or else the one that had it when it was opened.
    fn find(&mut self, interfaces: &Inquirer) -> io::Result<Option<Interface>> {
        if let Some(found) = interfaces.find(&self.interface.name)? {
            self.called.clone_from(&self.interface.name);
            return Ok(Some(found));
        }
        let Some(taken) = self.taken else { return Ok(None) };
        let Some(called) = interfaces.name_of(taken.index)? else { return Ok(None) };
        let found = interfaces.find(&called)?;
        if found.is_some() && called != self.called {
            tracing::warn!("{}: is called {called} now, and goes on to be used", self.interface.name);
            self.called = called;
        }
        Ok(found)
    }

    /// Whether the interface has got other queues since it was opened, which matters where each has a socket.
    fn has_other_queues(&self) -> bool {
        let before = self.taken.and_then(|taken| taken.queues);
        before.is_some_and(|before| queues_of(&self.called).is_some_and(|now| now != before))
    }

    /// What is wrong with an interface whose device is open.
    fn fault(found: &Interface) -> Option<String> {
        match (found.up, found.running) {
            (false, _) => Some("it is down".to_owned()),
            (true, false) => Some("it has no carrier".to_owned()),
            (true, true) => None,
        }
    }
}

/// What the threads of a supervised director share.
pub(super) struct Supervised {
    pub(super) group: RuntimeGroup,
    pub(super) problems: Problems,
    pub(super) shutdown: Shutdown,
    /// Set when the director ends because none of its interfaces can be used.
    pub(super) without: Arc<AtomicBool>,
}

impl PortSupervisor {
    /// For the interfaces of a configuration, of which these were found and opened.
    pub(super) fn new(
        configuration: &Configuration,
        found: Vec<Option<(Interface, bool)>>,
        opener: PortOpener,
    ) -> Self {
        let (filter_kept, when_none) = (opener.filter.is_some(), configuration.when_no_interface);
        let interfaces = configuration.interfaces.iter().zip(found).zip(0..);
        let seat = |((interface, found), port): ((&config::Interface, Option<_>), u8)| {
            let taken = found.map(|(found, by_xdp)| Taken::new(&found, &interface.name, by_xdp));
            Seat::new(interface.clone(), PortId(port), taken)
        };
        Self { seats: interfaces.map(seat).collect(), opener, when_none, filter_kept }
    }

    /// What tells the XDP programs of addresses, if there are any.
    pub(super) const fn filter(&self) -> Option<&crate::device::xdp::AddressFilter> {
        self.opener.filter.as_ref()
    }

    /// Looks after the interfaces, in the network namespace of this thread, until the director ends.
    pub(super) fn start(mut self, of: Supervised) -> io::Result<()> {
        let (monitor, interfaces) = (LinkMonitor::open()?, Inquirer::open()?);
        // What is wrong from the start is known before the director says that it is at work.
        if self.look(&of, &interfaces, &BTreeSet::new()).is_err() {
            return Ok(());
        }
        let watch = move || {
            let mut served = Instant::now();
            loop {
                let gone = monitor.wait(INTERVAL).unwrap_or_else(|error| {
                    tracing::error!("the kernel does not tell of interfaces: {error}");
                    of.shutdown.sleep(INTERVAL);
                    BTreeSet::new()
                });
                if of.shutdown.sleep(Duration::ZERO) {
                    return;
                }
                match self.look(&of, &interfaces, &gone) {
                    Ok(true) => served = Instant::now(),
                    Ok(false) => {}
                    Err(WorkerGone) => return,
                }
                if self.when_none == WhenNoInterface::Exit && served.elapsed() >= GRACE {
                    tracing::error!("the director ends: it can use none of its interfaces");
                    of.without.store(true, Ordering::Release);
                    of.group.stop();
                    return;
                }
            }
        };
        thread::Builder::new().name("interfaces".to_owned()).spawn(watch).map(drop)
    }

    /// Brings every seat in order. Returns whether one of them can be used.
    fn look(
        &mut self,
        of: &Supervised,
        interfaces: &Inquirer,
        gone: &BTreeSet<u32>,
    ) -> Result<bool, WorkerGone> {
        let ports = of.group.snapshot().map(|snapshot| snapshot.ports).unwrap_or_default();
        let mut usable = false;
        let Self { seats, opener, .. } = self;
        for seat in seats {
            let failed = ports.get(usize::from(seat.port.0)).is_some_and(|port| port.failed);
            let broken = seat.taken.is_some_and(|taken| {
                // What workers publish is up to a second old, so a device that is new may not be meant.
                gone.contains(&taken.index) || (failed && taken.since.elapsed() > SETTLED)
            });
            usable |= match seat.find(interfaces) {
                Ok(found) => {
                    let broken = broken || seat.has_other_queues();
                    bring_in_order(seat, found, opener, of, broken)?
                }
                // That says nothing about the interface, so that what is used goes on to be used.
                Err(error) => {
                    of.problems.raise(seat.part(), format!("it cannot be looked at: {error}"));
                    seat.taken.is_some()
                }
            };
        }
        self.keep_filter(of);
        Ok(usable)
    }

    /// A filter that has come with an interface is kept up to date like one that was there from the start.
    fn keep_filter(&mut self, of: &Supervised) {
        if self.filter_kept {
            return;
        }
        if let (Some(filter), Some(handle)) = (self.filter(), of.group.handles().first()) {
            match handle.keep_address_filter(filter, |error| tracing::error!("{error}")) {
                Ok(_) => self.filter_kept = true,
                Err(error) => tracing::error!("addresses for AF_XDP: {error}"),
            }
        }
    }
}

/// Does what is to be done about a seat, and says what is wrong with it. Returns whether its interface can be used.
fn bring_in_order(
    seat: &mut Seat,
    found: Option<Interface>,
    opener: &mut PortOpener,
    of: &Supervised,
    broken: bool,
) -> Result<bool, WorkerGone> {
    let step = step(seat.taken.as_ref(), found.as_ref(), broken, seat.interface.mac == Mac::Same);
    if let (Step::Leave | Step::Open, Some(_)) = (step, seat.taken) {
        drop(of.group.take_devices(seat.port)?);
        seat.taken = None;
    }
    let fault = match (found, step) {
        (None, _) => Some(GONE.to_owned()),
        // A socket of AF_XDP can only be bound to an interface that is up.
        (Some(found), Step::Open) if !found.up && seat.interface.device != DeviceKind::Packet => {
            Seat::fault(&found)
        }
        (Some(found), Step::Open) => open(seat, opener, of, &found)?.or_else(|| Seat::fault(&found)),
        (Some(found), Step::Tell) => {
            tell(seat, of, &found)?;
            Seat::fault(&found)
        }
        (Some(found), Step::Nothing | Step::Leave) => Seat::fault(&found),
    };
    match &fault {
        Some(why) => of.problems.raise(seat.part(), why),
        None => of.problems.clear(&seat.part()),
    };
    Ok(fault.is_none())
}

/// Gives the workers devices of an interface. Returns why that cannot be, if it cannot.
fn open(
    seat: &mut Seat,
    opener: &mut PortOpener,
    of: &Supervised,
    found: &Interface,
) -> Result<Option<String>, WorkerGone> {
    let mut opened = None;
    let given = of.group.give_devices(seat.port, |addresses| {
        let called = (&seat.interface, &*seat.called);
        opener.open(called, seat.by_xdp, addresses).map(|(devices, by_xdp)| {
            opened = Some((devices.port, by_xdp));
            devices
        })
    });
    let old = match given {
        Ok(old) => old?,
        Err(error) => return Ok(Some(error.to_string())),
    };
    drop(old);
    if let Some((port, by_xdp)) = opened {
        seat.by_xdp = Some(by_xdp);
        seat.taken = Some(Taken::new(found, &seat.called, by_xdp));
        let name = &seat.interface.name;
        tracing::info!("{name}: taken up, MAC address {}, MTU {}", port.mac(), port.mtu());
    }
    Ok(None)
}

/// Tells the hosts of an interface's MTU.
fn tell(seat: &mut Seat, of: &Supervised, found: &Interface) -> Result<(), WorkerGone> {
    let (port, mtu) = (seat.port, port_mtu(found.mtu));
    let mac = of.group.with_first(move |_, forwarder, _| forwarder.host().port(port).map(Port::mac))?;
    let told = of.group.set_port(port, Port::ethernet(mac.unwrap_or(MacAddress::ZERO), mtu))?;
    let name = &seat.interface.name;
    match told {
        Ok(()) => tracing::info!("{name}: MTU {mtu} from now on"),
        Err(error) => tracing::error!("{name}: MTU {mtu} cannot be the director's: {error}"),
    }
    if let Some(taken) = &mut seat.taken {
        taken.mtu = found.mtu;
    }
    Ok(())
}

impl fmt::Debug for PortSupervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.seats.iter().map(|seat| &*seat.interface.name).collect();
        f.debug_struct("PortSupervisor").field("interfaces", &names).finish_non_exhaustive()
    }
}

const GONE: &str = "it is not there; it is taken up when it comes";
/// How often interfaces are looked over if the kernel tells of nothing.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a device is new: until what workers say of failures is surely about it.
const SETTLED: Duration = Duration::from_secs(3);
/// How long a director that is to end without interfaces waits for one.
const GRACE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, mac: u8, mtu: usize) -> Interface {
        Interface { index, hardware: 1, mtu, mac: [2, 0, 0, 0, 0, mac], up: true, running: true }
    }

    #[test]
    fn what_is_to_be_done_follows_from_what_there_is_and_what_the_workers_have() {
        let was = interface(3, 1, 1_500);
        let taken = Some(Taken::new(&was, "eth0", false));
        for (what, taken, found, broken, shares_mac, wanted) in [
            ("nothing has changed", taken, Some(was), false, true, Step::Nothing),
            ("it is gone", taken, None, false, false, Step::Leave),
            ("it is gone, as was said", taken, None, true, false, Step::Leave),
            ("it stays away", None, None, false, false, Step::Nothing),
            ("it comes", None, Some(was), false, false, Step::Open),
            ("another one has its name", taken, Some(interface(4, 1, 1_500)), false, false, Step::Open),
            ("it was away, and has its number again", taken, Some(was), true, false, Step::Open),
            ("the shared address is another", taken, Some(interface(3, 2, 1_500)), false, true, Step::Open),
            ("an address that is not used", taken, Some(interface(3, 2, 1_500)), false, false, Step::Nothing),
            ("less fits through", taken, Some(interface(3, 1, 1_400)), false, false, Step::Tell),
            (
                "more than the device is made for",
                taken,
                Some(interface(3, 1, 9_000)),
                false,
                false,
                Step::Open,
            ),
        ] {
            assert_eq!(step(taken.as_ref(), found.as_ref(), broken, shares_mac), wanted, "{what}");
        }
        let mut shrunk = Taken::new(&was, "eth0", false);
        shrunk.mtu = 1_400;
        assert_eq!(step(Some(&shrunk), Some(&was), false, false), Step::Tell, "it is as large again");
    }

    #[test]
    fn an_interface_that_is_down_or_without_a_carrier_is_at_fault() {
        let mut found = interface(3, 1, 1_500);
        assert_eq!(Seat::fault(&found), None);
        found.running = false;
        assert_eq!(Seat::fault(&found).as_deref(), Some("it has no carrier"));
        found.up = false;
        assert_eq!(Seat::fault(&found).as_deref(), Some("it is down"));
    }
}
